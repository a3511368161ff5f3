package door

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/wholefile"
)

// Lives and limits of tickets and cookies.
const (
	ticketLife = time.Minute // as who signs it has it
	skew       = 5 * time.Second
	maxTicket  = 1 << 10
	cookieLife = 12 * time.Hour
)

// ticket opens a session in a browser, or its desktop, once.
type ticket struct {
	Session string `json:"s"`
	User    string `json:"u"`
	For     string `json:"f"` // relay.TicketDesktop; "" = JupyterLab
	Expires int64  `json:"e"` // seconds since 1970
	Nonce   string `json:"n"`
}

// errTicket is all that a stranger learns.
var errTicket = errors.New("this ticket is not valid here, or no more; get another one with `dsvm jupyter`")

// tickets remembers which ones were used. One that may have been used before this process
// began is refused.
type tickets struct {
	began time.Time
	mu    sync.Mutex
	used  map[string]time.Time // by nonce: when it may be forgotten
}

// take checks a ticket for a purpose and uses it up.
func (t *tickets) take(text, purpose string, f *File, now time.Time) error {
	parsed, err := readTicket(text, f.TicketKey)
	if err != nil {
		return errTicket
	}
	ends := time.Unix(parsed.Expires, 0)
	if parsed.For != purpose || parsed.Session != f.Session || parsed.User != f.User || parsed.Nonce == "" ||
		!now.Before(ends) || ends.After(now.Add(ticketLife+skew)) || ends.Add(-ticketLife).Before(t.began.Add(-skew)) {
		return errTicket
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for nonce, until := range t.used {
		if until.Before(now) {
			delete(t.used, nonce)
		}
	}
	if _, isUsed := t.used[parsed.Nonce]; isUsed {
		return errTicket
	}
	t.used[parsed.Nonce] = ends.Add(time.Minute)
	return nil
}

// readTicket reads a ticket, whose signature is good.
func readTicket(text, key string) (ticket, error) {
	var t ticket
	public, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(public) != ed25519.PublicKeySize || len(text) > maxTicket {
		return t, errTicket
	}
	payload, signature, _ := strings.Cut(text, ".")
	body, err1 := base64.RawURLEncoding.DecodeString(payload)
	sig, err2 := base64.RawURLEncoding.DecodeString(signature)
	if err1 != nil || err2 != nil || !ed25519.Verify(public, body, sig) {
		return t, errTicket
	}
	return t, json.Unmarshal(body, &t)
}

// cookieKey reads the key that signs cookies, or makes it: browsers stay in when the door
// starts again.
func cookieKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the key of the door's cookies cannot be read: %w", err)
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	return key, wholefile.Replace(path, key, 0o600)
}

// makeCookie makes the value of a cookie that is good for one session and its user.
func makeCookie(key []byte, f *File, now time.Time) string {
	until := strconv.FormatInt(now.Add(cookieLife).Unix(), 10)
	return until + "." + cookieMAC(key, f, until)
}

func isCookie(value string, key []byte, f *File, now time.Time) bool {
	until, mac, _ := strings.Cut(value, ".")
	end, err := strconv.ParseInt(until, 10, 64)
	return err == nil && now.Before(time.Unix(end, 0)) && hmac.Equal([]byte(mac), []byte(cookieMAC(key, f, until)))
}

func cookieMAC(key []byte, f *File, until string) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%q %q %d %s", f.Session, f.User, f.UID, until)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
