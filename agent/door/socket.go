package door

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"dsvmpools/shared/relay"
	"dsvmpools/shared/relay/frames"
)

// knock is a browser that wants a WebSocket. One of reject and accept is called, once.
type knock struct {
	header        http.Header
	suffix, query string
	reject        func(ctx context.Context, status int, reason string) error
	accept        func(ctx context.Context, protocol string) (*websocket.Conn, error)
}

// knockAt is a browser that comes by the relay.
func knockAt(in *relay.Incoming) knock {
	return knock{header: in.Header, suffix: in.Suffix, query: in.Query, reject: in.Reject, accept: in.Accept}
}

// takeSocket joins a browser's WebSocket with JupyterLab, if the browser is in.
func (w *web) takeSocket(ctx context.Context, in knock) {
	if !w.isOwn(in.header, http.MethodPost) || in.header.Get("Origin") == "" || !w.isIn(in.header) {
		_ = in.reject(ctx, http.StatusForbidden, "open this session with `dsvm jupyter`")
		return
	}
	address := url.URL{Scheme: "http", Host: "localhost", Path: "/" + w.entity + in.suffix, RawQuery: in.query}
	options := &websocket.DialOptions{HTTPClient: &http.Client{Transport: w.lab}, HTTPHeader: w.own("/" + w.entity + in.suffix)}
	if offered := in.header.Get("Sec-WebSocket-Protocol"); offered != "" {
		options.Subprotocols = strings.Split(strings.ReplaceAll(offered, " ", ""), ",")
	}
	lab, _, err := websocket.Dial(ctx, address.String(), options)
	if err != nil {
		_ = in.reject(ctx, http.StatusServiceUnavailable, "JupyterLab does not take this")
		return
	}
	defer func() { _ = lab.CloseNow() }()
	lab.SetReadLimit(-1)
	browser, err := in.accept(ctx, lab.Subprotocol())
	if err != nil {
		return
	}
	defer func() { _ = browser.CloseNow() }()
	w.s.jupyter.Add(1)
	defer w.s.jupyter.Add(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := frames.Copy(ctx, browser, lab, w.count, nil)
		end(browser, err)
	}()
	err = frames.Copy(ctx, lab, browser, w.count, func(_ websocket.MessageType, first []byte) {
		if w.isTyped("/"+w.inLab(strings.TrimPrefix(in.suffix, "/")), first) {
			w.s.input()
		}
	})
	end(lab, err)
	<-done
}

// end ends one side as the other one has ended.
func end(socket *websocket.Conn, err error) {
	switch code := websocket.CloseStatus(err); code {
	case -1, websocket.StatusNoStatusRcvd, websocket.StatusAbnormalClosure, websocket.StatusGoingAway:
		_ = socket.Close(websocket.StatusGoingAway, "")
	default:
		_ = socket.Close(code, "")
	}
}
