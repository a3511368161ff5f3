package cli

import (
	"github.com/spf13/cobra"

	"dsvmpools/shared/version"
)

func versionCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show which release this program is",
		Long:    "Show which release this program is, and which version of the protocol between\npool and agent it speaks.",
		Example: "  dsvm version\n  dsvm version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version.Read()
			t := newTable("VERSION ?1COMMIT ?2DATE ?4GO ?3SYSTEM <PROTOCOL")
			t.add(v.Version, v.Commit[:min(len(v.Commit), 12)], v.Date, v.Go, v.OS+"/"+v.Arch, v.Protocol)
			if p.output == outputJSON {
				return p.json(v)
			}
			return t.write(p, "")
		},
	}
}
