package handlers

import (
	"io"
	"net/http"
	"strings"
)

// webAPI is where people who have signed in find the API.
const webAPI = "/web/api/"

// site answers what is neither a program's request to the API nor a push: the functions
// Home, Page and Web. The API for people who have signed in is api itself. Until there is a
// page it says where the API is.
func site(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) >= len(webAPI) && strings.EqualFold(r.URL.Path[:len(webAPI)], webAPI) {
			api.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		text := "This is dsvmpools. There is no page yet; use the command dsvm, or the API below /api/ with its key.\n"
		if r.URL.Path != "/" {
			text = "There is no such page; use the command dsvm, or the API below /api/ with its key.\n"
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, text)
	})
}
