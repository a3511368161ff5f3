package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// usagePeriod is what a report covers when no begin is given: a month, as bills
// do, near enough.
const usagePeriod = 30 * 24 * time.Hour

func (s *server) reportUsage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	by := usage.Grouping(cmp.Or(q.Get("by"), string(usage.ByPool)))
	if !slices.Contains(usage.Groupings, by) {
		return fault.New(fault.Invalid, "by", "usage is not reported by %.50q; use one of %s", string(by), join(usage.Groupings))
	}
	to, err := instant(q, "to", s.now().UTC())
	if err != nil {
		return err
	}
	from, err := instant(q, "from", to.Add(-usagePeriod))
	if err != nil {
		return err
	}
	if !from.Before(to) {
		return fault.New(fault.Invalid, "from", "from (%s) is not before to (%s)", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	groups, err := s.Usage.Usage(r.Context(), from, to, string(by))
	if err != nil {
		return err
	}
	list, err := page(groups, q, func(i int) string { return fmt.Sprintf("%09d", i) })
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(list.Items, list.Continue))
}
