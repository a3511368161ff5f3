package service_test

import (
	"encoding/json"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// TestDryRunWritesNothing: what would be taken and what would be refused leave no trace,
// and a real submission says the same afterwards.
func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	ctx := t.Context()
	spec := func(document string) job.Spec {
		s, err := job.Parse([]byte(document), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := app.Jobs.Submit(ctx, spec(`{"id":"there","pool":"cpu","command":["true"]}`)); err != nil {
		t.Fatal(err)
	}
	for document, want := range map[string]string{
		`{"id":"new","pool":"cpu","command":["true"]}`:                                 "",
		`{"pool":"cpu","command":["true"]}`:                                            "",
		`{"id":"there","pool":"cpu","command":["true"]}`:                               "",
		`{"id":"there","pool":"cpu","command":["false"]}`:                              "belongs to another job",
		`{"id":"THERE","pool":"cpu","command":["true"]}`:                               "but for letter case",
		`{"id":"new","pool":"cpu","command":["true"],"workdir":"/usr"}`:                "`workdir` is \"/usr\", which is not on the share",
		`{"id":"new","pool":"cpu","command":["true"],"workdir":"/mnt/shared"}`:         "which is not on the share",
		`{"id":"new","pool":"cpu","command":["true"],"workdir":"/mnt/share/x"}`:        "",
		`{"id":"new","pool":"cpu","command":["true"],"workdir":"` + app.Share + `/x"}`: "",
		`{"id":"new","pool":"none","command":["true"]}`:                                "there is no pool",
		`{"id":"new","pool":"cpu","command":["true"],"after":["none"]}`:                "which is not known",
		`{"id":"new","pool":"cpu","command":["true"],"resources":{"cpus":1000}}`:       "the job asks for 1000 cpus",
		`{"id":"new","pool":"cpu","command":["true"],"nodes":60}`:                      "the job asks for 60 nodes",
		`{"id":"s","pool":"cpu","command":["true"],"sweep":{"count":3}}`:               "",
		`{"id":"there.1","pool":"cpu","command":["true"],"after":["there:failure"]}`:   "",
	} {
		before, err := app.Store.Head(ctx, "cpu")
		if err != nil {
			t.Fatal(err)
		}
		s := spec(document)
		answer, err := app.Jobs.DryRun(ctx, s)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v; want %q", document, answer, err, want)
		}
		if after, err := app.Store.Head(ctx, "cpu"); err != nil || !after.Same(before) {
			t.Errorf("%s: the pool was changed, %v", document, err)
		}
		if s.ID != "" && s.ID != "there" && s.ID != "THERE" {
			if _, err := app.Store.ID(ctx, s.ID); fault.CodeOf(err) != fault.NotFound {
				t.Errorf("%s: the id was registered: %v", document, err)
			}
		}
		if err != nil {
			if s.ID == "" {
				s.ID = "x"
			}
			if _, real := app.Jobs.Submit(ctx, s); real == nil || real.Error() != err.Error() {
				t.Errorf("%s: the dry run says %v, and a real one %v", document, err, real)
			}
			continue
		}
		if answer.Exists != (s.ID == "there") || answer.Spec.ID != s.ID || answer.Reason == "" {
			text, _ := json.Marshal(answer)
			t.Errorf("%s: got %s", document, text)
		}
	}
}
