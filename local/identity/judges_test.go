package identity_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The tests of this file have programs of others sign in, which nobody here wrote: Authlib for
// Python and openid-client for JavaScript; those of identity_test.go have golang.org/x/oauth2. They
// run where DSVM_TEST_OIDC names a folder with node_modules and venv/bin/python, which .ci/run
// makes. Microsoft's msal takes only issuers with https.

// signsIn runs a program that signs in as ann, and has the app check the tokens that it prints.
func signsIn(t *testing.T, want int, program func(dir, issuer, client string) []string) {
	t.Helper()
	dir := os.Getenv("DSVM_TEST_OIDC")
	if dir == "" {
		t.Skip("DSVM_TEST_OIDC names no folder with Authlib and openid-client")
	}
	s, _ := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := program(dir, s.URL(), s.Client())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	tokens := strings.Fields(string(out))
	if len(tokens) != want {
		t.Fatalf("it has signed in %d times, want %d", len(tokens), want)
	}
	for _, token := range tokens {
		who, err := app(t, s).Check(ctx, token)
		if err != nil || who.Login != "ann@local" {
			t.Errorf("the app says %v of a token: %v", who, err)
		}
	}
}

func TestOpenIDClient(t *testing.T) {
	signsIn(t, 3, func(dir, issuer, client string) []string {
		return []string{"node", filepath.Join("testdata", "openid-client.mjs"), issuer, client, secret, dir}
	})
}

func TestAuthlib(t *testing.T) {
	signsIn(t, 2, func(dir, issuer, client string) []string {
		return []string{filepath.Join(dir, "venv", "bin", "python"), filepath.Join("testdata", "authlib_signin.py"), issuer, client, secret}
	})
}
