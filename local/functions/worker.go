//go:build unix

package functions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// worker is the handler process and what is known of it.
type worker struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	cmd     *exec.Cmd
	ready   chan struct{} // closed when the handler answers; replaced with each start
	portNow int
	stopped bool // it ended with 0: nothing starts it again
}

func newWorker(cfg Config, log *slog.Logger) *worker {
	return &worker{cfg: cfg, log: log, ready: make(chan struct{})}
}

// run keeps the handler running until ctx ends, by the real host's rules: exit
// code 200 is a wish to start anew, another one an error; the third error within
// the window stops the real host, and this one for a pause; 0 means that nothing
// happens any more.
func (w *worker) run(ctx context.Context) {
	var failures []time.Time
	for ctx.Err() == nil {
		code := w.once(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch code {
		case exitRestart:
			w.log.Info("the handler asked to be started anew")
			continue
		case 0:
			w.log.Error("the handler ended with exit code 0; the host does not start it again, and every invocation fails")
			w.mu.Lock()
			w.stopped = true
			close(w.ready)
			w.mu.Unlock()
			<-ctx.Done()
			return
		}
		w.log.Error("the handler ended", "exitCode", code)
		failures = append(failures, now)
		for len(failures) > 0 && now.Sub(failures[0]) > errorWindow {
			failures = failures[1:]
		}
		if len(failures) >= errorsToStop {
			w.log.Error("the handler failed three times; the real host would stop now, this one tries again after a pause", "pause", w.cfg.RestartPause)
			failures = nil
			select {
			case <-time.After(w.cfg.RestartPause):
			case <-ctx.Done():
			}
		}
	}
}

// once runs the handler one time and returns its exit code.
func (w *worker) once(ctx context.Context) int {
	// On Linux the handler dies with the thread that started it, so the thread
	// stays for as long as the handler does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	port, err := freePort()
	if err != nil {
		w.log.Error("there is no free port for the handler", "error", err)
		return 1
	}
	id := uuid.NewString()
	cmd := exec.Command(w.cfg.Handler[0], w.cfg.Handler[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.cfg.Dir, w.cfg.Output, w.cfg.Output
	p := strconv.Itoa(port)
	cmd.Env = environment(w.cfg.Settings, "FUNCTIONS_CUSTOMHANDLER_PORT="+p, "FUNCTIONS_HTTPWORKER_PORT="+p,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id, "FUNCTIONS_HTTPWORKER_ID="+id, "FUNCTIONS_APP_ROOT_PATH="+w.cfg.Dir)
	cmd.SysProcAttr = childAttr()
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.log.Error("the handler cannot be started", "error", err)
		return 1
	}
	defer stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ready := make(chan struct{})
	w.mu.Lock()
	w.cmd, w.portNow = cmd, port
	w.mu.Unlock()
	go w.awaitReady(ctx, port, ready)
	var result error
	select {
	case result = <-ended:
	case <-ready:
		w.mu.Lock()
		close(w.ready)
		w.mu.Unlock()
		result = w.await(ctx, cmd, ended)
		w.mu.Lock()
		w.ready = make(chan struct{})
		w.mu.Unlock()
	case <-time.After(readyWithin):
		w.log.Error("the handler did not answer in time", "within", readyWithin)
		cmd.Process.Kill()
		result = <-ended
	case <-ctx.Done():
		result = w.await(ctx, cmd, ended)
	}
	w.mu.Lock()
	w.cmd = nil
	w.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case result == nil:
		return 0
	case errors.As(result, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	return 137 // by a signal
}

// await waits for the handler's end, or ends it when ctx does: a request first,
// then the end that the real host gives at once.
func (w *worker) await(ctx context.Context, cmd *exec.Cmd, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(termGrace):
		cmd.Process.Kill()
		return <-ended
	}
}

// awaitReady asks until the handler answers anything at all.
func (w *worker) awaitReady(ctx context.Context, port int, ready chan<- struct{}) {
	client := &http.Client{Timeout: time.Second}
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for until := time.Now().Add(readyWithin); time.Now().Before(until); {
		if r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
			r.Body.Close()
			close(ready)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// port waits for the handler and returns its port.
func (w *worker) port(ctx context.Context) (int, error) {
	for {
		w.mu.Lock()
		ready, port, stopped := w.ready, w.portNow, w.stopped
		w.mu.Unlock()
		if stopped {
			return 0, errors.New("the handler has ended with exit code 0 and is not started again")
		}
		select {
		case <-ready:
			return port, nil
		default:
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (w *worker) pid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd == nil || w.cmd.Process == nil {
		return 0
	}
	return w.cmd.Process.Pid
}

// kill ends the handler, as the host does when a function has timed out.
func (w *worker) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil && w.cmd.Process != nil {
		w.cmd.Process.Kill()
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
