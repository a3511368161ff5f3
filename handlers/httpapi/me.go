package httpapi

import (
	"net/http"

	"dsvmpools/shared/wire"
)

// showCaller says who calls and what the caller may do.
func (s *server) showCaller(w http.ResponseWriter, r *http.Request) error {
	return writeOK(w, wire.NewMe(callerOf(r)))
}
