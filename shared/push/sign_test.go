package push_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"dsvmpools/shared/push"
)

func mac(secret, body string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(body))
	return hex.EncodeToString(h.Sum(nil))
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const body = "Hello, World!"
	basic := func(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
	for name, test := range map[string]struct {
		provider push.Provider
		header   push.Header
		missing  bool // refused before the body is read
		ok       bool
	}{
		// The example in GitHub's documentation, with the secret below.
		"github":             {push.GitHub, headers("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"), false, true},
		"github forged":      {push.GitHub, headers("X-Hub-Signature-256", "sha256="+mac("other", body)), false, false},
		"github, SHA-1 only": {push.GitHub, headers("X-Hub-Signature", "sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709"), true, false},
		"github, nothing":    {push.GitHub, headers(), true, false},
		"github, short":      {push.GitHub, headers("X-Hub-Signature-256", "sha256=7571"), true, false},
		"github, no hex":     {push.GitHub, headers("X-Hub-Signature-256", "sha256="+strings.Repeat("x", 64)), true, false},
		"github, no prefix":  {push.GitHub, headers("X-Hub-Signature-256", mac("It's a Secret to Everybody", body)), true, false},
		"gitea":              {push.Gitea, headers("X-Gitea-Signature", mac("It's a Secret to Everybody", body)), false, true},
		"forgejo":            {push.Gitea, headers("X-Forgejo-Signature", mac("It's a Secret to Everybody", body)), false, true},
		"gitea forged":       {push.Gitea, headers("X-Gitea-Signature", mac("", body)), false, false},
		"bitbucket":          {push.Bitbucket, headers("X-Hub-Signature", "sha256="+mac("It's a Secret to Everybody", body)), false, true},
		"bitbucket, nothing": {push.Bitbucket, headers(), true, false},
		"gitlab":             {push.GitLab, headers("X-Gitlab-Token", "It's a Secret to Everybody"), false, true},
		"gitlab, wrong":      {push.GitLab, headers("X-Gitlab-Token", "It's a Secret to Everybod"), false, false},
		"gitlab, nothing":    {push.GitLab, headers(), true, false},
		"azure, password":    {push.AzureDevOps, headers("Authorization", basic("anyone:It's a Secret to Everybody")), false, true},
		"azure, user":        {push.AzureDevOps, headers("Authorization", basic("It's a Secret to Everybody:x")), false, false},
		"azure, no password": {push.AzureDevOps, headers("Authorization", basic("anyone:")), true, false},
		"azure, header":      {push.AzureDevOps, headers("X-Push-Secret", "It's a Secret to Everybody"), false, true},
		"azure, nothing":     {push.AzureDevOps, headers(), true, false},
		"azure, bearer":      {push.AzureDevOps, headers("Authorization", "Bearer x"), true, false},
		"nobody":             {"svn", headers("X-Hub-Signature-256", "sha256="+mac("x", body)), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proof, err := push.ReadProof(test.provider, test.header)
			if (err != nil) != test.missing {
				t.Fatalf("got %v, want an error: %v", err, test.missing)
			}
			if got := proof.Verify("It's a Secret to Everybody", []byte(body)); got != test.ok {
				t.Errorf("got %v, want %v", got, test.ok)
			}
			if proof.Verify("", []byte(body)) {
				t.Error("an empty secret was taken for one")
			}
			if test.provider != push.GitLab && test.provider != push.AzureDevOps &&
				proof.Verify("It's a Secret to Everybody", []byte(body+" ")) {
				t.Error("a body that was changed was taken")
			}
		})
	}
}

// The key does not follow headers that nobody has signed, but where nothing is
// signed.
func TestKey(t *testing.T) {
	t.Parallel()
	a, b := headers("X-GitHub-Delivery", "1", "Idempotency-Key", "1"), headers("X-GitHub-Delivery", "2", "Idempotency-Key", "2")
	key := func(p push.Provider, h push.Header, body string) string { return push.Key(p, h, []byte(body)) }
	if key(push.GitHub, a, "x") != key(push.GitHub, b, "x") || key(push.GitHub, a, "x") == key(push.GitHub, a, "y") ||
		key(push.GitHub, a, "x") == key(push.Gitea, a, "x") {
		t.Error("the key of a signed delivery is not that of its body")
	}
	again := headers("Idempotency-Key", "1")
	if key(push.GitLab, a, "x") == key(push.GitLab, b, "x") || key(push.GitLab, a, "x") != key(push.GitLab, again, "x") {
		t.Error("the key of a GitLab delivery is not that of the delivery")
	}
}
