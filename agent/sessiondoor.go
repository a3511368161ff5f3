//go:build unix

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

	"dsvmpools/agent/person"
	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// doorEntry is what the door of the node reads of a session: a file for each, written whole
// or not at all. The door is another process, which lives as long as there are sessions.
type doorEntry struct {
	Session   string `json:"session"`
	User      string `json:"user"`
	UID       int    `json:"uid"`
	SSH       string `json:"ssh"` // unix: and a path
	Lab       string `json:"lab,omitempty"`
	URL       string `json:"url,omitempty"`
	Token     string `json:"token,omitempty"`
	WebURL    string `json:"webURL,omitempty"`
	WebToken  string `json:"webToken,omitempty"`
	TicketKey string `json:"ticketKey,omitempty"`
}

// writeDoor tells the door of a session that is ready. Root alone reads it: it has tokens.
func (s *sessions) writeDoor(n int64, w protocol.Assignment, p person.Plan, state person.State) error {
	e := doorEntry{Session: w.Job, User: p.User, UID: p.UID, SSH: "unix:" + p.SSH(), TicketKey: w.Session.TicketKey}
	if state.Lab {
		e.Lab = "unix:" + p.LabSocket()
	}
	if d := w.Session.Door; d != nil {
		e.URL, e.Token, e.WebURL, e.WebToken = d.URL, d.Token, d.WebURL, d.WebToken
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return writeDurably(s.doorFile(n, ".json"), string(text))
}

// removeDoor takes a session away from the door.
func (s *sessions) removeDoor(n int64) {
	for _, suffix := range []string{".json", ".state.json"} {
		if err := os.Remove(s.doorFile(n, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("taking a session from the door has failed", "error", err.Error())
		}
	}
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
