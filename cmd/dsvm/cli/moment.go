package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
)

// momentLayouts are the forms of a time without a zone.
var momentLayouts = []string{"2006-01-02 15:04", "2006-01-02T15:04", time.DateTime, "2006-01-02T15:04:05"}

// moment reads a time of the past: how long ago, a day of a zone, or a time, which is of
// that zone where it names none. "" is the zero time.
func (p *Program) moment(flag, text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range momentLayouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	t, err := usage.ParseInstant(text, p.Now().In(zone))
	if err != nil {
		return t, WrongUse("%s is %v", flag, err)
	}
	return t, nil
}

// period reads the flags, each with its name and its text, that say from when and to when.
func (p *Program) period(from, to [2]string, zone *time.Location) (begin, end time.Time, err error) {
	if begin, err = p.moment(from[0], from[1], zone); err != nil {
		return begin, end, err
	}
	if end, err = p.moment(to[0], to[1], zone); err != nil {
		return begin, end, err
	}
	if !begin.IsZero() && !end.IsZero() && !begin.Before(end) {
		return begin, end, WrongUse("%s %s is not before %s %s", from[0], from[1], to[0], to[1])
	}
	if end.IsZero() && begin.After(p.Now()) {
		return begin, end, WrongUse("%s %s is still to come; name a time of the past", from[0], from[1])
	}
	return begin, end, nil
}

// length is a flag that takes a length of time: 90s, 15m, 2h, 1d, as in documents.
type length struct{ of *time.Duration }

// DurationFlag is a flag whose value is a length of time, such as 90s, 15m, 2h or 1d.
func DurationFlag(of *time.Duration) pflag.Value { return length{of} }

func (l length) String() string {
	if l.of == nil || *l.of == 0 {
		return ""
	}
	return l.of.String()
}

func (l length) Type() string { return "duration" }

// Set also takes what Go writes, such as 1.5s, as it always did.
func (l length) Set(text string) error {
	d, err := job.ParseDuration(text)
	if err == nil {
		*l.of = time.Duration(d)
		return nil
	}
	own, failed := time.ParseDuration(text)
	if failed != nil {
		return err
	}
	*l.of = own
	return nil
}

// thousands writes a number with commas: 12,468.
func thousands(n int) string {
	text := strconv.Itoa(n)
	var out strings.Builder
	for i, digit := range text {
		if left := len(text) - i; i > 0 && left%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(digit)
	}
	return out.String()
}
