//go:build unix

package functions

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Host is a running host.
type Host struct {
	cfg      Config
	file     hostFile
	fns      []function
	worker   *worker
	listener net.Listener
	http     *http.Server
	client   *http.Client // to the handler
	log      *slog.Logger
	timeout  time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	buses  buses
}

// Start reads the functions, starts the handler and the triggers, and listens.
// Triggers wait for the handler to be ready.
func Start(cfg Config) (*Host, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address; the local host serves this machine only", cfg.Addr)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.RestartPause == 0 {
		cfg.RestartPause = defaultRestartPause
	}
	h := &Host{cfg: cfg, log: cfg.Log}
	if h.file, err = readHost(cfg.Root); err != nil {
		return nil, err
	}
	fns, errs := readFunctions(cfg.Root, cfg.Settings)
	for _, err := range errs {
		h.log.Error("a function cannot be used", "error", err)
	}
	if h.fns = fns; len(fns) == 0 {
		return nil, fmt.Errorf("no functions were found below the root")
	}
	h.timeout = cfg.FunctionTimeout
	if h.timeout == 0 {
		h.timeout = parseSpan(h.file.FunctionTimeout, defaultFunctionTimeout)
	}
	if h.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		return nil, err
	}
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.worker = newWorker(cfg, h.log)
	h.wg.Go(func() { h.worker.run(h.ctx) })
	for _, f := range fns {
		if f.disabled {
			continue
		}
		switch f.trigger.Type {
		case "serviceBusTrigger":
			h.wg.Go(func() { h.listen(f) })
		case "timerTrigger":
			h.wg.Go(func() { h.tick(f) })
		}
	}
	h.http = &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug)}
	go h.http.Serve(h.listener)
	return h, nil
}

// Addr is where the HTTP side listens.
func (h *Host) Addr() string { return h.listener.Addr().String() }

// Ready waits until the handler answers.
func (h *Host) Ready(ctx context.Context) error {
	_, err := h.worker.port(ctx)
	return err
}

// HandlerPID is the process id of the handler; 0 while there is none.
func (h *Host) HandlerPID() int { return h.worker.pid() }

// Close stops the triggers and the handler.
func (h *Host) Close() error {
	h.cancel()
	h.http.Close()
	h.wg.Wait()
	h.buses.close()
	h.client.CloseIdleConnections()
	return nil
}
