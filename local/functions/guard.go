package functions

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/invoke"
)

// secretFile is the descriptor of the first extra file in a child process.
const secretFile = 3

// proofTime bounds one question to the handler.
const proofTime = time.Second

// guardPages refuses requests from web pages and bodies that arrive too slowly. The real
// host does neither: nobody browses and no jobs run on its machine.
func (h *Host) guardPages(next http.Handler) http.Handler {
	if !h.cfg.Guard {
		return next
	}
	entrance := door.Door{Hosts: h.cfg.Hosts, Pages: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = intake.Keep(w, r, intake.Usual)
		why := entrance.Check(r)
		if _, admin := cutFold(r.URL.Path, "/admin/"); admin && why == nil {
			why = door.PlainBody(r)
		}
		if why != nil {
			why.Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// shareSecret gives a new secret to a handler that is not started yet, through a pipe:
// other users may read its environment and arguments. The caller closes the file after
// it has started the handler.
func (w *worker) shareSecret(cmd *exec.Cmd) (secret string, file *os.File, err error) {
	if !w.cfg.Guard {
		return "", nil, nil
	}
	file, in, err := os.Pipe()
	if err != nil {
		return "", nil, fmt.Errorf("the handler's secret cannot be handed over: %w", err)
	}
	defer in.Close()
	secret = rand.Text()
	if _, err := io.WriteString(in, secret); err != nil { // far less than a pipe holds
		file.Close()
		return "", nil, fmt.Errorf("the handler's secret cannot be handed over: %w", err)
	}
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", invoke.SecretSetting, secretFile))
	return secret, file, nil
}

// sign adds the secret to a request for the handler at this port. A program that listens
// on the port of an earlier handler gets no secret.
func (w *worker) sign(header http.Header, port int) {
	w.mu.Lock()
	s := w.state
	w.mu.Unlock()
	header.Del(invoke.HeaderSecret) // the client may have set one
	if s.secret != "" && s.port == port {
		header.Set(invoke.HeaderSecret, s.secret)
	}
}

// awaitProof asks until the handler proves that it has the secret, or ctx ends. A handler
// that cannot listen on its port ends by itself.
func awaitProof(ctx context.Context, port int, secret string) bool {
	client := &http.Client{Timeout: proofTime, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, handlerURL(port)+"/", nil)
		if err != nil {
			return false
		}
		question := rand.Text()
		r.Header.Set(invoke.HeaderQuestion, question)
		if reply, err := client.Do(r); err == nil {
			reply.Body.Close()
			if hmac.Equal([]byte(reply.Header.Get(invoke.HeaderProof)), []byte(invoke.Prove(secret, question))) {
				return true
			}
		}
		pause(ctx, readyEvery)
	}
	return false
}
