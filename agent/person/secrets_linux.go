package person

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// secretsDir is in the run folder, which is in memory. It is root's, so that nobody but root
// changes what is in it, and the person's group may look; each file in it is the person's to
// read, and nobody else's.
const secretsDir = "secrets"

// longestVariable bounds a secret that is a variable, in bytes: sshd reads it from its settings.
const longestVariable = 8 << 10

func (p Plan) secrets() string { return filepath.Join(p.Run, secretsDir) }

// GiveSecrets writes the secrets of a session, by variable, before its keeper is started. Values
// are in no other file, and in no argument of a program.
func GiveSecrets(p Plan, values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	err := errors.Join(makeRunFolder(p), os.RemoveAll(p.secrets()), os.Mkdir(p.secrets(), 0o750))
	if err == nil && !p.Own {
		err = os.Chown(p.secrets(), 0, p.UID)
	}
	if err != nil {
		return fmt.Errorf("the folder of the session's secrets cannot be made: %w", err)
	}
	for name, value := range values {
		f, err := os.OpenFile(filepath.Join(p.secrets(), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
		if err == nil {
			if _, err = f.WriteString(value); !p.Own {
				err = errors.Join(err, f.Chown(p.UID, p.UID))
			}
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("the secret %s cannot be written for the session: %w", name, err)
		}
	}
	return nil
}

// readSecrets reads the secrets that the agent has written, once: the person may change what is
// in the files later, and sees only that person's own change.
func (k *keeper) readSecrets() error {
	entries, err := os.ReadDir(k.plan.secrets())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the folder of the session's secrets cannot be read: %w", err)
	}
	k.secrets = map[string]string{}
	for _, e := range entries {
		value, err := readSecret(filepath.Join(k.plan.secrets(), e.Name()))
		if err != nil {
			return fmt.Errorf("the secret %s of the session cannot be read: %w", e.Name(), err)
		}
		if isVariable(value) {
			k.secrets[e.Name()] = value
		}
	}
	return nil
}

func readSecret(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, longestVariable+1))
	return string(text), err
}

// isVariable reports whether a secret can be a variable: of one line, and not too long. Another
// one is in its file alone.
func isVariable(value string) bool {
	return len(value) <= longestVariable && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// secretVariables are those secrets that are variables, as NAME=value, by name.
func (k *keeper) secretVariables() []string {
	var all []string
	for name, value := range k.secrets {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

// quoteSetting writes a text as one argument of a setting of sshd: it takes off these backslashes
// alone.
func quoteSetting(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
