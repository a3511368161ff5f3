package httpapi

import (
	"net/http"

	"dsvmpools/shared/pool"
)

// longestNode bounds the name or id of a node, in bytes: what is longer names none.
const longestNode = 200

// commandNode brings an operator's command to a node.
func (s *server) commandNode(verb pool.Verb) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		node, of := r.PathValue("node"), r.URL.Query().Get("pool")
		if of != "" {
			if err := checkPool(of); err != nil {
				return err
			}
		}
		if len(node) > longestNode {
			return pool.NoNode(node, nil)
		}
		n, err := s.Nodes.CommandNode(r.Context(), of, node, verb)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, "application/json", n)
		return nil
	}
}
