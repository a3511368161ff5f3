package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"dsvmpools/shared/fault"
)

// secretHeader carries the secret of hosts that cannot sign, where a header of
// one's own can be set: Azure DevOps.
const secretHeader = "X-Push-Secret"

// ErrProof says that no rule's secret made the proof of a delivery. It is one error
// for all causes, so that nobody learns from it.
var ErrProof = errors.New("the proof was not made with the secret of any rule for this provider")

// Proof is what a delivery shows for itself, read before its body is.
type Proof struct {
	mac   []byte // HMAC-SHA256 of the body
	token []byte // or the secret itself
}

// ReadProof reads the headers that prove where a delivery comes from. An error
// says that they are missing or have no usable form; nobody needs to read the
// body then.
func ReadProof(provider Provider, header Header) (Proof, error) {
	switch provider {
	case GitHub:
		return readMAC(header, "sha256=", "X-Hub-Signature-256")
	case Bitbucket:
		return readMAC(header, "sha256=", "X-Hub-Signature")
	case Gitea:
		return readMAC(header, "", "X-Gitea-Signature", "X-Forgejo-Signature")
	case GitLab:
		return readToken(header, "X-Gitlab-Token")
	case AzureDevOps:
		if password, found := basicPassword(header("Authorization")); found {
			return Proof{token: []byte(password)}, nil
		}
		return readToken(header, secretHeader)
	}
	return Proof{}, errUnknownProvider(provider)
}

func readMAC(header Header, prefix string, names ...string) (Proof, error) {
	for _, name := range names {
		value := header(name)
		if value == "" {
			continue
		}
		digits, found := strings.CutPrefix(value, prefix)
		mac, err := hex.DecodeString(digits)
		if !found || err != nil || len(mac) != sha256.Size {
			return Proof{}, fault.New(fault.Invalid, name,
				"the header %s has no usable form; it is a HMAC-SHA256 in hexadecimal digits", name)
		}
		return Proof{mac: mac}, nil
	}
	return Proof{}, fault.New(fault.Invalid, names[0], "the header %s is missing; give the hook the secret that the rule names", names[0])
}

func readToken(header Header, name string) (Proof, error) {
	value := header(name)
	if value == "" {
		return Proof{}, fault.New(fault.Invalid, name, "the header %s is missing; give the hook the secret that the rule names", name)
	}
	return Proof{token: []byte(value)}, nil
}

// basicPassword reads the password of basic authentication; the user's name
// does not matter.
func basicPassword(value string) (string, bool) {
	const scheme = "basic "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value[len(scheme):]))
	if err != nil {
		return "", false
	}
	_, password, found := strings.Cut(string(pair), ":")
	return password, found && password != ""
}

// Verify reports whether the sender of this body knows the secret. It takes the
// same time for any two secrets of one length, and an empty secret proves
// nothing.
func (p Proof) Verify(secret string, body []byte) bool {
	if secret == "" {
		return false
	}
	if p.mac != nil {
		h := hmac.New(sha256.New, []byte(secret))
		h.Write(body)
		return hmac.Equal(h.Sum(nil), p.mac)
	}
	if p.token == nil {
		return false
	}
	want, got := sha256.Sum256([]byte(secret)), sha256.Sum256(p.token) // of one length, whatever came
	return hmac.Equal(want[:], got[:])
}

// OfBody reports whether the proof can only be judged with the body at hand.
func (p Proof) OfBody() bool { return p.mac != nil }

// Key names a delivery by what is proven of it, so that a host that sends it again
// is recognized, under whatever delivery id. GitLab proves nothing of its
// payloads, and two of its pushes may be alike: there the delivery's id counts
// too.
func Key(provider Provider, header Header, body []byte) string {
	h := sha256.New()
	h.Write([]byte(provider + "\n"))
	if provider == GitLab {
		h.Write([]byte(gitLabDelivery(header) + "\n"))
	}
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))[:keyDigits]
}

// keyDigits make it as likely to meet the same key twice as to lose the disk.
const keyDigits = 20

// RefKey names one ref of a delivery.
func RefKey(key, ref string) string { return key + "-" + refKey(ref) }

// refKey distinguishes the refs of one delivery.
func refKey(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:])[:8]
}
