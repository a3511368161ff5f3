//go:build unix

package treestore

import "syscall"

// openNoWait keeps the opening of a pipe from waiting for its writer, and that of a link
// from following it.
const openNoWait = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
