package usage

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func attempt(job, team string, length time.Duration, cpus, of int, price, currency string) Entry {
	return Entry{
		Kind: KindAttempt, Key: job + "!1", Pool: "cpu", Team: team, User: "ann", Job: job, CPUs: cpus, NodeCPUs: of,
		From: noon, To: noon.Add(length), Price: price, Currency: currency,
	}
}

func node(length time.Duration, price, currency string) Entry {
	return Entry{Kind: KindNode, Key: "vm!1", Pool: "cpu", NodeCPUs: 4, From: noon, To: noon.Add(length), Price: price, Currency: currency}
}

func TestCost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		entry Entry
		want  string
	}{
		{"a node's hour", node(time.Hour, "0.40", "EUR"), "0.40"},
		{"a node's second", node(time.Second, "0.1", "EUR"), "0.0000277778"},
		{"a quarter of a node", attempt("a", "", time.Hour, 1, 4, "0.40", "EUR"), "0.10"},
		{"a third, rounded", attempt("a", "", time.Hour, 1, 3, "1", "EUR"), "0.3333333333"},
		{"half a unit goes up", attempt("a", "", time.Hour, 1, 2, "0.0000000001", "EUR"), "0.0000000001"},
		{"no time", node(0, "0.40", "EUR"), "0.00"},
		{"a clock set back", node(-time.Hour, "0.40", "EUR"), "0.00"},
		{"more cpus than the node has", attempt("a", "", time.Hour, 8, 4, "0.40", "EUR"), "0.40"},
		{"free of charge", node(time.Hour, "0", "EUR"), "0.00"},
		{"large", node(10*365*24*time.Hour, "999999.99", "EUR"), "87599999124.00"},
		{"unknown price", node(time.Hour, UnknownPrice, ""), UnknownPrice},
		{"no price", node(time.Hour, "", "EUR"), UnknownPrice},
		{"not a price", node(time.Hour, "1e3", "EUR"), UnknownPrice},
		{"unknown share", attempt("a", "", time.Hour, 1, 0, "0.40", "EUR"), UnknownPrice},
	} {
		if got := NewRow(c.entry).Cost; got != c.want {
			t.Errorf("%s: cost is %s, want %s", c.name, got, c.want)
		}
	}
}

// An attempt pays for the largest of its parts of a node.
func TestShare(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		name  string
		entry Entry
		share float64
		cost  string
	}{
		{"as it was", Entry{CPUs: 6, NodeCPUs: 24}, 0.25, "1.00"},
		{"the only GPU", Entry{CPUs: 1, NodeCPUs: 24, GPUs: 1, NodeGPUs: 1}, 1, "4.00"},
		{"a GPU of four", Entry{CPUs: 1, NodeCPUs: 24, GPUs: 1, NodeGPUs: 4}, 0.25, "1.00"},
		{"more cpus than GPUs", Entry{CPUs: 12, NodeCPUs: 24, GPUs: 1, NodeGPUs: 4}, 0.5, "2.00"},
		{"memory", Entry{CPUs: 1, NodeCPUs: 24, Memory: 330 * gib, NodeMem: 440 * gib}, 0.75, "3.00"},
		{"memory nobody knows", Entry{CPUs: 6, NodeCPUs: 24, Memory: 330 * gib}, 0.25, "1.00"},
		{"more memory than there is", Entry{CPUs: 1, NodeCPUs: 24, Memory: 1 << 62, NodeMem: 1 << 40}, 1, "4.00"},
		{"memory that was never kept free", Entry{CPUs: 6, NodeCPUs: 24, Memory: -1, NodeMem: 440 * gib}, 0.25, "1.00"},
		{"fractions beyond 64 bits", Entry{CPUs: 1 << 40, NodeCPUs: 1 << 42, Memory: 3 << 60, NodeMem: 1 << 62}, 0.75, "3.00"},
		{"no cpus, as far as is known", Entry{CPUs: 1, GPUs: 1, NodeGPUs: 1}, 0, UnknownPrice},
	} {
		e := c.entry
		e.Kind, e.From, e.To, e.Price = KindAttempt, noon, noon.Add(30*24*time.Hour/720), "4"
		if r := NewRow(e); r.Share != c.share || r.Cost != c.cost || r.NodeSeconds != time.Duration(c.share*float64(r.Seconds)) {
			t.Errorf("%s: got %v of the node for %s and %s, want %v for %s", c.name, r.Share, r.NodeSeconds, r.Cost, c.share, c.cost)
		}
	}
}

func TestRowKeys(t *testing.T) {
	t.Parallel()
	e := attempt("a", "", 13*time.Hour, 1, 4, "1", "EUR")
	e.To = e.To.In(time.FixedZone("", -8*3600)) // still the 31st there
	partition, row := e.Keys()
	if partition != "2026-02-01" || row != "cpu!attempt!a!1" {
		t.Errorf("keys are %s and %s, want the UTC day of the end and pool!kind!key", partition, row)
	}
	r := NewRow(e)
	if r.Seconds != 13*time.Hour || r.NodeSeconds != 13*time.Hour/4 || r.To.Location() != time.UTC {
		t.Errorf("seconds %s, node seconds %s, end %s", r.Seconds, r.NodeSeconds, r.To)
	}
}

func rows(entries ...Entry) []Row {
	out := make([]Row, len(entries))
	for i, e := range entries {
		out[i] = NewRow(e)
	}
	return out
}

// summarize is a report of rows.
func summarize(rows []Row, by Grouping) ([]Group, error) {
	if err := CheckGrouping(by); err != nil {
		return nil, err
	}
	s := newSummary(by)
	for i := range rows {
		s.add(&rows[i], false)
	}
	return s.groups(), nil
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	hour := Ticks(time.Hour / Tick)
	mixed := rows(
		node(4*time.Hour, "0.40", "EUR"),
		attempt("a", "vision", time.Hour, 2, 4, "0.40", "EUR"),
		attempt("b", "speech", 2*time.Hour, 1, 4, "0.40", "EUR"),
		attempt("c", "speech", time.Hour, 4, 4, UnknownPrice, ""),
	)
	gpu := attempt("a", "vision", time.Hour, 1, 4, "4", "EUR")
	gpu.GPUs, gpu.NodeGPUs = 1, 1
	crowded := rows(node(time.Hour, "4", "EUR"), gpu, attempt("b", "speech", time.Hour, 3, 4, "4", "EUR"))
	for _, c := range []struct {
		name string
		rows []Row
		by   Grouping
		want []Group
	}{
		{"pool, unknown prices apart", mixed, ByPool, []Group{
			{By: ByPool, Key: "cpu", Jobs: 2, Seconds: 3 * hour, NodeSeconds: 4 * hour, Cost: "0.40", Waste: "1.20", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
			{By: ByPool, Key: "cpu", Jobs: 1, Seconds: hour, Cost: UnknownPrice},
		}},
		{"team, waste is nobody's", mixed, ByTeam, []Group{
			{By: ByTeam, Key: "", NodeSeconds: 3 * hour, Cost: "0.00", Waste: "1.20", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
			{By: ByTeam, Key: "speech", Jobs: 1, Seconds: 2 * hour, NodeSeconds: hour / 2, Cost: "0.20", Currency: "EUR"},
			{By: ByTeam, Key: "speech", Jobs: 1, Seconds: hour, NodeSeconds: hour, Cost: UnknownPrice},
			{By: ByTeam, Key: "vision", Jobs: 1, Seconds: hour, NodeSeconds: hour / 2, Cost: "0.20", Currency: "EUR"},
		}},
		{"two currencies", rows(node(time.Hour, "1", "USD"), node(time.Hour, "2", "EUR")), ByDay, []Group{
			{By: ByDay, Key: "2026-01-31", NodeSeconds: hour, Cost: "0.00", Waste: "2.00", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
			{By: ByDay, Key: "2026-01-31", NodeSeconds: hour, Cost: "0.00", Waste: "1.00", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "USD"},
		}},
		{"attempts alone have no waste", rows(attempt("a", "", time.Hour, 1, 4, "0.4", "EUR")), ByJob, []Group{
			{By: ByJob, Key: "a", Jobs: 1, Seconds: hour, NodeSeconds: hour / 4, Cost: "0.10", Currency: "EUR"},
		}},
		{"an unknown share makes the waste unknown", rows(node(time.Hour, "1", "EUR"), attempt("a", "", time.Hour, 1, 0, "1", "EUR")), ByPool, []Group{
			{By: ByPool, Key: "cpu", NodeSeconds: hour, Cost: "0.00", Waste: UnknownPrice, Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
			{By: ByPool, Key: "cpu", Jobs: 1, Seconds: hour, Cost: UnknownPrice},
		}},
		{"attempts of one job", rows(attempt("a", "", time.Hour, 1, 4, "1", "EUR"), attempt("a", "", time.Hour, 1, 4, "2", "EUR")), ByUser, []Group{
			{By: ByUser, Key: "ann", Jobs: 1, Seconds: 2 * hour, NodeSeconds: hour / 2, Cost: "0.75", Currency: "EUR"},
		}},
		{"shares of more than a node", crowded, ByPool, []Group{
			{By: ByPool, Key: "cpu", Jobs: 2, Seconds: 2 * hour, NodeSeconds: hour, Cost: "7.00", Waste: "-3.00", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
		}},
		{"shares of more than a node, by team", crowded, ByTeam, []Group{
			{By: ByTeam, Key: "", NodeSeconds: -3 * hour / 4, Cost: "0.00", Waste: "-3.00", Boot: "0.00", Idle: "0.00", Draining: "0.00", Currency: "EUR"},
			{By: ByTeam, Key: "speech", Jobs: 1, Seconds: hour, NodeSeconds: 3 * hour / 4, Cost: "3.00", Currency: "EUR"},
			{By: ByTeam, Key: "vision", Jobs: 1, Seconds: hour, NodeSeconds: hour, Cost: "4.00", Currency: "EUR"},
		}},
		{"nothing", nil, ByPool, []Group{}},
	} {
		got, err := summarize(c.rows, c.by)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v (%v), want %+v", c.name, got, err, c.want)
		}
	}
	for _, by := range []Grouping{"colour", "label:", "label", ""} {
		if _, err := summarize(nil, by); err == nil {
			t.Errorf("grouping by %q was accepted", by)
		}
	}
}

// TestSumsAreExact adds a million small shares, each of which is rounded in
// its own row: the sum is not.
func TestSumsAreExact(t *testing.T) {
	t.Parallel()
	s := newSummary(ByPool)
	row := NewRow(attempt("a", "", time.Second, 1, 3, "0.1", "EUR"))
	for range 1_080_000 {
		s.add(&row, false)
	}
	if got, want := s.groups()[0].Cost, "10.00"; got != want {
		t.Errorf("cost is %s, want %s", got, want)
	}
}

// TestEveryGroupingAddsUp checks on random rows that cost and waste of all
// lines are what the nodes cost, however they are grouped.
func TestEveryGroupingAddsUp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	var all []Row
	for i := range 500 {
		length := time.Duration(r.IntN(3600)) * time.Second
		name := string(rune('a' + i%7))
		e := attempt(name, name, length, 1+r.IntN(4), 4, "3.6", "EUR")
		e.GPUs, e.NodeGPUs, e.Memory, e.NodeMem = r.IntN(3), 2, r.Int64N(9)<<30, 8<<30
		all = append(all, NewRow(e), NewRow(node(2*length, "3.6", "EUR")))
	}
	var paid int64 // seconds; one costs 0.001
	for _, row := range all {
		if row.Kind == KindNode {
			paid += int64(row.Seconds / time.Second)
		}
	}
	for _, by := range append(Groupings, Grouping("label:x")) {
		groups, err := summarize(all, by)
		if err != nil {
			t.Fatal(err)
		}
		var sum int64 // in 0.000001
		var nodes Ticks
		for _, g := range groups {
			sum += micro(t, g.Cost) + micro(t, g.Waste)
			nodes += g.NodeSeconds
		}
		if sum != paid*1000 || nodes != Ticks(paid)*Ticks(ticksPerSecond) {
			t.Errorf("by %s: cost and waste add up to %d and node time to %s, want %d and %d", by, sum, nodes, paid*1000, paid)
		}
	}
}

func micro(t *testing.T, s string) int64 {
	t.Helper()
	if s == "" {
		return 0
	}
	r, ok := ParsePrice(s)
	if !ok {
		t.Fatalf("%q is not an amount", s)
	}
	r.Mul(r, new(big.Rat).SetInt64(1_000_000))
	if !r.IsInt() {
		t.Fatalf("%q has more than six decimals", s)
	}
	return r.Num().Int64()
}

func TestGroupJSON(t *testing.T) {
	t.Parallel()
	g := Group{By: ByTeam, Key: `vi"sion`, Jobs: 3, Seconds: 125_000_000, NodeSeconds: 1, Cost: "1.50", Waste: "", Currency: "EUR"}
	text, err := json.Marshal(g)
	want := `{"team":"vi\"sion","jobs":3,"seconds":12.5,"nodeSeconds":0.0000001,"cost":"1.50","waste":"","currency":"EUR","open":0}`
	if err != nil || string(text) != want {
		t.Errorf("got %s (%v), want %s", text, err, want)
	}
	var back Group
	if err := json.Unmarshal(text, &back); err != nil || back != g {
		t.Errorf("came back as %+v (%v), want %+v", back, err, g)
	}
}

func FuzzParsePrice(f *testing.F) {
	for _, s := range []string{"0", "1.5", "unknown", "-1", "1e9", "1/2", ".5", "5.", "0x1", "1_0", "999999999999.999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		price, ok := ParsePrice(s)
		if ok && (price.Sign() < 0 || len(s) > 2*maxPriceDigits+1) {
			t.Errorf("%q was taken for the price %s", s, price)
		}
	})
}

func FuzzTicks(f *testing.F) {
	for _, s := range []string{"0", "12.5", "-3", "1e99999999", "922337203685.4775807", "999999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var ticks, again Ticks
		if ticks.UnmarshalJSON([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalJSON([]byte(ticks.String())); err != nil || again != ticks {
			t.Errorf("%q is %s, which is %s (%v)", s, ticks, again, err)
		}
	})
}
