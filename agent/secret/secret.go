// Package secret reads the secrets that a job names, when one of its attempts starts: from
// Azure Key Vault with the node's own identity, or on one machine from a file.
//
// A value goes to the caller and nowhere else: this package keeps none, logs none, and
// quotes none in an error. It never writes a secret, and it never sends a request to
// another host than a vault of the deployment's cloud, whatever a job names.
package secret

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// DefaultSuffix is what the host names of the public cloud's vaults end with.
const DefaultSuffix = "vault.azure.net"

// timeout bounds the reading of one attempt's secrets: a vault answers within a second.
const timeout = 20 * time.Second

// maxValue bounds a value: the system takes no longer variable. A vault keeps at most
// 25 KB.
const maxValue = 120 << 10

var suffixPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

// Config says where secrets come from.
type Config struct {
	File       string                 // absolute path; it has the values, and no vault is asked. "" = there is none
	Suffix     string                 // of the vaults' host names; "" = DefaultSuffix
	Credential azcore.TokenCredential // of the node; nil = no vault is asked
	ClientID   string                 // of the node's identity, for a sentence that says what to do; "" = not known
	Client     *http.Client           // nil = that of the Azure SDK
	Own        job.SecretRef          // what the node reads for itself, and no job may have; zero = nothing
}

// Reader reads secrets. Its methods may be called concurrently.
type Reader struct {
	cfg Config

	mu     sync.Mutex
	vaults map[string]*azsecrets.Client
}

// New checks the settings; nothing is read. Errors are *fault.Error with code Invalid and
// the setting's name.
func New(cfg Config) (*Reader, error) {
	if cfg.Suffix == "" {
		cfg.Suffix = DefaultSuffix
	}
	if !suffixPattern.MatchString(cfg.Suffix) {
		return nil, fault.New(fault.Invalid, "DSVM_VAULT_SUFFIX",
			"DSVM_VAULT_SUFFIX is %q; write what the host names of vaults end with, such as %s", cfg.Suffix, DefaultSuffix)
	}
	return &Reader{cfg: cfg, vaults: map[string]*azsecrets.Client{}}, nil
}

// ReadAll reads the secrets of an attempt: what has the form keyvault:vault/secret, by
// variable. Without an error there is a value for each. The error is a sentence for the
// job's owner, with its cause.
func (r *Reader) ReadAll(ctx context.Context, secrets map[string]string) (map[string]string, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	values := make(map[string]string, len(secrets))
	for variable, reference := range secrets {
		// A reference that is none may be a secret that somebody wrote in its place: it is
		// not quoted.
		at, ok := job.ParseSecretRef(reference)
		if !ok {
			return nil, startfault.New(job.CauseDocument,
				"the job's secret %q names no secret; write keyvault:VAULT/SECRET", startfault.Clip(variable))
		}
		if at.IsShareKey() {
			return nil, startfault.New(job.CauseDocument,
				"the job's secret %q is by its name the key of a share, which no job may have", startfault.Clip(variable))
		}
		if own := r.cfg.Own; own.Vault != "" && strings.EqualFold(at.Vault, own.Vault) && strings.EqualFold(at.Secret, own.Secret) {
			return nil, startfault.New(job.CauseDocument,
				"the job's secret %q is the key of the node's own certificate, which no job may have", startfault.Clip(variable))
		}
		value, err := r.read(ctx, at)
		if err != nil {
			return nil, err
		}
		if len(value) > maxValue || strings.ContainsRune(value, 0) {
			return nil, startfault.New(job.CauseSecret,
				"the secret %q of the vault %q cannot be a variable: it has a zero byte, or more than %d bytes", at.Secret, at.Vault, maxValue)
		}
		values[variable] = value
	}
	return values, nil
}

// ReadOwn reads the node's own secret. The error is a sentence for operators.
func (r *Reader) ReadOwn(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return r.read(ctx, r.cfg.Own)
}

func (r *Reader) read(ctx context.Context, at job.SecretRef) (string, error) {
	switch {
	case r.cfg.File != "":
		return readFromFile(r.cfg.File, at)
	case r.cfg.Credential != nil:
		return r.readFromVault(ctx, at)
	}
	return "", startfault.New(job.CauseSecret,
		"the node cannot read secrets: it has neither an identity nor a file of them; set DSVM_SECRETS_FILE for the node's agent")
}
