package handlers

import (
	"io"
	"net/http"
	"strings"
)

// site answers what is neither the API nor a push: the functions Home, Page and
// Web. Until there is a page it says where the API is.
func site() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		text := "This is dsvmpools. There is no page yet; use the API below /api/ with its key, or the command dsvm.\n"
		switch {
		case r.URL.Path == "/":
		case strings.HasPrefix(strings.ToLower(r.URL.Path), "/web/"):
			text = "Nobody can sign in here yet; use the API below /api/ with its key, or the command dsvm.\n"
			w.WriteHeader(http.StatusNotFound)
		default:
			text = "There is no such page; use the API below /api/ with its key, or the command dsvm.\n"
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, text)
	})
}
