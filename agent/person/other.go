//go:build !linux

package person

import (
	"errors"
	"log/slog"
)

var errOther = errors.New("sessions need Linux: on this system a person has no account and no SSH server of the node's own")

// CanServe says why this node can have no sessions.
func CanServe() error { return errOther }

// HasGroups reports whether the system makes the control groups of keepers by itself.
func HasGroups() bool { return false }

// FindSSHD finds the system's SSH server.
func FindSSHD() (string, error) { return "", errOther }

// CheckOwnSSH says why the system's SSH server cannot serve the account of this process.
func CheckOwnSSH() error { return errOther }

// Start starts no keeper on this system.
func Start(Plan, *slog.Logger) error { return errOther }

// CloseAccount has nothing to close on this system.
func CloseAccount(Plan) {}

// Clear has nothing to end on this system.
func Clear(Plan) bool { return true }

// GiveSecrets gives none on this system.
func GiveSecrets(Plan, map[string]string) error { return errOther }
