package httpapi

import (
	"errors"
	"net/http"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// push takes what Git hosts send. They have no key of the app, so the signature
// is all that lets them in: without one, nothing is read.
func (s *server) push(w http.ResponseWriter, r *http.Request) error {
	provider := push.Provider(r.PathValue("provider"))
	r = intake.Keep(w, r, s.unproven())
	proof, err := push.ReadProof(provider, r.Header.Get)
	if err == nil && r.ContentLength <= push.MaxBody {
		var expected bool
		if expected, err = s.Pushes.Expects(r.Context(), provider, proof); err == nil && !expected {
			err = fault.New(fault.Invalid, "", "%s", push.ErrProof.Error())
		}
	}
	if err != nil {
		w.Header().Set("Connection", "close") // nobody reads the body
		if fault.CodeOf(err) == fault.Invalid {
			err = s.unsigned(r, provider, err)
		}
		return err
	}
	body, err := s.readPush(w, r)
	if err != nil {
		s.log.WarnContext(r.Context(), "delivery refused", "provider", provider, "reason", err.Error())
		return err
	}
	defer body.Release()
	answer, err := s.judge(r.Context(), provider, r.Header.Get, proof, body.Bytes)
	switch {
	case errors.Is(err, push.ErrProof):
		return s.unsigned(r, provider, err)
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", answer)
	return nil
}

func (s *server) unsigned(r *http.Request, provider push.Provider, cause error) error {
	s.log.WarnContext(r.Context(), "delivery refused", "provider", provider, "reason", cause.Error())
	return wire.Unauthorized(cause.Error())
}

func (s *server) listRules(w http.ResponseWriter, r *http.Request) error {
	rules, err := s.Pushes.Rules(r.Context())
	if err != nil {
		return err
	}
	list, err := page(rules, r.URL.Query(), func(i int) string { return rules[i].Name })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}

func (s *server) showRule(w http.ResponseWriter, r *http.Request) error {
	if err := ruleName(r); err != nil {
		return err
	}
	rule, err := s.Pushes.Rule(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeOK(w, rule)
}

func (s *server) applyRules(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	rules, err := push.ParseRules(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	applied, err := s.Pushes.ApplyRules(r.Context(), rules)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(applied, ""))
}

func (s *server) deleteRule(w http.ResponseWriter, r *http.Request) error {
	if err := ruleName(r); err != nil {
		return err
	}
	if err := s.Pushes.DeleteRule(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ruleName checks the name in the path. What cannot be a name names no rule.
func ruleName(r *http.Request) error {
	if push.CheckName(r.PathValue("name")) != nil {
		return push.NoRule(r.PathValue("name"))
	}
	return nil
}
