package httpapi

import (
	"net/http"

	"dsvmpools/shared/wire"
)

// diagnose answers with what the deployment lacks. That something is wrong is no error of
// the request.
func (s *server) diagnose(w http.ResponseWriter, r *http.Request) error {
	return writeOK(w, wire.NewList(s.Doctor.Diagnose(r.Context()), ""))
}
