package pack

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"dsvmpools/cmd/dsvm/cli"
)

// Command lays out and checks what is deployed.
func Command(p *cli.Program) *cobra.Command {
	o := Options{Note: func(text string) { fmt.Fprintln(p.Err, "dsvm:", text) }}
	cmd := &cobra.Command{
		Use:   "package",
		Short: "Lay out, check and zip the function app, and build the agent",
		Long: `Write DIR/app with host.json, one folder for each function and the executable
` + "`handler`" + `; DIR/app.zip of the same; the agent of the nodes as DIR/agent; and
DIR/version.json and DIR/SHA256SUMS about them. Handler and agent are built for
linux/amd64 from the source in this folder; without Go or the source, name them
with --handler and --agent.

An app that the Functions host could not serve is refused: a handler for another
system, a setting that the template does not set, two functions for one request.`,
		Example: "  dsvm package\n  func start --script-root dist/app",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := Build(cmd.Context(), o)
			if err != nil {
				return err
			}
			return p.Answer(made, filepath.Join(o.Out, AppZip))
		},
	}
	cmd.Flags().StringVar(&o.Out, "out", "dist", "folder to write to")
	cmd.Flags().StringVar(&o.Handler, "handler", "", "a handler that was built before, for the platform of the function app")
	cmd.Flags().StringVar(&o.Agent, "agent", "", "an agent that was built before, for the nodes")
	return cmd
}
