package store

import (
	"slices"
	"strconv"
	"strings"

	"dsvmpools/shared/job"
	"dsvmpools/shared/store/table"
)

// When the rows of a sweep's members go, the row of the sweep's id keeps how they
// ended: as runs of equal ends in the order of their indexes, such as
// `sx98f137a2s` for 98 that succeeded, one that failed with exit code 137 in its
// second attempt, and one more that succeeded.

const (
	// maxEnds is the largest number of members that a sweep can have.
	maxEnds = 100_000
	// maxEndsText is what one long text holds: more than one letter for each member.
	maxEndsText = table.LongUnits
)

// memberEnd is how one member has ended.
type memberEnd struct {
	state    byte // 0 or unknownEnd: not known
	code     int
	attempts int
}

const unknownEnd = 'u'

var endStates = map[byte]job.State{'s': job.Succeeded, 'f': job.Failed, 't': job.TimedOut, 'c': job.Cancelled}

func newMemberEnd(state job.State, code, attempts int) memberEnd {
	for letter, of := range endStates {
		if of == state {
			return memberEnd{letter, code, attempts}
		}
	}
	return memberEnd{}
}

func (m memberEnd) text() string {
	if m.state == 0 || m.state == unknownEnd {
		return string(rune(unknownEnd))
	}
	text := string(rune(m.state))
	if m.code != 0 {
		text += strconv.Itoa(m.code)
	}
	if m.attempts != 1 {
		text += "a" + strconv.Itoa(m.attempts)
	}
	return text
}

// formatEnds writes the ends of members 0 to len-1. If the text is too long, it
// leaves out first the numbers of attempts, then the exit codes too. The states are
// always there.
func formatEnds(ends []memberEnd) string {
	text := joinRuns(ends)
	if len(text) <= maxEndsText {
		return text
	}
	short := slices.Clone(ends)
	for i := range short {
		short[i].attempts = 1
	}
	if text = joinRuns(short); len(text) <= maxEndsText {
		return text
	}
	for i := range short {
		short[i].code = 0
	}
	return joinRuns(short)
}

// joinRuns writes each run of equal ends once, with its length.
func joinRuns(ends []memberEnd) string {
	var b strings.Builder
	for i := 0; i < len(ends); {
		n := 1
		for i+n < len(ends) && ends[i+n] == ends[i] {
			n++
		}
		b.WriteString(ends[i].text())
		if n > 1 {
			b.WriteString("x" + strconv.Itoa(n))
		}
		i += n
	}
	return b.String()
}

// parseEnds reads what formatEnds has written. It stops where the text cannot be read.
func parseEnds(text string) []memberEnd {
	var ends []memberEnd
	for text != "" {
		m := memberEnd{state: text[0], attempts: 1}
		if _, known := endStates[m.state]; !known && m.state != unknownEnd {
			return ends
		}
		n, ok := 1, true
		text = text[1:]
		m.code, text, ok = cutNumber(text, 0)
		if ok && strings.HasPrefix(text, "a") {
			m.attempts, text, ok = cutNumber(text[1:], -1)
		}
		if ok && strings.HasPrefix(text, "x") {
			n, text, ok = cutNumber(text[1:], -1)
		}
		if !ok || m.attempts < 0 || n < 1 || n > maxEnds-len(ends) {
			return ends
		}
		if m.state == unknownEnd {
			m = memberEnd{}
		}
		for range n {
			ends = append(ends, m)
		}
	}
	return ends
}

// cutNumber reads the number that a text begins with. A text without one has the
// number missing; a negative one says that there must be a number.
func cutNumber(text string, missing int) (n int, rest string, ok bool) {
	digits := 0
	for digits < len(text) && (text[digits] >= '0' && text[digits] <= '9' || digits == 0 && text[0] == '-') {
		digits++
	}
	if digits == 0 {
		return missing, text, missing >= 0
	}
	n, err := strconv.Atoi(text[:digits])
	return n, text[digits:], err == nil
}
