package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// entryOf is what somebody comes in to: a running job, on one of its nodes.
type entryOf struct {
	job  string
	rank int
}

func jobExec(p *Program) *cobra.Command {
	var of entryOf
	var in entryFlags
	c := &cobra.Command{
		Use: "exec ID [-- COMMAND...]", Short: "Open a shell in a running job, or run a command there",
		Long: `Open a shell in a running job, or run a command there, on the job's node: as the
user of the job, with its environment, in the directory that it was started in,
within its cpus and memory. What is started so ends with the job. You may come
in to your own jobs, operators of a team to those of the team.

Input, output and exit code are those of the command. --tty gives it a terminal.
-L leads a port of this machine to one of the job's node while it runs. It needs
OpenSSH here; the exit code is 255 when the connection failed.`,
		Example: "  dsvm job exec nightly-42\n  dsvm job exec nightly-42 -- nvidia-smi\n" +
			"  dsvm job exec tune.3 -- tar -cz logs >logs.tgz",
		ValidArgsFunction: firstOf(p.completeJobs),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" || len(args) > 1 && c.ArgsLenAtDash() != 1 {
				return WrongUse("`dsvm job exec` takes the ID of a job, and a command after --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			flags, err := in.arguments()
			if err != nil {
				return err
			}
			of.job = args[0]
			return p.comeIn(c.Context(), of, flags, args[1:])
		},
	}
	in.add(c, "job")
	c.Flags().IntVar(&of.rank, "rank", 0, "of a job on several nodes: on the node of this rank")
	return c
}

func jobForward(p *Program) *cobra.Command {
	var of entryOf
	c := &cobra.Command{
		Use: "forward ID [LOCAL:]PORT...", Short: "Lead ports of this machine to a running job, such as TensorBoard's",
		Long: `Lead ports of this machine to ports on which a running job listens on its node,
on localhost there, until Ctrl-C or the end of the job. Only this machine reaches
them here. LOCAL is the port here, where it is another one.`,
		Example:           "  dsvm job forward nightly-42 6006\n  dsvm job forward nightly-42 16006:6006 8888",
		ValidArgsFunction: firstOf(p.completeJobs),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || args[0] == "" {
				return WrongUse("`dsvm job forward` takes the ID of a job and at least one PORT")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			flags := []string{"-N", "-o", "ExitOnForwardFailure=yes"}
			var leads []string
			for _, text := range args[1:] {
				here, there, isPair := strings.Cut(text, ":")
				if !isPair {
					there = here
				}
				f, err := parseForward(here + ":localhost:" + there)
				if err != nil {
					return WrongUse("%.50q names no port to lead; write such as 6006, or 16006:6006", text)
				}
				flags = append(flags, f.flags()...)
				leads = append(leads, fmt.Sprintf("http://localhost:%d leads to port %d of job %s, until Ctrl-C", f.here, f.there, args[0]))
			}
			of.job = args[0]
			return p.comeIn(c.Context(), of, flags, nil, leads...)
		},
	}
	c.Flags().IntVar(&of.rank, "rank", 0, "of a job on several nodes: on the node of this rank")
	return c
}

// forward is a port of this machine that leads to one of a job.
type forward struct{ here, there int }

// parseForward reads PORT:HOST:PORT, as OpenSSH does, with the hosts that a job may reach so.
func parseForward(text string) (forward, error) {
	wrong := WrongUse("%.50q names no ports to lead; write such as 6006:localhost:6006", text)
	parts := strings.Split(text, ":")
	const fields = 3
	if len(parts) != fields {
		return forward{}, wrong
	}
	if parts[1] != "localhost" && parts[1] != "127.0.0.1" {
		return forward{}, WrongUse("%.50q leads to another machine; a job's and a node's own ports are on localhost", text)
	}
	const bits = 16
	here, err1 := strconv.ParseUint(parts[0], 10, bits)
	there, err2 := strconv.ParseUint(parts[2], 10, bits)
	if errors.Join(err1, err2) != nil || here == 0 || there == 0 {
		return forward{}, wrong
	}
	return forward{int(here), int(there)}, nil
}

// flags are those of OpenSSH. Only this machine reaches the port.
func (f forward) flags() []string {
	return []string{"-L", fmt.Sprintf("127.0.0.1:%d:localhost:%d", f.here, f.there)}
}

// comeIn runs OpenSSH into a running job, with flags of its own and a command; none = a shell.
// It says the sentences when the instance lets this person in.
func (p *Program) comeIn(ctx context.Context, of entryOf, flags, command []string, sentences ...string) error {
	s, err := p.connectToSessions()
	if err != nil {
		return err
	}
	certify := func(key string) (wire.SessionCertificate, error) {
		certificate, err := s.CertifyJob(ctx, of.job, key, of.rank)
		if err == nil {
			for _, sentence := range sentences {
				p.Say("%s", sentence)
			}
		}
		return certificate, err
	}
	err = p.enterBy(ctx, s, certify, flags, command)
	if isBroken(err) {
		j, failed := s.Job(ctx, of.job)
		switch {
		case failed != nil: // the connection's own sentence stands
		case j.State.Final():
			p.Say("job %s has ended as %s", of.job, j.State)
		case j.State == job.Running:
			p.Say("job %s is running; if the connection broke, come in again", of.job)
		default:
			p.Say("job %s does not run now: it is %s; come in again when it runs", of.job, j.State)
		}
	}
	return err
}
