package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/wholefile"
	"dsvmpools/shared/wire"
)

const (
	sshConfigFile = "ssh_config"
	// includeLine goes into the person's own file once. OpenSSH knows ~ on every system.
	includeLine = "Include ~/" + InstanceFolder + "/" + sshConfigFile
)

func sshConfig(p *Program) *cobra.Command {
	var show bool
	c := &cobra.Command{
		Use: "config", Short: "Have ssh know the pools as POOL.dsvm", Args: cobra.NoArgs,
		Long: `Have ssh, scp, sftp, rsync, git and editors know the interactive pools as hosts
POOL.dsvm. It writes ~/.dsvm/ssh_config, and puts one line into ~/.ssh/config that
includes it. From then on ssh lab.dsvm comes into your session in pool lab, and
waits while its node boots; it starts no session that has ended.

Run it again for another instance, or when there are more pools. --print shows the
file and writes nothing.`,
		Example: "  dsvm ssh config\n  ssh lab.dsvm\n  scp data.csv lab.dsvm:",
		RunE: func(c *cobra.Command, _ []string) error {
			text, hosts, err := p.makeSSHConfig(c.Context())
			if err == nil && len(hosts) == 0 && p.output != outputJSON {
				p.Say("no pool here is interactive, so that ssh finds no host yet; run it again when there is one")
			}
			if err != nil || show {
				if err == nil {
					_, err = io.WriteString(p.Out, text)
				}
				return err
			}
			path, err := p.writeSSHConfig(text)
			if err != nil {
				return err
			}
			return p.answer(map[string]string{"file": path}, path)
		},
	}
	c.Flags().BoolVar(&show, "print", false, "print the file, and write nothing")
	return c
}

// makeSSHConfig makes the text of the file for the instance, and names the hosts that are in it.
func (p *Program) makeSSHConfig(ctx context.Context) (text string, hosts []string, err error) {
	s, err := p.connectToSessions()
	if err != nil {
		return "", nil, err
	}
	me, err := s.Me(ctx)
	if err != nil {
		return "", nil, s.explain(err)
	}
	if me.Name == "" {
		return "", nil, errors.New("a session belongs to a person; sign in with `dsvm login`")
	}
	pools, err := s.Pools(ctx)
	if err != nil {
		return "", nil, s.explain(err)
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	command, err := sshCommand(self, runtime.GOOS == "windows")
	if err != nil {
		return "", nil, err
	}
	for _, one := range pools {
		if one.Kind == pool.KindInteractive {
			hosts = append(hosts, hostName(one.Name))
		}
	}
	folder, err := p.sshFolder()
	if err != nil {
		return "", nil, err
	}
	return sshConfigText(command, me.Name, folder, s.instance, hosts, runtime.GOOS == "windows"), hosts, nil
}

// sshCommand writes the path of this program as it stands in the file, for the shell that
// OpenSSH starts it by.
func sshCommand(path string, windows bool) (string, error) {
	if found, err := exec.LookPath("dsvm"); err == nil && isSameFile(found, path) {
		return "dsvm", nil
	}
	path = strings.ReplaceAll(path, "%", "%%")
	switch {
	case strings.ContainsAny(path, "'\"\n\\") && !windows, strings.ContainsAny(path, "'\"\n"):
		return "", fmt.Errorf("%s has a quote in its path, which no ssh_config can hold; put `dsvm` into a folder of your PATH", path)
	case !strings.ContainsAny(path, " ()&;$`*?<>|!#~") && !windows:
		return path, nil
	case windows && strings.ContainsAny(path, " ()&"):
		return "", fmt.Errorf("%s has a blank or a sign in its path that ssh cannot pass on; put `dsvm` into a folder of your PATH", path)
	case windows:
		return filepath.ToSlash(path), nil
	}
	return "'" + path + "'", nil
}

func isSameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// instanceFlags are how a program that ssh starts, in whatever folder, finds the instance.
func instanceFlags(of Instance, quote func(string) string) string {
	switch {
	case of.context != "":
		return " --context " + of.context
	case of.Source != "" && of.Source != "DSVM_URL":
		return " --instance " + quote(of.Source)
	}
	return "" // the environment names it, then too
}

// sshConfigText is the whole file. A shell reads the name of the host, which may come from
// elsewhere, such as the address of a submodule of Git, and which OpenSSH before 9.6 takes
// with all signs of a shell (CVE-2023-51385): so it is quoted, and none with a quote is taken.
func sshConfigText(command, user string, folder sshFolder, of Instance, hosts []string, windows bool) string {
	names, host := `"*`+wire.HostSuffix+`,!*'*"`, "'%n'"
	if windows { // its shell knows no such quotes
		names, host = "*"+wire.HostSuffix, "%n"
	}
	// Whole paths: OpenSSH takes ~ from the system's list of users, and this program from HOME.
	path := func(name string) string {
		escaped := strings.ReplaceAll(filepath.ToSlash(string(folder)), "%", "%%")
		return `"` + escaped + "/" + name + `"`
	}
	flags := instanceFlags(of, func(path string) string { return "'" + strings.ReplaceAll(path, "%", "%%") + "'" })
	lines := []string{
		"# Written by `dsvm ssh config`, which writes it again: changes are lost.",
		fmt.Sprintf(`Match originalhost %s exec "%s session ready --for %s%s"`, names, command, host, flags),
	}
	settings := []string{
		"  User " + user,
		"  IdentityFile " + path(keyFile),
		"  CertificateFile " + path("%n-cert.pub"),
		"  UserKnownHostsFile " + path("known_hosts"),
		"  StrictHostKeyChecking yes",
		"  IdentitiesOnly yes",
		"  ProxyCommand " + command + " door --for " + host,
		"  ServerAliveInterval 30",
	}
	lines = append(lines, settings...)
	slices.Sort(hosts)
	if len(hosts) > 0 {
		lines = append(lines, "# For programs that list hosts, and those that know no `exec`: they need `dsvm connect POOL` first.",
			"Host "+strings.Join(hosts, " "))
		lines = append(lines, settings...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// writeSSHConfig writes the file, and has the person's own include it.
func (p *Program) writeSSHConfig(text string) (string, error) {
	folder, err := p.sshFolder()
	if err != nil {
		return "", err
	}
	if _, err := folder.publicKey(); err != nil { // the file names it
		return "", err
	}
	path := folder.path(sshConfigFile)
	if err := folder.write(path, []byte(text)); err != nil {
		return "", err
	}
	return path, includeOnce(filepath.Join(p.Home, ".ssh"))
}

// includeOnce puts the line that includes the file at the top of ~/.ssh/config, where no
// Host or Match is before it. A link is followed, and the file keeps its mode.
func includeOnce(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the folder of OpenSSH cannot be made: %w", err)
	}
	name := filepath.Join(dir, "config")
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("your file of OpenSSH cannot be read: %w", err)
	}
	for line := range bytes.Lines(old) {
		if strings.TrimSpace(string(line)) == includeLine {
			return nil
		}
	}
	mode := os.FileMode(0o600)
	if at, err := os.Stat(name); err == nil {
		mode = at.Mode().Perm()
	}
	if err := wholefile.Replace(name, append([]byte(includeLine+"\n\n"), old...), mode); err != nil {
		return fmt.Errorf("your file of OpenSSH cannot be written; put the line %q at its top: %w", includeLine, err)
	}
	return nil
}
