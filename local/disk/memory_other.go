//go:build !linux

package disk

import "go.etcd.io/bbolt"

// releasePages does nothing here.
func releasePages(*bbolt.DB) {}
