package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// Limits and times of the handler's side.
const (
	maxPayload = 512 << 20       // of an invocation: 1,000 messages of the largest size, as base64 in a string
	deadline   = 4 * time.Minute // of an invocation: shorter than functionTimeout in host.json, since the host cancels nothing and kills the process
	drainTime  = 8 * time.Second // to finish what is under way when asked to stop
)

// InvocationHeader names the invocation, for logs.
const InvocationHeader = "X-Azure-Functions-InvocationId"

// App serves functions to the Functions host.
type App struct {
	mux *http.ServeMux
	log *slog.Logger
}

// New returns an app without functions. Logs go to log as single lines; the
// host takes what is written to standard error for errors, so it should write to
// standard output.
func New(log *slog.Logger) *App {
	a := &App{mux: http.NewServeMux(), log: log}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" { // the host asks whether the handler is up
			w.WriteHeader(http.StatusOK)
			return
		}
		http.NotFound(w, r)
	})
	return a
}

// Batch registers a function for a serviceBusTrigger.
func (a *App) Batch(name string, fn func(ctx context.Context, messages []Message) error) {
	a.handle(name, func(ctx context.Context, body []byte) error {
		messages, err := decodeMessages(body)
		if err != nil {
			return fmt.Errorf("the invocation cannot be read: %w", err)
		}
		return fn(ctx, messages)
	})
}

// Timer registers a function for a timerTrigger.
func (a *App) Timer(name string, fn func(ctx context.Context, t Tick) error) {
	a.handle(name, func(ctx context.Context, body []byte) error {
		t, err := decodeTick(body)
		if err != nil {
			return fmt.Errorf("the invocation cannot be read: %w", err)
		}
		return fn(ctx, t)
	})
}

// HTTP registers what answers proxied requests, under /api/.
func (a *App) HTTP(h http.Handler) { a.mux.Handle("/api/", h) }

// handle registers a function. A reply of success is a JSON object: an empty
// reply would leave the host waiting until it kills the process. The host drops
// what comes with a failure, so the cause is logged before the reply.
func (a *App) handle(name string, fn func(ctx context.Context, body []byte) error) {
	a.mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
		log := a.log.With("function", name, "invocation", r.Header.Get(InvocationHeader))
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
		if err == nil {
			err = contain(func() error { return fn(ctx, body) })
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			log.Error("an invocation failed", "error", err)
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, `{"Outputs":{},"Logs":[],"ReturnValue":null}`)
	})
}

// contain turns a panic into an error.
func contain(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn()
}

// Serve listens on the port that the host names and answers until ctx ends;
// then it finishes what is under way. Without a port it is an error: the
// handler is started by the host.
func (a *App) Serve(ctx context.Context, port string) error {
	if port == "" {
		return errors.New("FUNCTIONS_CUSTOMHANDLER_PORT is not set; the Functions host starts this program")
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)}
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
		return server.Close()
	}
	return nil
}
