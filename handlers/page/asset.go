package page

import (
	"net/http"
	"strconv"

	"dsvmpools/shared/answer"
)

// asset is one file.
type asset struct {
	kind  string
	tag   string
	plain []byte
	small []byte // compressed; nil = that would not be smaller
}

func newAsset(text []byte, kind string) *asset {
	return &asset{kind: kind, tag: answer.Tag(text), plain: text, small: answer.Compress(text)}
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("ETag", a.tag)
	h.Set("Vary", "Accept-Encoding")
	if answer.Has(r, a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.plain
	if a.small != nil && answer.TakesGzip(r) {
		body = a.small
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the caller is gone if this fails
	}
}
