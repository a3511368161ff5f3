// Package boot says what a node gets at its start: the document in its user data, which
// its agent reads, and the custom data, which cloud-init carries out. The app makes both
// from its settings and a pool's spec, and `dsvm up` has the same ones.
//
// Neither holds a secret, since everybody who may read a scale set reads both: a node
// fetches secrets itself, with its identity. The package mounts, fetches and runs nothing.
package boot
