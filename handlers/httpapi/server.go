package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// server is the API over a backend and the share that holds the logs.
type server struct {
	Services
	share string
	log   *slog.Logger
	now   func() time.Time
	pace  pace

	pushTime time.Duration
	room     *intake.Room // for deliveries
	uploads  *intake.Room // for packs and trees
	judging  sync.Mutex   // of a large one

	reports reports // whose pages are being fetched
}

// New serves the routes below /api/ with the use cases. The share is the path at which the share
// with the jobs' logs is mounted.
func New(use Services, share string, log *slog.Logger) http.Handler {
	s := &server{Services: use, share: share, log: log, now: time.Now, pace: defaultPace, pushTime: pushTime, room: deliveries(),
		uploads: uploads()}
	s.reports.now = s.now
	return s.handler()
}

// route is one thing the API does.
type route struct {
	method string
	path   string   // a pattern of http.ServeMux, without the method
	needs  right    // of who calls
	query  []string // the parameters it knows
	serve  func(w http.ResponseWriter, r *http.Request) error
}

// routes is the whole API. docs/openapi.yaml describes each of them.
func (s *server) routes() []route {
	list := []string{"limit", "continue"}
	return []route{
		{"GET", "/api/jobs", read, slices.Concat(jobParameters, list), s.listJobs},
		{"POST", "/api/jobs", submit, []string{"dryRun"}, s.submit},
		{"POST", "/api/jobs/cancel", change, []string{"pool", "team", "user"}, s.cancelJobs},
		{"GET", "/api/jobs/{id}", read, nil, s.showJob},
		{"POST", "/api/jobs/{id}/cancel", change, nil, s.cancelJob},
		{"POST", "/api/jobs/{id}/hold", change, nil, s.holdJob},
		{"POST", "/api/jobs/{id}/release", change, nil, s.releaseJob},
		{"POST", "/api/jobs/{id}/priority", change, nil, s.setPriority},
		{"POST", "/api/jobs/{id}/rerun", change, nil, s.rerunJob},
		{"POST", "/api/jobs/{id}/certificate", change, nil, s.certifyJob},
		{"GET", "/api/jobs/{id}/explain", read, nil, s.explainJob},
		{"GET", "/api/jobs/{id}/cost", read, nil, s.showJobCost},
		{"GET", "/api/jobs/{id}/logs/{stream}", read, []string{"attempt", "rank", "offset", "tail", "since", "follow"}, s.readLog},
		{"GET", "/api/jobs/{id}/files", read, append([]string{"attempt", "path"}, list...), s.listFiles},
		{"GET", "/api/jobs/{id}/files/{path...}", read, []string{"attempt"}, s.readFile},
		{"POST", "/api/files/missing", submit, nil, s.askMissing},
		{"PUT", "/api/files/packs/{sha256}", submit, nil, s.putPack},
		{"PUT", "/api/files/trees/{sha256}", submit, nil, s.putTree},
		{"GET", "/api/pools", read, list, s.listPools},
		{"POST", "/api/pools", operate, []string{"check", "dryRun"}, s.applyPool},
		{"GET", "/api/pools/{name}", read, nil, s.showPool},
		{"GET", "/api/pools/{name}/explain", read, nil, s.explainPool},
		{"POST", "/api/pools/{name}/resume", operate, nil, s.resumePool},
		{"PUT", "/api/pools/{name}", operate, []string{"dryRun"}, s.applyPool},
		{"DELETE", "/api/pools/{name}", operate, nil, s.deletePool},
		{"GET", "/api/nodes", read, append([]string{"pool"}, list...), s.listNodes},
		{"GET", "/api/nodes/{node}/console", operate, []string{"pool"}, s.showConsole},
		{"POST", "/api/nodes/{node}/certificate", operate, []string{"pool", "reason"}, s.certifyNode},
		{"DELETE", "/api/nodes/{node}", operate, []string{"pool"}, s.commandNode(pool.VerbDelete)},
		{"POST", "/api/nodes/{node}/drain", operate, []string{"pool"}, s.commandNode(pool.VerbDrain)},
		{"POST", "/api/nodes/{node}/release", operate, []string{"pool"}, s.commandNode(pool.VerbRelease)},
		{"GET", "/api/sessions", read, append([]string{"pool", "user"}, list...), s.listSessions},
		{"POST", "/api/sessions", submit, nil, s.openSession},
		{"GET", "/api/sessions/{id}", read, nil, s.showSession},
		{"GET", "/api/sessions/{id}/explain", read, nil, s.explainSession},
		{"POST", "/api/sessions/{id}/stop", change, nil, s.stopSession},
		{"POST", "/api/sessions/{id}/extend", change, nil, s.extendSession},
		{"POST", "/api/sessions/{id}/certificate", change, nil, s.certifySession},
		{"GET", "/api/sessions/{id}/jupyter", change, nil, s.openLab},
		{"POST", "/api/sessions/{id}/jupyter", change, nil, s.openLab},
		{"POST", "/api/sessions/{id}/desktop", change, nil, s.openDesktop},
		{"GET", "/api/now", read, []string{"team", "user"}, s.showNow},
		{"GET", "/api/metrics", read, nil, s.showMetrics},
		{"GET", "/api/troubles", read, nil, s.listTroubles},
		{"GET", "/api/timeline", read, []string{"pool", "from", "to", "buckets"}, s.showTimeline},
		{"GET", "/api/usage", read, slices.Concat(usageParameters, list), s.reportUsage},
		{"GET", "/api/usage/check", operate, []string{"from", "to"}, s.checkSums},
		{"POST", "/api/usage/rebuild", operate, []string{"from", "to"}, s.rebuildSums},
		{"GET", "/api/budgets", read, list, s.listBudgets},
		{"POST", "/api/budgets", operate, nil, s.applyBudgets},
		{"GET", "/api/budgets/{name}", read, nil, s.showBudget},
		{"POST", "/api/budgets/{name}/raise", operate, nil, s.raiseBudget},
		{"DELETE", "/api/budgets/{name}", operate, nil, s.deleteBudget},
		{"GET", "/api/prices", read, list, s.listPrices},
		{"POST", "/api/prices", operate, nil, s.setPrice},
		{"POST", "/api/prices/refresh", operate, nil, s.refreshPrices},
		{"GET", "/api/rules", read, list, s.listRules},
		{"POST", "/api/rules", operate, nil, s.applyRules},
		{"GET", "/api/rules/{name}", read, nil, s.showRule},
		{"DELETE", "/api/rules/{name}", operate, nil, s.deleteRule},
		{"GET", "/api/rejected", read, append([]string{"source", "pool", "job"}, list...), s.listRejected},
		{"GET", "/api/rejected/{key}", read, nil, s.showRejected},
		{"DELETE", "/api/rejected/{key}", operate, nil, s.deleteRejected},
		{"POST", "/api/rejected/{key}/resubmit", operate, nil, s.resubmit},
		{"GET", "/api/doctor", operate, nil, s.diagnose},
		{"GET", "/api/audit", operate, append([]string{"user", "target", "since", "until"}, list...), s.listAudit},
		{"GET", "/api/me", known, nil, s.showCaller},
		{"GET", "/api/signin", public, nil, s.showSignIn},
		{"POST", "/api/push/{provider}", public, nil, s.push},
	}
}

func (s *server) handler() http.Handler {
	byPath := map[string][]route{}
	for _, r := range s.routes() {
		byPath[r.path] = append(byPath[r.path], r)
	}
	mux := http.NewServeMux()
	for pattern, routes := range byPath {
		// Something may have the name of such a path, as a job with the id "cancel": what is
		// not for the path itself is for that.
		if hidesName(pattern, byPath) {
			for _, r := range routes {
				mux.Handle(r.method+" "+pattern, s.dispatch([]route{r}))
			}
			continue
		}
		mux.Handle(pattern, s.dispatch(routes))
	}
	mux.Handle("/", s.wrap(func(_ http.ResponseWriter, r *http.Request) error {
		return fault.New(fault.NotFound, "", "there is nothing at %.200q; the API is described in docs/openapi.yaml", r.URL.Path)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWeb(r.URL.Path) {
			mux.ServeHTTP(w, withoutWeb(r))
			return
		}
		// The address in a Git host may be written in another case, or end with a slash: the
		// Functions host takes both.
		if lower := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/")); strings.HasPrefix(lower, pushFolder) {
			r.URL.Path, r.URL.RawPath = lower, ""
		}
		mux.ServeHTTP(w, r)
	})
}

// hidesName reports whether a path would keep a thing of its name from being reached.
func hidesName(pattern string, all map[string][]route) bool {
	if strings.HasPrefix(path.Base(pattern), "{") {
		return false
	}
	for other := range all {
		if path.Dir(other) == path.Dir(pattern) && strings.HasPrefix(path.Base(other), "{") {
			return true
		}
	}
	return false
}

// methodsOf are the methods of a path that stands among the routes as it is, such as
// /api/jobs/cancel, which may be the address of a job, too.
func (s *server) methodsOf(path string) (methods []string) {
	for _, r := range s.routes() {
		if r.path == path {
			methods = append(methods, r.method)
		}
	}
	return methods
}

// pushFolder is where the providers are that send pushes.
const pushFolder = "/api/push/"

// dispatch chooses among the routes of one path by method.
func (s *server) dispatch(routes []route) http.Handler {
	var allowed []string
	for _, r := range routes {
		allowed = append(allowed, r.method)
	}
	return s.wrap(func(w http.ResponseWriter, r *http.Request) error {
		i := slices.IndexFunc(routes, func(route route) bool { return route.method == r.Method })
		if i < 0 {
			allowed := allowed
			if own := s.methodsOf(r.URL.Path); len(own) > 0 {
				allowed = own
			}
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return wire.MethodNotAllowed(fmt.Sprintf("%.20q", r.Method), allowed)
		}
		r, refused := s.admit(r, routes[i].needs)
		carryOut := func(w http.ResponseWriter, r *http.Request) error {
			if refused != nil {
				return refused
			}
			if err := checkQuery(r, routes[i].query); err != nil {
				return err
			}
			if err := checkBody(w, r); err != nil {
				return err
			}
			return routes[i].serve(w, r)
		}
		if routes[i].isTraced() && (refused != nil || !routes[i].tracesItself()) {
			return s.traced(w, r, carryOut)
		}
		return carryOut(w, r)
	})
}

// wrap answers errors and panics with problem documents.
func (s *server) wrap(serve func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodGet {
			w = &polled{ResponseWriter: w, request: r}
		}
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				s.fail(w, r, fmt.Errorf("panic: %v", p))
			}
		}()
		if err := serve(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// fail is the one place where an error becomes an answer. An internal
// error goes to the log; the caller does not see it.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var f *fault.Error
	if errors.As(err, &f) && (f.RetryAfter > 0 || f.Code == fault.Throttled) {
		w.Header().Set("Retry-After", retryAfter(f.RetryAfter))
	}
	p := s.problem(r, err)
	if p.Type == wire.NotSignedInType {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, p.Status, wire.ProblemType, p)
}

// problem is the problem document of an error. One that is internal goes to the log.
func (s *server) problem(r *http.Request, err error) wire.Problem {
	var p wire.Problem
	if !errors.As(err, &p) {
		f := &fault.Error{Code: fault.Internal, Err: err}
		errors.As(err, &f)
		p = wire.NewProblem(f)
	}
	if p.Status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	return p
}

// retryAfter is whole seconds, rounded up: at least one, so that nobody comes
// back at once.
func retryAfter(d time.Duration) string {
	return fmt.Sprint(max(1, int64((d+time.Second-1)/time.Second)))
}
