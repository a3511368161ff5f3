package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"

	"dsvmpools/agent/person"
	"dsvmpools/shared/protocol"
)

// account is the one that an agent runs as which is not root. On somebody's machine, where
// `dsvm up` runs, sessions can run as it: of this person alone, with JupyterLab, and with SSH
// where the account is called as the pool knows the person.
type account struct {
	name, home string
}

// ownAccount returns the account that sessions run as; nil = each person has an account of
// their own. The error says why there can be no sessions.
func ownAccount(cfg Config) (*account, error) {
	isRoot := os.Geteuid() == 0
	switch {
	case runtime.GOOS != "linux" || !cfg.OwnUsers:
		return nil, person.CanServe()
	case isRoot: // somebody's machine, which may lack one of the ways in
		return nil, nil
	}
	who, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("the account that the agent runs as is not known: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, errors.New("the home folder of the agent's account is not known; set HOME to it")
	}
	return &account{name: who.Username, home: home}, nil
}

// safeName is how pools call the accounts of people.
var safeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// checkSSH says why nobody can come in to the account by SSH: they log in by the name that
// the pool knows.
func (a *account) checkSSH() error {
	if !safeName.MatchString(a.name) {
		return fmt.Errorf("the account %q has a name that no session has: 1 to 32 characters of a-z 0-9 -, a letter first", a.name)
	}
	return person.CheckOwnSSH()
}

// take makes the plan of a session one that runs as the account. Where the pool knows its
// person by another name than the account's, there is no way in by SSH.
func (a *account) take(p *person.Plan, missing map[string]string) {
	p.Own, p.Home, p.Path, p.UID = true, a.home, os.Getenv("PATH"), os.Getuid()
	p.OnShare = false // its home is where it is
	if p.User != a.name && missing[protocol.MissingSSH] == "" {
		missing[protocol.MissingSSH] = fmt.Sprintf("the pool knows the account %s as %s, and SSH lets in the account's own name alone",
			a.name, p.User)
	}
}

// checkWays says why nobody could come into a session on this node.
func (s *sessions) checkWays() error {
	missing := s.missing()
	if missing[protocol.MissingSSH] == "" || missing[protocol.MissingJupyter] == "" {
		return nil
	}
	return fmt.Errorf("there is no way into a session: %s; and %s", missing[protocol.MissingSSH], missing[protocol.MissingJupyter])
}

// jupyterPrograms are where images have it: a Data Science VM, and a plain one.
var jupyterPrograms = []string{
	"/anaconda/bin/jupyter",
	"/anaconda/envs/py38_default/bin/jupyter",
	"/usr/local/bin/jupyter",
	"/usr/bin/jupyter",
}

// findJupyter finds the program jupyter; "" = the node has none, and the session no
// JupyterLab.
func (s *sessions) findJupyter() string {
	if all := s.jupyters(); len(all) > 0 {
		return all[0]
	}
	return ""
}

// findHub finds the program jupyterhub, and the program jupyter of the same installation; "" =
// the node has none.
func (s *sessions) findHub() (jupyter, hub string) {
	for _, path := range s.jupyters() {
		if hub, err := exec.LookPath(filepath.Join(filepath.Dir(path), "jupyterhub")); err == nil {
			return path, hub
		}
	}
	return "", ""
}

// jupyters are the programs jupyter of the node, the best first.
func (s *sessions) jupyters() (all []string) {
	programs := jupyterPrograms
	switch {
	case s.cfg.Jupyter != "":
		programs = []string{s.cfg.Jupyter}
	case s.own != nil: // what the account has is the session's
		programs = append([]string{"jupyter"}, programs...)
	}
	for _, path := range programs {
		if found, err := exec.LookPath(path); err == nil {
			if found, err = filepath.Abs(found); err == nil {
				all = append(all, found)
			}
		}
	}
	return all
}

// missingWhereServed is missing, for a node that has sessions.
func (s *sessions) missingWhereServed() map[string]string {
	if s.unserved != nil {
		return nil
	}
	return s.missing()
}

// missing is what sessions lack on this node, and why.
func (s *sessions) missing() map[string]string {
	all := map[string]string{}
	if s.own != nil {
		all[protocol.MissingUsers] = fmt.Sprintf("the agent does not run as root, so that sessions run as %s, its own account, "+
			"and nobody else can have one; run `dsvm up` as root for more people", s.own.name)
	}
	_, err := person.FindSSHD()
	if err == nil && s.own != nil {
		err = s.own.checkSSH()
	}
	if err != nil {
		all[protocol.MissingSSH] = err.Error()
	}
	switch path := s.findJupyter(); {
	case path == "":
		all[protocol.MissingJupyter] = "the program jupyter is not there; install JupyterLab on the node, or set DSVM_JUPYTER to the program"
	case s.cfg.OwnUsers && s.own == nil:
		if err := person.CheckProgram(path); err != nil {
			all[protocol.MissingJupyter] = err.Error()
		}
	}
	return all
}
