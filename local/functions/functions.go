// Package functions is the Azure Functions host on one machine, for `dsvm up` and for
// tests: it reads the same host.json and function.json, starts the real handler
// process, sends it the same requests when a queue, a timer or an HTTP request
// triggers a function, judges its replies by the same rules, and restarts it as the
// real host does.
//
// It has triggers of Service Bus queues with and without sessions, of timers and of
// HTTP. It has no output bindings, no retry policies and no scaling, and it listens on
// loopback addresses only. It never looks into the handler: it knows its port, its
// replies and its exit code.
package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/door"
)

// Config configures a host.
type Config struct {
	Root     fs.FS             // the script root: host.json, and a folder for each function
	Addr     string            // loopback host:port for requests; port 0 = any free one
	Listener net.Listener      // already open on Addr; the host closes it. nil = the host listens on Addr
	Handler  []string          // argv of the handler; nil = host.json's customHandler.description
	Dir      string            // working directory of the handler; "" = this process's
	Settings map[string]string // app settings; the handler has them as its environment
	Env      []string          // more of the handler's environment, NAME=value; overrides Settings

	FunctionKey string // opens authLevel function; "" = only the master key does
	MasterKey   string // opens everything, and is the only key to /admin; "" = nothing does

	// Guard makes the host refuse requests from web pages, and share a secret with its
	// handler. The setting invoke.SecretSetting gives the handler the file of the secret,
	// and the handler must prove that it has the secret. Not for other handlers, and not
	// on Windows.
	Guard bool
	Hosts []string // more names of this host in the header Host, with Guard

	StateDir string       // folder of the status of timers; "" = they store none
	Chaos    *chaos.Set   // injected failures; nil = none
	Output   io.Writer    // gets what the handler prints, line by line; nil = discarded
	Log      *slog.Logger // of the host itself; nil = discarded

	FunctionTimeout time.Duration // 0 = host.json's
	MaxErrors       int           // failures of the handler in a row; 0 = 3
	ErrorWindow     time.Duration // earlier failures do not count after such a time without one; 0 = 30 min
	RestartPause    time.Duration // after MaxErrors; 0 = 5 s, below 0 = the host stops itself, as the real one does
	TermGrace       time.Duration // from SIGTERM to SIGKILL when the host ends; 0 = 2 s, below 0 = SIGKILL at once

	// Real turns off the deviations from the real host that help a developer. The host
	// tries only once to start a handler that cannot be started, and everything waits for
	// it. The third error stops the host. The host receives messages while there is no
	// handler. At its end batches get EndGrace, single messages get no time, and the
	// handler gets SIGKILL.
	Real     bool
	Hang     time.Duration // of requests for a handler that cannot be started; 0 = 137 s
	Linger   time.Duration // from giving up on the handler to the host's end; 0 = 10 s
	EndGrace time.Duration // of batches that run when the host ends; 0 = 10 s
}

// Defaults, which are those of the real host unless a comment says otherwise.
const (
	defaultMaxErrors   = 3
	defaultErrorWindow = 30 * time.Minute
	// defaultRestartPause is not of the real host: here a developer can repair the handler
	// without a new start of everything.
	defaultRestartPause = 5 * time.Second
	// defaultTermGrace is not of the real host, which sends SIGKILL at once. It is enough
	// to finish short work.
	defaultTermGrace = 2 * time.Second
	// Measured on the real host.
	defaultHang     = 137 * time.Second
	defaultLinger   = 10 * time.Second
	defaultEndGrace = 10 * time.Second
	// handlerConnections is how many idle connections to the handler stay open.
	handlerConnections = 64
	// closeTime bounds the closing of the links to Service Bus at the end.
	closeTime = 2 * time.Second
)

// Host is a running host.
type Host struct {
	cfg       Config
	file      hostFile
	functions []*function
	worker    *worker
	listener  net.Listener
	server    *http.Server
	transport *http.Transport // to the handler
	log       *slog.Logger
	timeout   time.Duration // of an invocation; 0 = none
	buses     buses

	ctx    context.Context
	cancel context.CancelFunc
	taking context.Context // ends when triggers must start nothing more: with or before ctx
	stop   context.CancelFunc
	loops  sync.WaitGroup // of the triggers
	wg     sync.WaitGroup // of all other goroutines
	done   chan error
}

// Start reads the functions, starts the handler and the triggers, and listens.
// It does not wait for the handler: requests and triggers do. It logs and skips a
// function that it does not support. The host runs until Close, or until it gives up
// on the handler.
func Start(cfg Config) (*Host, error) {
	if err := checkAddr(cfg.Addr); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	h := &Host{cfg: cfg, log: cfg.Log, done: make(chan error, 1)}
	var err error
	if h.file, err = readHostFile(cfg.Root, cfg.Settings); err != nil {
		return nil, err
	}
	functions, wrong := readFunctions(cfg.Root, cfg.Settings, h.file.Functions)
	for _, err := range wrong {
		h.log.Error("skipping function", "error", err)
	}
	if h.functions = functions; len(functions) == 0 {
		return nil, errors.Join(append(wrong, errors.New("no function is left to host"))...)
	}
	argv := cfg.Handler
	if len(argv) == 0 {
		if argv, err = h.file.argv(cfg.Dir, cfg.Settings); err != nil {
			return nil, err
		}
	}
	if h.timeout = cfg.FunctionTimeout; h.timeout == 0 {
		h.timeout = h.file.FunctionTimeout.or(defaultFunctionTimeout)
	}
	if h.listener = cfg.Listener; h.listener == nil {
		if h.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("the Functions host cannot listen: %w", err)
		}
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.taking, h.stop = context.WithCancel(h.ctx)
	h.transport = &http.Transport{
		MaxIdleConnsPerHost:    handlerConnections,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxReplyHeader,
		DisableCompression:     true,
		ExpectContinueTimeout:  expectTime,
	}
	h.worker = newWorker(cfg, argv, h.file.CustomHandler.InitializationTimeout.or(defaultInitializationTimeout))
	h.run()
	return h, nil
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	if c.Real {
		c.RestartPause, c.TermGrace = -1, -1
	}
	c.Hang, c.Linger, c.EndGrace = cmp.Or(c.Hang, defaultHang), cmp.Or(c.Linger, defaultLinger), cmp.Or(c.EndGrace, defaultEndGrace)
	if c.MaxErrors == 0 {
		c.MaxErrors = defaultMaxErrors
	}
	if c.ErrorWindow == 0 {
		c.ErrorWindow = defaultErrorWindow
	}
	if c.RestartPause == 0 {
		c.RestartPause = defaultRestartPause
	}
	if c.TermGrace == 0 {
		c.TermGrace = defaultTermGrace
	}
}

func checkAddr(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("the address of the Functions host must be host:port: %w", err)
	}
	if !door.IsLoopback(host) {
		return fmt.Errorf("%s is not a loopback address; the local Functions host serves this machine only", addr)
	}
	return nil
}

// run starts the handler, the triggers and the server.
func (h *Host) run() {
	h.wg.Go(func() {
		err := h.worker.run(h.ctx)
		h.cancel() // triggers end with the handler
		h.done <- err
		close(h.done)
	})
	for _, f := range h.functions {
		switch {
		case f.disabled:
			h.log.Info("function disabled by its setting", "function", f.name)
		case f.trigger.Type == serviceBusTrigger:
			h.loops.Go(func() { h.newBusLoop(f).sessions(h.taking) })
		case f.trigger.Type == timerTrigger:
			h.loops.Go(func() { h.newTimer(f).run(h.taking) })
		}
	}
	h.server = &http.Server{
		Handler:           h.guardPages(h.routes()),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	h.wg.Go(func() { _ = h.server.Serve(h.listener) })
	context.AfterFunc(h.ctx, func() { h.server.Close() })
}

// Addr returns the address at which the host listens, as host:port.
func (h *Host) Addr() string { return h.listener.Addr().String() }

// Ready waits until the handler answers. It returns an error when the handler never
// will, or has failed so often that the host pauses before it starts it again.
func (h *Host) Ready(ctx context.Context) error {
	_, err := h.worker.await(ctx, false)
	return err
}

// Done returns a channel that gets one value and is then closed: the error that stopped the
// host, or nil after Close.
func (h *Host) Done() <-chan error { return h.done }

// HandlerPID returns the process id of the handler; 0 = there is none now.
func (h *Host) HandlerPID() int { return h.worker.pid() }

// Close ends the triggers and the handler, and waits for them.
func (h *Host) Close() error {
	h.stop()
	if h.cfg.Real { // running invocations may end
		ended := make(chan struct{})
		go func() { h.loops.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(h.cfg.EndGrace):
		}
	}
	h.cancel()
	h.loops.Wait()
	h.wg.Wait()
	h.buses.close()
	h.transport.CloseIdleConnections()
	return nil
}
