package secret

import (
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// maxFile bounds a file of secrets.
const maxFile = 4 << 20

// readFromFile reads a secret from a file of YAML or JSON, which has them by vault/secret.
// The file is read each time, so that a value may be changed while the agent runs. No
// error quotes the file: what a parser complains about may be a secret.
func readFromFile(path string, at job.SecretRef) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|process.OpenAtOnce, 0)
	if err != nil {
		return "", startfault.New(job.CauseSecret,
			"the node's file of secrets cannot be read; check DSVM_SECRETS_FILE: %w", startfault.Innermost(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !process.IsPrivate(info) {
		return "", startfault.New(job.CauseSecret,
			"the node's file of secrets is not used: others may read it; chmod 600 the file of DSVM_SECRETS_FILE")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(text) > maxFile {
		return "", startfault.New(job.CauseSecret, "the node's file of secrets cannot be read: it has more than %d bytes", maxFile)
	}
	var values map[string]string
	if err := yaml.Unmarshal(text, &values); err != nil {
		return "", startfault.New(job.CauseSecret,
			"the node's file of secrets cannot be understood; write a line VAULT/SECRET: \"value\" for each, as YAML or JSON")
	}
	value, ok := values[at.Vault+"/"+at.Secret]
	if !ok {
		return "", startfault.New(job.CauseSecret,
			"the secret %q of the vault %q is not in the node's file of secrets; add %s/%s to the file of DSVM_SECRETS_FILE",
			at.Secret, at.Vault, at.Vault, at.Secret)
	}
	return value, nil
}
