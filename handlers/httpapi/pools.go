package httpapi

import (
	"cmp"
	"net/http"
	"slices"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// pools are the pools of that name, or all, by name.
func (s *server) pools(r *http.Request, name string) ([]wire.PoolSummary, error) {
	pools, err := s.Pools.Pools(r.Context(), name)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(pools, func(a, b wire.PoolSummary) int { return cmp.Compare(a.Head.Spec.Name, b.Head.Spec.Name) })
	return pools, nil
}

func (s *server) listPools(w http.ResponseWriter, r *http.Request) error {
	pools, err := s.pools(r, "")
	if err != nil {
		return err
	}
	items := make([]wire.Pool, len(pools))
	for i, p := range pools {
		items[i] = wire.NewPool(p)
	}
	list, err := page(items, r.URL.Query(), func(i int) string { return items[i].Name })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}

func (s *server) showPool(w http.ResponseWriter, r *http.Request) error {
	pools, err := s.pools(r, r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewPoolDetail(pools[0]))
}

func (s *server) explainPool(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	e, err := s.Pools.ExplainPool(r.Context(), name)
	if err != nil {
		return err
	}
	return writeOK(w, e)
}

// resumePool has a pool ask for nodes again that did not come up.
func (s *server) resumePool(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	p, err := s.Pools.Resume(r.Context(), name)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewPoolDetail(p))
}

// applyPool serves POST to the list and PUT to the one. With dryRun=true it only says what
// would change, with check=true POST only what Azure would take.
func (s *server) applyPool(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	spec, err := pool.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if name := r.PathValue("name"); name != "" && name != spec.Name {
		return fault.New(
			fault.Invalid,
			"name",
			"the document is of pool %q and the address of pool %.50q; a pool cannot be renamed",
			spec.Name,
			name,
		)
	}
	only, err := boolean(r.URL.Query(), "check")
	if err != nil {
		return err
	}
	dry, err := boolean(r.URL.Query(), "dryRun")
	if err != nil {
		return err
	}
	if dry && only {
		return fault.New(fault.Invalid, "check", "check and dryRun are two questions; ask one at a time")
	}
	if dry {
		plan, err := s.Pools.PlanApply(r.Context(), spec)
		if err != nil {
			return err
		}
		return writeOK(w, plan)
	}
	if only {
		rows, err := s.Pools.Check(r.Context(), spec)
		if err != nil {
			return err
		}
		return writeOK(w, wire.NewList(rows, ""))
	}
	p, err := s.Pools.ApplyPool(r.Context(), spec)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewPoolDetail(p))
}

// deletePool answers with the pool as it is on its way out, or with nothing
// when it went at once.
func (s *server) deletePool(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := s.Pools.Delete(r.Context(), name); err != nil {
		return err
	}
	pools, err := s.pools(r, name)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		w.WriteHeader(http.StatusNoContent)
	case err != nil:
		return err
	default:
		writeJSON(w, http.StatusAccepted, "application/json", wire.NewPool(pools[0]))
	}
	return nil
}

func (s *server) listNodes(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	pools, err := s.pools(r, q.Get("pool"))
	if err != nil {
		return err
	}
	var nodes []wire.Node
	for _, p := range pools {
		nodes = append(nodes, wire.NewNodes(p)...)
	}
	// The separators sort before everything that names are made of, so that the
	// keys sort as the list does.
	list, err := page(nodes, q, func(i int) string { return nodes[i].Pool + " " + nodes[i].Name + " " + nodes[i].ID })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}
