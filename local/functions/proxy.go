package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/invoke"
)

// The real host sends a request again when the connection to the handler breaks before
// a reply: in rounds, with pauses between them of two seconds in all. Within a round its
// client repeats requests that it considers harmless. A request with a body is sent
// again only when nothing of it has been sent.
const (
	rounds      = 10
	perRound    = 4 // of a GET, DELETE and the like without a body: 40 in all
	roundPause  = 50 * time.Millisecond
	roundLonger = 250 * time.Millisecond
)

// tracing are the headers of a trace. The proxy never passes them on unchanged.
var tracing = []string{"Traceparent", "Tracestate", "Request-Id", "Baggage", "Correlation-Context"}

// forward passes a request on as it is, streaming both ways. path is the clean one.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, f *function, path string) {
	id := uuid.NewString()
	body := &requestBody{ReadCloser: http.MaxBytesReader(w, r.Body, maxRequest)}
	r.Body = body
	// The proxy leaves it open. With a full duplex the server would then read what is
	// left after it has begun to wait for the next request, and panic over the two.
	defer r.Body.Close()
	_ = http.NewResponseController(w).EnableFullDuplex() // else the answer would wait for the end of the request
	passing := &passing{h: h, f: f, bodyless: r.ContentLength == 0}
	if h.timeout > 0 {
		timer := time.AfterFunc(h.timeout, func() {
			h.log.Error("request timed out; restarting handler, which ends all its work",
				"function", f.name, "invocation", id, "timeout", h.timeout)
			passing.timedOut.Store(true)
			h.worker.restart()
		})
		defer timer.Stop()
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, // at once
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		Transport:     passing,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "handler" // passing knows where it is
			p.Out.URL.Path, p.Out.URL.RawPath = path, encodePath(path)
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Host = "" // the handler's own address; what the client named is in X-Forwarded-Host
			p.SetXForwarded()
			for _, name := range tracing {
				p.Out.Header.Del(name)
			}
			if h.isTraced() {
				p.Out.Header.Set("traceparent", traceparent(p.In.Header.Get("traceparent")))
			}
			p.Out.Header.Set(invoke.HeaderHostVersion, hostVersion)
			p.Out.Header.Set(invoke.HeaderInvocation, id)
			p.Out.Header.Set("x-ms-invocation-id", id)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if unread := body.failure.Load(); unread != nil {
				refuseBody(w, *unread)
				return
			}
			// Somebody may still be reading the request's body, so its connection
			// cannot take the next one.
			w.Header().Set("Connection", "close")
			if r.Context().Err() != nil { // nobody waits for the answer
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			h.log.Warn("request not passed on",
				"function", f.name, "invocation", id, "method", r.Method, "path", r.URL.Path, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
		},
	}
	proxy.ServeHTTP(w, r)
}

// requestBody records why the body of a request could not be read to its end. A
// handler that breaks its connection gives an error of the same kind.
type requestBody struct {
	io.ReadCloser
	failure atomic.Pointer[error]
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failure.CompareAndSwap(nil, &err)
	}
	return n, err
}

// passing sends one request to the handler wherever it listens, as often as the
// real host does.
type passing struct {
	h        *Host
	f        *function
	bodyless bool
	timedOut atomic.Bool
}

// isRepeatable reports whether the real host's client repeats a request by itself.
func (p *passing) isRepeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		return p.bodyless
	}
	return false
}

func (p *passing) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(p.h.ctx, cancel) // the host's end ends the wait
	defer func() { stop(); cancel() }()
	times := 1
	if p.isRepeatable(r.Method) {
		times = perRound
	}
	var err error
	for round := range rounds {
		for range times {
			var reply *http.Response
			if reply, err = p.sendOnce(ctx, r); err == nil {
				return reply, nil
			}
			var connect *net.OpError
			unsent := errors.As(err, &connect) && connect.Op == "dial" || errors.Is(err, errExited)
			switch {
			case p.timedOut.Load():
				if p.bodyless {
					p.sendToNextHandler(r)
				}
				return nil, errTimedOut
			case ctx.Err() != nil, errors.Is(err, errRefused), !p.bodyless && !unsent:
				return nil, err
			}
			if unsent {
				break // nobody listens: the pause comes first
			}
		}
		if round < rounds-1 {
			pause(ctx, min(roundPause*time.Duration(round+1), roundLonger))
		}
	}
	return nil, err
}

// sendOnce sends the request one time, unless an injection makes it fail.
func (p *passing) sendOnce(ctx context.Context, r *http.Request) (*http.Response, error) {
	action := p.h.injectFailure(ctx, p.f.name)
	if action == chaos.Refuse {
		return nil, errRefused
	}
	port, err := p.h.worker.await(ctx)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	out.URL.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p.h.worker.sign(out.Header, port)
	if action == chaos.Disconnect {
		out.Host = out.URL.Host
		return nil, errors.Join(errCut, sendPart(ctx, port, out, nil))
	}
	if out.Body != nil {
		out.Body = io.NopCloser(out.Body) // the next try needs it
	}
	reply, err := p.h.transport.RoundTrip(out)
	if err == nil && action == chaos.Lose {
		_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, maxReply))
		reply.Body.Close()
		return nil, errLost
	}
	return reply, err
}

// sendToNextHandler sends a request that has timed out to the next handler, as the
// repeats of the real host do, although nobody waits for its answer.
func (p *passing) sendToNextHandler(r *http.Request) {
	ctx, cancel := context.WithTimeout(p.h.ctx, p.h.timeout)
	out := r.Clone(ctx)
	p.h.wg.Go(func() {
		defer cancel()
		for range rounds { // the death of the last one may not have been noticed yet
			port, err := p.h.worker.await(ctx)
			if err != nil {
				return
			}
			out.URL.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			p.h.worker.sign(out.Header, port)
			if reply, err := p.h.transport.RoundTrip(out); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, maxReply))
				reply.Body.Close()
				return
			}
			pause(ctx, roundPause)
		}
	})
}

// isTraced reports whether requests carry a trace: the real host has one only with
// Application Insights.
func (h *Host) isTraced() bool {
	return h.cfg.Settings["APPLICATIONINSIGHTS_CONNECTION_STRING"] != "" || h.cfg.Settings["APPINSIGHTS_INSTRUMENTATIONKEY"] != ""
}

// traceparent is a span that nobody samples, of the trace that came, or of a new one.
func traceparent(came string) string {
	trace, span := uuid.New(), uuid.New()
	id := fmt.Sprintf("%x", trace[:])
	if parts := strings.Split(came, "-"); len(parts) == 4 && len(parts[1]) == len(id) && strings.Trim(parts[1], "0123456789abcdef") == "" {
		id = parts[1]
	}
	return fmt.Sprintf("00-%s-%x-00", id, span[:8])
}
