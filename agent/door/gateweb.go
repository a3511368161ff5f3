package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/way"
)

// Browsers come to the gate, too, by TLS on the same port. What they ask for goes to the session
// that their way names, on this node or on another one: the way is in the address of the page for
// tickets, and from then on in a cookie. It only leads; who may come in is said by the ticket and
// by the cookie of the session, which the session's own node gives and looks at.

const (
	// gateOrigin stands for the origin of the gate's own pages. The node does not know the name by
	// which people find it: a page is the gate's own if it is of the host that it asks.
	gateOrigin = "https://gate"
	wayCookie  = "dsvm_way"
	wayQuery   = "way"
	// Bounds of what a browser says before anybody looks at it, and of its silence afterwards.
	headTime  = 10 * time.Second
	restTime  = 2 * time.Minute
	maxHeader = 64 << 10
)

// gateWeb is the gate's part for browsers.
type gateWeb struct {
	gate   *gate
	here   *place // the sessions of this node
	server *http.Server
	inbox  *inbox
	certs  *certificates
	other  *httputil.ReverseProxy // to the doors of other nodes
}

func newGateWeb(g *gate, certs *certificates) *gateWeb {
	w := &gateWeb{gate: g, certs: certs, inbox: newInbox(), here: &place{guests: map[string]*session{}}}
	quiet := log.New(io.Discard, "", 0) // what strangers do is no event
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: headTime,
		IdleTimeout:       restTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quiet,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connOf{}, c)
		},
	}
	w.other = &httputil.ReverseProxy{
		Transport: &http.Transport{DialContext: w.hop, MaxIdleConns: mostOf, IdleConnTimeout: time.Minute, DisableCompression: true},
		Rewrite: func(p *httputil.ProxyRequest) {
			goes, _ := p.In.Context().Value(goesOf{}).(goesBy)
			p.Out.URL.Scheme, p.Out.URL.Host = "http", goes.way.Inside // what is asked there says for which session
			p.Out.Host = p.In.Host
		},
		ErrorLog: quiet,
		ErrorHandler: func(out http.ResponseWriter, _ *http.Request, _ error) {
			refuse(out, http.StatusServiceUnavailable, "the node of this session does not answer; reload the page in a moment")
		},
	}
	g.conns.Go(func() { _ = w.server.Serve(w.inbox) })
	return w
}

// close ends all connections.
func (w *gateWeb) close() { _ = w.server.Close() }

// goesBy is where a request goes. In the context of one that is passed on it is at goesOf; the
// connection of each is at connOf.
type (
	goesBy struct {
		way  way.Way
		text string
	}
	goesOf struct{}
	connOf struct{}
)

// takeTLS answers on a connection that begins as TLS does, and returns when it is closed. heard
// is called when somebody has come by it who has a good way.
func (w *gateWeb) takeTLS(c net.Conn, heard func()) {
	config, err := w.certs.config()
	if err != nil {
		w.gate.log.Error("browsers cannot come in, since the door has no certificate", "error", err)
		return
	}
	secure := tls.Server(c, config)
	ctx, cancel := context.WithTimeout(w.gate.over, headTime)
	defer cancel()
	if secure.HandshakeContext(ctx) == nil {
		w.inbox.give(w.gate.over, &browserConn{Conn: secure, heard: heard})
	}
}

// takeHop is takeTLS for a connection that the door of another node passes on.
func (w *gateWeb) takeHop(c net.Conn) {
	w.inbox.give(w.gate.over, &browserConn{Conn: c, heard: func() {}, isHop: true})
}

// ServeHTTP answers one request, here or by the door of another node.
func (w *gateWeb) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	by, _ := r.Context().Value(connOf{}).(*browserConn)
	if by == nil || by.isHop { // a hop goes no further
		w.answer(out, r)
		return
	}
	// The host by which the browser has come is known here alone.
	switch origin := r.Header.Get("Origin"); origin {
	case "":
	case "https://" + r.Host:
		r.Header.Set("Origin", gateOrigin)
	default:
		refuse(out, http.StatusForbidden, "this is not for pages of other sites")
		return
	}
	goes, isKnown := w.find(r)
	if isKnown {
		by.heard()
	} else {
		out.Header().Set("Connection", "close") // strangers keep none
	}
	if isKnown && w.here.guest(goes.way.Session) == nil {
		w.passOn(out, r, goes)
		return
	}
	w.answer(withWay(out, r, goes), r)
}

// find finds the way of a request: in the address of the page for tickets, or in a cookie.
func (w *gateWeb) find(r *http.Request) (goesBy, bool) {
	var texts []string
	if isLogin(r) {
		texts = append(texts, r.URL.Query().Get(wayQuery))
	}
	for _, c := range r.CookiesNamed(wayCookie) {
		texts = append(texts, c.Value)
	}
	for _, text := range texts {
		if found, err := way.Read(text, w.gate.keys(), time.Now()); err == nil && found.For == way.Web {
			return goesBy{found, text}, true
		}
	}
	return goesBy{}, false
}

func isLogin(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+loginPath) }

// passOn has the door of the session's node answer.
func (w *gateWeb) passOn(out http.ResponseWriter, r *http.Request, goes goesBy) {
	w.gate.mu.Lock()
	inside := w.gate.inside
	w.gate.mu.Unlock()
	if goes.way.Inside == inside || !isNeighbour(goes.way.Inside, inside) {
		refuse(out, http.StatusServiceUnavailable, "this session is not here, or has ended; open one with `dsvm jupyter`")
		return
	}
	if err := w.gate.enterPassing(goes.way.Session); err != nil {
		refuse(out, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer w.gate.leavePassing(goes.way.Session)
	dropCookie(r, wayCookie)
	w.other.ServeHTTP(withWay(out, r, goes), r.WithContext(context.WithValue(r.Context(), goesOf{}, goes)))
}

// hop connects to the door of another node for a request.
func (w *gateWeb) hop(ctx context.Context, _, _ string) (net.Conn, error) {
	goes, ok := ctx.Value(goesOf{}).(goesBy)
	if !ok {
		return nil, errors.New("the request has no way")
	}
	return way.Hop(ctx, goes.way.Inside, goes.text)
}

// answer has the session of this node answer that the browser's cookie, ticket or address is for.
func (w *gateWeb) answer(out http.ResponseWriter, r *http.Request) {
	dropCookie(r, wayCookie)
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.here.takeUpgrade(out, r)
		return
	}
	w.here.ServeHTTP(out, r)
}

// takeUpgrade leads a browser's WebSocket, which has come as a request, to the session that its
// cookie is for.
func (p *place) takeUpgrade(out http.ResponseWriter, r *http.Request) {
	entity, suffix, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	in := knock{
		header: r.Header,
		suffix: "/" + suffix,
		query:  r.URL.RawQuery,
		reject: func(_ context.Context, status int, reason string) error {
			refuse(out, status, reason)
			return nil
		},
		accept: func(_ context.Context, protocol string) (*websocket.Conn, error) {
			options := &websocket.AcceptOptions{InsecureSkipVerify: true} // the door has looked at the origin
			if protocol != "" {
				options.Subprotocols = []string{protocol}
			}
			browser, err := websocket.Accept(out, r, options)
			if err == nil {
				browser.SetReadLimit(-1)
			}
			return browser, err
		},
	}
	s, _ := p.guestOf(r.Header, "")
	if s == nil || s.web.entity != entity {
		_ = in.reject(r.Context(), http.StatusForbidden, "open this session with `dsvm jupyter`")
		return
	}
	ctx, leave, err := s.enter(r.Context())
	if err != nil {
		_ = in.reject(ctx, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer leave()
	s.web.takeSocket(ctx, in)
}

// withWay has the answer to a good ticket, which came by a way, give the cookie of the way.
func withWay(out http.ResponseWriter, r *http.Request, goes goesBy) http.ResponseWriter {
	if r.Method != http.MethodPost || !isLogin(r) || goes.text == "" {
		return out
	}
	c := http.Cookie{
		Name:     wayCookie,
		Value:    goes.text,
		Path:     strings.TrimSuffix(r.URL.Path, loginPath),
		MaxAge:   int(cookieLife / time.Second),
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
	}
	return &wayAnswer{out, c.String()}
}

// wayAnswer is an answer that gives a cookie if it is good.
type wayAnswer struct {
	http.ResponseWriter
	cookie string
}

// WriteHeader begins the answer.
func (a *wayAnswer) WriteHeader(status int) {
	if status == http.StatusNoContent {
		a.Header().Add("Set-Cookie", a.cookie)
	}
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *wayAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// dropCookie takes a cookie out of a request: what leads here is not for the programs of sessions.
func dropCookie(r *http.Request, name string) {
	all := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range all {
		if c.Name != name {
			r.AddCookie(c)
		}
	}
}
