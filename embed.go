// Package dsvmpools holds the files that the function app consists of besides
// its executable: host.json and the bindings of the functions. `dsvm` embeds
// them, so that one binary can lay the app out. The package runs nothing.
package dsvmpools

import "embed"

// Files is host.json and functions/<Function>/function.json, as they lie in the
// repository. The Functions host wants the functions' folders beside host.json:
// local.Layout writes them so.
//
//go:embed host.json functions
var Files embed.FS
