package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
)

func destroyCommand(r *run) *cobra.Command {
	var withShare bool
	cmd := &cobra.Command{
		Use:   "destroy NAME",
		Short: "Remove a deployment from Azure",
		Long: `Remove a deployment: list what goes, ask for its name, stop the app, delete the nodes,
then everything else. The storage account of the share stays, with logs and outputs of
all jobs, unless --with-share is said. Run again, it continues what was interrupted.

It removes only what carries the deployment's name: the resource groups NAME and
NAME-nodes, and the roles that the template has made.`,
		Example: "  dsvm destroy dsvmpools\n  dsvm destroy dsvmpools --with-share --yes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.WrongUse("`dsvm destroy` takes the NAME of a deployment, and nothing else")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return r.destroy(cmd.Context(), args[0], withShare) },
	}
	cmd.Flags().BoolVar(&withShare, "with-share", false, "delete the share, too, with logs and outputs of all jobs")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	cmd.Flags().StringVar(&r.az.program, "az", "az", "the program az")
	return cmd
}

// resource is anything in a resource group.
type resource struct {
	ID, Name, Type string
	Tags           map[string]string
}

const (
	typeSite    = "microsoft.web/sites"
	typeStorage = "microsoft.storage/storageaccounts"
)

// removal is what a removal finds and does.
type removal struct {
	Name    string   `json:"name"`
	Sets    []string `json:"scaleSets"`
	Removed []string `json:"removed"` // resource ids
	Kept    []string `json:"kept"`

	nodes, platform bool // whether the groups exist
	apps            []resource
	resources       []resource // of the platform that go one by one
	sets            []scaleSet
	roles           []string
}

// destroy finds what there is, asks, and deletes it.
func (r *run) destroy(ctx context.Context, name string, withShare bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := r.signIn(ctx); err != nil {
		return err
	}
	found, err := r.findRemains(ctx, name, withShare)
	if err != nil {
		return err
	}
	if !found.nodes && len(found.resources)+len(found.roles) == 0 && r.last == nil && (!found.platform || len(found.Kept) > 0) {
		r.Say("nothing is deployed under the name %q in the subscription %s", name, r.account.Name)
		return r.Answer(found, found.keptLines()...)
	}
	if err := r.confirmRemoval(found); err != nil {
		return err
	}
	if err := r.remove(ctx, found, withShare); err != nil {
		return fmt.Errorf("%w; run this again: it continues", err)
	}
	return r.Answer(found, append([]string{name + " is removed"}, found.keptLines()...)...)
}

func (found *removal) keptLines() (lines []string) {
	for _, kept := range found.Kept {
		lines = append(lines, "kept: "+kept)
	}
	return lines
}

// findRemains lists what there is of a deployment.
func (r *run) findRemains(ctx context.Context, name string, withShare bool) (*removal, error) {
	found := &removal{Name: name, Sets: []string{}, Removed: []string{}, Kept: []string{}}
	last, err := get[deployment](ctx, r.az, "deployment", "sub", "show", "--name", recordName(name))
	if err == nil {
		r.last = &last
	} else if !isMissing(err) {
		return nil, err
	}
	for _, each := range []struct {
		name  string
		there *bool
	}{{name, &found.platform}, {nodesGroup(name), &found.nodes}} {
		g, err := get[group](ctx, r.az, "group", "show", "--name", each.name)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if g.Tags[deploymentTag] != name {
			return nil, fmt.Errorf("the resource group %q does not carry the tag %s=%s, so it is not of this deployment and stays; "+
				"if it is: az group update --name %s --tags %s=%s", each.name, deploymentTag, name, each.name, deploymentTag, name)
		}
		*each.there = true
	}
	if found.nodes {
		if found.sets, err = r.scaleSets(ctx, name); err != nil {
			return nil, err
		}
		for _, set := range found.sets {
			found.Sets = append(found.Sets, set.Name)
		}
	}
	if found.platform {
		if err := r.listPlatform(ctx, found, withShare); err != nil {
			return nil, err
		}
	}
	found.roles, err = r.customRoles(ctx, name)
	return found, err
}

// listPlatform sorts what is in the platform's group into what goes and what stays.
func (r *run) listPlatform(ctx context.Context, found *removal, withShare bool) error {
	all, err := get[[]resource](ctx, r.az, "resource", "list", "--resource-group", found.Name)
	if err != nil {
		return err
	}
	share := r.last.output("shareAccount")
	for _, res := range all {
		kind := strings.ToLower(res.Type)
		switch {
		case !strings.Contains(strings.ToLower(res.ID), "/resourcegroups/"+found.Name+"/"):
			continue // whatever az answers, nothing outside of the group is touched
		case kind == typeSite:
			found.apps = append(found.apps, res)
		// Without the record of the deployment, every account of the name may be the share's.
		case kind == typeStorage && !withShare && (share == "" || strings.EqualFold(res.Name, share)):
			found.Kept = append(found.Kept, res.ID)
			continue
		}
		found.resources = append(found.resources, res)
	}
	slices.SortStableFunc(found.resources, func(a, b resource) int { return removalOrder(a) - removalOrder(b) })
	return nil
}

// removalOrder sorts resources so that nothing goes before what uses it.
func removalOrder(res resource) int {
	order := []string{
		typeSite,
		"microsoft.web/serverfarms",
		"microsoft.insights/metricalerts",
		"microsoft.insights/scheduledqueryrules",
		"microsoft.insights/actiongroups",
		"microsoft.insights/components",
		"microsoft.operationalinsights/workspaces",
		"microsoft.servicebus/namespaces",
		"microsoft.relay/namespaces",
		"microsoft.keyvault/vaults",
		"microsoft.network/virtualnetworks",
		"microsoft.network/networksecuritygroups",
	}
	if i := slices.Index(order, strings.ToLower(res.Type)); i >= 0 {
		return i
	}
	return len(order)
}

// customRoles are the names of the roles that the template has made for a deployment: they
// belong to the directory and outlive the resource groups.
func (r *run) customRoles(ctx context.Context, name string) ([]string, error) {
	all, err := get[[]struct{ Name, RoleName string }](ctx, r.az, "role", "definition", "list", "--custom-role-only", "true")
	var roles []string
	for _, role := range all {
		if strings.HasPrefix(role.RoleName, "dsvmpools "+name+": ") {
			roles = append(roles, role.Name)
		}
	}
	return roles, err
}

// confirmRemoval says what goes and has its name typed.
func (r *run) confirmRemoval(found *removal) error {
	nodes := 0
	for _, set := range found.sets {
		nodes += set.SKU.Capacity
	}
	r.Say("what goes from the subscription %s:", r.account.Name)
	if found.nodes {
		r.Say("  the resource group %s with %d nodes, whose jobs end, in %d scale sets", nodesGroup(found.Name), nodes, len(found.sets))
	}
	for _, set := range found.sets {
		r.Say("    %s, %d nodes", set.Name, set.SKU.Capacity)
	}
	if len(found.resources) > 0 {
		r.Say("  of the resource group %s, where the queues with their messages are, and the tables with all jobs and their usage:", found.Name)
	}
	for _, res := range found.resources {
		r.Say("    %s %s", res.Type, res.Name)
	}
	if len(found.roles) > 0 {
		r.Say("  %d roles of the directory that the template has made", len(found.roles))
	}
	for _, kept := range found.Kept {
		r.Say("what stays, with logs and outputs of jobs: %s (--with-share deletes it)", kept)
	}
	if r.yes {
		return nil
	}
	if !r.Asks {
		return cli.WrongUse("nothing was deleted, since nobody can be asked here; add --yes to do it")
	}
	answer, err := r.Ask(fmt.Sprintf("Type the name %s to delete this:", found.Name))
	if err != nil || answer != found.Name {
		return errors.New("nothing was deleted")
	}
	return nil
}

// remove deletes in the order in which nothing can come back: first the app, which would
// make nodes, then the nodes, then the rest.
func (r *run) remove(ctx context.Context, found *removal, withShare bool) error {
	if r.last != nil && slices.Contains(running, r.last.Properties.ProvisioningState) {
		r.Say("ending the deployment that is at work")
		if _, err := r.az.run(ctx, "deployment", "sub", "cancel", "--name", recordName(found.Name)); err != nil {
			return err
		}
	}
	for _, app := range found.apps {
		r.Say("stopping %s, so that it makes no more nodes", app.Name)
		_, err := r.az.run(ctx, "functionapp", "stop", "--resource-group", found.Name, "--name", app.Name, "--output", "none")
		if err != nil && !isMissing(err) {
			return err
		}
	}
	if err := r.removeNodes(ctx, found); err != nil {
		return err
	}
	if err := r.removeRoles(ctx, found); err != nil {
		return err
	}
	if found.platform {
		if err := r.removePlatform(ctx, found, withShare); err != nil {
			return err
		}
	}
	if r.last == nil {
		return nil
	}
	// The record goes last: while it is there, this can be continued.
	_, err := r.az.runLong(ctx, "deleting the record of the deployment", "deployment", "sub", "delete", "--name", recordName(found.Name))
	if isMissing(err) {
		err = nil
	}
	return err
}

func (r *run) removeNodes(ctx context.Context, found *removal) error {
	if !found.nodes {
		return nil
	}
	// The app may have made a set after the first look.
	sets, err := r.scaleSets(ctx, found.Name)
	if err != nil {
		return err
	}
	for _, set := range sets {
		r.Say("deleting scale set %s with %d nodes", set.Name, set.SKU.Capacity)
		_, err := r.az.runLong(ctx, "deleting "+set.Name, "vmss", "delete", "--resource-group", nodesGroup(found.Name), "--name", set.Name)
		if err != nil && !isMissing(err) {
			return err
		}
		found.Removed = append(found.Removed, set.ID)
	}
	return r.removeGroup(ctx, nodesGroup(found.Name))
}

func (r *run) removeGroup(ctx context.Context, name string) error {
	r.Say("deleting the resource group %s", name)
	_, err := r.az.runLong(ctx, "deleting "+name, "group", "delete", "--name", name, "--yes")
	if isMissing(err) {
		return nil
	}
	return err
}

// removeRoles deletes the assignments of the roles, and then the roles.
func (r *run) removeRoles(ctx context.Context, found *removal) error {
	if len(found.roles) == 0 {
		return nil
	}
	// The filter --role fails together with --all in az 2.91, so it is not used.
	given, err := get[[]struct{ ID, RoleDefinitionID string }](ctx, r.az, "role", "assignment", "list", "--all",
		"--fill-principal-name", "false", "--fill-role-definition-name", "false")
	if err != nil {
		return err
	}
	for _, role := range found.roles {
		for _, assignment := range given {
			if !strings.HasSuffix(assignment.RoleDefinitionID, "/"+role) {
				continue
			}
			if _, err := r.az.run(ctx, "role", "assignment", "delete", "--ids", assignment.ID); err != nil && !isMissing(err) {
				return err
			}
		}
		r.Say("deleting the role %s", role)
		if _, err := r.az.run(ctx, "role", "definition", "delete", "--name", role, "--custom-role-only", "true"); err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

// removePlatform deletes the platform's group, or what is in it but the share.
func (r *run) removePlatform(ctx context.Context, found *removal, withShare bool) error {
	if withShare || len(found.Kept) == 0 {
		for _, res := range found.resources {
			found.Removed = append(found.Removed, res.ID)
		}
		return r.removeGroup(ctx, found.Name)
	}
	for _, res := range found.resources {
		r.Say("deleting %s %s", res.Type, res.Name)
		if _, err := r.az.runLong(ctx, "deleting "+res.Name, "resource", "delete", "--ids", res.ID); err != nil && !isMissing(err) {
			return err
		}
		found.Removed = append(found.Removed, res.ID)
	}
	return nil
}
