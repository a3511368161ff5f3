package httpapi

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi/openapitest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
)

// No field of a document takes null, and none that is a text takes an empty one: whoever
// sends it has lost a value. The fields are those of the description, so that a new one is
// tried too.
func TestDocumentsRefuseBlanks(t *testing.T) {
	t.Parallel()
	s, err := openapitest.ReadSpecification("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for schema, of := range map[string]struct {
		rest  string // what the document has besides
		parse func(body []byte) error
	}{
		"JobDocument":  {`"pool":"cpu"`, func(body []byte) error { _, err := job.Parse(body, "application/json"); return err }},
		"PoolDocument": {`"name":"cpu"`, func(body []byte) error { _, err := pool.Parse(body, "application/json"); return err }},
		"RuleDocument": {`"name":"r","provider":"github","repository":"a/b","secret":"PUSH_SECRET"`,
			func(body []byte) error { _, err := push.ParseRules(body, "application/json"); return err }},
	} {
		tried := 0
		for field, kind := range s.Fields(schema) {
			if field == "index" { // of answers only
				continue
			}
			blanks := []string{"null"}
			if kind == "string" {
				blanks = append(blanks, `""`)
			}
			for _, blank := range blanks {
				tried++
				rest := of.rest
				if group, _, _ := strings.Cut(field, "."); schema == "PoolDocument" && slices.Contains([]string{"sessions", "access", "users", "balancer"}, group) {
					rest += `,"kind":"interactive"`
				}
				body := documentOf(rest, field, blank)
				var f *fault.Error
				if err := of.parse([]byte(body)); !errors.As(err, &f) || f.Code != fault.Invalid || f.Field != field {
					t.Errorf("%s: %s: got %v (field %q), want field %q", schema, body, err, fieldOf(f), field)
				}
			}
		}
		if tried < 20 {
			t.Errorf("%s: only %d fields are tried", schema, tried)
		}
	}
}

// documentOf is a document with one field, whose path has points, with a value as JSON. rest
// is its other fields.
func documentOf(rest, field, value string) string {
	top, below, deeper := strings.Cut(field, ".")
	if deeper {
		value = documentOf("", below, value)
	}
	fields := []string{strconv.Quote(top) + ":" + value}
	for pair := range strings.SplitSeq(rest, ",") {
		if pair != "" && !strings.HasPrefix(pair, strconv.Quote(top)+":") {
			fields = append(fields, pair)
		}
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func fieldOf(f *fault.Error) string {
	if f == nil {
		return ""
	}
	return f.Field
}
