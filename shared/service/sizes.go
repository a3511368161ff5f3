package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/size"
)

// checkDocument refuses a pool that this deployment cannot have, or not under this name.
func (p *Pools) checkDocument(ctx context.Context, spec pool.Spec) error {
	if err := p.checkRegion(spec); err != nil {
		return err
	}
	if spec.IsInteractive() && !p.hasDoors {
		return fault.New(fault.Invalid, "kind", "`kind: interactive` is not supported yet by this deployment, which has no way for people "+
			"to come in; it needs a relay and a certificate authority for SSH")
	}
	if err := p.checkWays(spec); err != nil {
		return err
	}
	if spec.OS == pool.Windows {
		return fault.New(fault.Invalid, "os",
			"`os: windows` is not possible yet: the agent for Windows runs jobs and has no sessions, so that its nodes "+
				"would cost money and let nobody in; leave `os` out, and write `desktop: rdp` below `sessions` for a desktop on Linux")
	}
	before, err := p.driver.Spec(ctx, spec.Name)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return nil
	case err == nil && before.Kind != spec.Kind:
		err = fault.New(fault.Conflict, "kind", "pool %q is of `kind: %s`, and a pool keeps its kind; delete it first, or take another name",
			spec.Name, before.Kind)
	}
	return err
}

// checkWays refuses the ways beside the relay that the deployment does not have.
func (p *Pools) checkWays(spec pool.Spec) error {
	ways := spec.Ways()
	switch {
	case len(ways) > 0 && !p.hasNetwork:
		return fault.New(fault.Invalid, "access", "`access` has %s, and this deployment opens no node to people beside the relay; "+
			"name the addresses that they come from in DSVM_WAYS_FROM, or write [relay]", strings.Join(ways, " and "))
	case slices.Contains(ways, pool.AccessDirect) && p.noAddresses:
		return fault.New(fault.Invalid, "access", "`access` has direct, and the nodes of this deployment have no public addresses; "+
			"set DSVM_NODE_PUBLIC_IP=true, or take another way")
	}
	return nil
}

// checkRegion refuses a pool in another region than the deployment's: subnet, identity and
// quotas are those of one region, and Azure refuses a scale set whose subnet is elsewhere.
func (p *Pools) checkRegion(spec pool.Spec) error {
	if spec.Region == "" || p.region == "" || strings.EqualFold(plainRegion(spec.Region), plainRegion(p.region)) {
		return nil
	}
	return fault.New(fault.Invalid, "region", "`region` is %q, and this deployment is in %s; "+
		"leave it out, or apply the pool to a deployment there",
		document.Clip(spec.Region), p.region)
}

// plainRegion is the name of a region as Azure's resources have it: West Europe is
// westeurope.
func plainRegion(name string) string { return strings.ReplaceAll(name, " ", "") }

// checkSizes refuses a pool with a size that its region does not have: it would be found
// out when the first job waits. It warns of one of which this program knows nothing. A
// list that cannot be read refuses nothing.
func (p *Pools) checkSizes(ctx context.Context, spec pool.Spec) (warnings []string, err error) {
	region := p.region
	there, err := p.sizes(ctx, region)
	if err != nil {
		p.log.WarnContext(ctx, "skipping the check of sizes", "pool", spec.Name, "error", err)
		there = nil
	}
	for i, name := range spec.Sizes {
		same := func(other string) bool { return strings.EqualFold(other, name) }
		if len(there) > 0 && !slices.ContainsFunc(there, same) {
			hint := "`az vm list-sizes` shows those that it has"
			if near := document.Nearest(name, there); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			field := fmt.Sprintf("sizes[%d]", i)
			return nil, fault.New(
				fault.Invalid,
				field,
				"`%s` is %q, a size that %s does not have; %s",
				field,
				document.Clip(name),
				region,
				hint,
			)
		}
		if _, known := size.Lookup(name); !known {
			warnings = append(
				warnings,
				fmt.Sprintf(
					"the size %s is not in this version's own list: what it costs is unknown in reports, and what it has until its first node says so",
					document.Clip(name),
				),
			)
		}
	}
	return warnings, nil
}
