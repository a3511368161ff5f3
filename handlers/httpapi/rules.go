package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// Pushes is what the API stands on where pushes to Git repositories are
// concerned.
type Pushes interface {
	// Expects reports whether a delivery with this proof may turn out to be good, before
	// its body is read: some rule for the provider names a secret that is there, and is
	// the one that was sent where the proof is the secret itself.
	Expects(ctx context.Context, provider push.Provider, proof push.Proof) (bool, error)
	// Push takes a delivery whose headers carry the proof. Nothing of the body is
	// read before the proof is found to be good, and none of it is kept. It returns when all that the
	// delivery starts is on the queue; the same delivery again changes nothing.
	Push(ctx context.Context, provider push.Provider, header push.Header, proof push.Proof, body []byte) (wire.PushAnswer, error)
	// Rules lists the rules by name.
	Rules(ctx context.Context) ([]wire.Rule, error)
	// Rule returns one rule.
	Rule(ctx context.Context, name string) (wire.Rule, error)
	// ApplyRules creates or changes rules. It returns them as they are then.
	ApplyRules(ctx context.Context, rules []push.Rule) ([]wire.Rule, error)
	// DeleteRule removes a rule. What it has started goes on.
	DeleteRule(ctx context.Context, name string) error
}

// push takes what Git hosts send. They have no key of the app, so the signature
// is all that lets them in: without one, nothing is read.
func (s *server) push(w http.ResponseWriter, r *http.Request) error {
	provider := push.Provider(r.PathValue("provider"))
	r = intake.Keep(w, r, s.unproven())
	proof, err := push.ReadProof(provider, r.Header.Get)
	if err == nil && r.ContentLength <= push.MaxBody {
		var expected bool
		if expected, err = s.backend.Expects(r.Context(), provider, proof); err == nil && !expected {
			err = fault.New(fault.Invalid, "", "%s", ErrProof.Error())
		}
	}
	if err != nil {
		w.Header().Set("Connection", "close") // nobody reads the body
		if fault.CodeOf(err) == fault.Invalid {
			err = unsigned(r, provider, err)
		}
		return err
	}
	body, err := s.readPush(w, r)
	if err != nil {
		slog.WarnContext(r.Context(), "a delivery was refused", "provider", provider, "reason", err.Error())
		return err
	}
	defer body.Release()
	answer, err := s.judge(r.Context(), provider, r.Header.Get, proof, body.Bytes)
	switch {
	case errors.Is(err, ErrProof):
		return unsigned(r, provider, err)
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", answer)
	return nil
}

// ErrProof is what Push returns when no rule's secret made the proof. It is one
// error for all causes, so that nobody learns from it.
var ErrProof = errors.New("the proof was not made with the secret of any rule for this provider")

func unsigned(r *http.Request, provider push.Provider, cause error) error {
	slog.WarnContext(r.Context(), "a delivery was refused", "provider", provider, "reason", cause.Error())
	return wire.Unauthorized(cause.Error())
}

func (s *server) listRules(w http.ResponseWriter, r *http.Request) error {
	rules, err := s.backend.Rules(r.Context())
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
	rule, err := s.backend.Rule(r.Context(), r.PathValue("name"))
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
	applied, err := s.backend.ApplyRules(r.Context(), rules)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(applied, ""))
}

func (s *server) deleteRule(w http.ResponseWriter, r *http.Request) error {
	if err := ruleName(r); err != nil {
		return err
	}
	if err := s.backend.DeleteRule(r.Context(), r.PathValue("name")); err != nil {
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
