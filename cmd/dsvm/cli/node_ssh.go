package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func nodeSSH(p *Program) *cobra.Command {
	var pool, reason string
	var in entryFlags
	c := &cobra.Command{
		Use: "ssh NODE [-- COMMAND...]", Short: "Open a shell on a node as root, or run a command there",
		Long: `Open a shell on a node, or run a command there, as root; where the node's agent is
not root, as its account, and it says so. It is for operators of every team who have
signed in. It takes a reason, and asks for it on a terminal: the audit trail has it,
with who came and from where. What is started so ends with the shell or the command.

A node with an operator on it is removed as any other: when it is idle, drained or
deleted. Input, output and exit code are those of the command. --tty gives it a
terminal, -L leads a port of this machine to one of the node while it runs. It needs
OpenSSH here; the exit code is 255 when the connection failed.`,
		Example: "  dsvm node ssh dsvm-cpu-d4s-v5_3\n" +
			"  dsvm node ssh dsvm-cpu-d4s-v5_3 --reason 'the disk is full' -- df -h\n" +
			"  dsvm node ssh dsvm-cpu-d4s-v5_3 --reason 'its metrics' -L 9100:localhost:9100",
		ValidArgsFunction: firstOf(p.completeNodes),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" || len(args) > 1 && c.ArgsLenAtDash() != 1 {
				return WrongUse("`dsvm node ssh` takes the NAME or the id of a node, and a command after --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			flags, err := in.arguments()
			if err != nil {
				return err
			}
			why, err := p.askReason(reason, args[0])
			if err != nil {
				return err
			}
			s, err := p.connectToSessions()
			if err != nil {
				return err
			}
			certify := func(key string) (wire.SessionCertificate, error) {
				return s.CertifyNode(c.Context(), pool, args[0], key, why)
			}
			err = p.enterBy(c.Context(), s, certify, flags, args[1:])
			if isBroken(err) {
				p.Say("if the connection to node %s broke, what you ran there has ended; `dsvm node list` shows the nodes", args[0])
			}
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why you come, in a few words, for the audit trail")
	c.Flags().StringVar(&pool, "pool", "", "only a node of this pool")
	in.add(c, "node")
	complete(c, "pool", p.completePools)
	return c
}

// askReason asks on a terminal why somebody comes to a node, unless a flag says it.
func (p *Program) askReason(reason, node string) (string, error) {
	switch {
	case reason != "":
		return reason, nil
	case !p.Asks:
		return "", WrongUse("--reason is missing; say in a few words why you come to node %q, for the audit trail", node)
	}
	reason, err := p.Ask(fmt.Sprintf("Why do you come to node %s? The audit trail keeps it:", node))
	if reason == "" {
		if err != nil {
			fmt.Fprintln(p.Err)
		}
		return "", &Exit{Code: codeFailure, Err: errors.New("nobody comes to a node without a reason")}
	}
	return reason, nil
}
