package door

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/intake"
	"dsvmpools/shared/relay"
)

// mostAt is how many connections and requests come to a place at a time, of all its sessions.
const mostAt = 5 * mostOf

// place is where the node listens at the relay for all its sessions. There is one listener at
// it, since the relay gives a sender to any one of those that listen there; who comes says for
// which session.
type place struct {
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	token  string
	closed string              // why nobody gets in; "" = it is open
	guests map[string]*session // by id
}

// openPlace listens at an address until close. web is for browsers.
func openPlace(ctx context.Context, address string, web bool, log *slog.Logger) *place {
	ctx, stop := context.WithCancel(ctx)
	p := &place{stop: stop, done: make(chan struct{}), closed: "the door is being opened", guests: map[string]*session{}}
	l := &relay.Listener{Address: address, Token: p.listenToken, Most: mostAt, Log: log, Socket: p.takeProgram, State: p.say}
	if web {
		l.Socket, l.Request = p.takeSocket, p
	}
	go func() {
		defer close(p.done)
		if err := l.Run(ctx); err != nil {
			p.say(err)
		}
	}()
	return p
}

func (p *place) close() {
	p.stop()
	<-p.done
}

// take lets a session in by this place, with what its file says. A later token takes the place
// of an earlier one.
func (p *place) take(s *session, token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guests[s.file.Load().Session], p.token = s, token
}

// remove takes a session away, and returns how many are left.
func (p *place) remove(s *session) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, guest := range p.guests {
		if guest == s {
			delete(p.guests, id)
		}
	}
	return len(p.guests)
}

func (p *place) listenToken() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token
}

func (p *place) say(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = ""; err != nil {
		p.closed = err.Error()
	}
}

func (p *place) whyClosed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// guest finds a session by its id; nil = there is none.
func (p *place) guest(id string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.guests[id]
}

// takeProgram leads who comes for SSH, or for the desktop, to the session that the path names.
// All else is rejected before anything is connected to.
func (p *place) takeProgram(ctx context.Context, in *relay.Incoming) {
	take := (*session).takeSSH
	id, isThat := strings.CutPrefix(in.Suffix, relay.SSH+"/")
	if !isThat {
		take = (*session).takeDesktop
		id, isThat = strings.CutPrefix(in.Suffix, relay.Desktop+"/")
	}
	if !isThat || in.Query != "" {
		_ = in.Reject(ctx, http.StatusForbidden, "only SSH and RDP are here")
		return
	}
	s := p.guest(id)
	if s == nil {
		_ = in.Reject(ctx, http.StatusForbidden, "this session is not here")
		return
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer leave()
	take(s, ctx, in)
}

// takeSocket leads a browser's WebSocket to the session that its cookie is for.
func (p *place) takeSocket(ctx context.Context, in *relay.Incoming) {
	s, _ := p.guestOf(in.Header, "")
	if s == nil {
		_ = in.Reject(ctx, http.StatusForbidden, "open this session with `dsvm jupyter`")
		return
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer leave()
	s.web.takeSocket(ctx, knockAt(in))
}

// loginPace is how fast a ticket has to come.
var loginPace = intake.Pace{Total: 10 * time.Second}

// visitor is what somebody without a cookie shows.
type visitor struct {
	ticket string
	// isGuest says that the address or the ticket names a session that is here. A stranger knows
	// no id of one.
	isGuest bool
}

// ServeHTTP has the session answer that a browser's cookie, ticket or address is for.
func (p *place) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	var v visitor
	id := r.URL.Query().Get(relay.LoginSession)
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/"+loginPath) {
		r = intake.Keep(out, r, loginPace)
		var given struct {
			Ticket string `json:"ticket"`
		}
		if err := json.NewDecoder(io.LimitReader(r.Body, 2*maxTicket)).Decode(&given); err == nil {
			v.ticket = given.Ticket
		}
		id = sessionOf(v.ticket)
	}
	var s *session
	if s, v.isGuest = p.guestOf(r.Header, id); s == nil {
		refuse(out, http.StatusServiceUnavailable, "no session is here")
		return
	}
	ctx, leave, err := s.enter(r.Context())
	if err != nil {
		s.web.sayGoodbye(out, r, err)
		return
	}
	defer leave()
	s.web.answer(out, r.WithContext(ctx), v)
}

// guestOf finds the session with an id, or the one that a browser's cookie is for. A stranger,
// who is in none, is told so by any of them.
func (p *place) guestOf(h http.Header, id string) (s *session, isGuest bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.guests[id]; s != nil {
		return s, true // which checks the ticket
	}
	for _, guest := range p.guests {
		if s = guest; s.web.isIn(h) {
			return s, false
		}
	}
	return s, false
}

// sessionOf is the session that a ticket says it is for. Nothing is checked.
func sessionOf(text string) string {
	if len(text) > maxTicket {
		return ""
	}
	payload, _, _ := strings.Cut(text, ".")
	var t ticket
	body, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(body, &t) != nil {
		return ""
	}
	return t.Session
}
