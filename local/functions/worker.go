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

// Times and exit codes of the handler, as in the real host.
const (
	readyEvery  = 25 * time.Millisecond // between requests that check whether the handler answers
	exitRestart = 200                   // of a handler that asks for a restart
	// killedCode replaces the exit code of a handler that a signal ended.
	killedCode = 137
	// pipeTime is how long processes that a handler has left may keep its output open after
	// its end.
	pipeTime = time.Second
)

// errExited is the error of invocations after the handler ended with 0.
var errExited = errors.New("the handler ended with exit code 0, and the host does not start it again; it must end so only after a signal")

// errNoStart is the error of a handler that does not exist or is not executable.
var errNoStart = errors.New("the handler cannot be started")

// worker runs the handler process and holds its state.
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

// state is the state of the handler. exited and failure are final. ready may be wrong for a
// moment after the process died.
type state struct {
	ready    bool  // it has answered a request
	exited   bool  // it ended with 0, and the host does not start it again
	failure  error // the error with which the host gave up on the handler
	pausing  error // the last of the errors after which the host pauses; nil = it does not
	process  *os.Process
	port     int
	secret   string // shared with this host; "" = none
	isKilled bool   // the host has killed it, so its end is not an error
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

// await waits until the handler answers and returns its port. Who is not patient does not wait for
// a handler that has failed so often that the host pauses.
func (w *worker) await(ctx context.Context, isPatient bool) (int, error) {
	for {
		w.mu.Lock()
		s, changed := w.state, w.changed
		w.mu.Unlock()
		switch {
		case s.failure != nil:
			return 0, s.failure
		case s.pausing != nil && !isPatient:
			return 0, s.pausing
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

// restart kills the handler after a function has timed out, which also ends all other
// invocations. run then starts it again, and does not count the exit as an error.
func (w *worker) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.process != nil {
		w.state.isKilled = true
		kill(w.state.process)
	}
}

// run keeps the handler running until ctx ends, as the real host does. After exit code 200
// it starts the handler again. Another code except 0 is an error: it starts the handler
// again too, but after MaxErrors errors it returns, or pauses if so configured. After 0 it
// only waits.
func (w *worker) run(ctx context.Context) error {
	errorsSoFar, last := 0, time.Time{}
	for ctx.Err() == nil {
		code, isKilled, err := w.runOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && (isKilled || code == exitRestart):
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
			// The real host tries once, reports that it runs, and lets everything wait.
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
			if w.cfg.Real { // meanwhile, invocations wait
				w.log.Error("Exceeded http worker restart retry count for function host. Shutting down the host.", "error", err)
				pause(ctx, w.cfg.Linger)
			}
			w.set(func(s *state) { s.failure = err })
			return err
		}
		w.log.Warn("pausing before the next restart; the real host would stop here", "pause", w.cfg.RestartPause)
		errorsSoFar = 0
		w.set(func(s *state) { s.pausing = err })
		pause(ctx, w.cfg.RestartPause)
	}
	return nil
}

// runOnce runs the handler one time. It returns the exit code, and whether the host has
// killed the handler; or an error if the handler could not be started or never answered.
func (w *worker) runOnce(ctx context.Context) (code int, isKilled bool, err error) {
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
		_ = cmd.Wait() // the process state has the exit code
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
	w.set(func(s *state) { isKilled, *s = s.isKilled, state{} })
	w.output.flush()
	code = cmd.ProcessState.ExitCode()
	if code < 0 {
		code = killedCode
	}
	return code, isKilled, err
}

// start starts the handler, which must listen on port.
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
	// The host never writes to standard input. Its end shows the handler that the host has
	// ended.
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

// end asks the handler to end, and kills it after TermGrace.
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

// awaitAnswer sends requests until the handler answers one, or ctx ends.
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
