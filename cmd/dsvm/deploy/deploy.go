// Package deploy puts dsvmpools into a subscription of Azure, upgrades it and removes it,
// for people who have the rights: `dsvm deploy`, `dsvm upgrade`, `dsvm destroy`. It calls the
// program az, which is signed in, with the template in package infra.
//
// Each step first looks at what is there, so that the next run continues one that was
// killed. No secret is ever an argument of a process, and none is written to a file or a log.
// The package decides nothing about pools and jobs and deletes nothing that has another name.
package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/cmd/dsvm/pack"
	"dsvmpools/infra"
	"dsvmpools/shared/wire"
)

// Bounds of the waits. Rights take minutes to reach the data of an account, and a
// first start of the app takes as long.
const (
	rightsBound = 10 * time.Minute
	answerBound = 15 * time.Minute
	// A deployment takes five minutes the first time; half an hour is one that hangs.
	deploymentBound = 30 * time.Minute
)

// run is one run of a command.
type run struct {
	*cli.Program
	outside
	az         *azure
	parameters *parameters
	files      []string // of parameters
	app, agent string   // packed before; "" = built here
	yes        bool
	checkOnly  bool // upgrade --check: says what would happen

	account  account
	caller   string // object id of who is signed in
	location string
	last     *deployment // what is deployed now; nil = nothing
	packed   pack.Package
	dir      string // of temporary files
}

// pools is what is asked of the API of a deployment.
type pools interface {
	Pools(ctx context.Context) ([]wire.Pool, error)
}

// account is what az says of the sign-in.
type account struct {
	ID, Name, TenantID string
	State              string
	User               struct{ Name, Type string }
}

// deployment is Azure's record of the last deployment.
type deployment struct {
	Location   string
	Properties struct {
		ProvisioningState string
		Parameters        map[string]struct{ Value json.RawMessage }
		Outputs           map[string]struct{ Value json.RawMessage }
	}
}

// output is a text that the template returned; "" = the deployment did not come so far.
func (d *deployment) output(name string) (text string) {
	if d != nil {
		_ = json.Unmarshal(d.Properties.Outputs[name].Value, &text) // another type is none
	}
	return text
}

func (r *run) name() string { return r.parameters.text(paramName) }

// record is the name of the deployment in Azure's records.
func (r *run) record() string { return recordName(r.name()) }

func recordName(name string) string { return "dsvmpools-" + name }

// deploy does everything, from the checks to the first answer.
func (r *run) deploy(ctx context.Context, args []string) error {
	end, err := r.prepare(ctx, args)
	defer end()
	if err != nil {
		return err
	}
	return r.apply(ctx)
}

// prepare reads the parameters, signs in, checks the rights, and packs app and agent. It
// changes nothing in Azure. The function that it returns removes temporary files.
func (r *run) prepare(ctx context.Context, args []string) (end func(), err error) {
	end = func() {}
	if err := r.readParameters(args); err != nil {
		return end, err
	}
	if r.dir, err = os.MkdirTemp("", "dsvm-deploy-"); err != nil {
		return end, err
	}
	end = func() { os.RemoveAll(r.dir) }
	for _, step := range []func(context.Context) error{r.signIn, r.findLast, r.askMissing, r.checkRights, r.pack} {
		if err := step(ctx); err != nil {
			return end, err
		}
	}
	return end, nil
}

// apply changes Azure, step by step. What nodes and app need is there before they look for
// it: first the agent's program, if its container exists, then the template, then the app.
func (r *run) apply(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		r.registerProviders, r.checkImage, r.checkQuota, r.recoverVaults, r.chooseKey, r.chooseStart, r.awaitLast, r.keepSettings,
		r.confirm, r.uploadAgentEarly, r.create, r.uploadAgent, r.uploadApp, r.awaitKeys, r.awaitAnswer, r.noteVersion,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return r.finish()
}

// readParameters takes them from files and arguments; later ones win.
func (r *run) readParameters(args []string) (err error) {
	if r.parameters, err = newParameters(infra.Template); err != nil {
		return err
	}
	if (r.app == "") != (r.agent == "") {
		return cli.WrongUse("--app and --agent belong together: a release has both")
	}
	for _, file := range r.files {
		if err := r.parameters.readFile(file); err != nil {
			return err
		}
	}
	for i, arg := range args {
		if i == 0 && !strings.Contains(arg, "=") {
			arg = paramName + "=" + arg
		}
		if err := r.parameters.setText(arg); err != nil {
			return err
		}
	}
	if r.name() == "" {
		if err := r.askFor(paramName, "dsvmpools", "Name of the deployment, 3 to 11 of a-z and 0-9"); err != nil {
			return err
		}
	}
	return checkName(r.name())
}

// askFor asks for a parameter on a terminal.
func (r *run) askFor(parameter, suggestion, question string) error {
	if !r.Asks {
		return cli.WrongUse("the parameter %s is missing; add %s=VALUE, such as %s=%s", parameter, parameter, parameter, suggestion)
	}
	answer, err := r.Ask(fmt.Sprintf("%s [%s]:", question, suggestion))
	if err != nil {
		return fmt.Errorf("the parameter %s is missing, and nobody answers: %w", parameter, err)
	}
	if answer == "" {
		answer = suggestion
	}
	return r.parameters.set(parameter, quote(answer))
}

// oldestAz is the first version of az that uploads an app to the plan Flex Consumption.
const oldestAz = "2.60.0"

// signIn finds az and the account that it is signed in with.
func (r *run) signIn(ctx context.Context) error {
	program, err := exec.LookPath(r.az.program)
	if err != nil {
		return errors.New("the program az is not found: install it (https://aka.ms/azcli), or run this in Azure Cloud Shell, which has it")
	}
	r.az.program = program
	version, err := get[map[string]any](ctx, r.az, "version")
	if err != nil {
		return err
	}
	if have, _ := version["azure-cli"].(string); olderThan(have, oldestAz) {
		return fmt.Errorf("az has version %s, and %s is needed: az upgrade", have, oldestAz)
	}
	if r.account, err = get[account](ctx, r.az, "account", "show"); err != nil {
		var failed *azError
		if errors.As(err, &failed) && strings.Contains(failed.Text, "az login") {
			return errors.New("nobody is signed in at Azure: run `az login`, then this command again")
		}
		return fmt.Errorf("az does not say who is signed in: %w", err)
	}
	if r.account.State != "" && r.account.State != "Enabled" {
		return fmt.Errorf("the subscription %s is %s; choose another: az account set --subscription NAME", r.account.Name, r.account.State)
	}
	r.az.subscription = r.account.ID
	r.Say("subscription %s (%s), signed in as %s", r.account.Name, r.account.ID, r.account.User.Name)
	return nil
}

func olderThan(have, need string) bool {
	var a, b [3]int
	if _, err := fmt.Sscanf(have, "%d.%d.%d", &a[0], &a[1], &a[2]); err != nil {
		return false // a version in another form is a new one
	}
	_, _ = fmt.Sscanf(need, "%d.%d.%d", &b[0], &b[1], &b[2])
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// findLast reads what the last run has deployed under this name.
func (r *run) findLast(ctx context.Context) error {
	last, err := get[deployment](ctx, r.az, "deployment", "sub", "show", "--name", r.record())
	switch {
	case isMissing(err):
		return r.refuseForeignGroup(ctx)
	case err != nil:
		return err
	}
	r.last = &last
	r.parameters.inherit(last.Properties.Parameters)
	return nil
}

// running are the states of a deployment that Azure still works on.
var running = []string{"Accepted", "Creating", "Running", "Updating"}

// awaitLast waits for a deployment that an interrupted run has begun and that goes on: Azure refuses a
// second one of the same name.
func (r *run) awaitLast(ctx context.Context) error {
	if r.last == nil {
		return nil
	}
	return r.az.until(ctx, "the deployment that an earlier run has begun ends", deploymentBound, func(ctx context.Context) (look, error) {
		if state := r.last.Properties.ProvisioningState; slices.Contains(running, state) {
			again, err := get[deployment](ctx, r.az, "deployment", "sub", "show", "--name", r.record())
			if err != nil {
				return look{}, err
			}
			r.last = &again
			return look{why: "it is " + state}, nil
		}
		return look{done: true}, nil
	})
}

// group is a resource group.
type group struct {
	Name, Location, ID string
	Tags               map[string]string
}

// refuseForeignGroup refuses a resource group of the same name that is not this one's.
func (r *run) refuseForeignGroup(ctx context.Context) error {
	for _, name := range []string{r.name(), nodesGroup(r.name())} {
		g, err := get[group](ctx, r.az, "group", "show", "--name", name)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return err
		}
		if g.Tags[deploymentTag] != r.name() {
			return fmt.Errorf("there is a resource group %q already, which is not of dsvmpools: choose another name=", name)
		}
	}
	return nil
}

// deploymentTag marks everything of a deployment with its name.
const deploymentTag = "dsvmpools"

func nodesGroup(name string) string { return name + "-nodes" }

// askMissing asks for what the template needs and nobody has said.
func (r *run) askMissing(context.Context) error {
	if r.parameters.text(paramLocation) == "" {
		if err := r.askFor(paramLocation, "westeurope", "Region of everything (az account list-locations shows them)"); err != nil {
			return err
		}
	}
	// Names are derived from it, so that it has one spelling: "West Europe" is westeurope.
	r.location = strings.ToLower(strings.ReplaceAll(r.parameters.text(paramLocation), " ", ""))
	if err := r.parameters.set(paramLocation, quote(r.location)); err != nil {
		return err
	}
	if r.last != nil && !strings.EqualFold(r.last.Location, r.location) {
		return cli.WrongUse("%s is deployed in %s; a deployment cannot move: use location=%s, or another name=",
			r.name(), r.last.Location, r.last.Location)
	}
	return nil
}

// pack builds the app and the agent, or checks those of a release.
func (r *run) pack(ctx context.Context) (err error) {
	if r.app != "" {
		r.packed, err = pack.Open(r.app, r.agent)
	} else {
		r.packed, err = pack.Build(ctx, pack.Options{Out: r.dir, Note: func(text string) { r.Say("%s", text) }})
	}
	if err != nil {
		return err
	}
	r.Say("function app %s, agent %s (SHA-256 %.12s...)", r.packed.App.Version, r.packed.Agent.Version, r.packed.Agent.SHA256)
	return r.parameters.set(paramAgent, quote(r.packed.Agent.SHA256))
}

// chooseKey keeps the key of the last deployment, or makes one that nobody can use.
func (r *run) chooseKey(context.Context) error {
	if r.parameters.text(paramKey) != "" {
		return nil
	}
	key, err := throwAwayKey(r.name())
	if err != nil {
		return err
	}
	r.Say("no sshPublicKey was given: the nodes get one whose private half is thrown away, so that nobody can log in")
	return r.parameters.set(paramKey, quote(key))
}

// chooseStart says in which month a budget begins, if nobody has said it: in the month of the
// run that makes it. Azure refuses another month for as long as the budget lives.
func (r *run) chooseStart(context.Context) error {
	var amount int
	_ = json.Unmarshal(r.parameters.values[paramBudget], &amount) // none, or checked when it was set
	if amount == 0 || r.parameters.text(paramStart) != "" {
		return nil
	}
	start := r.Now().UTC().Format("2006-01") + "-01"
	if r.last != nil {
		var before string
		if json.Unmarshal(r.last.Properties.Parameters[paramStart].Value, &before) == nil && before != "" {
			start = before
		}
	}
	return r.parameters.set(paramStart, quote(start))
}

// arguments are those that what-if and create share. The parameters go by a file that only
// this user reads.
func (r *run) arguments(verb string) ([]string, error) {
	template := filepath.Join(r.dir, "main.json")
	if err := os.WriteFile(template, infra.Template, 0o600); err != nil {
		return nil, err
	}
	values, err := r.parameters.write(r.dir, verb == "what-if")
	if err != nil {
		return nil, err
	}
	return []string{"deployment", "sub", verb, "--name", r.record(), "--location", r.location,
		"--template-file", template, "--parameters", "@" + values, "--no-prompt", "true"}, nil
}

// confirm shows what will change and asks.
func (r *run) confirm(ctx context.Context) error {
	args, err := r.arguments("what-if")
	if err != nil {
		return err
	}
	r.Say("asking Azure what this will change")
	if _, err := r.az.runTo(ctx, r.Err, args...); err != nil {
		return err
	}
	if r.yes {
		return nil
	}
	if !r.Asks {
		return cli.WrongUse("nothing was deployed, since nobody can be asked here; add --yes to do it")
	}
	answer, err := r.Ask(fmt.Sprintf("Deploy this to %s? [y/N]", r.account.Name))
	if err != nil || !strings.HasPrefix(strings.ToLower(answer), "y") {
		return errors.New("nothing was deployed")
	}
	return nil
}

// create has Azure make what the template says.
func (r *run) create(ctx context.Context) error {
	args, err := r.arguments("create")
	if err != nil {
		return err
	}
	r.Say("creating what the template says; a first time takes about five minutes")
	out, err := r.createPatiently(ctx, append(args, "--output", "json"))
	if err != nil {
		return err
	}
	made := &deployment{}
	if err := json.Unmarshal(out, made); err != nil {
		return fmt.Errorf("the answer of az cannot be read: %w", err)
	}
	if made.output("functionAppName") == "" || made.output("hostAccount") == "" {
		return fmt.Errorf("the deployment %s has no outputs; look at it: az deployment sub show --name %s", r.record(), r.record())
	}
	made.Location = r.location
	r.last = made
	return nil
}

// What Azure says while what it has just made is not known everywhere yet.
var passing = []string{"PrincipalNotFound", "RoleDefinitionDoesNotExist", "AnotherOperationInProgress", "RetryableError",
	"InternalServerError", "ServiceUnavailable", "GatewayTimeout"}

// createPatiently begins again when Azure was not ready: a role or an identity that was made
// a moment ago takes up to some minutes to be known everywhere.
func (r *run) createPatiently(ctx context.Context, args []string) ([]byte, error) {
	const tries, between = 4, 30 * time.Second
	for try := 1; ; try++ {
		out, err := r.az.runLong(ctx, "creating", args...)
		var failed *azError
		if try == tries || !errors.As(err, &failed) || !slices.Contains(passing, failed.Code) {
			return out, err
		}
		r.Say("Azure was not ready (%s); trying again, which continues", failed.Code)
		if err := r.az.pause(ctx, between); err != nil {
			return nil, err
		}
	}
}

// noteVersion writes the versions on the platform's resource group, where the next upgrade
// finds them. While a deployment is under way they are not there.
func (r *run) noteVersion(ctx context.Context) error {
	id := "/subscriptions/" + r.account.ID + "/resourceGroups/" + r.name()
	_, err := r.az.run(ctx, "tag", "update", "--resource-id", id, "--operation", "Merge", "--tags",
		versionTag+"="+r.packed.App.Version, agentVersionTag+"="+r.packed.Agent.Version, "--output", "none")
	return err
}

// Tags of the platform's resource group.
const (
	versionTag      = "dsvmpools-version"
	agentVersionTag = "dsvmpools-agent-version"
)

// finished is what `-o json` prints.
type finished struct {
	Name         string `json:"name"`
	Subscription string `json:"subscription"`
	Location     string `json:"location"`
	URL          string `json:"url"`
	KeyCommand   string `json:"keyCommand"`
	Version      string `json:"version"`
	AgentVersion string `json:"agentVersion"`
	AgentSHA256  string `json:"agentSha256"`
	IdleCost     string `json:"idleCost"`
}

// finish says how the deployment is used. The key itself is not printed.
func (r *run) finish() error {
	f := finished{
		Name:         r.name(),
		Subscription: r.account.ID,
		Location:     r.location,
		URL:          r.last.output("functionUrl"),
		KeyCommand:   r.last.output("functionKeyCommand"),
		Version:      r.packed.App.Version,
		AgentVersion: r.packed.Agent.Version,
		AgentSHA256:  r.packed.Agent.SHA256,
		IdleCost:     r.last.output("idleCost"),
	}
	return r.Answer(f,
		f.Name+" answers at "+f.URL,
		"Its key: "+f.KeyCommand,
		"Cost at rest: "+f.IdleCost,
		"Next: "+f.KeyCommand+" | dsvm context add "+f.Name+" --use --url "+f.URL+"; dsvm pool apply -f pool.yaml",
		"Remove it: dsvm destroy "+f.Name)
}
