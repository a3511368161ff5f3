//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"dsvmpools/agent/person"
)

// demoWays are the ways by which people come in on this machine.
type demoWays struct {
	account string   // that all sessions run as; "" = each person has one
	ssh     bool     // OpenSSH's server and client are there
	jupyter string   // path of the program; "" = there is no JupyterLab
	left    []string // what is left out, with what to install for it
}

// findDemoWays finds them. The error says that nothing can be shown, and what to install.
func findDemoWays(ctx context.Context) (w demoWays, err error) {
	if runtime.GOOS != "linux" {
		return w, errors.New("people cannot be shown here: sessions need Linux")
	}
	if os.Geteuid() != 0 {
		who, err := user.Current()
		if err != nil {
			return w, fmt.Errorf("your account is not known: %w", err)
		}
		w.account = who.Username
		w.left = append(w.left, "a place for a second person: each needs an account, which root alone can make; run this as root")
	}
	_, server := person.FindSSHD()
	_, client := exec.LookPath("ssh")
	switch {
	case server != nil:
		w.left = append(w.left, "SSH: its server is not installed; install the package openssh-server")
	case client != nil:
		w.left = append(w.left, "SSH: its client is not installed; install the package openssh-client")
	case w.account != "" && person.CheckOwnSSH() != nil:
		w.left = append(w.left, "SSH: "+person.CheckOwnSSH().Error())
	default:
		w.ssh = true
	}
	why := ""
	if w.jupyter, why = findDemoJupyter(ctx); w.jupyter == "" {
		w.left = append(w.left, "JupyterLab: "+why)
	}
	if !w.ssh && w.jupyter == "" {
		return w, fmt.Errorf("nobody could come in here; left out are %s", strings.Join(w.left, "; and "))
	}
	return w, nil
}

// findDemoJupyter finds the program jupyter; "" = there is none that people can run, and why.
func findDemoJupyter(ctx context.Context) (path, why string) {
	path = os.Getenv("DSVM_JUPYTER")
	if path == "" {
		path = "jupyter"
	}
	path, err := exec.LookPath(path)
	if err != nil || exec.CommandContext(ctx, path, "lab", "--version").Run() != nil {
		return "", "it is not installed; `pip install jupyterlab` in a virtual environment, whose program jupyter DSVM_JUPYTER names"
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err.Error()
	}
	if os.Geteuid() != 0 {
		return path, ""
	}
	if err := person.CheckProgram(path); err != nil {
		return "", err.Error()
	}
	return path, ""
}
