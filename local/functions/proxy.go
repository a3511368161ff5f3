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
	"sync"
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

// forward passes a request on to the handler and streams both bodies. path comes from
// cleanPath.
func (h *Host) forward(w http.ResponseWriter, r *http.Request, f *function, path string) {
	id := uuid.NewString()
	body := &requestBody{ReadCloser: http.MaxBytesReader(w, r.Body, maxRequest)}
	// The server's own request keeps its body: from that the server sees that a rest is
	// unread, which it would otherwise take for the next request.
	r = r.WithContext(r.Context())
	r.Body = body
	// The proxy does not close the body. In full duplex mode the server would read the rest
	// while it already waits for the next request, and panic.
	defer r.Body.Close()
	_ = http.NewResponseController(w).EnableFullDuplex() // so that the answer need not wait for the end of the request
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
		BufferPool:    &answerBuffers,
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		Transport:     passing,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "handler" // passing fills in the address
			p.Out.URL.Path, p.Out.URL.RawPath = path, encodePath(path)
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Host = "" // the handler's address; X-Forwarded-Host has the name that the client sent
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
			// The transport may still be reading the request's body, so the connection
			// cannot be used for another request.
			w.Header().Set("Connection", "close")
			if r.Context().Err() != nil { // nobody waits for the answer
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			h.log.Warn("passing on request failed",
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

// passing sends one request to the port of the current handler, with as many tries as the
// real host makes.
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
	stop := context.AfterFunc(p.h.ctx, cancel) // the end of the host ends the wait
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
	port, err := p.h.worker.await(ctx, true)
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

// sendToNextHandler sends a request that has timed out to the next handler, although nobody
// waits for its answer. The real host's repeated tries have this effect.
func (p *passing) sendToNextHandler(r *http.Request) {
	ctx, cancel := context.WithTimeout(p.h.ctx, p.h.timeout)
	out := r.Clone(ctx)
	p.h.wg.Go(func() {
		defer cancel()
		for range rounds { // the worker may not have noticed yet that the last handler died
			port, err := p.h.worker.await(ctx, true)
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

// isTraced reports whether requests get a trace. In the real host they do only with
// Application Insights.
func (h *Host) isTraced() bool {
	return h.cfg.Settings["APPLICATIONINSIGHTS_CONNECTION_STRING"] != "" || h.cfg.Settings["APPINSIGHTS_INSTRUMENTATIONKEY"] != ""
}

// traceparent returns an unsampled span of the trace in a request's traceparent, or of a new
// trace.
func traceparent(received string) string {
	trace, span := uuid.New(), uuid.New()
	id := fmt.Sprintf("%x", trace[:])
	if parts := strings.Split(received, "-"); len(parts) == 4 && len(parts[1]) == len(id) && strings.Trim(parts[1], "0123456789abcdef") == "" {
		id = parts[1]
	}
	return fmt.Sprintf("00-%s-%x-00", id, span[:8])
}

// answerBuffers are the buffers through which answers of the handler pass. Each is as large
// as that of a ReverseProxy without a pool, and they are used again.
var answerBuffers = bufferPool{sync.Pool{New: func() any { return new([answerBuffer]byte) }}}

const answerBuffer = 32 << 10

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte { return p.pool.Get().(*[answerBuffer]byte)[:] }

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[answerBuffer]byte)(b)) }
