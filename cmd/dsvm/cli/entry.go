package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

// entryFlags are what somebody may ask of OpenSSH on the way in to a job or a node.
type entryFlags struct {
	tty               bool
	forwards, options []string
}

// add adds the flags to a command that leads to such a thing.
func (f *entryFlags) add(c *cobra.Command, thing string) {
	c.Flags().BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	c.Flags().StringArrayVarP(&f.forwards, "forward", "L", nil, "lead a port to the "+thing+", as PORT:localhost:PORT; may be repeated")
	c.Flags().StringArrayVar(&f.options, "ssh-option", nil, "an option of ssh, such as Compression=yes; may be repeated")
}

// arguments are those of OpenSSH.
func (f *entryFlags) arguments() (all []string, err error) {
	for _, text := range f.forwards {
		lead, err := parseForward(text)
		if err != nil {
			return nil, err
		}
		all = append(all, lead.flags()...)
	}
	for _, text := range f.options {
		if name, _, isPair := strings.Cut(text, "="); !isPair || name == "" {
			return nil, WrongUse("--ssh-option is %.50q; write NAME=VALUE, as for ssh -o", text)
		}
		all = append(all, "-o", text)
	}
	if f.tty {
		all = append(all, "-tt")
	}
	return all, nil
}

// enterBy runs OpenSSH to what certify gives a certificate for, with flags of its own and a command;
// none = a shell. key is the line of a public key. The files of the login are gone afterwards.
func (p *Program) enterBy(
	ctx context.Context, s *session, certify func(key string) (wire.SessionCertificate, error), flags, command []string,
) error {
	folder, err := p.sshFolder()
	if err != nil {
		return err
	}
	key, err := folder.publicKey()
	if err != nil {
		return err
	}
	certificate, err := withPatience(ctx, func() (wire.SessionCertificate, error) { return certify(key) })
	if err != nil {
		return s.explain(err)
	}
	folder.sweepEntries(p.Now())
	own, err := os.MkdirTemp(string(folder), "entry-") // only its owner may read it
	if err != nil {
		return fmt.Errorf("the files for OpenSSH cannot be written: %w", err)
	}
	defer os.RemoveAll(own)
	if err := sshFolder(own).admit(wire.EntryHost, "", certificate); err != nil {
		return err
	}
	config, err := sshFolder(own).entryConfig(certificate.User, folder.path(keyFile))
	if err != nil {
		return err
	}
	args := append([]string{"-F", config}, flags...)
	args = append(args, wire.EntryHost)
	if len(command) > 0 {
		args = append(args, "--", quoteWords(command))
	}
	return p.runProgram("ssh", args...)
}

// codeOfSSH is the exit code of OpenSSH when the connection failed, or has ended.
const codeOfSSH = 255

// isBroken reports whether an error is that code.
func isBroken(err error) bool {
	var ended *Exit
	return errors.As(err, &ended) && ended.Code == codeOfSSH
}

// entryConfig writes the file of OpenSSH for one login.
func (f sshFolder) entryConfig(user, key string) (path string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	command, err := sshCommand(self, runtime.GOOS == "windows")
	if err != nil {
		return "", err
	}
	quoted := func(path string) string { return `"` + strings.ReplaceAll(filepath.ToSlash(path), "%", "%%") + `"` }
	text := strings.Join([]string{
		"Host " + wire.EntryHost,
		"  User " + user,
		"  IdentityFile " + quoted(key),
		"  CertificateFile " + quoted(f.path(wire.EntryHost+"-cert.pub")),
		"  UserKnownHostsFile " + quoted(f.path("known_hosts")),
		"  GlobalKnownHostsFile none",
		"  StrictHostKeyChecking yes",
		"  IdentitiesOnly yes",
		"  ProxyCommand " + command + " door --entry " + filepath.Base(string(f)),
		"  ServerAliveInterval 30",
		"  LogLevel ERROR",
	}, "\n") + "\n"
	path = f.path(sshConfigFile)
	return path, f.write(path, []byte(text))
}

// entryForm is how os.MkdirTemp names the folder of one login.
var entryForm = regexp.MustCompile(`^entry-[0-9]+$`)

// ReadEntry reads the ways to a job or a node, from the folder of a login.
func (p *Program) ReadEntry(name string) ([]wire.Door, error) {
	if !entryForm.MatchString(name) {
		return nil, WrongUse("--entry is %.50q; `dsvm job exec` and `dsvm node ssh` write it by themselves", name)
	}
	folder, err := p.sshFolder()
	if err != nil {
		return nil, err
	}
	door, _, err := sshFolder(folder.path(name)).readDoor(wire.EntryHost)
	return door.Doors, err
}

// quoteWords writes words so that a shell reads them as they are.
func quoteWords(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// entryLife is how old the folder of a login gets: OpenSSH reads it when it begins, and what is in
// it opens nothing after a quarter of an hour.
const entryLife = time.Hour

// sweepEntries removes the folders of logins whose programs were killed.
func (f sshFolder) sweepEntries(now time.Time) {
	all, _ := os.ReadDir(string(f))
	for _, entry := range all {
		if at, err := entry.Info(); err == nil && at.IsDir() && entryForm.MatchString(entry.Name()) && now.Sub(at.ModTime()) > entryLife {
			_ = os.RemoveAll(f.path(entry.Name())) // the next login tries again
		}
	}
}
