package agent

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strings"

	"golang.org/x/sys/windows"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// lookUpUser decides whom attempts run as: always the agent's own user. So that is not the system
// itself, whose rights every job would have.
func (l *launcher) lookUpUser() error {
	if self, err := windows.GetCurrentProcessToken().GetTokenUser(); err == nil && self.User.Sid.IsWellKnown(windows.WinLocalSystemSid) {
		return errors.New("the agent runs as LocalSystem, and jobs would as well; run it as an account without rights")
	}
	if l.cfg.JobUser != "" {
		return errors.New("DSVM_JOB_USER is for Linux; leave it out, and run the agent as an account without rights")
	}
	if u, err := user.Current(); err == nil {
		l.login = u.Username[strings.LastIndexByte(u.Username, '\\')+1:]
	}
	return nil
}

// jobUsers are the users that attempts have; nil: the agent's own.
func (l *launcher) jobUsers() []*process.User { return nil }

// credential is whose a process is: the agent's own user's.
func (k *slot) credential(string, protocol.Assignment) *process.User { return k.as }

// ownerOf does not know the user whose a file is by a number.
func ownerOf(fs.FileInfo) int { return -1 }

// hasOneName takes every file for one without another name: nothing here is given to other users.
func hasOneName(fs.FileInfo) bool { return true }

// ofSystem are the variables that programs of the system do not start without.
var ofSystem = []string{"SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "ProgramFiles", "ProgramFiles(x86)", "ProgramData",
	"CommonProgramFiles", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "COMPUTERNAME", "OS"}

// systemEnvironment is what every attempt has in its environment by the system.
func systemEnvironment(scratch, login string) map[string]string {
	env := map[string]string{}
	for _, name := range ofSystem {
		if value := os.Getenv(name); value != "" {
			env[strings.ToUpper(name)] = value
		}
	}
	for _, name := range []string{"TEMP", "TMP", "USERPROFILE", "HOME", "APPDATA", "LOCALAPPDATA"} {
		env[name] = scratch
	}
	env["PATH"], env["USERNAME"] = process.Path, cmp.Or(login, "nobody")
	return env
}

// setVariables adds variables to an environment, in the place of those of the same name: letter
// case makes no other one here.
func setVariables(env, more map[string]string) {
	for name, value := range more {
		env[strings.ToUpper(name)] = value
	}
}

// checkSystem says what of an assignment is not possible on this system.
func checkSystem(w protocol.Assignment) error {
	switch {
	case w.Source != nil:
		return startfault.New(job.CauseDocument,
			"a job with a `source` needs a node with Linux; put its files on the share, and name them in `command`")
	case w.Script != "":
		return startfault.New(job.CauseDocument,
			"a job with a `script` needs a node with Linux; write a `command`, such as [\"powershell\", \"-File\", \"...\"]")
	}
	return nil
}
