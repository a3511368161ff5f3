package outbound

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// headerTimeout bounds how long a program may take to say whom it wants.
const headerTimeout = 10 * time.Second

// Gate is a proxy on loopback for a program that connects by itself, such as git. The
// gate looks names up, and every connection goes through the guard. A program needs the
// URL of the gate to use it.
type Gate struct {
	guard    Guard
	upstream func(*url.URL) (*url.URL, error)
	listener net.Listener
	server   *http.Server
	key      string
	ctx      context.Context // ends with the gate, and with it what goes through
	end      context.CancelFunc

	mu  sync.Mutex
	err error
}

// Open opens a gate. upstream says which proxy an address is reached by, as
// httpproxy.Config does; one that is reached by a proxy is judged by its name alone,
// since the proxy looks it up.
func Open(guard Guard, upstream func(*url.URL) (*url.URL, error)) (*Gate, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("no port of this machine can be listened on: %w", err)
	}
	g := &Gate{guard: guard, upstream: upstream, listener: l, key: rand.Text()}
	g.ctx, g.end = context.WithCancel(context.Background())
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: headerTimeout}
	go g.server.Serve(l)
	return g, nil
}

// URL is the address of the gate for a program. It holds the key.
func (g *Gate) URL() string { return "http://gate:" + g.key + "@" + g.listener.Addr().String() }

// Close closes the gate and all that goes through it.
func (g *Gate) Close() error {
	g.end()
	return g.server.Close()
}

// Take returns why the gate has let nothing through since it was asked last: a
// *RefusedError when there was one, else what kept it from connecting; nil = nothing.
func (g *Gate) Take() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.err
	g.err = nil
	return err
}

// Refused reports whether an address was refused since Take was called last.
func (g *Gate) Refused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	var r *RefusedError
	return errors.As(g.err, &r)
}

func (g *Gate) note(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if refused := (*RefusedError)(nil); g.err == nil || errors.As(err, &refused) {
		g.err = err
	}
}

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("gate:"+g.key))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		w.Header().Set("Proxy-Authenticate", `Basic realm="gate"`)
		http.Error(w, "the gate has a key", http.StatusProxyAuthRequired)
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		g.connect(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		g.forward(w, r)
	default:
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	}
}

// connect joins two connections until one of them ends.
func (g *Gate) connect(w http.ResponseWriter, r *http.Request) {
	there, err := g.dial(r.Context(), r.Host)
	if err != nil {
		g.note(err)
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, ready, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	stop := context.AfterFunc(g.ctx, func() {
		here.Close()
		there.Close()
	})
	defer stop()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	pass := func(to net.Conn, from io.Reader) {
		io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite() // the other way may go on
		} else {
			to.Close()
		}
		done <- struct{}{}
	}
	go pass(there, ready)
	go pass(here, there)
	<-done
	<-done
}

// forward hands a request of plain http on.
func (g *Gate) forward(w http.ResponseWriter, r *http.Request) {
	direct := &http.Transport{DialContext: g.guard.DialContext, DisableKeepAlives: true, DisableCompression: true}
	through := &http.Transport{
		Proxy:              func(r *http.Request) (*url.URL, error) { return g.upstream(r.URL) },
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
	proxy := httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(*httputil.ProxyRequest) {},
		Transport: &transport{
			guard:   g.guard,
			direct:  direct,
			through: through,
			proxy:   func(r *http.Request) (*url.URL, error) { return g.upstream(r.URL) },
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			g.note(err)
			w.WriteHeader(http.StatusBadGateway)
		}}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// dial connects to an address, or has the proxy do it.
func (g *Gate) dial(ctx context.Context, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	proxy, err := g.upstream(&url.URL{Scheme: "https", Host: address})
	switch {
	case err != nil:
		return nil, err
	case proxy == nil:
		return g.guard.DialContext(ctx, "tcp", address)
	}
	if err := g.guard.Check(host); err != nil {
		return nil, err
	}
	return tunnel(ctx, proxy, address)
}

// tunnel connects to an address by a proxy.
func tunnel(ctx context.Context, proxy *url.URL, address string) (c net.Conn, err error) {
	ports := map[string]string{"http": "80", "https": "443"}
	port := proxy.Port()
	if port == "" {
		port = ports[proxy.Scheme]
	}
	if ports[proxy.Scheme] == "" {
		return nil, fmt.Errorf("the proxy is %s://, and only http:// and https:// are spoken; correct HTTPS_PROXY", proxy.Scheme)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if c, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port)); err != nil {
		return nil, fmt.Errorf("the proxy cannot be reached: %w", err)
	}
	opened := c
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if proxy.Scheme == "https" {
		secure := tls.Client(c, &tls.Config{ServerName: proxy.Hostname()})
		if err = secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("the proxy cannot be trusted: %w", err)
		}
		c = secure
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if password, ok := proxy.User.Password(); ok {
		ask.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	if err = ask.Write(c); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(c)
	answer, err := http.ReadResponse(reader, ask)
	if err != nil {
		return nil, fmt.Errorf("the proxy does not answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the proxy answers %d", answer.StatusCode)
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return &buffered{c, reader}, nil
}

// buffered is a connection from which some bytes were read already.
type buffered struct {
	net.Conn
	reader *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.reader.Read(p) }
