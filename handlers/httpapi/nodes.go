package httpapi

import (
	"net/http"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// longestNode bounds the name or id of a node, in bytes: what is longer names none.
const longestNode = 200

// tellNode brings an operator's word to a node.
func (s *server) tellNode(verb pool.Verb) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		node, of := r.PathValue("node"), r.URL.Query().Get("pool")
		if of != "" && !poolName.MatchString(of) {
			return noPool(of)
		}
		if len(node) > longestNode {
			return fault.New(fault.NotFound, "node", "there is no node %.50q...; `dsvm node list` shows the nodes", node)
		}
		n, err := s.backend.TellNode(r.Context(), of, node, verb)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, "application/json", n)
		return nil
	}
}
