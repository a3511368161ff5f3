// Package infra embeds what the nodes' model needs from this folder, so that
// one binary is complete. The rest of the folder is for those who deploy.
package infra

import _ "embed"

// CloudInit is the custom data of every node: it fetches nothing and holds no
// secret; it writes the agent's unit and starts it.
//
//go:embed cloud-init/agent.yaml
var CloudInit []byte
