package person

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dsvmpools/agent/process"
)

// A JupyterLab that ends is started again, but not for ever: what breaks it does not go away.
const (
	labTries  = 3
	labWithin = 10 * time.Minute
)

// lab is the session's JupyterLab. With a hub, that is what the keeper starts, and it starts JupyterLab.
type lab struct {
	argv   []string
	dir    string   // where it is started
	socket string   // of what the keeper starts
	env    []string // beside the person's
	isHub  bool
	base   string // path below which JupyterLab answers, with / at both ends
	client *http.Client
}

// startLab starts JupyterLab, if the session has one. It listens at a socket in a folder of
// its person's alone: who can connect is the person, or root, so that it asks for no token,
// and none can leak from a command line. It is ready a while later.
func (k *keeper) startLab() error {
	p := k.plan
	if p.Lab == "" {
		return nil
	}
	if err := os.MkdirAll(p.labDir(), 0o700); err != nil {
		return err
	}
	err := os.Chmod(p.labDir(), 0o700)
	if !p.Own {
		err = errors.Join(err, os.Chown(p.labDir(), p.UID, p.UID))
	}
	if err != nil {
		return fmt.Errorf("the folder of JupyterLab cannot be given to its person: %w", err)
	}
	l := &lab{base: "/", dir: p.home(), socket: p.LabSocket()}
	l.argv = []string{
		p.Lab, "lab", "--no-browser",
		"--ServerApp.sock=" + p.LabSocket(), "--ServerApp.sock_mode=0600",
		"--IdentityProvider.token=", "--PasswordIdentityProvider.hashed_password=",
		"--ServerApp.root_dir=" + p.home(), "--ServerApp.allow_remote_access=False",
		"--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
	}
	if web, err := url.Parse(p.WebURL); err == nil && p.WebURL != "" {
		// Browsers reach pages below the entity's name, and WebSockets below $hc/ and that.
		entity := strings.Trim(strings.TrimPrefix(web.Path, "/$hc"), "/")
		l.base = "/" + entity + "/"
		l.argv = append(l.argv, "--ServerApp.websocket_url="+p.WebURL+p.belowHub(), "--ServerApp.allow_origin=https://"+web.Host)
	}
	if p.WebURL == "" && p.WebBase != "" {
		l.base = "/" + p.WebBase + "/"
	}
	if p.Hub != "" {
		if err := p.wrapInHub(l); err != nil {
			return err
		}
	} else {
		l.argv = append(l.argv, "--ServerApp.base_url="+l.base)
	}
	l.client = &http.Client{Timeout: probeWithin, Transport: &http.Transport{DialContext: p.dialLab, DisableKeepAlives: true}}
	ended, err := k.runLab(l)
	if err != nil {
		return fmt.Errorf("JupyterLab cannot be started: %w", err)
	}
	k.mu.Lock()
	k.lab, k.state.Lab = l, true
	k.mu.Unlock()
	go k.keepLab(l, ended)
	return nil
}

// dialLab connects to JupyterLab, if a process of the person's listens there: the folder is the
// person's, who could have the keeper, which is root, speak to another socket.
func (p Plan) dialLab(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", p.LabSocket())
	if err != nil {
		return nil, err
	}
	if err := process.CheckPeer(c, p.UID); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (k *keeper) runLab(l *lab) (<-chan syscall.WaitStatus, error) {
	p := k.plan
	os.Remove(l.socket)
	// Opened by the keeper, in a folder of root's: it is no file of the person's.
	log, err := os.OpenFile(filepath.Join(p.State, "lab.log"), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	path := filepath.Dir(p.Lab) + ":" + p.path()
	env := append(k.environment(), "PATH="+path, "JUPYTER_RUNTIME_DIR="+filepath.Join(p.labDir(), "runtime"))
	env = append(env, l.env...)
	_, ended, err := k.reaper.start(command{argv: l.argv, as: k.person(), env: env, dir: l.dir, stdout: log})
	return ended, err
}

// keepLab starts JupyterLab again when it has ended by itself.
func (k *keeper) keepLab(l *lab, ended <-chan syscall.WaitStatus) {
	var ends []time.Time
	for {
		status := <-ended
		k.mu.Lock()
		over := k.ending
		k.mu.Unlock()
		if over {
			return
		}
		now := time.Now()
		ends = append(ends, now)
		for now.Sub(ends[0]) > labWithin {
			ends = ends[1:]
		}
		k.log.Warn("ended by itself: JupyterLab", "exitCode", status.ExitStatus(), "times", len(ends))
		if len(ends) > labTries {
			if !l.isHub { // what a hub has started lives on, and votes
				k.mu.Lock()
				k.lab = nil
				k.mu.Unlock()
			}
			k.change(func(s *State) { s.Lab = false })
			return
		}
		var err error
		if ended, err = k.runLab(l); err != nil {
			k.log.Error("starting JupyterLab has failed", "error", err.Error())
			k.change(func(s *State) { s.Lab = false })
			return
		}
	}
}

// maxKernels bounds the list of kernels that is read, in bytes.
const maxKernels = 1 << 20

// kernels asks how many kernels there are, and how many compute. It leaves no trace of
// activity: a watcher that does keeps the server busy itself.
func (l *lab) kernels() (busy, all int, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://localhost"+l.base+"api/kernels?no_track_activity=1", nil)
	if err != nil {
		return 0, 0, err
	}
	answer, err := l.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("JupyterLab answers %s", answer.Status)
	}
	var list []struct {
		State string `json:"execution_state"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxKernels)).Decode(&list); err != nil {
		return 0, 0, err
	}
	for _, kernel := range list {
		if kernel.State == "busy" {
			busy++
		}
	}
	return busy, len(list), nil
}
