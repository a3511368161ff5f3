package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"dsvmpools/shared/intake"
)

// Limits and times of the handler's side.
const (
	// defaultMaxPayload bounds what is read of an invocation, not what is kept (see
	// stream.go): 100 messages of 256 KiB, each byte of which may be seven when it is
	// quoted twice, with their metadata.
	defaultMaxPayload = 256 << 20
	// maxTick bounds the payload of a timer.
	maxTick = 1 << 20
	// defaultDeadline of an invocation is shorter than functionTimeout in
	// host.json (5 min): the host cancels nothing, it kills the process and all
	// that runs in it. It is shorter than the lock of a message, too, which is the
	// longest that Azure has (5 min) on the queues of the template: a trigger for
	// batches does not renew it.
	defaultDeadline = 4 * time.Minute
	// drainTime is what is left to finish work under way after a request to
	// stop. Hosts wait at most 10 s.
	drainTime = 8 * time.Second
	// headerTime is far longer than the host, which is on the same machine,
	// takes to send a request's header.
	headerTime = 10 * time.Second
)

// emptyReply is a success. The host needs an object: an empty reply leaves it
// waiting until it kills the process.
const emptyReply = `{"Outputs":{},"Logs":[],"ReturnValue":null}`

// App serves functions to the Functions host.
type App struct {
	mux        *http.ServeMux
	log        *slog.Logger
	deadline   time.Duration
	maxPayload int64
	guard      *guard       // nil = anybody may ask
	pace       intake.Pace  // of bodies
	api, site  http.Handler // nil = none
}

// Option changes what an App does.
type Option func(*App)

// Deadline bounds every invocation by cancelling its context; it must be
// shorter than functionTimeout in host.json.
func Deadline(d time.Duration) Option { return func(a *App) { a.deadline = d } }

// MaxPayload bounds what an invocation may bring, in bytes.
func MaxPayload(n int64) Option { return func(a *App) { a.maxPayload = n } }

// Pace bounds how slowly the body of a request may come.
func Pace(p intake.Pace) Option { return func(a *App) { a.pace = p } }

// New returns an app without functions. Its log should write a line for each
// record, and to standard output: the host takes everything on standard error
// for an error. nil does so.
func New(log *slog.Logger, options ...Option) *App {
	a := &App{mux: http.NewServeMux(), log: log, deadline: defaultDeadline, maxPayload: defaultMaxPayload, pace: intake.Usual}
	for _, o := range options {
		o(a)
	}
	if a.log == nil {
		a.log = slog.New(slog.NewTextHandler(os.Stdout, nil))
	}
	if _, has := a.log.Handler().(logHandler); !has {
		a.log = slog.New(LogHandler(a.log.Handler()))
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page := r.Header.Get(HeaderInvocation) != "" &&
			(r.Method == http.MethodGet || r.Method == http.MethodHead || below(r.URL.Path, "/web/"))
		switch {
		case a.api != nil && below(r.URL.Path, apiFolder):
			for _, path := range []*string{&r.URL.Path, &r.URL.RawPath} {
				if below(*path, apiFolder) {
					*path = apiFolder + (*path)[len(apiFolder):]
				}
			}
			a.passedOn(w, r, a.api)
		case a.site != nil && page:
			a.passedOn(w, r, a.site)
		case r.URL.Path == "/": // the host asks whether the handler is up
			w.WriteHeader(http.StatusOK)
		default:
			a.log.Warn("function not registered: its folder and the program disagree", "path", r.URL.Path)
			reply(w, http.StatusNotFound)
		}
	})
	return a
}

// Batch registers a function for a serviceBusTrigger of either cardinality,
// with dataType binary. An error has the host deliver every message again.
func (a *App) Batch(name string, fn func(ctx context.Context, msgs []Message) error) {
	a.batch(name, false, fn)
}

// TextBatch is Batch with dataType string: bodies come as texts in UTF-8, also
// those that a sender has put into an AMQP value.
func (a *App) TextBatch(name string, fn func(ctx context.Context, msgs []Message) error) {
	a.batch(name, true, fn)
}

func (a *App) batch(name string, text bool, fn func(ctx context.Context, msgs []Message) error) {
	a.handle(name, func(ctx context.Context, payload io.Reader) error {
		msgs, err := readMessages(payload, text)
		if err != nil {
			return err
		}
		for i := range msgs {
			if m := &msgs[i]; m.ID == "" && m.SequenceNumber == byHand {
				m.ID = InvocationID(ctx) // a run by hand comes once, and has no other name
			}
		}
		return fn(ctx, msgs)
	})
}

// Timer registers a function for a timerTrigger. The host does not repeat an
// occurrence that failed.
func (a *App) Timer(name string, fn func(ctx context.Context, t Tick) error) {
	a.handle(name, func(ctx context.Context, payload io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(payload, maxTick))
		if err != nil {
			return err
		}
		t, err := decodeTick(b)
		if err != nil {
			return err
		}
		return fn(ctx, t)
	})
}

// below reports whether a path is below a folder. The host's routes do not regard
// case, and the path comes as the client wrote it.
func below(path, folder string) bool {
	return len(path) >= len(folder) && strings.EqualFold(path[:len(folder)], folder)
}

// apiFolder is what the API's paths begin with.
const apiFolder = "/api/"

// HTTP registers what answers requests that the host passes on as they are,
// everything under /api/, however that is written.
func (a *App) HTTP(h http.Handler) { a.api = h }

// Site registers what answers the other requests that the host passes on: GET and
// HEAD anywhere, and everything under /web/. The host's own questions are none of
// them, as they have no invocation.
func (a *App) Site(h http.Handler) { a.site = h }

// passedOn has h answer a request within the deadline of an invocation: one that
// lasts as long as functionTimeout, be it for a slow reader, would cost the process
// its life, and all others theirs.
func (a *App) passedOn(w http.ResponseWriter, r *http.Request, h http.Handler) {
	id := r.Header.Get(HeaderInvocation)
	ctx, cancel := context.WithTimeout(withInvocation(r.Context(), id), a.deadline)
	defer cancel()
	control := http.NewResponseController(w)
	end, _ := ctx.Deadline()
	if control.SetReadDeadline(end) == nil && control.SetWriteDeadline(end) == nil {
		defer func() { // the connection takes the next request
			_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
		}()
		pace := a.pace // the body must come in time, too; this deadline takes the place of its own
		if pace.Total = a.deadline; a.pace.Total > 0 {
			pace.Total = min(a.pace.Total, a.deadline)
		}
		r = intake.Keep(w, r, pace)
	}
	tw := &trackedWriter{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			panic(p)
		}
		a.log.ErrorContext(ctx, "request failed", "method", r.Method, "path", r.URL.Path, "error", panicked(p))
		if tw.written {
			panic(http.ErrAbortHandler) // the client must not take the half of an answer for a whole one
		}
		reply(w, http.StatusInternalServerError)
	}()
	h.ServeHTTP(tw, r.WithContext(ctx))
}

// handle registers a function. The host drops what comes with a failure, so
// the cause is logged before the reply.
func (a *App) handle(name string, fn func(ctx context.Context, payload io.Reader) error) {
	a.mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(HeaderInvocation)
		ctx, cancel := context.WithTimeout(withInvocation(r.Context(), id), a.deadline)
		defer cancel()
		payload := http.MaxBytesReader(w, r.Body, a.maxPayload)
		err := contain(func() error { return fn(ctx, payload) })
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			err = fmt.Errorf("the invocation is larger than %d bytes; lower maxMessageBatchSize in host.json", a.maxPayload)
		}
		if err != nil {
			a.log.ErrorContext(ctx, "invocation failed", "function", name, "error", err)
			reply(w, http.StatusInternalServerError)
			return
		}
		reply(w, http.StatusOK)
	})
}

func reply(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, emptyReply)
}

// contain turns a panic into an error.
func contain(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return fn()
}

func panicked(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

// trackedWriter remembers whether an answer has begun.
type trackedWriter struct {
	http.ResponseWriter
	written bool
}

func (w *trackedWriter) WriteHeader(status int) {
	w.written = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(b []byte) (int, error) {
	w.written = true
	return w.ResponseWriter.Write(b)
}

// Flush and Unwrap keep streams and http.ResponseController working.
func (w *trackedWriter) Flush() {
	w.written = true
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *trackedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type invocationKey struct{}

func withInvocation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, invocationKey{}, id)
}

// InvocationID is the host's name for the invocation that ctx belongs to; ""
// outside of one. The host cannot tell which invocation a line on standard
// output belongs to, so lines should carry it.
func InvocationID(ctx context.Context) string {
	id, _ := ctx.Value(invocationKey{}).(string)
	return id
}

// ServeHTTP answers as Serve does, for a caller that has its own listener.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.guard != nil && !a.guard.admits(w, r) {
		return
	}
	r, rest := keepRest(r)
	a.mux.ServeHTTP(w, intake.Keep(w, r, a.pace))
	rest.discard(w, r, a.pace)
}

// Serve listens on the port that the host names in PortSetting and answers until
// ctx ends, or the host is gone; it then takes nothing new and finishes what is under
// way. Only an end that ctx asks for is without error. The program must not exit with 0 after any other: the host
// would not start it again, and every later invocation would fail.
func (a *App) Serve(ctx context.Context, port string) error {
	if port == "" {
		return fmt.Errorf("%s is not set; this program is started by the Functions host", PortSetting)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)) // for the host on this machine; Guard says who that is
	if err != nil {
		return fmt.Errorf("the port that the host gave cannot be used: %w", err)
	}
	ctx, cancel := whileParent(ctx)
	defer cancel()
	if err := a.serve(ctx, l); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errOrphan) {
		return cause
	}
	return nil
}

func (a *App) serve(ctx context.Context, l net.Listener) error {
	// No write timeout: an invocation has its deadline, and a stream has none.
	server := &http.Server{Handler: a, ReadHeaderTimeout: headerTime, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		a.log.Warn("handler stopped before everything under way was finished; its messages come again", "waited", drainTime)
		return server.Close()
	}
	return nil
}
