//go:build !unix

package treestore

// openNoWait: jobs do not run on this system.
const openNoWait = 0
