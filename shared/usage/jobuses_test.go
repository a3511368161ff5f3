package usage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func someUses(r *rand.Rand, n int) JobUses {
	uses := make(JobUses, n)
	for i := range uses {
		uses[i] = jobUse{
			job: fmt.Sprintf("j%x", r.Uint64()>>r.IntN(60)), sum: r.IntN(50), labels: []int{}, only: r.IntN(2) == 0,
			length: Ticks(r.Int64N(1 << 40)), held: r.Int64N(1 << r.IntN(50)),
		}
		for range r.IntN(3) {
			uses[i].labels = append(uses[i].labels, r.IntN(1000))
		}
	}
	slices.SortStableFunc(uses, func(a, b jobUse) int { return strings.Compare(a.job, b.job) })
	return uses
}

// Uses are the same after they were a text, also when they take several.
func TestUsesAsText(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 1000} {
		want := someUses(r, n)
		texts, err := want.Split(400, 4_000)
		if err != nil {
			t.Fatal(err)
		}
		got := JobUses{}
		for _, text := range texts {
			var part JobUses
			if err := part.UnmarshalText([]byte(text)); err != nil || len(text) > 4_000 {
				t.Fatalf("%d bytes, %v", len(text), err)
			}
			got = append(got, part...)
		}
		if len(got) != n {
			t.Fatalf("got %d of %d uses", len(got), n)
		}
		for i := range got {
			if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
				t.Fatalf("use %d of %d: got %v, want %v", i, n, got[i], want[i])
			}
		}
	}
	if _, err := (JobUses{{job: strings.Repeat("ab", 500)}}).Split(1, 10); err == nil {
		t.Error("an id that is too long was split")
	}
}

// A damaged text is an error, and nothing worse.
func FuzzUses(f *testing.F) {
	text, err := someUses(rand.New(rand.NewPCG(3, 4)), 20).MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		var uses JobUses
		if err := uses.UnmarshalText(text); err != nil {
			return
		}
		again, err := uses.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var same JobUses
		if err := same.UnmarshalText(again); err != nil || len(same) != len(uses) {
			t.Errorf("%d uses are %d when read again, %v", len(uses), len(same), err)
		}
	})
}

// The cost by which a use is sorted is that which its line shows, also half way between two units.
func TestCostOfAUse(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		of := int64(1 + r.IntN(96))
		held := 1 + r.Int64N(of)
		price := []string{"0.192", "0.0036", "3.673", "0.000072", "100.5"}[r.IntN(5)]
		length := Ticks(r.Int64N(int64(1) << r.IntN(42)))
		if r.IntN(4) == 0 {
			length = length / 500_000 * 500_000 // so that many are half way
		}
		e := attempt("j", "", time.Duration(length)*Tick, int(held), int(of), price, "EUR")
		e.State = "succeeded"
		var s Sums
		s.Add(&e)
		b, err := NewBuilder(Query{By: ByJob, Order: OrderCost, From: noon, To: noon.AddDate(1, 0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		b.AddUses("cpu", &s, s.TakeUses())
		amount := b.window.lines[0].Amount
		b.AddSums("cpu", noon, &s)
		g := b.Report(noon).Groups[0]
		if shown, err := strconv.ParseFloat(g.Cost, 64); err != nil || shown != amount {
			t.Fatalf("%d of %d for %s at %s: sorted by %v, shown as %s", held, of, length, price, amount, g.Cost)
		}
	}
}

// A window has the first lines of a report, whatever the order in which they come, and after them the next.
func TestWindow(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	var groups []Group
	for i := range 500 {
		g := Group{Key: fmt.Sprint(i), Cost: fmt.Sprintf("%d.00", r.IntN(40)), Currency: []string{"EUR", "USD"}[r.IntN(2)], Jobs: r.IntN(5), Seconds: Ticks(r.IntN(50))}
		if r.IntN(5) == 0 {
			g.Cost, g.Currency = UnknownPrice, ""
		}
		groups = append(groups, g)
	}
	for _, order := range Orders {
		all := window{order: order}
		for _, g := range groups {
			all.offerGroup(g)
		}
		all.cut()
		var seen []Group
		for after, more := (*Position)(nil), true; more; {
			w := window{order: order, size: 7, after: after}
			for _, i := range r.Perm(len(groups)) {
				w.offerGroup(groups[i])
			}
			if w.cut(); w.all != len(groups) || len(w.lines) > 7 {
				t.Fatalf("by %s: got %d lines of %d", order, len(w.lines), w.all)
			}
			for i := range w.lines {
				seen = append(seen, *w.lines[i].group)
			}
			more, after = w.more, &w.lines[len(w.lines)-1].Position
		}
		if len(seen) != len(groups) {
			t.Fatalf("by %s: got %d of %d lines", order, len(seen), len(groups))
		}
		for i := range seen {
			if seen[i] != *all.lines[i].group {
				t.Fatalf("by %s: line %d is %+v, want %+v", order, i, seen[i], *all.lines[i].group)
			}
		}
	}
}
