//go:build !unix

package httpapi

import "io/fs"

// Jobs do not run on this system.
const openNoWait = 0

func otherNames(fs.FileInfo) bool { return false }
