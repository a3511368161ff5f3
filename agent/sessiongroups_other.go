//go:build !linux

package agent

import "errors"

// makeSessionGroups makes none: sessions need Linux.
func makeSessionGroups(string, int, int64) ([]string, error) {
	return nil, errors.New("there are no control groups on this system")
}
