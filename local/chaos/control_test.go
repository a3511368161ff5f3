package chaos

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestControl(t *testing.T) {
	t.Parallel()
	evicted := ""
	c := &Control{Set: New(5), Key: "secret",
		Evict:  func(name string) error { evicted = name; return nil },
		Remove: func(string) error { return errors.New("there is no such instance") }}
	web := httptest.NewServer(c.Handler())
	defer web.Close()
	ctx := t.Context()
	client := Client{URL: web.URL, Key: "secret"}

	if _, err := client.Add(ctx, Document{Do: Delay, Target: "tables/insert", Delay: "1500ms", Probability: 0.5, Count: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Add(ctx, Document{Do: Refuse, Target: "compute", Code: "AllocationFailed"}); err != nil {
		t.Fatal(err)
	}
	s, err := client.Seed(ctx, 1<<63)
	if err != nil || s.Seed != 1<<63 || len(s.Injections) != 2 || s.Injections[0].Delay != "1.5s" {
		t.Fatalf("got %+v, %v", s, err)
	}
	c.Set.Decide(Call{Server: "compute"}, Refuse)
	if s, err = client.Status(ctx); err != nil || s.Injections[1].Hits != 1 {
		t.Errorf("got %+v, %v; want one hit of the second injection", s, err)
	}
	if s, err = client.Remove(ctx, s.Injections[0].ID); err != nil || len(s.Injections) != 1 {
		t.Errorf("got %+v, %v; want one injection left", s, err)
	}
	if err := client.Evict(ctx, "cpu/7"); err != nil || evicted != "cpu/7" {
		t.Errorf("evicted %q, %v", evicted, err)
	}

	for what, ask := range map[string]func() error{
		"there is no such instance": func() error { return client.Kill(ctx, "x") },
		"no rule has the id 99":     func() error { _, err := client.Remove(ctx, "99"); return err },
		"write a time like": func() error {
			_, err := client.Add(ctx, Document{Do: Delay, Target: "tables", Delay: "soon"})
			return err
		},
		"no fault is called": func() error { _, err := client.Add(ctx, Document{Do: "melt", Target: "tables"}); return err },
		"the key is not":     func() error { _, err := Client{URL: web.URL, Key: "guess"}.Status(ctx); return err },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
}
