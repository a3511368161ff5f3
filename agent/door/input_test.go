//go:build unix

package door

import (
	"net/http"
	"testing"
)

// What JupyterLab 4.6 was seen to send is written as it came.
func TestWhatIsInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, rest string
		plain        bool // it is input where no script watches
		watched      bool // and where one does
	}{
		{"GET", "api/kernels", false, false},
		{"HEAD", "lab", false, false},
		{"OPTIONS", "api/contents", false, false},
		{"PUT", "lab/api/workspaces/default", false, false},
		{"PUT", "lab/api/settings/@jupyterlab/apputils-extension:themes", false, false},
		{"PUT", "api/contents/Untitled.ipynb", false, false},
		{"POST", "api/sessions", false, false},
		{"PATCH", "api/sessions/1", false, false},
		{"POST", "api/kernels", false, false},
		{"POST", "api/terminals", false, false},
		{"POST", "api/events", false, false},
		{"POST", "lsp/ws/python", false, false},
		{"POST", "api/contents/Untitled.ipynb/checkpoints", true, false}, // a click, which the script has seen
		{"POST", "api/contents", true, false},
		{"DELETE", "api/kernels/1", true, false},
		{"POST", "api/kernels/1/interrupt", true, false},
		{"DELETE", "api/sessions/1", true, false},
		{"POST", "git/status", true, false}, // an extension that asks again and again
	} {
		for _, isWatched := range []bool{false, true} {
			w := &web{s: &session{}, entity: "lab-1-web"}
			w.s.file.Store(&File{User: "ann"})
			want := c.plain
			if isWatched {
				w.s.watch()
				want = c.watched
			}
			for _, from := range []string{"http://ns/lab-1-web/lab/tree/a", "http://ns/lab-1-web/proxy/8787/", "http://ns/lab-2-web/lab", ""} {
				r, err := http.NewRequest(c.method, "http://ns/lab-1-web/"+c.rest, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Referer", from)
				if from != "http://ns/lab-1-web/lab/tree/a" {
					want = c.plain // no script of ours is in that page
				}
				if got := w.isInput(r, c.rest); got != want {
					t.Errorf("%s %s from %q, watched %v: got %v", c.method, c.rest, from, isWatched, got)
				}
			}
		}
	}
}

func TestWhatIsTyped(t *testing.T) {
	t.Parallel()
	const kernel, terminal = "/api/kernels/1/channels", "/terminals/websocket/1"
	for _, c := range []struct {
		path, text     string
		plain, watched bool
	}{
		{kernel, `{"header":{"msg_type":"comm_info_request"}}`, false, false},
		{kernel, "\x02\x00" + `shell{"msg_type":"kernel_info_request"}`, false, false},
		{kernel, `{"msg_type":"history_request"}`, false, false},
		{kernel, `{"msg_type":"debug_request"}`, false, false},
		{kernel, `{"msg_type":"execute_request"}`, true, true},
		{kernel, `{"msg_type":"input_reply"}`, true, true},
		{kernel, `{"msg_type":"complete_request"}`, true, false},
		{kernel, `{"msg_type":"comm_msg"}`, true, false},
		{kernel, ``, false, false},
		{terminal, `["stdin","l"]`, true, true},
		{terminal, ` ["stdin", "\u001b[A"]`, true, true}, // an arrow
		{terminal, `["stdin","\u001b[15~"]`, true, true}, // F5
		{terminal, `["stdin","\u001b"]`, true, true},
		{terminal, `["stdin","\u001b[<35;10;10M"]`, true, true}, // the mouse
		{terminal, `["stdin","\u001b[?1;2c"]`, false, false},
		{terminal, `["stdin","\u001b[24;80R"]`, false, false},
		{terminal, `["stdin","\u001b[O"]`, false, false},
		{terminal, `["stdin","\u001b]11;rgb:ffff/ffff/ffff\u001b\\"]`, false, false},
		{terminal, `["set_size",24,80,1,1]`, false, false},
		{"/api/events/subscribe", `{}`, false, false},
		{"/lsp/ws/pylsp", `{"method":"textDocument/didChange"}`, false, false},
	} {
		w := &web{s: &session{}, entity: "lab-1-web"}
		w.s.file.Store(&File{User: "ann"})
		if got := w.isTyped(c.path, []byte(c.text)); got != c.plain {
			t.Errorf("%s %s: got %v", c.path, c.text, got)
		}
		w.s.watch()
		if got := w.isTyped(c.path, []byte(c.text)); got != c.watched {
			t.Errorf("%s %s in a page that is watched: got %v", c.path, c.text, got)
		}
	}
}
