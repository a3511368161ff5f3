package cli

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wholefile"
	"dsvmpools/shared/wire"
)

// What OpenSSH needs to come into sessions is in files of ~/.dsvm that only their owner may
// read: a key pair of this person and machine, and of each host, which stands for a pool, a
// certificate, the ways to the node, and its keys in known_hosts.

const (
	// freshFor is how long the files of a host are good without a look at the instance: all
	// connections that an editor opens at once then ask once.
	freshFor = 2 * time.Minute
	// saidFor is how long a program that ssh starts after another one takes it that the
	// person has read the sentence of the first.
	saidFor = 10 * time.Second
	// maxSSHFile bounds what is read of a file in the folder.
	maxSSHFile = 1 << 20
	keyFile    = "id_ed25519"
)

// sshFolder is the folder of these files.
type sshFolder string

// sshFolder finds the folder, and makes it where it is missing.
func (p *Program) sshFolder() (sshFolder, error) {
	if p.Home == "" {
		return "", errors.New("your home folder is not known; set HOME to it")
	}
	dir := filepath.Join(p.Home, InstanceFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("the folder for the files of OpenSSH cannot be made: %w", err)
	}
	return sshFolder(dir), nil
}

func (f sshFolder) path(name string) string { return filepath.Join(string(f), name) }

// hostName is the name of a pool for OpenSSH.
func hostName(pool string) string { return pool + wire.HostSuffix }

// poolOfHost is the pool that a name of OpenSSH stands for.
func poolOfHost(host string) (string, error) {
	pool, ok := strings.CutSuffix(host, wire.HostSuffix)
	if !ok || job.CheckPool("pool", pool) != nil {
		return "", WrongUse("--for is %.100q; it takes the name of a pool with %[2]s behind it, such as lab%[2]s", host, wire.HostSuffix)
	}
	return pool, nil
}

// SSHDoor is how a host is reached, in a file that `dsvm door` reads.
type SSHDoor struct {
	Session string      `json:"session,omitempty"`
	Until   time.Time   `json:"until,omitzero"` // the tokens are good until then
	Doors   []wire.Door `json:"doors,omitempty"`
	Closed  string      `json:"closed,omitempty"` // why there is no way; "" = there is
}

func (f sshFolder) doorPath(host string) string { return f.path(host + ".door") }

// ReadDoor reads how a host is reached. said: the person has just read why it is not.
func (p *Program) ReadDoor(host string) (door SSHDoor, said bool, err error) {
	if _, err := poolOfHost(host); err != nil {
		return door, false, err
	}
	folder, err := p.sshFolder()
	if err != nil {
		return door, false, err
	}
	door, at, err := folder.readDoor(host)
	if err != nil || door.Closed == "" && !p.Now().Before(door.Until) {
		pool, _ := poolOfHost(host)
		return door, false, fmt.Errorf("no way to %s is known; find one with `dsvm connect %s`", host, pool)
	}
	age := p.Now().Sub(at)
	return door, age >= 0 && age < saidFor, nil
}

// ForgetDoor has the next program that ssh starts ask the instance how a host is reached.
func (p *Program) ForgetDoor(host string) {
	if folder, err := p.sshFolder(); err == nil {
		os.Remove(folder.doorPath(host)) // where it stays, it is good for two minutes at most
	}
}

// forgetDoors removes the certificates and doors of all hosts. Who has signed in gets others.
func (p *Program) forgetDoors() error {
	if p.Home == "" {
		return nil
	}
	var errs []error
	for _, suffix := range []string{"-cert.pub", ".door"} {
		all, err := filepath.Glob(filepath.Join(p.Home, InstanceFolder, "*"+wire.HostSuffix+suffix))
		errs = append(errs, err)
		for _, name := range all {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("%s cannot be removed: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (f sshFolder) readDoor(host string) (door SSHDoor, at time.Time, err error) {
	file, err := os.Open(f.doorPath(host))
	if err != nil {
		return door, at, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return door, at, err
	}
	err = json.NewDecoder(io.LimitReader(file, maxSSHFile)).Decode(&door)
	return door, info.ModTime(), err
}

// isFresh reports whether the files of a host were written a moment ago.
func (p *Program) isFresh(f sshFolder, host string) bool {
	door, at, err := f.readDoor(host)
	age := p.Now().Sub(at)
	return err == nil && door.Closed == "" && age >= 0 && age < freshFor && p.Now().Before(door.Until)
}

// close says in the files of a host that there is no way, and why.
func (f sshFolder) close(host, why string) error {
	return f.writeJSON(f.doorPath(host), SSHDoor{Closed: why})
}

// admit writes the files with which OpenSSH comes into a session.
func (f sshFolder) admit(host, session string, c wire.SessionCertificate) error {
	if strings.ContainsAny(c.Certificate, "\r\n") {
		return errors.New("the instance has not answered with one certificate; bring it and this program to one release")
	}
	if err := f.write(f.path(host+"-cert.pub"), []byte(c.Certificate+"\n")); err != nil {
		return err
	}
	if err := f.knowHost(host, c.KnownHosts); err != nil {
		return err
	}
	return f.writeJSON(f.doorPath(host), SSHDoor{Session: session, Until: c.ValidBefore, Doors: c.Doors})
}

// knowHost replaces the lines of a host in known_hosts. Two that do so at once both keep
// their lines.
func (f sshFolder) knowHost(host string, lines []string) error {
	lock := flock.New(f.path("known_hosts.lock"))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("known_hosts cannot be locked: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	name := f.path("known_hosts")
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(old)) {
		if of, _, _ := strings.Cut(line, " "); of != host && strings.TrimSpace(line) != "" {
			out.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	for _, line := range lines {
		if of, _, _ := strings.Cut(line, " "); of != host || strings.ContainsAny(line, "\r\n") {
			return fmt.Errorf("the instance has told a key of another host than %s; nothing was written", host)
		}
		out.WriteString(line + "\n")
	}
	if out.String() == string(old) {
		return nil
	}
	return f.write(name, []byte(out.String()))
}

// publicKey is the public half of the key pair, which is made where it is missing. Of two
// that make it at once, the first one's stays.
func (f sshFolder) publicKey() (string, error) {
	name := f.path(keyFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.makeKey(name); err != nil {
			return "", err
		}
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return "", fmt.Errorf("your key for SSH cannot be read: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", fmt.Errorf("%s holds no key without a passphrase; move it away, and the next command makes another", name)
	}
	public := ssh.MarshalAuthorizedKey(signer.PublicKey())
	if had, err := os.ReadFile(name + ".pub"); err != nil || string(had) != string(public) {
		if err := f.write(name+".pub", public); err != nil { // for people; OpenSSH takes it from the certificate
			return "", err
		}
	}
	return strings.TrimSpace(string(public)), nil
}

func (f sshFolder) makeKey(name string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "dsvm")
	if err != nil {
		return err
	}
	return f.makeOnce(name, pem.EncodeToMemory(block))
}

// makeOnce writes a key where there is none. Of two that do so at once, the first one's stays.
func (f sshFolder) makeOnce(name string, key []byte) error {
	temporary, err := f.writeTemporary(name, key)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the key %s cannot be written: %w", name, err)
	}
	return nil
}

func (f sshFolder) writeJSON(name string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(name, append(body, '\n'))
}

// write writes a file so that there is always a whole one, which nobody else may read.
func (f sshFolder) write(name string, body []byte) error {
	if err := wholefile.Replace(name, body, 0o600); err != nil {
		return fmt.Errorf("%s cannot be written: %w", name, err)
	}
	return nil
}

func (f sshFolder) writeTemporary(name string, body []byte) (string, error) {
	file, err := os.CreateTemp(string(f), filepath.Base(name)+".*") // only its owner may read it
	if err != nil {
		return "", fmt.Errorf("%s cannot be written: %w", name, err)
	}
	_, err = file.Write(body)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(file.Name())
		return "", fmt.Errorf("%s cannot be written: %w", name, err)
	}
	return file.Name(), nil
}
