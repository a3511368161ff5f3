package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"dsvmpools/agent/door"
	"dsvmpools/agent/person"
	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/protocol"
)

// writeDoor tells the door of a session that is ready: a file for each, written whole or not at
// all. Root alone reads it: it has tokens, those that came last.
func (s *sessions) writeDoor(n int64, w protocol.Assignment, p person.Plan, state person.State) error {
	s.doorFiles.Lock()
	defer s.doorFiles.Unlock()
	s.mu.Lock()
	d := s.st.newestDoor(w.Session.Door)
	s.mu.Unlock()
	f := door.File{Session: w.Job, User: p.User, UID: p.UID, SSH: "unix:" + p.SSH(), TicketKey: w.Session.TicketKey, Notice: p.Notice()}
	if d != nil {
		f.URL, f.Token, f.WebURL, f.WebToken = d.URL, d.Token, d.WebURL, d.WebToken
	}
	if len(w.Session.Ways) > 0 {
		f.Listen, f.Inside = s.doorListen, s.doorInside
		f.WebBase, f.Certificate = s.webBase(w.Session), s.certificateFile()
		if f.WebBase != "" {
			s.wantCertificate()
		}
	}
	if f.URL == "" && f.Listen == "" { // no way leads to this node
		return nil
	}
	if state.Desktop != nil && state.Desktop.Secret != "" {
		f.Desktop = desktopAddress
	}
	if state.Lab {
		f.Lab = "unix:" + p.LabSocket()
		if p.Hub != "" {
			f.Hub = "unix:" + p.HubSocket()
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return writeDurably(s.doorFile(n, ".json"), string(text))
}

// desktopAddress is where the image has its server for RDP.
const desktopAddress = "127.0.0.1:3389"

// renewDoors writes the files of all sessions that are ready with the tokens that came last.
func (s *sessions) renewDoors() {
	type one struct {
		n     int64
		work  protocol.Assignment
		state person.State
	}
	s.mu.Lock()
	var all []one
	for _, h := range s.st.held {
		if h.link != nil && h.link.state.Ready && h.phase != ended {
			all = append(all, one{h.n, h.work, h.link.state})
		}
	}
	s.mu.Unlock()
	for _, o := range all {
		p, _ := s.plan(o.n, o.work) // as far as it is needed: what could not be started now runs
		s.logDoor(o.work, s.writeDoor(o.n, o.work, p, o.state))
	}
}

func (s *sessions) logDoor(w protocol.Assignment, err error) {
	if err != nil {
		s.log.Error("telling the door of the session has failed", "session", startfault.Clip(w.Job), "error", err.Error())
	}
}

// removeDoor takes a session away from the door.
func (s *sessions) removeDoor(n int64) {
	s.doorFiles.Lock()
	defer s.doorFiles.Unlock()
	for _, suffix := range []string{".json", ".state.json"} {
		if err := os.Remove(s.doorFile(n, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("taking a session from the door has failed", "error", err.Error())
		}
	}
}

// closeDoor takes a session that has ended from the door, and waits until the door has read why it
// ended: it looks every second, and what it reads goes with the session's folder.
func (s *sessions) closeDoor(n int64) {
	const within, look = 3 * time.Second, 20 * time.Millisecond
	s.doorFiles.Lock()
	err := os.Remove(s.doorFile(n, ".json"))
	s.doorFiles.Unlock()
	for end := time.Now().Add(within); err == nil && time.Now().Before(end); {
		if _, err := os.Stat(s.doorFile(n, ".state.json")); err != nil { // the door has removed it
			break
		}
		time.Sleep(look)
	}
	s.removeDoor(n)
}

// makeHostKey makes the node's key for SSH, once in the life of its disk, and returns its
// path and its public half.
func makeHostKey(dir string) (path string, public []string, err error) {
	path = filepath.Join(dir, "ssh_host_ed25519_key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = newHostKey(); err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil {
			err = writeDurably(path, string(text))
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("the node's key for SSH cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", nil, fmt.Errorf("the node's key for SSH cannot be read; remove %s: %w", path, err)
	}
	return path, []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, nil
}

func newHostKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// sessionProcess is the start of a session, as the journal has it: it has no process of the
// agent's.
func sessionProcess() *process.Process { return &process.Process{At: time.Now().UTC()} }
