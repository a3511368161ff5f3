package httpapi

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// usageParameters are those of a report, without those of every list.
var usageParameters = []string{"by", "sort", "from", "to", "pool", "team", "user", "label", "format"}

func (s *server) reportUsage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	query, err := s.usageQuery(q)
	if err != nil {
		return err
	}
	form, err := usageForm(r)
	if err != nil {
		return err
	}
	if form == formCSV {
		return s.writeUsageCSV(w, r, query)
	}
	var at reportPosition
	if text := q.Get("continue"); text != "" {
		if at, err = readPosition(text, &query); err != nil {
			return err
		}
		query.From, query.To, query.AsOf, query.After = at.From, at.To, at.AsOf, at.After
	}
	report, ok := s.reports.find(at.Report)
	if !ok {
		if query.Lines = linesAtFirst; at.After != nil {
			query.Lines = linesAtOnce
		}
		if report, err = s.Usage.Report(r.Context(), query); err != nil {
			return err
		}
		if at.Next > len(report.Groups) && report.More != nil {
			return errContinuation() // of an earlier release, which made all lines at once
		}
	}
	begin := min(at.Next, len(report.Groups))
	end := min(begin+limit, len(report.Groups))
	if !ok && end < len(report.Groups) {
		at.Report = s.reports.keep(report)
	}
	answer := wire.UsageReport{
		Items: slices.Clone(report.Groups[begin:end]), Totals: report.Totals, Lines: report.Lines, Open: report.Open,
		From: report.From, To: report.To, AsOf: report.AsOf,
	}
	next := reportPosition{at.Report, end, at.After, report.From, report.To, report.AsOf, hashQuery(&query)}
	switch {
	case end < len(report.Groups):
		answer.Continue = next.String()
	case report.More != nil:
		next.Report, next.Next, next.After = "", 0, report.More
		answer.Continue = next.String()
	}
	if answer.Items == nil {
		answer.Items = []usage.Group{}
	}
	return writeOK(w, answer)
}

// sumsQuery reads which days' sums somebody asks for.
func (s *server) sumsQuery(r *http.Request) (q wire.SumsQuery, err error) {
	if q.From, err = pastInstant(r.URL.Query(), "from", s.now()); err != nil {
		return q, err
	}
	q.To, err = pastInstant(r.URL.Query(), "to", s.now())
	return q, err
}

// checkSums compares sums of the ledger with its rows. The answer says what to go on with.
func (s *server) checkSums(w http.ResponseWriter, r *http.Request) error {
	q, err := s.sumsQuery(r)
	if err != nil {
		return err
	}
	done, err := s.Usage.CheckSums(r.Context(), q)
	if err != nil {
		return err
	}
	return writeOK(w, done)
}

// rebuildSums builds sums of the ledger again. The answer says what to go on with.
func (s *server) rebuildSums(w http.ResponseWriter, r *http.Request) error {
	q, err := s.sumsQuery(r)
	if err != nil {
		return err
	}
	done, err := s.Usage.RebuildSums(r.Context(), q)
	if err != nil {
		return err
	}
	return writeOK(w, done)
}

// usageQuery reads what a report is asked for. Times that are not given stay zero.
func (s *server) usageQuery(q url.Values) (out usage.Query, err error) {
	out.By = usage.Grouping(cmp.Or(q.Get("by"), string(usage.ByPool)))
	if err := usage.CheckGrouping(out.By); err != nil {
		return out, fault.New(fault.Invalid, "by", "%v", err)
	}
	out.Order = usage.Order(cmp.Or(q.Get("sort"), string(usage.OrderKey)))
	if !slices.Contains(usage.Orders, out.Order) {
		return out, fault.New(fault.Invalid, "sort", "usage is not sorted by %.50q; use one of %s", string(out.Order), join(usage.Orders))
	}
	out.Filter.Pool, out.Filter.Team, out.Filter.User = q.Get("pool"), q.Get("team"), q.Get("user")
	if out.Filter.Labels, err = labelsOf(q); err != nil {
		return out, err
	}
	if out.From, err = pastInstant(q, "from", s.now()); err != nil {
		return out, err
	}
	out.To, err = pastInstant(q, "to", s.now())
	return out, err
}

// A report is made with so many lines, of which there may be millions. A first page is
// often the only one that is asked for.
const (
	linesAtFirst = 2_000
	linesAtOnce  = 50_000
)

// reportPosition is where the pages of a report go on. The lines of a report are kept for a while, so
// that they are made once. When they are not kept any more, or another process answers, they are made
// again for the same time, as of the same time.
type reportPosition struct {
	Report string          `json:"r,omitempty"`
	Next   int             `json:"n"`           // index of a line among those that are kept
	After  *usage.Position `json:"p,omitempty"` // the line before the first of these
	From   time.Time       `json:"f"`
	To     time.Time       `json:"t"`
	AsOf   time.Time       `json:"a"`
	Query  string          `json:"q"` // hashQuery
}

// hashQuery names what a report is asked for, beside its times.
func hashQuery(q *usage.Query) string {
	text, _ := json.Marshal([]any{q.By, q.Order, q.Filter}) // can always be written
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

func (p reportPosition) String() string {
	text, _ := json.Marshal(p) // can always be written
	return base64.RawURLEncoding.EncodeToString(text)
}

func readPosition(text string, q *usage.Query) (p reportPosition, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil || p.Next < 0 || p.Report == "" && p.After == nil || !p.From.Before(p.To) || p.AsOf.IsZero() {
		return p, errContinuation()
	}
	if p.Query != hashQuery(q) {
		return p, fault.New(fault.Invalid, "continue", "the continuation belongs to another report; begin this one without it")
	}
	return p, nil
}

func errContinuation() error {
	return fault.New(fault.Invalid, "continue", "the continuation cannot be read; begin the report again without it")
}

// Bounds of the reports that are kept.
const (
	keptReports = 8
	keptLines   = 500_000 // of all of them: 100 MB or so at most
	keptFor     = 5 * time.Minute
)

// reports are the reports whose pages are being fetched, the last one asked for at the end.
type reports struct {
	mu   sync.Mutex
	kept []keptReport
	now  func() time.Time
}

type keptReport struct {
	id     string
	report usage.Report
	at     time.Time // when it was asked for last
}

// find returns a report that is kept; false: it is not.
func (k *reports) find(id string) (usage.Report, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropOld()
	i := slices.IndexFunc(k.kept, func(r keptReport) bool { return r.id == id })
	if i < 0 {
		return usage.Report{}, false
	}
	r := k.kept[i]
	r.at = k.now()
	k.kept = append(slices.Delete(k.kept, i, i+1), r)
	return r.report, true
}

// keep keeps a report and returns its id.
func (k *reports) keep(r usage.Report) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := rand.Text()
	k.dropOld()
	k.kept = append(k.kept, keptReport{id, r, k.now()})
	lines := 0
	for i := len(k.kept) - 1; i >= 0; i-- {
		if lines += len(k.kept[i].report.Groups); lines > keptLines || len(k.kept)-i > keptReports {
			k.kept = slices.Delete(k.kept, 0, i+1)
			break
		}
	}
	return id
}

// dropOld forgets reports that nobody has asked for in a while.
func (k *reports) dropOld() {
	k.kept = slices.DeleteFunc(k.kept, func(r keptReport) bool { return k.now().Sub(r.at) > keptFor })
}
