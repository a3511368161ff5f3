package job

import (
	"regexp"
	"strings"

	"dsvmpools/shared/document"
)

// A job's document names its secrets, and never holds one: `secrets` says by variable
// where the value is. The agent reads it with the identity of its node when the attempt
// starts. Rows, messages and logs have the reference alone.

// maxSecrets bounds the secrets of a job: the agent reads each when the attempt starts.
const maxSecrets = 50

// SecretRef says where the value of a secret is.
type SecretRef struct {
	Vault  string // the name of a Key Vault
	Secret string // the name of a secret in it
}

var (
	vaultPattern  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$`)
	secretPattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
)

// ParseSecretRef reads keyvault:vault/secret; false: the text is no reference.
func ParseSecretRef(text string) (SecretRef, bool) {
	at, isVault := strings.CutPrefix(text, "keyvault:")
	vault, secret, _ := strings.Cut(at, "/")
	ok := isVault && len(vault) >= 3 && len(vault) <= 24 && vaultPattern.MatchString(vault) && secretPattern.MatchString(secret)
	if !ok {
		return SecretRef{}, false
	}
	return SecretRef{Vault: vault, Secret: secret}, true
}

// IsShareKey reports whether a secret is, by its name, the key of a storage account, with
// which nodes mount shares. No job may have it: the key opens all files of all pools. The
// names are those that a deployment gives: NAME-share-key, share-key-ACCOUNT and share-key.
// A vault does not tell small letters from capital ones.
func (r SecretRef) IsShareKey() bool {
	name := "-" + strings.ToLower(r.Secret) + "-"
	return strings.HasPrefix(name, "-share-key-") || strings.HasSuffix(name, "-share-key-")
}

// validateSecrets checks the field `secrets`.
func (s Spec) validateSecrets() error {
	for _, k := range sorted(s.Secrets) {
		if _, ok := s.Env[k]; ok {
			return invalid("secrets."+document.Clip(k), "`secrets` and `env` both set %s; keep one of them", document.Clip(k))
		}
	}
	return CheckSecrets("secrets", s.Secrets)
}

// CheckSecrets checks a field that names secrets by variable. Its sentences never quote a value:
// somebody may have written the secret itself in the place of its reference.
func CheckSecrets(name string, secrets map[string]string) error {
	if len(secrets) > maxSecrets {
		return invalid(name, "`%s` has %d names; name at most %d", name, len(secrets), maxSecrets)
	}
	for _, k := range sorted(secrets) {
		if err := checkVariable(name, k); err != nil {
			return err
		}
		field := name + "." + document.Clip(k)
		at, ok := ParseSecretRef(secrets[k])
		if at.IsShareKey() {
			return invalid(field, "`%s` names the key of a share by its secret's name, which no job may have: it opens the files of all; "+
				"give a secret of your own another name", field)
		}
		if !ok {
			return invalid(field, "`%s` is no reference to a secret; write keyvault:VAULT/SECRET, "+
				"with the name of a Key Vault (3 to 24 of A-Z a-z 0-9 -) and that of a secret in it (1 to 127 of A-Z a-z 0-9 -)", field)
		}
	}
	return nil
}
