package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

// Rules of a namespace, whose keys sign tokens. Each has one right, so that who may connect
// cannot listen in the place of a node.
const (
	RuleListen = "listen"
	RuleSend   = "send"
)

// Namespace is where the entities of a deployment are.
type Namespace struct{ at *url.URL }

// ParseNamespace reads https://NAME.servicebus.windows.net. http:// is for this machine alone.
func ParseNamespace(address string) (Namespace, error) {
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	isGood := err == nil && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && door.IsLoopback(u.Hostname()))
	if !isGood {
		return Namespace{}, fault.New(fault.Invalid, "",
			"the address of the relay (DSVM_RELAY) is https://NAME.servicebus.windows.net, not %.100q", address)
	}
	return Namespace{u}, nil
}

// Address is the WebSocket address of an entity, for listeners and senders: wss://HOST/$hc/NAME.
func (n Namespace) Address(entity string) string {
	return strings.Replace(n.at.Scheme, "http", "ws", 1) + "://" + n.at.Host + socketPath + entity
}

// Page is the address of an entity for browsers: https://HOST/NAME.
func (n Namespace) Page(entity string) string { return n.at.String() + "/" + entity }

// Name is the name of the namespace, as the resource manager has it.
func (n Namespace) Name() string {
	if door.IsLoopback(n.at.Hostname()) {
		return "local"
	}
	name, _, _ := strings.Cut(n.at.Hostname(), ".")
	return name
}

// Token makes a shared access signature for one entity, good until a time, for the right that
// the rule has. key is the rule's.
func (n Namespace) Token(rule, key, entity string, until time.Time) string {
	of := url.QueryEscape("http://" + n.at.Hostname() + "/" + entity)
	end := strconv.FormatInt(until.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(of + "\n" + end))
	signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return "SharedAccessSignature sr=" + of + "&sig=" + url.QueryEscape(signature) + "&se=" + end + "&skn=" + rule
}
