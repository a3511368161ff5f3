package door

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dsvmpools/shared/wholefile"
)

// maxFile bounds a file of the agent's.
const maxFile = 64 << 10

// stateSuffix is how the names of the files end that the door writes.
const stateSuffix = ".state.json"

// File is what the agent tells of a session that people may come to. It is written whole, by
// renaming; when the session ends it goes.
type File struct {
	Session string `json:"session"`
	User    string `json:"user"`
	UID     int    `json:"uid"`
	// SSH is where the sshd of the session is: unix:PATH, or 127.0.0.1:PORT.
	SSH string `json:"ssh"`
	// Lab is where JupyterLab is: unix:PATH of a socket that a process of UID listens at. "" = none.
	Lab string `json:"lab,omitempty"`
	// Desktop is the node's server for RDP: 127.0.0.1:PORT; "" = nobody has asked for the desktop.
	Desktop string `json:"desktop,omitempty"`
	// Hub is the same for JupyterHub, which all goes to but what is below user/USER/. "" = none.
	Hub       string `json:"hub,omitempty"`
	URL       string `json:"url,omitempty"`       // wss://NAMESPACE/$hc/ENTITY, to listen at
	Token     string `json:"token,omitempty"`     // to listen there; a later one replaces it
	WebURL    string `json:"webURL,omitempty"`    // the same for browsers
	WebToken  string `json:"webToken,omitempty"`  //
	TicketKey string `json:"ticketKey,omitempty"` // Ed25519, base64, of tickets for browsers and of ways
	// Listen is where the door listens by TCP, HOST:PORT, for ways beside the relay; "" = it does not.
	Listen string `json:"listen,omitempty"`
	Inside string `json:"inside,omitempty"` // IP:PORT at which the doors of other nodes find this one
	// WebBase is the first part of the path below which browsers find JupyterLab at Listen, by TLS;
	// "" = they come by WebURL, if at all.
	WebBase string `json:"webBase,omitempty"`
	// Certificate is the path of a file with a key and its certificates, in PEM, by which they know
	// the door; "" = the door makes one for itself.
	Certificate string `json:"certificate,omitempty"`
	// Notice is the path of a file with what is to be told in JupyterLab, in a folder of root's
	// alone; it need not be there. "" = nothing is told.
	Notice string `json:"notice,omitempty"`
	// Until is when the door closes by itself, for what ends with the agent: that writes the file again
	// before. Zero = it stays open.
	Until time.Time `json:"until,omitzero"`
}

// State is what the door tells of a session.
type State struct {
	SSH       int       `json:"ssh"`                // open connections
	Desktop   int       `json:"desktop"`            // the same to the desktop
	Jupyter   int       `json:"jupyter"`            // open WebSockets of browsers
	Relayed   int64     `json:"relayed"`            // bytes, both ways, as long as this door lives
	LastInput time.Time `json:"lastInput,omitzero"` // of somebody at a browser
	Closed    string    `json:"closed"`             // why nobody can come in; "" = the door is open
}

// readFiles reads the files of a folder, by name. One that cannot be read is told of and left out.
func readFiles(dir string, told func(name string, err error)) (map[string]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]File{}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".json") || strings.HasSuffix(name, stateSuffix) || strings.HasPrefix(name, ".") {
			continue
		}
		f, err := readFile(filepath.Join(dir, name))
		if err != nil {
			told(name, err)
			continue
		}
		if f.isOver(time.Now()) {
			_ = os.Remove(filepath.Join(dir, name))
			continue
		}
		all[strings.TrimSuffix(name, ".json")] = f
	}
	return all, nil
}

func readFile(path string) (File, error) {
	in, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return File{}, err
	}
	if len(text) > maxFile {
		return File{}, errors.New("the file is too large")
	}
	return parseFile(text)
}

func parseFile(text []byte) (File, error) {
	var f File
	if err := json.Unmarshal(text, &f); err != nil {
		return File{}, err
	}
	if f.Session == "" || f.User == "" {
		return File{}, errors.New("the file names no session or no user")
	}
	if _, _, err := target(f.SSH); err != nil {
		return File{}, fmt.Errorf("ssh: %w", err)
	}
	if network, _, err := target(f.Lab); f.Lab != "" && (err != nil || network != "unix") {
		return File{}, errors.New("lab: it is not unix: and a path")
	}
	if network, _, err := target(f.Hub); f.Hub != "" && (err != nil || network != "unix") {
		return File{}, errors.New("hub: it is not unix: and a path")
	}
	if f.Notice != "" && !filepath.IsAbs(f.Notice) {
		return File{}, errors.New("notice: the path is not absolute")
	}
	if network, _, err := target(f.Desktop); f.Desktop != "" && (err != nil || network != "tcp") {
		return File{}, errors.New("desktop: it is no address of this machine")
	}
	return f, nil
}

// target says where an address of a file leads: to a socket of this machine, and nowhere else.
func target(text string) (network, address string, err error) {
	if path, isPath := strings.CutPrefix(text, "unix:"); isPath {
		if !filepath.IsAbs(path) {
			return "", "", errors.New("the path of the socket is not absolute")
		}
		return "unix", path, nil
	}
	host, _, err := net.SplitHostPort(text)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return "", "", errors.New("it is neither unix: and a path nor an address of this machine")
	}
	return "tcp", text, nil
}

// writeState writes a state, whole.
func writeState(path string, s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return wholefile.Replace(path, append(text, '\n'), 0o600)
}
