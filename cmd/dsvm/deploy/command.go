package deploy

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/shared/client"
)

// outside is what a run stands on besides az, so that a test can put something else there.
type outside struct {
	pause   func(context.Context, time.Duration) error
	connect func(url, key string) (pools, error)
}

// Commands are the ones of this package.
func Commands() []cli.Command {
	return commands(outside{pause, func(url, key string) (pools, error) { return client.New(url, key) }})
}

func commands(o outside) []cli.Command {
	var all []cli.Command
	for _, command := range []func(*run) *cobra.Command{deployCommand, upgradeCommand, destroyCommand} {
		all = append(all, func(p *cli.Program) *cobra.Command {
			return command(&run{Program: p, outside: o, az: &azure{log: p.Err, pause: o.pause}})
		})
	}
	return all
}

const parametersText = `Parameters are those of the template (name, location, image, subnetId, budgetPerMonth
and so on, see docs/deploy.md): from a file with -p, as NAME=VALUE, or asked for on a
terminal. What is not named stays as the last deployment has it. ` + firstSize + ` is the
VM size whose quota is looked at.`

func deployCommand(r *run) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy [NAME] [PARAMETER=VALUE]...",
		Short: "Put dsvmpools into a subscription of Azure, or upgrade it there",
		Long: `Put dsvmpools into a subscription of Azure: check rights, providers, image and quota,
show what will change and ask, create everything from the template, upload the agent
and the app, and wait until the API answers. It needs the program az, signed in. Run
again, it continues what was interrupted, or upgrades what is there.

` + parametersText + `

App and agent are built from the source in this folder; without Go or the source, name
the files of a release with --app and --agent.`,
		Example: "  dsvm deploy name=dsvmpools location=westeurope\n" +
			"  dsvm deploy -p main.parameters.json location=westeurope --app app_1.2.3.zip --agent agent_1.2.3 --yes",
		RunE: func(cmd *cobra.Command, args []string) error { return r.deploy(cmd.Context(), args) },
	}
	r.addFlags(cmd)
	return cmd
}

func upgradeCommand(r *run) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade NAME [PARAMETER=VALUE]...",
		Short: "Say what a new version or other parameters would change, and do it",
		Long: `Say what will happen to a deployment: versions now and then, parameters that change,
which pools get new nodes and how many nodes wait until they are idle, and in which
order; then do what dsvm deploy does. With --check it only says it, and changes nothing.

` + parametersText,
		Example: "  dsvm upgrade dsvmpools --check\n  dsvm upgrade dsvmpools image=UbuntuHPC",
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.upgrade(cmd.Context(), args)
		},
	}
	r.addFlags(cmd)
	cmd.Flags().BoolVar(&r.checkOnly, "check", false, "say what will happen, and change nothing")
	return cmd
}

func (r *run) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&r.files, "parameters", "p", nil, "file of parameters in the form that az takes, or of names and values")
	cmd.Flags().StringVar(&r.app, "app", "", "function app that was packed before (app.zip)")
	cmd.Flags().StringVar(&r.agent, "agent", "", "agent that was packed before")
	cmd.Flags().StringVar(&r.az.program, "az", "az", "the program az")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "do not ask")
}
