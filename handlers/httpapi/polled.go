package httpapi

import (
	"net/http"

	"dsvmpools/shared/answer"
)

// polled is the answer to a GET, which may be asked for again and again: a page does so.
type polled struct {
	http.ResponseWriter
	request *http.Request
}

// Unwrap is for http.ResponseController.
func (p *polled) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// shorten gives the answer its ETag, and returns what is to be sent of it: nothing with 304 where
// the caller has it, else the body, compressed where the caller takes that and it is worth it.
func (p *polled) shorten(body []byte) (send []byte, status int) {
	h := p.Header()
	tag := h.Get("ETag") // of a route that knows its version without its answer
	if tag == "" {
		tag = answer.Tag(body)
		h.Set("ETag", tag)
	}
	h.Set("Vary", "Accept-Encoding")
	if answer.Has(p.request, tag) {
		h.Del("Content-Type")
		return nil, http.StatusNotModified
	}
	if answer.TakesGzip(p.request) {
		if small := answer.Compress(body); small != nil {
			h.Set("Content-Encoding", "gzip")
			return small, http.StatusOK
		}
	}
	return body, http.StatusOK
}
