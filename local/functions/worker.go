package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"dsvmpools/shared/invoke"
)

// Times and codes of the handler's life, as the real host has them.
const (
	readyEvery  = 25 * time.Millisecond // between questions whether the handler is up
	exitRestart = 200                   // of a handler that asks to be started anew
	// killedCode stands for an end by a signal, which has no exit code.
	killedCode = 137
	// pipeTime is how long the output of a handler that has ended may still be
	// held open by processes that it left behind.
	pipeTime = time.Second
)

// errExited is why invocations fail after the handler ended with 0.
var errExited = errors.New("the handler ended with exit code 0, and the host does not start it again; it must end so only after a signal")

// errNoStart is a handler that is no program, or not there.
var errNoStart = errors.New("the handler cannot be started")

// worker is the handler process, and what is known of it.
type worker struct {
	cfg         Config
	argv        []string
	initialTime time.Duration
	log         *slog.Logger
	output      *output

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed with each change of state
}

// state of the handler. Only what one of the first three says about the future
// is certain; a process may have died a moment ago.
type state struct {
	ready   bool // it has answered
	exited  bool // it ended with 0: nothing starts it again
	failure error
	process *os.Process
	port    int
	secret  string // that it shares with this host; "" = none
	meant   bool   // its end is the host's own doing, and no error
}

func newWorker(cfg Config, argv []string, initialTime time.Duration) *worker {
	return &worker{cfg: cfg, argv: argv, initialTime: initialTime, log: cfg.Log, output: &output{w: cfg.Output}, changed: make(chan struct{})}
}

func (w *worker) set(change func(*state)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.state)
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until the handler answers and returns its port.
func (w *worker) await(ctx context.Context) (int, error) {
	for {
		w.mu.Lock()
		s, changed := w.state, w.changed
		w.mu.Unlock()
		switch {
		case s.failure != nil:
			return 0, s.failure
		case s.exited:
			return 0, errExited
		case s.ready:
			return s.port, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (w *worker) pid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.process == nil {
		return 0
	}
	return w.state.process.Pid
}

// restart kills the handler, as the host does when a function has timed out.
// Everything else that it is doing dies with it; the exit is not counted.
func (w *worker) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.process != nil {
		w.state.meant = true
		kill(w.state.process)
	}
}

// run keeps the handler running until ctx ends, by the host's rules: exit code
// 200 asks for a new start, any other but 0 is an error and starts anew too, and
// the last error of those allowed ends the host (or, if so configured, has it
// pause). After 0 nothing happens any more.
func (w *worker) run(ctx context.Context) error {
	errorsSoFar, last := 0, time.Time{}
	for ctx.Err() == nil {
		code, meant, err := w.runOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && (meant || code == exitRestart):
			w.log.Info("restarting handler", "exitCode", code)
			continue
		case err == nil && code == 0:
			w.log.Error(errExited.Error())
			w.set(func(s *state) { s.exited = true })
			<-ctx.Done()
			return nil
		case err == nil:
			err = fmt.Errorf("the handler ended with exit code %d%s", code, w.output.quote())
		}
		if w.cfg.Real && errors.Is(err, errNoStart) {
			// The real host tries once, says that it runs, and lets everything wait.
			w.log.Error("handler failed", "error", err)
			pause(ctx, w.cfg.Hang)
			w.set(func(s *state) { s.failure = err })
			pause(ctx, w.cfg.Linger)
			return err
		}
		now := time.Now()
		if now.Sub(last) > w.cfg.ErrorWindow {
			errorsSoFar = 0
		}
		errorsSoFar, last = errorsSoFar+1, now
		w.log.Error("handler failed", "error", err, "count", errorsSoFar, "limit", w.cfg.MaxErrors)
		if errorsSoFar < w.cfg.MaxErrors {
			continue
		}
		if w.cfg.RestartPause < 0 {
			err = fmt.Errorf("the Functions host has stopped: the handler failed %d times: %w", errorsSoFar, err)
			if w.cfg.Real { // what triggers take meanwhile waits
				w.log.Error("Exceeded http worker restart retry count for function host. Shutting down the host.", "error", err)
				pause(ctx, w.cfg.Linger)
			}
			w.set(func(s *state) { s.failure = err })
			return err
		}
		w.log.Warn("pausing before the next restart, where the real host would stop", "pause", w.cfg.RestartPause)
		errorsSoFar = 0
		pause(ctx, w.cfg.RestartPause)
	}
	return nil
}

// runOnce runs the handler one time and returns how it ended; an error says that
// it could not be started, or never answered.
func (w *worker) runOnce(ctx context.Context) (code int, meant bool, err error) {
	if err := w.injectStartFailure(ctx); err != nil {
		return 0, false, err
	}
	port, err := freePort()
	if err != nil {
		return 0, false, fmt.Errorf("there is no port for the handler: %w", err)
	}
	cmd, stdin, secret, err := w.start(port)
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", errNoStart, err)
	}
	defer stdin.Close()
	w.set(func(s *state) { *s = state{process: cmd.Process, port: port, secret: secret} })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the process state says more
	}()
	answered := make(chan struct{})
	asking, stopAsking := context.WithTimeout(ctx, w.initialTime)
	defer stopAsking()
	go func() {
		if secret == "" && awaitAnswer(asking, port) || secret != "" && awaitProof(asking, port, secret) {
			close(answered)
		}
	}()
	select {
	case <-answered:
		w.set(func(s *state) { s.ready = true })
		select {
		case <-ended:
		case <-ctx.Done():
			w.end(cmd.Process, ended)
		}
	case <-ended:
	case <-asking.Done():
		if ctx.Err() == nil {
			err = fmt.Errorf("the handler did not answer GET / on its port within %s of its start", w.initialTime)
			kill(cmd.Process)
		} else {
			w.end(cmd.Process, ended)
		}
	}
	<-ended
	w.set(func(s *state) { meant, *s = s.meant, state{} })
	w.output.flush()
	code = cmd.ProcessState.ExitCode()
	if code < 0 {
		code = killedCode
	}
	return code, meant, err
}

// start starts the handler, which is to listen on port.
func (w *worker) start(port int) (*exec.Cmd, io.Closer, string, error) {
	p, id := strconv.Itoa(port), uuid.NewString()
	cmd := exec.Command(w.argv[0], w.argv[1:]...)
	cmd.Dir, cmd.WaitDelay, cmd.SysProcAttr = w.cfg.Dir, pipeTime, attributes()
	cmd.Stdout, cmd.Stderr = w.output.stream(false), w.output.stream(true)
	cmd.Env = os.Environ()
	for name, value := range w.cfg.Settings {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, w.cfg.Env...)
	cmd.Env = append(cmd.Env, invoke.PortSetting+"="+p, "FUNCTIONS_HTTPWORKER_PORT="+p,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id, "FUNCTIONS_HTTPWORKER_ID="+id, "FUNCTIONS_APP_ROOT_PATH="+w.cfg.Dir)
	// Standard input is never written to; its end tells a handler that cares
	// that the host is gone.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, "", err
	}
	secret, file, err := w.shareSecret(cmd)
	if err != nil {
		return nil, nil, "", err
	}
	defer file.Close()
	return cmd, stdin, secret, cmd.Start()
}

// end asks the handler to end, and ends it when it takes too long.
func (w *worker) end(p *os.Process, ended <-chan struct{}) {
	if w.cfg.TermGrace > 0 && terminate(p) == nil {
		select {
		case <-ended:
			return
		case <-time.After(w.cfg.TermGrace):
		}
	}
	kill(p)
	<-ended
}

// awaitAnswer asks until the handler answers anything at all, or ctx ends.
func awaitAnswer(ctx context.Context, port int) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
		if err != nil {
			return false
		}
		if reply, err := client.Do(r); err == nil {
			reply.Body.Close()
			return true
		}
		pause(ctx, readyEvery)
	}
	return false
}

// freePort finds a port that nobody listens on. Another process may take it
// before the handler does; the handler then fails and is started on another one.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
