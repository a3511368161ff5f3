package agent

import "time"

// dirStamp says that a directory was made. What is done to it does not show here.
type dirStamp struct{ made bool }

func stampOf(string) (dirStamp, error) { return dirStamp{made: true}, nil }

// isUnused never trusts a directory: another one is made for the next attempt.
func isUnused(string, dirStamp, time.Time) bool { return false }
