package secret

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// maxVaults bounds the clients that are kept, with a token each: jobs name the vaults.
const maxVaults = 64

// maxRefusal bounds what is read of an answer that refuses something, in bytes.
const maxRefusal = 16 << 10

// client returns the client of a vault.
func (r *Reader) client(vault string) (*azsecrets.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	vault = strings.ToLower(vault)
	if c := r.vaults[vault]; c != nil {
		return c, nil
	}
	options := &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 2 * time.Second},
	}}
	if r.cfg.Client != nil {
		options.Transport = r.cfg.Client
	}
	// The name was checked: it has no dot, so that the host is one below the suffix.
	c, err := azsecrets.NewClient("https://"+vault+"."+r.cfg.Suffix, r.cfg.Credential, options)
	if err != nil {
		return nil, startfault.New(job.CauseVault, "the vault %q cannot be asked: %w", vault, err)
	}
	if len(r.vaults) >= maxVaults {
		clear(r.vaults)
	}
	r.vaults[vault] = c
	return c, nil
}

// readFromVault reads the newest version of a secret.
func (r *Reader) readFromVault(ctx context.Context, at job.SecretRef) (string, error) {
	c, err := r.client(at.Vault)
	if err != nil {
		return "", err
	}
	got, err := c.GetSecret(ctx, at.Secret, "", nil)
	if err != nil {
		return "", r.explain(at, err)
	}
	if got.Value == nil {
		return "", startfault.New(job.CauseSecret, "the secret %q of the vault %q has no value", at.Secret, at.Vault)
	}
	return *got.Value, nil
}

// explain makes a sentence of a vault's refusal. What only an operator can mend is the
// job's, so that it ends with the sentence; what may pass is the node's.
func (r *Reader) explain(at job.SecretRef, err error) error {
	var refused *azcore.ResponseError
	var name *net.DNSError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return startfault.New(job.CauseSecret,
			"the secret %q is not in the vault %q; add it with `az keyvault secret set --vault-name %s --name %s --value ...`",
			at.Secret, at.Vault, at.Vault, at.Secret)
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusForbidden || refused.StatusCode == http.StatusUnauthorized):
		return r.explainForbidden(at, refused)
	case errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest:
		return startfault.New(job.CauseSecret, "the vault %q refuses the secret %q: %s", at.Vault, at.Secret, startfault.Clip(refused.ErrorCode))
	case errors.As(err, &name) && name.IsNotFound:
		return startfault.New(job.CauseSecret, "the vault %q does not exist: no host has the name %q", at.Vault, name.Name)
	case errors.As(err, &refused):
		return startfault.New(job.CauseVault, "the vault %q cannot be read now: it answers %d %s",
			at.Vault, refused.StatusCode, startfault.Clip(refused.ErrorCode))
	}
	return startfault.New(job.CauseVault, "the vault %q cannot be asked from the node: %w", at.Vault, startfault.Innermost(err))
}

func (r *Reader) explainForbidden(at job.SecretRef, refused *azcore.ResponseError) error {
	switch code := innerCode(refused); code {
	case "ForbiddenByFirewall", "ForbiddenByConnection":
		return startfault.New(job.CauseSecret,
			"the firewall of the vault %q keeps the nodes out; let their subnet in with `az keyvault network-rule add --name %s --subnet ...`",
			at.Vault, at.Vault)
	case "SecretDisabled", "SecretExpired", "SecretNotYetValid":
		return startfault.New(job.CauseSecret, "the secret %q of the vault %q is disabled, expired or not valid yet; "+
			"change that with `az keyvault secret set-attributes --vault-name %s --name %s --enabled true`",
			at.Secret, at.Vault, at.Vault, at.Secret)
	}
	return startfault.New(job.CauseSecret, "the nodes' identity may not read the secret %q of the vault %q; give it the role with "+
		"`az role assignment create --role \"Key Vault Secrets User\" --assignee %s --scope $(az keyvault show --name %s --query id -o tsv)`",
		at.Secret, at.Vault, cmp.Or(r.cfg.ClientID, "CLIENT_ID"), at.Vault)
}

// innerCode is why a vault forbids something: its own code says Forbidden alone.
func innerCode(refused *azcore.ResponseError) string {
	if refused.RawResponse == nil || refused.RawResponse.Body == nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(refused.RawResponse.Body, maxRefusal))
	if err != nil {
		return ""
	}
	refused.RawResponse.Body = io.NopCloser(bytes.NewReader(text))
	var body struct {
		Error struct{ InnerError struct{ Code string } }
	}
	if json.Unmarshal(text, &body) != nil {
		return ""
	}
	return body.Error.InnerError.Code
}
