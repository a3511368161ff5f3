package deploy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/size"
)

// providers are those whose resources the template or the pools make. A template registers
// only those of its own resources, and no node is in it.
var providers = []string{
	"Microsoft.App",
	"Microsoft.Compute",
	"Microsoft.Insights",
	"Microsoft.KeyVault",
	"Microsoft.ManagedIdentity",
	"Microsoft.Network",
	"Microsoft.OperationalInsights",
	"Microsoft.Relay",
	"Microsoft.ServiceBus",
	"Microsoft.Storage",
	"Microsoft.Web",
}

// neededActions are the rights on the subscription that a deployment takes. Contributor
// alone lacks the two of Microsoft.Authorization.
var neededActions = []string{
	"Microsoft.Authorization/roleAssignments/write",
	"Microsoft.Authorization/roleDefinitions/write",
	"Microsoft.Compute/register/action",
	"Microsoft.Resources/deployments/write",
	"Microsoft.Resources/subscriptions/resourceGroups/write",
	"Microsoft.Web/sites/write",
}

// permission is what a role gives.
type permission struct{ Actions, NotActions []string }

// checkRights finds out who is signed in and whether the rights suffice, before anything is
// made.
func (r *run) checkRights(ctx context.Context) error {
	url := "/subscriptions/" + r.account.ID + "/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
	answer, err := get[struct{ Value []permission }](ctx, r.az, "rest", "--method", "get", "--url", url)
	if err != nil {
		return err
	}
	var lacking []string
	for _, action := range neededActions {
		if !slices.ContainsFunc(answer.Value, func(p permission) bool { return p.gives(action) }) {
			lacking = append(lacking, action)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("your rights on the subscription do not suffice: %s is missing; you need the role Owner, or Contributor and User "+
			"Access Administrator (Role Based Access Control Administrator may not make the roles of the template): "+
			"`az role assignment create --assignee %s --role Owner --scope /subscriptions/%s`",
			strings.Join(lacking, ", "), r.account.User.Name, r.account.ID)
	}
	token, err := get[struct{ AccessToken string }](ctx, r.az, "account", "get-access-token")
	if err != nil {
		return err
	}
	if r.caller, err = objectOf(token.AccessToken); err != nil {
		return err
	}
	r.parameters.add(paramDeployers, r.caller)
	return nil
}

// gives reports whether a permission covers an action. A * stands for any text.
func (p permission) gives(action string) bool {
	covers := func(pattern string) bool { return matches(strings.ToLower(pattern), strings.ToLower(action)) }
	return slices.ContainsFunc(p.Actions, covers) && !slices.ContainsFunc(p.NotActions, covers)
}

func matches(pattern, text string) bool {
	first, rest, some := strings.Cut(pattern, "*")
	if !some {
		return pattern == text
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	for i := len(first); i <= len(text); i++ {
		if matches(rest, text[i:]) {
			return true
		}
	}
	return false
}

// objectOf reads the owner of an access token from it. Whether the token is genuine
// does not matter here: Azure gets the id as the receiver of a right, not as a proof.
func objectOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the access token of az has another form than known: the parameter deployers takes your object id")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Oid string }
	if err != nil || json.Unmarshal(body, &claims) != nil || claims.Oid == "" {
		return "", errors.New("the access token of az names no object id: sign in again with az login")
	}
	return claims.Oid, nil
}

// registerProviders registers what is not registered yet.
func (r *run) registerProviders(ctx context.Context) error {
	all, err := get[[]struct{ Namespace, RegistrationState string }](ctx, r.az, "provider", "list")
	if err != nil {
		return err
	}
	registered := map[string]bool{}
	for _, p := range all {
		registered[strings.ToLower(p.Namespace)] = p.RegistrationState == "Registered"
	}
	for _, namespace := range providers {
		if registered[strings.ToLower(namespace)] {
			continue
		}
		r.Say("registering the provider %s", namespace)
		if _, err := r.az.runLong(ctx, "registering "+namespace, "provider", "register", "--namespace", namespace, "--wait"); err != nil {
			return err
		}
	}
	return nil
}

// checkImage makes sure that the image of nodes exists here: images of the marketplace are
// withdrawn.
func (r *run) checkImage(ctx context.Context) error {
	text := r.parameters.text(paramImage)
	image, err := pool.ParseImage(paramImage, text)
	if err != nil {
		return err
	}
	full := image.Full()
	if full.ID != "" {
		_, err = r.az.run(ctx, "resource", "show", "--ids", full.ID, "--output", "none")
	} else {
		_, err = r.az.run(ctx, "vm", "image", "show", "--location", r.location, "--urn", full.String(), "--output", "none")
	}
	if err == nil {
		return nil
	}
	var failed *azError
	if errors.As(err, &failed) && (isMissing(err) || strings.Contains(failed.Text, "Image") || strings.Contains(failed.Text, "resolve")) {
		return fault.New(fault.Invalid, paramImage, "the image %s is not there in %s: "+
			"choose another, such as image=UbuntuHPC or image=Ubuntu2404; "+
			"`az vm image list --all --publisher microsoft-dsvm --location %s` shows what is", text, r.location, r.location)
	}
	return err
}

// usage is a quota as az prints it, where numbers may be texts.
type usage struct {
	CurrentValue, Limit number
	Name                struct{ Value string }
}

type number int

func (n *number) UnmarshalJSON(b []byte) error {
	i, err := strconv.Atoi(strings.Trim(string(b), `"`))
	*n = number(i)
	return err
}

// checkQuota says whether one node of the first pool's size could be made. Too little is no
// reason not to deploy, since more can be asked for at any time.
func (r *run) checkQuota(ctx context.Context) error {
	skus, err := get[[]struct {
		Name, Family string
		Restrictions []struct{ Type, ReasonCode string }
	}](ctx, r.az, "vm", "list-skus", "--location", r.location, "--resource-type", "virtualMachines", "--size", r.parameters.size)
	if err != nil {
		return err
	}
	family := ""
	for _, sku := range skus {
		if !strings.EqualFold(sku.Name, r.parameters.size) {
			continue
		}
		family = sku.Family
		for _, restriction := range sku.Restrictions {
			if restriction.Type == "Location" {
				r.Say("note: the size %s is not open to this subscription in %s (%s); pools need another one: az vm list-skus --location %s",
					sku.Name, r.location, restriction.ReasonCode, r.location)
				return nil
			}
		}
	}
	if family == "" {
		r.Say("note: the size %s is not offered in %s; pools need another one: az vm list-skus --location %s",
			r.parameters.size, r.location, r.location)
		return nil
	}
	return r.compareQuota(ctx, family)
}

func (r *run) compareQuota(ctx context.Context, family string) error {
	usages, err := get[[]usage](ctx, r.az, "vm", "list-usage", "--location", r.location)
	if err != nil {
		return err
	}
	known, _ := size.Lookup(r.parameters.size)
	need := max(known.CPUs, 1)
	for _, u := range usages {
		if !strings.EqualFold(u.Name.Value, family) && u.Name.Value != "cores" {
			continue
		}
		if free := int(u.Limit - u.CurrentValue); free < need {
			r.Say("note: the quota %s has %d of %d cpus free, and a node of size %s needs %d; regular nodes cannot be made until there is more: "+
				"https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade", u.Name.Value, free, u.Limit, r.parameters.size, need)
		}
	}
	return nil
}

// vaults are the parameters that bring back a deleted vault, by what the vault's name begins with.
var vaults = map[string]string{"kv-": paramRecover, "kd-": paramKeys}

// recoverVaults asks the template to bring back the vaults that an earlier removal has deleted:
// Azure keeps them, and their names, for 7 days. A deployment that has failed may have left them
// deleted.
func (r *run) recoverVaults(ctx context.Context) error {
	deleted, err := get[[]struct {
		Name       string
		Properties struct {
			Location string
			Tags     map[string]string
		}
	}](ctx, r.az, "keyvault", "list-deleted", "--resource-type", "vault")
	if err != nil {
		return err
	}
	for _, vault := range deleted {
		if vault.Properties.Tags[deploymentTag] != r.name() || !strings.EqualFold(vault.Properties.Location, r.location) {
			continue
		}
		for begin, parameter := range vaults {
			_, said := r.parameters.values[parameter]
			if !strings.HasPrefix(vault.Name, begin) || said || parameter == paramRecover && r.parameters.text("existingVaultId") != "" {
				continue
			}
			r.Say("the vault %s was deleted within the last 7 days and comes back", vault.Name)
			if err := r.parameters.set(parameter, json.RawMessage("true")); err != nil {
				return err
			}
		}
	}
	return nil
}
