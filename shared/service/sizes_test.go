package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"dsvmpools/shared/invoke"
	"dsvmpools/shared/service"
)

// TestSizesAreChecked: a size that the region lacks is refused, one that only this
// program's list lacks is warned of, and a list that cannot be read refuses nothing.
func TestSizesAreChecked(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	var unreadable error
	h.change(func(c *service.Config) {
		c.Sizes = func(_ context.Context, region string) ([]string, error) {
			return map[string][]string{"l": {"Standard_D4s_v5", "Standard_Q8s_v9"}, "other": {"Standard_D2s_v5"}}[region], unreadable
		}
	})
	apply := func(size string) (int, string, []string) {
		w := h.call(
			"POST",
			"/api/pools",
			map[string]string{"Content-Type": "application/json"},
			fmt.Appendf(nil, `{"name":"new","sizes":[%q],"nodes":{"max":2}}`, size),
		)
		var answer struct {
			Detail   string
			Field    string
			Warnings []string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
		return w.Code, answer.Field + " " + answer.Detail, answer.Warnings
	}
	if code, why, warnings := apply("standard_d4s_V5"); code != http.StatusOK || len(warnings) > 0 {
		t.Errorf("a known size: got %d %s %q", code, why, warnings)
	}
	if code, why, warnings := apply("Standard_Q8s_v9"); code != http.StatusOK || len(warnings) != 1 ||
		!strings.Contains(warnings[0], "Standard_Q8s_v9 is not in this version's own list") {
		t.Errorf("a size of the region alone: got %d %s %q", code, why, warnings)
	}
	if code, why, _ := apply("Standard_D4s_v55"); code != http.StatusBadRequest || !strings.Contains(why, "sizes[0] ") ||
		!strings.Contains(why, "did you mean Standard_D4s_v5?") {
		t.Errorf("a slip: got %d %s", code, why)
	}
	if code, why, _ := apply("Standard_E16s_v5"); code != http.StatusBadRequest || !strings.Contains(why, "l does not have") {
		t.Errorf("a size of another region: got %d %s", code, why)
	}
	doc := []byte(`{"name":"new","sizes":["Standard_D4s_v55"],"nodes":{"max":2}}`)
	if err := h.ApplyPool(t.Context(), []invoke.Message{{ID: "p", Body: doc}}); err != nil {
		t.Fatal(err)
	}
	if reasons := h.rejectedReasons(1); !strings.Contains(reasons[0], "did you mean Standard_D4s_v5?") {
		t.Errorf("by the queue: got %q", reasons)
	}
	unreadable = errors.New("no right")
	if code, why, warnings := apply("Standard_D4s_v55"); code != http.StatusOK || len(warnings) != 1 {
		t.Errorf("when nothing is known: got %d %s %q", code, why, warnings)
	}
}

// TestRegionIsTheDeployments: a pool elsewhere has no subnet there, so that it is refused
// when it is applied.
func TestRegionIsTheDeployments(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	h.change(func(c *service.Config) { c.Region = "westeurope" })
	for region, want := range map[string]int{"westeurope": 200, "West Europe": 200, "northeurope": 400} {
		doc := fmt.Appendf(nil, `{"name":"new","region":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`, region)
		w := h.call("POST", "/api/pools", map[string]string{"Content-Type": "application/json"}, doc)
		if w.Code != want || want == 400 && !strings.Contains(w.Body.String(), "this deployment is in westeurope") {
			t.Errorf("%q: got %d %s, want %d", region, w.Code, w.Body, want)
		}
	}
}
