package handlers

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// reader reads settings, and gathers what is wrong with them.
type reader struct {
	getenv func(string) string
	wrong  []*fault.Error
}

// fail notes what is wrong with a setting.
func (r *reader) fail(name, format string, args ...any) {
	r.wrong = append(r.wrong, fault.New(fault.Invalid, name, format, args...))
}

// add notes an error about a setting, unless it is nil. name is the setting if the error
// names none.
func (r *reader) add(name string, err error) {
	var f *fault.Error
	switch {
	case err == nil:
	case errors.As(err, &f):
		r.fail(cmp.Or(f.Field, name), "%s", f.Message)
	default:
		r.fail(name, "%s: %v", name, err)
	}
}

// err is everything that is wrong, in the order of the settings' names; nil = nothing.
func (r *reader) err() error {
	if len(r.wrong) == 0 {
		return nil
	}
	slices.SortStableFunc(r.wrong, func(a, b *fault.Error) int { return strings.Compare(a.Field, b.Field) })
	sentences := make([]string, len(r.wrong))
	for i, f := range r.wrong {
		sentences[i] = f.Message
	}
	return fault.New(fault.Invalid, r.wrong[0].Field, "%s", strings.Join(sentences, "; "))
}

func (r *reader) required(name string) string {
	v := r.getenv(name)
	if v == "" {
		r.fail(name, "the setting %s is missing; local.settings.json.example shows all of them", name)
	}
	return v
}

// boolean reads true or false.
func (r *reader) boolean(name string, missing bool) bool {
	switch v := r.getenv(name); strings.ToLower(v) {
	case "":
	case "true":
		return true
	case "false":
		return false
	default:
		r.fail(name, "%s is %.40q; write true or false", name, v)
	}
	return missing
}

// number reads a whole number within bounds; 0 = the setting is missing.
func (r *reader) number(name string, least, most int) int {
	v := r.getenv(name)
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.fail(name, "%s is %.40q; write a whole number from %d to %d", name, v, least, most)
		return 0
	}
	return n
}

// duration reads into a duration, and leaves it as it is if the setting is missing.
func (r *reader) duration(name string, into *time.Duration) {
	v := r.getenv(name)
	if v == "" {
		return
	}
	d, err := job.ParseDuration(v)
	if err != nil {
		r.fail(name, "%s: %v", name, err)
		return
	}
	*into = time.Duration(d)
}

// bytes reads a size such as 512Mi; 0 = it is not set.
func (r *reader) bytes(name string) int64 {
	v := r.getenv(name)
	if v == "" {
		return 0
	}
	n, err := job.ParseBytes(v)
	if err != nil || n <= 0 {
		r.fail(name, "%s is %.40q; write a size such as 512Mi or 4Gi", name, v)
	}
	return int64(n)
}

// durations reads durations with commas between them.
func (r *reader) durations(name string, missing []time.Duration) []time.Duration {
	list := r.list(name)
	if list == nil {
		return missing
	}
	var all []time.Duration
	for _, text := range list {
		d, err := job.ParseDuration(text)
		if err != nil {
			r.fail(name, "%s: %v; write durations with commas, such as 1m,10m,1h", name, err)
			return missing
		}
		all = append(all, time.Duration(d))
	}
	return all
}

// list reads texts with commas between them; nil = the setting is missing.
func (r *reader) list(name string) []string {
	v := r.getenv(name)
	if v == "" {
		return nil
	}
	var all []string
	for text := range strings.SplitSeq(v, ",") {
		all = append(all, strings.TrimSpace(text))
	}
	return all
}

// instant reads a time as a deployment writes it.
func (r *reader) instant(name string) time.Time {
	v := r.getenv(name)
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		r.fail(name, "%s is %.40q; write a time in UTC such as 2026-01-31T18:00:00Z", name, v)
	}
	return t.UTC()
}

// image reads an image by its short name, by publisher:offer:sku:version or by its id.
func (r *reader) image(name string) pool.Image {
	image, err := pool.ParseImage(name, r.getenv(name))
	r.add(name, err)
	return image
}

// address reads the https URL of something that nodes fetch with their identity.
func (r *reader) address(name string) string {
	v := r.getenv(name)
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil:
		r.fail(name, "%s is no https URL; write one such as https://account.blob.core.windows.net/container/name", name)
	case u.RawQuery != "":
		r.fail(name, "%s has a query; leave it out, since a node proves itself with its identity and everybody "+
			"who may read a scale set reads this URL", name)
	}
	return v
}
