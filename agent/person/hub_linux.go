package person

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"

	"dsvmpools/shared/wholefile"
)

// hubConfig has JupyterHub serve one person, and start JupyterLab in the same account.
//
//go:embed hub.py
var hubConfig []byte

// hubPlan is what hubConfig reads from the environment.
type hubPlan struct {
	User string   `json:"user"` // of the person's account
	Base string   `json:"base"` // path below which all answers, with / at both ends
	Home string   `json:"home"` // where JupyterLab is started
	Lab  []string `json:"lab"`  // how
}

// belowHub is the part of JupyterLab's path that a hub gives it.
func (p Plan) belowHub() string {
	if p.Hub == "" {
		return ""
	}
	return "/user/" + p.User
}

// wrapInHub has a hub start a JupyterLab. The hub is the person's own, too: no program of root's
// or of another person's answers to what they send. It listens in the folder of JupyterLab, so
// that whoever connects is the person, or the door, which has looked at their ticket: it asks for
// nothing more. Its configuration is a file of the keeper's that the person can read.
func (p Plan) wrapInHub(l *lab) error {
	config := filepath.Join(p.Run, "hub.py")
	if err := wholefile.Replace(config, hubConfig, 0o644); err != nil {
		return fmt.Errorf("the configuration of JupyterHub cannot be written: %w", err)
	}
	plan := hubPlan{User: p.User, Base: l.base, Home: p.home()}
	menu, err := json.Marshal(map[string]any{"page_config_data": map[string]string{
		"hubPrefix": l.base + "hub/", "hubUser": p.User, "hubHost": "",
	}})
	if err != nil {
		return err
	}
	l.base += "user/" + p.User + "/"
	plan.Lab = append(l.argv, "--ServerApp.base_url="+l.base,
		"--ServerApp.tornado_settings="+string(menu),            // has Lab's menu lead to the hub
		`--ServerApp.local_hostnames=["localhost", "lab.sock"]`, // the hub asks for its socket's name
		"--ServerApp.answer_yes=True")                           // when the hub stops it
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	l.isHub, l.dir, l.socket = true, p.labDir(), p.HubSocket()
	l.argv, l.env = []string{p.Hub, "-f", config}, []string{"DSVM_HUB=" + string(text)}
	return nil
}
