package handlers

import (
	"net/http"
	"strings"
)

// webAPI is where people who have signed in find the API.
const webAPI = "/web/api/"

// site answers what is neither a program's request to the API nor a push: the functions
// Home, Page and Web. The API for people who have signed in is api itself.
func site(api, page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) >= len(webAPI) && strings.EqualFold(r.URL.Path[:len(webAPI)], webAPI) {
			api.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}
