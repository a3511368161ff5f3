package doctor_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dsvmpools/shared/doctor"
	"dsvmpools/shared/wire"
)

// What interactive pools lack is said in one row. A deployment without them is well.
func TestInteractivePools(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm         func(*doctor.Sessions)
		state        wire.CheckState
		detail, mend string
	}{
		"well":       {func(*doctor.Sessions) {}, wire.CheckOK, "the key can be read", ""},
		"no relay":   {func(s *doctor.Sessions) { s.Relay = "" }, wire.CheckOK, "DSVM_RELAY", ""},
		"no key":     {func(s *doctor.Sessions) { s.SSHCA, s.PublicKey = "", nil }, wire.CheckOK, "DSVM_SSH_CA", ""},
		"no sign-in": {func(s *doctor.Sessions) { s.SignIn = false }, wire.CheckOK, "DSVM_TENANT", ""},
		"a reference": {func(s *doctor.Sessions) {
			s.Keys["DSVM_RELAY_SEND_KEY"] = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/relay-send)"
		}, wire.CheckFailed, "DSVM_RELAY_SEND_KEY", "dsvm deploy"},
		"no right": {func(s *doctor.Sessions) {
			s.PublicKey = func(context.Context) (string, error) { return "", errors.New("403 secret-id") }
		}, wire.CheckFailed, "nobody gets a certificate", `--role "Key Vault Crypto User" --scope "$(az resource list --resource-type Microsoft.KeyVault/vaults --name kd-x --query [0].id -o tsv)/keys/ssh-ca"`},
		"late": {func(s *doctor.Sessions) {
			s.PublicKey = func(context.Context) (string, error) { return "", context.DeadlineExceeded }
		}, wire.CheckUnknown, "nobody gets a certificate", "again"},
	} {
		config := healthy().config(t)
		config.Sessions = &doctor.Sessions{
			Relay: "https://r.servicebus.windows.net", Keys: map[string]string{"DSVM_RELAY_LISTEN_KEY": "a", "DSVM_RELAY_SEND_KEY": "b"},
			SSHCA: "https://kd-x.vault.azure.net/keys/ssh-ca", SignIn: true,
			PublicKey: func(context.Context) (string, error) { return "ecdsa-sha2-nistp256 AAAA", nil },
		}
		c.harm(config.Sessions)
		row := rows(t, config)["interactive pools"]
		if row.State != c.state || !strings.Contains(row.Detail, c.detail) || !strings.Contains(row.Mend, c.mend) || (c.mend == "") != (row.Mend == "") ||
			strings.Contains(row.Detail, "secret-id") {
			t.Errorf("%s: got %+v, want %s with %q, mended by %q", name, row, c.state, c.detail, c.mend)
		}
	}
}
