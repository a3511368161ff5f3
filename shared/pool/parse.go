package pool

import (
	"regexp"
	"strings"
	"time"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// Limits and defaults of a pool's fields.
const (
	maxNodes           = 1000 // of one scale set
	defaultIdleTimeout = job.Duration(5 * time.Minute)
	defaultGrace       = job.Duration(10 * time.Minute)
	maxSizes           = 5
	maxWeight          = 1000
	maxLimit           = 1_000_000 // more than any pool can run
)

var (
	sizePattern = regexp.MustCompile(`^(?i)(Standard|Basic)_[A-Za-z0-9_-]{1,60}$`)
	timePattern = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
)

// fields of the contract, in its order.
var fields = []string{"name", "kind", "os", "license", "region", "sizes", "capacity", "image", "nodes", "idleTimeout", "pack", "share",
	"setup", "schedule", "limits", "weights", "labels", "sessions", "access", "balancer", "users"}

// Parse reads a pool's document, checks it and fills in the defaults. Errors
// are *fault.Error with code Invalid.
func Parse(body []byte, contentType string) (Spec, error) {
	n, err := document.Parse(body, contentType)
	if err != nil {
		return Spec{}, err
	}
	r := document.Read(n, fields...)
	s := Spec{
		Name:        r.String("name", "cpu"),
		Kind:        withDefault(r.String("kind", KindBatch), KindBatch),
		OS:          withDefault(r.String("os", Linux), Linux),
		Region:      r.String("region", "westeurope"),
		Sizes:       r.Strings("sizes", `["Standard_D4s_v5"]`),
		Capacity:    withDefault(r.String("capacity", "regular"), "regular"),
		Pack:        r.Bool("pack", true),
		Labels:      r.Map("labels", `{"costCenter": "4711"}`),
		IdleTimeout: defaultIdleTimeout,
	}
	r.Text("idleTimeout", "5m", &s.IdleTimeout)
	s.License = r.String("license", LicenseServer)
	s.Image = readImage(r)
	s.Shares = readShares(r)
	s.Setup = r.String("setup", "pip install polars")
	if sub := r.Sub("nodes", `{"min": 0, "max": 4}`, "min", "max"); sub != nil {
		s.Nodes = Range{Min: sub.Int("min", 0, 0, maxNodes), Max: sub.Int("max", 0, 1, maxNodes)}
	}
	if sub := r.Sub("schedule", `{"downAt": "20:00"}`, "downAt", "upAt", "timeZone", "onRunning", "grace"); sub != nil {
		s.Schedule = &Schedule{
			DownAt:    sub.String("downAt", "20:00"),
			UpAt:      sub.String("upAt", "07:00"),
			TimeZone:  withDefault(sub.String("timeZone", "Europe/Amsterdam"), "UTC"),
			OnRunning: withDefault(sub.String("onRunning", "wait"), "wait"),
			Grace:     defaultGrace,
		}
		sub.Text("grace", "10m", &s.Schedule.Grace)
	}
	if sub := r.Sub("limits", `{"default": {"jobs": 100}}`, "team", "default"); sub != nil {
		s.Limits.Default = parseLimit(sub, "default")
		if teams := sub.Any("team", `{"vision": {"jobs": 50}}`); teams != nil {
			s.Limits.Team = map[string]Limit{}
			for _, team := range teams.Names() {
				s.Limits.Team[team] = parseLimit(teams, team)
			}
		}
	}
	if sub := r.Any("weights", `{"vision": 2, "default": 1}`); sub != nil {
		s.Weights = map[string]int{}
		for _, team := range sub.Names() {
			s.Weights[team] = sub.Int(team, 1, 1, maxWeight)
		}
	}
	readSessions(r, &s)
	if err := r.Err(); err != nil {
		return s, err
	}
	return s, n.Locate(s.Validate())
}

func withDefault(v, fallback string) string {
	if v == "" {
		return fallback
	}
	return v
}

func parseLimit(r *document.Reader, name string) (l Limit) {
	sub := r.Sub(name, `{"jobs": 50, "cpus": 200, "gpus": 8}`, "jobs", "cpus", "gpus")
	if sub == nil {
		return l
	}
	for _, f := range []struct {
		name string
		to   **int
	}{{"jobs", &l.Jobs}, {"cpus", &l.CPUs}, {"gpus", &l.GPUs}} {
		if sub.Has(f.name) {
			n := sub.Int(f.name, 0, 0, maxLimit)
			*f.to = &n
		}
	}
	return l
}

func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, format, args...)
}

// Validate checks a spec that Parse has read, or that a program has made.
func (s Spec) Validate() error {
	if err := job.CheckPool("name", s.Name); err != nil {
		return err
	}
	switch {
	case !job.Portable(s.Name):
		return invalid("name", "`name` is %q, which cannot be the name of a folder on the share: "+
			"Azure Files and Windows keep con, prn, aux, nul, com0-9 and lpt0-9; write another, such as pool-%s", s.Name, s.Name)
	case s.Kind != KindBatch && s.Kind != KindInteractive:
		return invalid("kind", "`kind` is %q; write batch or interactive", document.Clip(s.Kind))
	case s.OS == Windows && !s.IsInteractive():
		return invalid("os", "`os: windows` is not possible: nothing brings the agent to such a node yet; "+
			"leave `os` out, and run what needs Windows on a VM of its own")
	case s.OS != Linux && s.OS != Windows:
		return invalid("os", "`os` is %q; write linux or windows", document.Clip(s.OS))
	case len(s.Sizes) == 0:
		return invalid("sizes", "`sizes` is missing; name a VM size, for example [\"Standard_D4s_v5\"]")
	case len(s.Sizes) > maxSizes:
		return invalid("sizes", "`sizes` names %d sizes; name at most %d", len(s.Sizes), maxSizes)
	case s.Capacity != "regular" && s.Capacity != "spot" && s.Capacity != "spot-then-regular":
		return invalid("capacity", "`capacity` is %q; write regular, spot or spot-then-regular", document.Clip(s.Capacity))
	case findBadSize(s.Sizes) != "":
		return invalid("sizes", "`sizes` has %q; a VM size looks like Standard_D4s_v5, and stands in the list once",
			document.Clip(findBadSize(s.Sizes)))
	case s.Nodes.Max == 0:
		return invalid("nodes.max", "`nodes.max` is missing; write how many nodes the pool may have, such as nodes: {max: 4}")
	case s.Nodes.Max < 1 || s.Nodes.Max > maxNodes:
		return invalid("nodes.max", "`nodes.max` is %d; write 1 to %d", s.Nodes.Max, maxNodes)
	case s.Nodes.Min < 0 || s.Nodes.Min > s.Nodes.Max:
		return invalid("nodes.min", "`nodes.min` is %d; write 0 to `nodes.max`, which is %d", s.Nodes.Min, s.Nodes.Max)
	case time.Duration(s.IdleTimeout) < time.Second:
		return invalid("idleTimeout", "`idleTimeout` is %s; write at least 1s", s.IdleTimeout)
	}
	if err := s.Image.Validate(); err != nil {
		return err
	}
	if err := s.validateOS(); err != nil {
		return err
	}
	if err := validateLabels(s.Labels); err != nil {
		return err
	}
	if err := validateShares(s.Shares); err != nil {
		return err
	}
	if err := validateSetup(s.Setup); err != nil {
		return err
	}
	if s.Schedule != nil {
		if err := s.Schedule.Validate(); err != nil {
			return err
		}
	}
	return s.validateSessions()
}

// Validate checks a schedule.
func (s Schedule) Validate() error {
	if !timePattern.MatchString(s.DownAt) {
		return invalid("schedule.downAt", "`schedule.downAt` is %q; write a time of day as HH:MM, in quotes", document.Clip(s.DownAt))
	}
	if s.UpAt != "" && (!timePattern.MatchString(s.UpAt) || s.UpAt == s.DownAt) {
		return invalid("schedule.upAt", "`schedule.upAt` is %q; write a time of day as HH:MM, in quotes, other than downAt",
			document.Clip(s.UpAt))
	}
	if _, err := time.LoadLocation(s.TimeZone); err != nil || s.TimeZone == "Local" {
		return invalid("schedule.timeZone", "`schedule.timeZone` is %q; write a name like Europe/Amsterdam or UTC",
			document.Clip(s.TimeZone))
	}
	if s.OnRunning != "wait" && s.OnRunning != "requeue" && s.OnRunning != "kill" {
		return invalid("schedule.onRunning", "`schedule.onRunning` is %q; write wait, requeue or kill", document.Clip(s.OnRunning))
	}
	return nil
}

// timeOfDay is a time of day on a date, in a zone. A time that the clock shows twice in
// autumn is the first one. A time that the clock skips in spring is as much later as the
// clock skips.
func timeOfDay(date time.Time, clock string, loc *time.Location) time.Time {
	t, _ := time.Parse("15:04", clock)
	wall := time.Date(date.Year(), date.Month(), date.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
	// The offset of the zone a day before and a day after: between them the clock changes
	// at most once.
	_, before := wall.AddDate(0, 0, -1).In(loc).Zone()
	_, after := wall.AddDate(0, 0, 1).In(loc).Zone()
	first, second := wall.Add(-time.Duration(before)*time.Second), wall.Add(-time.Duration(after)*time.Second)
	shows := func(t time.Time) bool { return t.In(loc).Format(time.TimeOnly) == wall.Format(time.TimeOnly) }
	if !shows(first) && shows(second) {
		return second
	}
	return first
}

// timesAround lists when it is a time of day, from two days before now to two days after
// now, in order: at least one is at or before now, and at least one is after it.
func (s Schedule) timesAround(now time.Time, clock string) []time.Time {
	loc, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		loc = time.UTC
	}
	local := now.In(loc)
	// Every day has a noon. A day added to midnight may miss the next date if the clock
	// changes at midnight.
	noon := time.Date(local.Year(), local.Month(), local.Day(), 12, 0, 0, 0, time.UTC)
	var all []time.Time
	for days := -2; days <= 2; days++ {
		all = append(all, timeOfDay(noon.AddDate(0, 0, days), clock, loc))
	}
	return all
}

// lastTime is when it was a time of day last, at or before now.
func (s Schedule) lastTime(now time.Time, clock string) time.Time {
	var last time.Time
	for _, at := range s.timesAround(now, clock) {
		if !at.After(now) {
			last = at
		}
	}
	return last
}

// nextTime is when it is a time of day next, after now.
func (s Schedule) nextTime(now time.Time, clock string) time.Time {
	for _, at := range s.timesAround(now, clock) {
		if at.After(now) {
			return at
		}
	}
	return time.Time{} // not reached: the last one is two days away
}

// Window says whether the schedule keeps the pool down now, since when and until when.
// since is the last downAt in any case. Without upAt the window has no length: the pool
// is taken down at downAt and may come up again at once.
func (s Schedule) Window(now time.Time) (down bool, since, until time.Time) {
	since = s.lastTime(now, s.DownAt)
	if s.UpAt == "" {
		return false, since, since
	}
	return since.After(s.lastTime(now, s.UpAt)), since, s.nextTime(now, s.UpAt)
}

// Next is the next instant at which the schedule changes something.
func (s Schedule) Next(now time.Time) time.Time {
	next := s.nextTime(now, s.DownAt)
	if s.UpAt != "" {
		if up := s.nextTime(now, s.UpAt); up.Before(next) {
			next = up
		}
	}
	return next
}

// findBadSize is the first size that is not a size, or that is in the list a second time;
// "" = all are good.
func findBadSize(sizes []string) string {
	seen := map[string]bool{}
	for _, s := range sizes {
		if !sizePattern.MatchString(s) || seen[strings.ToLower(s)] {
			return s
		}
		seen[strings.ToLower(s)] = true
	}
	return ""
}
