package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

func sshCommands(p *Program) *cobra.Command {
	want := stay{intent: wire.IntentOpen}
	c := &cobra.Command{
		Use: "ssh POOL [-- COMMAND...]", Short: "Open a shell on a node of an interactive pool, or run a command there",
		Long: `Open a shell in your session in a pool, or run a command there. It starts a
session where you have none, and waits while a node boots. The exit code is that of
ssh: of the command, or 255 when the connection failed.

As with ssh, a shell there reads the words of COMMAND, joined by blanks: quote what
belongs together once more.`,
		Example:           "  dsvm ssh lab\n  dsvm ssh lab -- nvidia-smi\n  dsvm ssh lab -- 'cd model && make'\n  dsvm ssh lab -- tmux attach",
		ValidArgsFunction: firstOf(p.completePools),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" || len(args) > 1 && c.ArgsLenAtDash() != 1 {
				return WrongUse("`dsvm ssh` takes the name of a POOL, and a command after --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			want.pool = args[0]
			session, err := p.enter(c.Context(), want)
			if err == nil {
				err = checkSSH(session)
			}
			if err != nil {
				return err
			}
			folder, err := p.sshFolder()
			if err != nil {
				return err
			}
			text, _, err := p.makeSSHConfig(c.Context())
			if err != nil {
				return err
			}
			path := folder.path(sshConfigFile)
			if err := folder.write(path, []byte(text)); err != nil {
				return err
			}
			return p.runProgram("ssh", append([]string{"-F", path, hostName(session.Pool)}, args[1:]...)...)
		},
	}
	want.flags(c)
	c.AddCommand(sshConfig(p))
	return c
}

func codeCommand(p *Program) *cobra.Command {
	want := stay{intent: wire.IntentOpen}
	c := &cobra.Command{
		Use: "code POOL [FOLDER]", Short: "Open VS Code on a node of an interactive pool",
		Long: `Open VS Code, here, on your session in a pool. It needs the extension Remote - SSH
and its command code. It starts a session where you have none, and waits while a
node boots. FOLDER is one of the node.

An open window alone does not keep a session: after its idle time it ends, and the
window finds it again only when you start another one.`,
		Example:           "  dsvm code lab\n  dsvm code lab /home/ann/model",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: firstOf(p.completePools),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := exec.LookPath("code"); err != nil {
				return errors.New("the command code of VS Code is not in your PATH; in VS Code, run \"Shell Command: Install 'code' command in PATH\"")
			}
			want.pool = args[0]
			session, err := p.enter(c.Context(), want)
			if err == nil {
				err = checkSSH(session)
			}
			if err != nil {
				return err
			}
			text, _, err := p.makeSSHConfig(c.Context())
			if err != nil {
				return err
			}
			if _, err := p.writeSSHConfig(text); err != nil {
				return err
			}
			return p.runProgram("code", append([]string{"--remote", "ssh-remote+" + hostName(session.Pool)}, args[1:]...)...)
		},
	}
	want.flags(c)
	return c
}

func jupyterCommand(p *Program) *cobra.Command {
	want := stay{intent: wire.IntentOpen}
	var noBrowser bool
	c := &cobra.Command{
		Use: "jupyter POOL", Short: "Open JupyterLab on a node of an interactive pool", Args: exactly("the name of a POOL"),
		Long: `Open the JupyterLab of your session in a pool in the browser. It starts a session
where you have none, and waits while a node boots. The address is good once, for a
minute; the browser then stays signed in. --no-browser prints it.`,
		Example:           "  dsvm jupyter lab\n  dsvm jupyter lab --no-browser",
		ValidArgsFunction: firstOf(p.completePools),
		RunE: func(c *cobra.Command, args []string) error {
			want.pool = args[0]
			s, err := p.connectToSessions()
			if err != nil {
				return err
			}
			if err := hasLab(c.Context(), s, want.pool); err != nil {
				return s.explain(err)
			}
			ready, err := p.wakeUp(c.Context(), s, want)
			if err != nil {
				return s.explain(err)
			}
			lab, err := withPatience(c.Context(), func() (wire.SessionLab, error) { return s.Lab(c.Context(), ready.ID) })
			if err != nil {
				return s.explain(err)
			}
			if noBrowser || p.output == outputJSON {
				return p.answer(lab, lab.URL)
			}
			if err := p.browse(c.Context(), lab.URL); err != nil {
				p.Say("no browser can be started here; open the address below within a minute")
				return p.answer(lab, lab.URL)
			}
			p.Say("the browser opens JupyterLab")
			return nil
		},
	}
	want.flags(c)
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address, and open no browser")
	return c
}

// hasLab returns an error if browsers come to no JupyterLab of a pool, before a node is woken for nothing.
func hasLab(ctx context.Context, s *session, name string) error {
	of, err := interactiveSpec(ctx, s, name)
	if err != nil || of == nil {
		return err
	}
	if why := of.WithoutLab(); why != "" {
		return fmt.Errorf("pool %q has no JupyterLab: %s", name, why)
	}
	return nil
}

// interactiveSpec is the document of an interactive pool; nil = it is none, which opening a
// session says.
func interactiveSpec(ctx context.Context, s *session, name string) (*pool.Spec, error) {
	of, err := withPatience(ctx, func() (wire.Pool, error) { return s.Pool(ctx, name) })
	if err != nil || of.Spec == nil || !of.Spec.IsInteractive() {
		return nil, err
	}
	return of.Spec, nil
}

// browse opens an address in the person's browser.
func (p *Program) browse(ctx context.Context, address string) error {
	if p.Browse == nil {
		return errors.New("there is no browser")
	}
	return p.Browse(ctx, address)
}

// runProgram runs a program of this machine with the terminal of this one, and ends as it
// does. Signals of the terminal are for that program.
func (p *Program) runProgram(name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("the program %s is not installed here, or not in your PATH", name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	_, release := p.Signals.hold()
	defer release()
	c := exec.Command(path, args...) //nolint:noctx // it ends by itself, and gets the signals of the terminal
	c.Stdin, c.Stdout, c.Stderr = p.In, p.Out, p.Err
	err = c.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		code := ended.ExitCode()
		if code < 0 {
			code = codeFailure // a signal has ended it
		}
		return &Exit{Code: code}
	}
	if err != nil {
		return fmt.Errorf("%s could not be started: %w", name, err)
	}
	return nil
}
