//go:build unix

package local

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

// identity holds the ports and keys of an instance, which stay the same when it starts again.
type identity struct {
	Ports map[string]int
	Keys  map[string]string
}

// keyNames are the names of the keys.
var keyNames = []string{"tables", "bus", "agent", "arm", "node", "function", "master", "control", listenRule, sendRule}

// addr returns the address for a server, with the port of its last start; port 0, for any
// free one, if it has none.
func (id *identity) addr(name string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(id.Ports[name]))
}

// setPort records the port of the address at which a server listens.
func (id *identity) setPort(name, addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("the server %q has no address to keep: %w", name, err)
	}
	id.Ports[name] = int(at.Port())
	return nil
}

func identityFile(dir string) string { return filepath.Join(dir, "data", "identity.json") }

// loadIdentity reads the ports and keys, or makes new ones.
func loadIdentity(dir string) (*identity, error) {
	id := &identity{Ports: map[string]int{}, Keys: map[string]string{}}
	b, err := os.ReadFile(identityFile(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, id); err != nil {
			return nil, fmt.Errorf("%s cannot be read (%w); restore it, or begin with an empty folder", identityFile(dir), err)
		}
	}
	for _, name := range keyNames {
		if id.Keys[name] == "" {
			key := make([]byte, 32)
			rand.Read(key)
			id.Keys[name] = base64.StdEncoding.EncodeToString(key)
		}
	}
	return id, os.MkdirAll(filepath.Dir(identityFile(dir)), 0o700)
}

func saveIdentity(dir string, id *identity) error { return writeJSON(identityFile(dir), id) }
