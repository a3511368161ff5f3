//go:build unix

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

// takeSocket joins a browser's WebSocket with JupyterLab, if the browser is in.
func (w *web) takeSocket(ctx context.Context, in *relay.Incoming) {
	if !w.isOwn(in.Header, http.MethodPost) || in.Header.Get("Origin") == "" || !w.isIn(in.Header) {
		_ = in.Reject(ctx, http.StatusForbidden, "open this session with `dsvm jupyter`")
		return
	}
	address := url.URL{Scheme: "http", Host: "localhost", Path: "/" + w.entity + in.Suffix, RawQuery: in.Query}
	options := &websocket.DialOptions{HTTPClient: &http.Client{Transport: w.lab}, HTTPHeader: w.own()}
	if offered := in.Header.Get("Sec-WebSocket-Protocol"); offered != "" {
		options.Subprotocols = strings.Split(strings.ReplaceAll(offered, " ", ""), ",")
	}
	lab, _, err := websocket.Dial(ctx, address.String(), options)
	if err != nil {
		_ = in.Reject(ctx, http.StatusServiceUnavailable, "JupyterLab does not take this")
		return
	}
	defer func() { _ = lab.CloseNow() }()
	lab.SetReadLimit(-1)
	browser, err := in.Accept(ctx, lab.Subprotocol())
	if err != nil {
		return
	}
	defer func() { _ = browser.CloseNow() }()
	w.s.jupyter.Add(1)
	defer w.s.jupyter.Add(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := frames.Copy(ctx, browser, lab, w.s.count, nil)
		end(browser, err)
	}()
	err = frames.Copy(ctx, lab, browser, w.s.count, func(_ websocket.MessageType, first []byte) {
		if w.isTyped(in.Suffix, first) {
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
