package identity

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/bcrypt"

	"dsvmpools/shared/wholefile"
)

// state is what the issuer keeps: its key and its names.
type state struct {
	Tenant, Client, Owner string
	Key                   []byte // PKCS 8

	key *ecdsa.PrivateKey
}

// loadState reads the state, or makes it at the first start.
func loadState(path string) (s state, err error) {
	body, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeState(path)
	case err != nil:
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%s cannot be read (%w); restore it, or delete it: everybody signs in again then", path, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	own, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok || uuid.Validate(s.Tenant) != nil {
		return s, fmt.Errorf("%s has no key; restore it, or delete it: everybody signs in again then", path)
	}
	s.key = own
	return s, nil
}

func makeState(path string) (state, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return state{}, err
	}
	s := state{Tenant: uuid.NewString(), Client: uuid.NewString(), Owner: uuid.NewString(), key: key}
	if s.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return s, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	return s, wholefile.ReplaceDurably(path, body, 0o600)
}

// kid names the key.
func (s *state) kid() string {
	sum := sha256.Sum256(s.Key)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// maxUsers bounds the file of people, in bytes.
const maxUsers = 1 << 20

// directory is the people of the file. It is read again when it has changed.
type directory struct {
	path string

	mu     sync.Mutex
	at     time.Time
	people map[string]entry
}

type entry struct {
	login  string
	hash   string
	groups []string
}

// print tells secrets apart without telling them.
func (e *entry) print() string {
	sum := sha256.Sum256([]byte(e.hash))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// readDirectory reads the file; "" = nobody is in it.
func readDirectory(path string) (*directory, error) {
	d := &directory{path: path, people: map[string]entry{}}
	if path == "" {
		return d, nil
	}
	return d, d.read()
}

// read reads the file, unless it is the one that was read. A file that has become wrong
// changes nothing.
func (d *directory) read() error {
	at, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("the file of people: %w", err)
	}
	if at.ModTime().Equal(d.at) {
		return nil
	}
	f, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("the file of people: %w", err)
	}
	defer f.Close()
	people, err := parsePeople(io.LimitReader(f, maxUsers))
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	d.people, d.at = people, at.ModTime()
	return nil
}

// Forms of what the file has.
var (
	loginForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$`)
	groupForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// parsePeople reads lines LOGIN:HASH or LOGIN:HASH:GROUP,GROUP, as `htpasswd -B` writes them
// with the groups behind.
func parsePeople(r io.Reader) (map[string]entry, error) {
	people := map[string]entry{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, ":")
		if len(parts) < 2 || len(parts) > 3 || !loginForm.MatchString(parts[0]) {
			return nil, fmt.Errorf("line %d is not LOGIN:HASH or LOGIN:HASH:GROUP,GROUP", n)
		}
		if _, err := bcrypt.Cost([]byte(parts[1])); err != nil {
			return nil, fmt.Errorf("line %d has no hash of bcrypt; `htpasswd -nB %s` makes one", n, parts[0])
		}
		e := entry{login: parts[0], hash: parts[1]}
		if len(parts) == 3 {
			for group := range strings.SplitSeq(parts[2], ",") {
				if group = strings.TrimSpace(group); !groupForm.MatchString(group) || group == OwnerGroup {
					return nil, fmt.Errorf("line %d has a group %.40q that cannot be one", n, group)
				}
				e.groups = append(e.groups, group)
			}
		}
		if _, twice := people[e.login]; twice {
			return nil, fmt.Errorf("line %d has %s again", n, e.login)
		}
		people[e.login] = e
	}
	return people, lines.Err()
}

// find finds a person in the file as it is now. A file that cannot be read now is as before.
func (d *directory) find(login string) (entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.path != "" {
		_ = d.read() // who signs in is not to blame
	}
	e, ok := d.people[login]
	return e, ok
}

// nobody is the hash that a secret of nobody is held against, so that the time does not
// tell who is in the file.
var nobody = sync.OnceValue(func() []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost)
	if err != nil {
		panic(err) // a short text can always be hashed
	}
	return hash
})

// isSecret reports whether a secret is that of a login.
func (d *directory) isSecret(login, secret string) bool {
	e, ok := d.find(login)
	hash := nobody()
	if ok {
		hash = []byte(e.hash)
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(secret)) == nil && ok
}

// limiter has secrets be tried one after the other, and not too often for one login.
type limiter struct {
	turn sync.Mutex

	mu    sync.Mutex
	fails map[string][]time.Time
}

const (
	// maxFails wrong secrets within failsFor close a login for that time.
	maxFails = 5
	failsFor = time.Minute
	// maxLogins bounds the logins that are remembered.
	maxLogins = 1000
)

var errTooOften = errors.New("this login was tried too often; try again in a minute")

func (l *limiter) enter(login string, now time.Time) error {
	l.mu.Lock()
	for of, all := range l.fails { // all of them: logins that nobody tries again would stay
		all = slices.DeleteFunc(all, func(at time.Time) bool { return now.Sub(at) >= failsFor })
		if l.fails[of] = all; len(all) == 0 {
			delete(l.fails, of)
		}
	}
	full := len(l.fails[login]) >= maxFails || len(l.fails) >= maxLogins
	l.mu.Unlock()
	if full {
		return errTooOften
	}
	l.turn.Lock()
	return nil
}

func (l *limiter) leave() { l.turn.Unlock() }

func (l *limiter) failed(login string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails == nil {
		l.fails = map[string][]time.Time{}
	}
	l.fails[login] = append(l.fails[login], now)
}
