// Package dsvmpools embeds what the function app consists of besides its
// executable, so that one binary is complete.
package dsvmpools

import "embed"

// Files is host.json and functions/<Function>/function.json.
//
//go:embed host.json functions
var Files embed.FS
