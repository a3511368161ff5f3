package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Canonical is the one form of everything a job asks for: JSON in the order of
// Spec, with sorted maps, every default and no id. It is for comparing, and for
// a spec that Validate accepts; others may have none.
func (s Spec) Canonical() []byte {
	s.ID, s.NotBefore = "", s.NotBefore.UTC()
	body, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return body
}

// Hash is the same for two documents that ask for the same job, however they
// are written: half of the SHA-256 of Canonical, in hex.
func (s Spec) Hash() string {
	sum := sha256.Sum256(s.Canonical())
	return hex.EncodeToString(sum[:16])
}
