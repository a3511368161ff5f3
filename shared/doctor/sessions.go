package doctor

import (
	"context"
	"net/url"
	"strings"

	"dsvmpools/shared/wire"
)

// Sessions is what interactive pools need.
type Sessions struct {
	Relay  string            // its address; "" = none
	Keys   map[string]string // of the relay, by the names of their settings
	SSHCA  string            // where the key that signs certificates is; "" = none
	SignIn bool              // people can sign in
	// PublicKey reads the public half of that key; nil = there is none.
	PublicKey func(ctx context.Context) (string, error)
}

// unresolved begins the value of a setting that the platform could not read from its vault.
const unresolved = "@Microsoft.KeyVault("

// interactive checks that the deployment has what interactive pools need. One that has
// nothing of it is well: it has no such pools.
func (d *Doctor) interactive(ctx context.Context) wire.Check {
	const name = "interactive pools"
	s := d.Sessions
	var lacks []string
	if s.Relay == "" {
		lacks = append(lacks, "a relay (DSVM_RELAY)")
	}
	if s.SSHCA == "" {
		lacks = append(lacks, "a key that signs certificates (DSVM_SSH_CA)")
	}
	if !s.SignIn {
		lacks = append(lacks, "a sign-in (DSVM_TENANT and DSVM_AUDIENCE, or DSVM_ISSUER)")
	}
	if len(lacks) > 0 {
		return good(name, "there can be none, since this is not set: %s; see docs/interactive.md", strings.Join(lacks, ", "))
	}
	for _, setting := range []string{"DSVM_RELAY_LISTEN_KEY", "DSVM_RELAY_SEND_KEY"} {
		if strings.HasPrefix(s.Keys[setting], unresolved) {
			return wire.Check{Check: name, State: wire.CheckFailed,
				Detail: "the platform of the app has not read " + setting + " from its vault, so that the relay refuses everybody",
				Mend:   deployAgain}
		}
	}
	if _, err := s.PublicKey(ctx); err != nil {
		row := wrong(name, err, "correct DSVM_SSH_CA")
		row.Detail = "the key of DSVM_SSH_CA cannot be read, so that nobody gets a certificate"
		if u, isURL := url.Parse(s.SSHCA); isURL == nil && u.Scheme == "https" {
			vault, _, _ := strings.Cut(u.Hostname(), ".")
			if row.State == wire.CheckFailed {
				row.Mend = d.Place.grant("Key Vault Crypto User", found("Microsoft.KeyVault/vaults", vault)+u.Path)
			}
		}
		return row
	}
	return good(name, "relay, key for certificates and sign-in are set, and the key can be read")
}
