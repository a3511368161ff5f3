package door

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// noticeScript is put into JupyterLab's pages: it tells of a person, and shows notices.
//
//go:embed notice.js
var noticeScript []byte

// Pages of the door below an entity, for the script.
const (
	scriptPath = "dsvm/notice.js"
	noticePath = "dsvm/notice" // what is to be shown
	herePath   = "dsvm/here"   // the same, and somebody is there
)

// maxNotice bounds the file of a notice, in bytes.
const maxNotice = 4 << 10

// lastWordsFor is how long browsers can learn why a session has ended: three askings of the script.
const lastWordsFor = 45 * time.Second

// notice is what the session's keeper wants people told.
type notice struct {
	Text   string    `json:"text"`            // "" = nothing
	EndsAt time.Time `json:"endsAt,omitzero"` // by the node's clock
	Ended  bool      `json:"ended"`           // Text is why
}

// readNotice reads the file of a notice; without one, there is nothing to tell.
func readNotice(path string) (n notice, err error) {
	if path == "" {
		return n, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	defer f.Close()
	err = json.NewDecoder(io.LimitReader(f, maxNotice)).Decode(&n)
	return n, err
}

// tell answers with a notice. How long is left goes out, and no time: the clock of the browser
// may be wrong.
func (w *web) tell(out http.ResponseWriter) {
	n := w.s.lastWords()
	if n == nil {
		now, err := readNotice(w.s.file.Load().Notice)
		if err != nil {
			w.s.log.Warn("the notice of a session cannot be read", "session", w.s.file.Load().Session, "error", err)
		}
		n = &now
	}
	answer := struct {
		Text   string `json:"text"`
		EndsIn int64  `json:"endsIn"` // seconds
		Ended  bool   `json:"ended"`
	}{Text: n.Text, Ended: n.Ended}
	if !n.EndsAt.IsZero() {
		answer.EndsIn = max(int64(time.Until(n.EndsAt)/time.Second), 0)
	}
	out.Header().Set("Content-Type", "application/json")
	out.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(out).Encode(answer)
}

// isWanted reports whether a request is for a page of JupyterLab, or of its hub, into which the script goes.
func (w *web) isWanted(r *http.Request) bool {
	rest, _ := strings.CutPrefix(r.URL.Path, "/"+w.entity+"/")
	dest := r.Header.Get("Sec-Fetch-Dest")
	return r.Method == http.MethodGet && w.isPage(rest) &&
		(dest == "document" || dest == "" && strings.Contains(r.Header.Get("Accept"), "text/html"))
}

// wholePage has JupyterLab send a page as it is: not compressed, and not "as you have it", which
// may be one without the script.
func wholePage(h http.Header) {
	h.Set("Accept-Encoding", "identity")
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range"} {
		h.Del(name)
	}
}

// maxHead is how far into a page its head is looked for, in bytes.
const maxHead = 64 << 10

var headTag = regexp.MustCompile(`(?i)<head(?:\s[^>]*)?>`)

// addScript puts the script into a page of JupyterLab, behind the tag of its head. A page that is
// compressed all the same, or has no head, stays as it is. The script is a file of its own, so that
// the page's policy goes on as it was.
func (w *web) addScript(r *http.Response) error {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	encoding := r.Header.Get("Content-Encoding")
	if r.StatusCode != http.StatusOK || kind != "text/html" || encoding != "" && encoding != "identity" {
		return nil
	}
	seen, at, err := readHead(r.Body)
	if err != nil {
		return err
	}
	page := struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(seen), r.Body), r.Body}
	if at >= 0 {
		tag := fmt.Appendf(nil, `<script async src="/%s/%s"></script>`, w.entity, scriptPath)
		page.Reader = io.MultiReader(bytes.NewReader(seen[:at]), bytes.NewReader(tag), bytes.NewReader(seen[at:]), r.Body)
		if r.ContentLength >= 0 {
			r.ContentLength += int64(len(tag))
			r.Header.Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		r.Header.Del("Etag") // it is that of another page
		r.Header.Del("Last-Modified")
	}
	r.Body = page
	return nil
}

// readHead reads a page until it has found where its head begins, and returns what it has read,
// and the place behind the tag; -1 = there is none.
func readHead(page io.Reader) (seen []byte, at int, err error) {
	const piece = 4 << 10
	for len(seen) < maxHead {
		n := len(seen)
		seen = append(seen, make([]byte, piece)...)
		got, err := page.Read(seen[n:])
		seen = seen[:n+got]
		if found := headTag.FindIndex(seen); found != nil {
			return seen, found[1], nil
		}
		if errors.Is(err, io.EOF) {
			return seen, -1, nil
		}
		if err != nil {
			return seen, -1, err
		}
	}
	return seen, -1, nil
}
