package door

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"dsvmpools/agent/process"
)

// loginPage posts the ticket in its fragment, once a person has agreed.
//
//go:embed login.html
var loginPage string

// pageRate bounds what strangers get, who name no session that is here: so many answers of a
// session per minute. Who names one always gets the page for tickets and a look at the ticket:
// strangers must not shut them out. That costs less than a refusal that somebody asks for again.
const pageRate = 60

// web is the way of browsers to a session's JupyterLab. Before the cookie it has a page for
// tickets and nothing else.
type web struct {
	s       *session
	key     []byte
	entity  string // "lab-3-web"
	origin  string // of its pages: https://NAMESPACE
	tickets tickets
	lab     *http.Transport
	proxy   *httputil.ReverseProxy
	policy  string // of the page's content

	mu     sync.Mutex
	minute time.Time
	tries  int
	jar    map[cookie]string // JupyterLab's own cookies: no browser has them
}

func newWeb(s *session, key []byte) *web {
	w := &web{s: s, key: key, tickets: tickets{began: time.Now(), used: map[string]time.Time{}}, jar: map[cookie]string{}}
	if base := s.file.Load().WebBase; base != "" {
		w.entity, w.origin = base, gateOrigin
	} else if u, err := url.Parse(s.file.Load().WebURL); err == nil {
		w.entity = strings.Trim(strings.TrimPrefix(u.Path, "/$hc/"), "/")
		w.origin = strings.Replace(u.Scheme, "ws", "http", 1) + "://" + u.Host
	}
	w.lab = &http.Transport{DialContext: w.dialLab, MaxIdleConns: 20, IdleConnTimeout: time.Minute, DisableCompression: true}
	w.proxy = &httputil.ReverseProxy{
		Transport:      w.lab,
		Rewrite:        w.rewrite,
		ModifyResponse: w.change,
		ErrorLog:       log.New(io.Discard, "", 0),
		// 502 and 504 are the relay's own.
		ErrorHandler: func(out http.ResponseWriter, r *http.Request, _ error) {
			if !w.sendToHub(out, r) {
				w.askToWait(out, r)
			}
		},
	}
	script := loginPage[strings.Index(loginPage, "<script>")+len("<script>") : strings.Index(loginPage, "</script>")]
	sum := sha256.Sum256([]byte(script))
	w.policy = "default-src 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return w
}

// askToWait answers while nothing listens at the socket that a request is for. A page asks again.
func (w *web) askToWait(out http.ResponseWriter, r *http.Request) {
	what := "JupyterLab"
	if w.labPrefix() != "" && w.hostOf(r.URL.Path) == hubHost {
		what = "JupyterHub"
	}
	if w.isWanted(r) {
		out.Header().Set("Refresh", "3")
		refuse(out, http.StatusServiceUnavailable, what+" does not answer yet; this page asks again every 3 seconds")
		return
	}
	refuse(out, http.StatusServiceUnavailable, what+" does not answer; reload the page in a moment")
}

// dialLab connects to the socket of JupyterLab, or of JupyterHub by the name hubHost, if a process of the session's user listens there:
// the folder is the user's, who could have the door, which is root, speak to another socket.
func (w *web) dialLab(ctx context.Context, _, host string) (net.Conn, error) {
	f := w.s.file.Load()
	at := f.Lab
	if strings.HasPrefix(host, hubHost+":") {
		at = f.Hub
	}
	network, address, err := target(at)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := process.CheckPeer(c, f.UID); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// answer answers one request of a browser.
func (w *web) answer(out http.ResponseWriter, r *http.Request, v visitor) {
	header := out.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "SAMEORIGIN")
	rest, isHere := strings.CutPrefix(r.URL.Path, "/"+w.entity+"/")
	if !isHere || !w.isOwn(r.Header, r.Method) {
		refuse(out, http.StatusForbidden, "this is not for pages of other sites")
		return
	}
	isIn := w.isIn(r.Header)
	if isLogin := v.isGuest && rest == loginPath; !isIn && !isLogin && !w.mayTry() {
		header.Set("Retry-After", "60")
		refuse(out, http.StatusTooManyRequests, "too many tries; try again in a minute")
		return
	}
	switch {
	case rest == loginPath && r.Method == http.MethodGet:
		header.Set("Content-Security-Policy", w.policy)
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "same-origin")
		_, _ = io.WriteString(out, loginPage)
	case rest == loginPath && r.Method == http.MethodPost:
		w.login(out, v.ticket)
	case !isIn:
		refuse(out, http.StatusForbidden, "open this session with `dsvm jupyter`, which makes a ticket for it")
	case rest == scriptPath && r.Method == http.MethodGet:
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("Cache-Control", "private, max-age=3600")
		_, _ = out.Write(noticeScript)
	case rest == noticePath && r.Method == http.MethodGet:
		w.s.watch()
		w.tell(out)
	case rest == herePath && r.Method == http.MethodPost:
		w.s.watch()
		w.s.input()
		w.tell(out)
	case rest == "dsvm/socket" && r.Method == http.MethodPost:
		// A second answer, since the relay carries one cookie in each.
		w.setCookie(out, "/$hc/"+w.entity+"/")
	case strings.HasPrefix(rest, "dsvm/"):
		refuse(out, http.StatusNotFound, "there is no such page")
	case w.leadToHub(out, r, rest):
	default:
		w.pass(out, r, rest)
	}
}

// loginPath is the page for tickets, behind the entity's name.
const loginPath = "dsvm/login"

// sayGoodbye tells a browser that is in why the session has ended, and all others that they
// cannot come in.
func (w *web) sayGoodbye(out http.ResponseWriter, r *http.Request, why error) {
	isNotice := r.URL.Path == "/"+w.entity+"/"+noticePath || r.URL.Path == "/"+w.entity+"/"+herePath
	if w.s.lastWords() != nil && isNotice && w.isOwn(r.Header, r.Method) && w.isIn(r.Header) {
		w.tell(out)
		return
	}
	refuse(out, http.StatusServiceUnavailable, why.Error())
}

// login takes a ticket and gives a cookie for it.
func (w *web) login(out http.ResponseWriter, given string) {
	f := w.s.file.Load()
	if err := w.tickets.take(given, "", f, time.Now()); err != nil {
		refuse(out, http.StatusForbidden, err.Error())
		return
	}
	w.s.log.Info("a browser has come in", "session", f.Session, "user", f.User)
	w.s.input()
	w.setCookie(out, "/"+w.entity+"/")
}

func (w *web) cookieName() string { return "dsvm_" + w.entity }

// setCookie gives the cookie for one path: another node of the namespace does not get it.
func (w *web) setCookie(out http.ResponseWriter, path string) {
	out.Header().Set("Cache-Control", "no-store")
	out.Header().Set("Set-Cookie", fmt.Sprintf("%s=%s; Path=%s; Max-Age=%d; Secure; HttpOnly; SameSite=Strict",
		w.cookieName(), makeCookie(w.key, w.s.file.Load(), time.Now()), path, int(cookieLife/time.Second)))
	out.WriteHeader(http.StatusNoContent)
}

// isIn reports whether a browser has a cookie that is good for the session.
func (w *web) isIn(h http.Header) bool {
	cookies := (&http.Request{Header: http.Header{"Cookie": h.Values("Cookie")}}).CookiesNamed(w.cookieName())
	for _, c := range cookies {
		if isCookie(c.Value, w.key, w.s.file.Load(), time.Now()) {
			return true
		}
	}
	return false
}

// isOwn reports whether a request comes from a page of the namespace, or from an address that a
// person has opened.
func (w *web) isOwn(h http.Header, method string) bool {
	if origin := h.Get("Origin"); origin != "" && origin != w.origin {
		return false
	}
	switch h.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return method == http.MethodGet && h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
}

// mayTry counts a request of a stranger.
func (w *web) mayTry() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.minute) > time.Minute {
		w.minute, w.tries = now, 0
	}
	w.tries++
	return w.tries <= pageRate
}

// count counts bytes of browsers that come by the relay, where they are paid for.
func (w *web) count(n int) {
	if w.s.file.Load().WebBase == "" {
		w.s.count(n)
	}
}

// pass passes a request to JupyterLab, and its answer back. rest is its path below the entity.
func (w *web) pass(out http.ResponseWriter, r *http.Request, rest string) {
	if w.isInput(r, rest) {
		w.s.input()
	}
	r.Body = &counted{ReadCloser: r.Body, count: w.count}
	answer := &counting{ResponseWriter: out, count: w.count}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		w.proxy.ServeHTTP(answer, r)
		return
	}
	w.proxy.ServeHTTP(unflushed{answer}, r)
}

// unflushed has no Flush: an answer that is flushed costs a connection at the relay.
type unflushed struct{ http.ResponseWriter }

// rewrite makes a request one that JupyterLab takes from its own machine. Its cookies are those
// of the jar, and its check against other sites is answered by them: the door has made its own.
func (w *web) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", w.hostOf(p.In.URL.Path), "localhost"
	for _, name := range []string{
		"Cookie", "Origin", "Referer", "Authorization",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
	} {
		p.Out.Header.Del(name)
	}
	if w.isWanted(p.In) {
		wholePage(p.Out.Header)
	}
	for name, values := range w.own(p.In.URL.Path) {
		p.Out.Header[name] = values
	}
}

// change changes an answer of JupyterLab's: its cookies stay here, and its pages get the script.
func (w *web) change(r *http.Response) error {
	w.keepCookies(r)
	for _, name := range ofOrigin {
		r.Header.Del(name)
	}
	if r.StatusCode == http.StatusBadGateway || r.StatusCode == http.StatusGatewayTimeout {
		r.StatusCode = http.StatusServiceUnavailable // those two are the relay's own
	}
	if w.isWanted(r.Request) {
		return w.addScript(r)
	}
	return nil
}

// ofOrigin are headers that act on all pages of an origin, which other sessions are in, too:
// what answers here may not use them.
var ofOrigin = []string{
	"Service-Worker-Allowed", "Clear-Site-Data", "Alt-Svc", "Strict-Transport-Security", "Nel", "Report-To", "Reporting-Endpoints",
}

func refuse(out http.ResponseWriter, status int, reason string) {
	out.Header().Set("Cache-Control", "no-store")
	http.Error(out, reason, status)
}

// counting counts what is answered.
type counting struct {
	http.ResponseWriter
	count func(int)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.count(n)
	return n, err
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// counted counts what is asked.
type counted struct {
	io.ReadCloser
	count func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.count(n)
	return n, err
}
