package httpapi

import (
	"net/http"
	"strconv"

	"dsvmpools/shared/pool"
)

// longestNode bounds the name or id of a node, in bytes: what is longer names none.
const longestNode = 200

// nodeOf reads which node a request is about, and of which pool; "" = of any.
func nodeOf(r *http.Request) (of, node string, err error) {
	node, of = r.PathValue("node"), r.URL.Query().Get("pool")
	if len(node) > longestNode {
		return "", "", pool.NoNode(node, nil)
	}
	return of, node, nil
}

// showConsole answers with the end of a node's serial console. What a node writes is not
// trusted: a browser must not take it for a page.
func (s *server) showConsole(w http.ResponseWriter, r *http.Request) error {
	of, node, err := nodeOf(r)
	if err != nil {
		return err
	}
	log, err := s.Nodes.Console(r.Context(), of, node)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(log)))
	w.Write(log) // the caller is gone if this fails
	return nil
}

// commandNode brings an operator's command to a node.
func (s *server) commandNode(verb pool.Verb) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		of, node, err := nodeOf(r)
		if err != nil {
			return err
		}
		n, err := s.Nodes.CommandNode(r.Context(), of, node, verb)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, "application/json", n)
		return nil
	}
}
