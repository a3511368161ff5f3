package cli

import (
	"context"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// consoleText is a node's serial console in the form of JSON.
type consoleText struct {
	Node string `json:"node"`
	Log  string `json:"log"`
}

func nodeConsole(p *Program) *cobra.Command {
	var pool string
	c := &cobra.Command{
		Use: "console NODE", Short: "Print what a node has written to its serial console", Args: exactly("the NAME or the id of a node"),
		Long: `Print what a node has written to its serial console since its machine started, the
last mebibyte of it: how it booted, and why its agent did not come up. Azure has it
a minute after the start, and forgets it with the machine.`,
		Example:           "  dsvm node console dsvm-cpu-d4s-v5_3 | tail -50",
		ValidArgsFunction: firstOf(p.completeNodes),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := ask(c.Context(), p, "asking for the console of node "+args[0], func(ctx context.Context, s *session) ([]byte, error) {
				return s.Console(ctx, pool, args[0])
			})
			if err != nil {
				return err
			}
			text := printable(log)
			if p.output == outputJSON {
				return p.json(consoleText{Node: args[0], Log: text})
			}
			if text == "" {
				p.Say("node %q has written nothing to its serial console yet", args[0])
			}
			_, err = io.WriteString(p.Out, text)
			return err
		},
	}
	c.Flags().StringVar(&pool, "pool", "", "only a node of this pool")
	complete(c, "pool", p.completePools)
	return c
}

// terminalSequence is what moves the cursor of a terminal or colours its text.
var terminalSequence = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])`)

// printable is the text of a console without what moves the cursor of a terminal: a node
// writes what it likes. It ends with a whole line.
func printable(log []byte) string {
	text := string(log)
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	text = strings.ReplaceAll(terminalSequence.ReplaceAllString(text, ""), "\r\n", "\n")
	text = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}
