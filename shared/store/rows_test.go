package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// filler sets every exported field of a value, below it too, so that a field
// that is added later and forgotten in a row fails the tests.
type filler struct{ *rand.Rand }

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[job.Duration]()
)

func (f filler) fill(v reflect.Value) {
	zero := f.IntN(8) == 0
	switch {
	case zero:
		v.SetZero()
		return
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(f.time()))
		return
	case v.Type() == reflect.TypeFor[job.Bytes]():
		v.SetInt(f.Int64N(1 << 40))
		return
	case v.Type() == durationType:
		v.SetInt(int64(time.Duration(f.IntN(1e6)) * time.Second))
		return
	}
	switch v.Kind() {
	case reflect.Float64:
		v.SetFloat(f.Float64() * 1e6)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(f.Int64N(1<<50) - 1<<49)
	case reflect.Uint8:
		v.SetUint(f.Uint64N(256))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+f.IntN(3), 4))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + f.IntN(3) {
			value := reflect.New(v.Type().Elem()).Elem()
			f.fill(value)
			v.SetMapIndex(reflect.ValueOf(f.text()), value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	default:
		panic(fmt.Sprintf("no random value for %s", v.Type()))
	}
}

func (f filler) time() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(f.Int64N(1e10)) * table.Tick)
}

func (f filler) text() string {
	alphabet := []rune("abcXYZ019 -_.'\"\\<>&/#?%\n\té世😀")
	b := make([]rune, 1+f.IntN(30))
	for i := range b {
		b[i] = alphabet[f.IntN(len(alphabet))]
	}
	return string(b)
}

// again sends a row through the client's own decoding and encoding, which all
// rows pass on their way back.
func again(t *testing.T, raw []byte) []byte {
	t.Helper()
	var row map[string]any
	if err := json.Unmarshal(raw, &row); err != nil {
		t.Fatalf("row is not JSON: %v\n%s", err, raw)
	}
	back, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func random[T any](f filler) *T {
	v := new(T)
	f.fill(reflect.ValueOf(v).Elem())
	return v
}

func TestRowsKeepEveryField(t *testing.T) {
	t.Parallel()
	f := filler{rand.New(rand.NewPCG(1, 2))}
	for range 300 {
		head := random[pool.Head](f)
		text, err := table.Compact(&head.Spec)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := encodeHead("cpu", head, headRow{Version: pool.Version{SpecHash: fingerprint(text)}, spec: text})
		if err != nil {
			t.Fatal(err)
		}
		gotHead, version, err := decodeHead(again(t, raw))
		if err != nil || !reflect.DeepEqual(gotHead, *head) {
			t.Fatalf("head came back as %+v (%v), want %+v", gotHead, err, *head)
		}
		if want := (pool.Version{Seq: head.Seq, Nonce: head.Nonce, SpecHash: fingerprint(text)}); version != want {
			t.Fatalf("version came back as %+v, want %+v", version, want)
		}

		node := random[pool.Node](f)
		gotNode, err := decodeNode(again(t, encodeNode("cpu", "node!x", node)))
		if err != nil || !reflect.DeepEqual(gotNode, node) {
			t.Fatalf("node came back as %+v (%v), want %+v", gotNode, err, node)
		}

		j := random[pool.Job](f)
		j.Archived, j.ConflictAt, j.Bundled = nil, time.Time{}, false // of a job without rows, of its id, and of its row
		raw, err = encodeJob("cpu", "job!x", j)
		if err != nil {
			t.Fatal(err)
		}
		gotJob, err := decodeJob(again(t, raw))
		if err != nil || !reflect.DeepEqual(gotJob, j) {
			t.Fatalf("job came back as %+v (%v), want %+v", gotJob, err, j)
		}

		bundle := &pool.Bundle{Key: pool.BundleKey(order(1)), Jobs: []*pool.Job{j, random[pool.Job](f)}}
		for _, j := range bundle.Jobs {
			j.Archived, j.ConflictAt, j.Bundled = nil, time.Time{}, true
		}
		raw, err = encodeBundle("cpu", bundle)
		if err != nil {
			t.Fatal(err)
		}
		gotJobs, err := decodeBundle(again(t, raw))
		if err != nil || !reflect.DeepEqual(gotJobs, bundle.Jobs) {
			t.Fatalf("bundle came back as %+v (%v), want %+v", gotJobs, err, bundle.Jobs)
		}

		l := random[pool.Log](f)
		l.Page = 0 // of the row's key
		raw, err = encodeLog("cpu", "log!x", l)
		if err != nil {
			t.Fatal(err)
		}
		gotLog, err := decodeLog(again(t, raw))
		if err != nil || !reflect.DeepEqual(gotLog, l) {
			t.Fatalf("log came back as %+v (%v), want %+v", gotLog, err, l)
		}

		id := random[ID](f)
		gotID, nonce, err := decodeID(again(t, encodeID(id, "n")))
		if err != nil || nonce != "n" || !reflect.DeepEqual(gotID, *id) {
			t.Fatalf("id came back as %+v (%v), want %+v", gotID, err, *id)
		}
	}
}

// checkRoundTrip fills every exported field of many rows, and fails when one of them
// does not come back. fix sets what cannot have any value.
func checkRoundTrip[T any](t *testing.T, fix func(filler, *T), encode func(*T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	f := filler{rand.New(rand.NewPCG(7, 8))}
	for range 100 {
		want := random[T](f)
		fix(f, want)
		raw, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(again(t, raw)); err != nil || !reflect.DeepEqual(got, *want) {
			t.Fatalf("%T came back as %+v (%v), want %+v", got, got, err, *want)
		}
	}
}

func TestRowsOfPushesKeepEveryField(t *testing.T) {
	t.Parallel()
	checkRoundTrip(t, func(filler, *RuleRow) {}, encodeRule, decodeRule)
	checkRoundTrip(t, func(f filler, p *PushRecord) {
		p.Jobs, p.At = []string{"push-r-1", "push-r-1-prep"}, f.time()
	}, encodePush, decodePush)
	checkRoundTrip(t, func(filler, *StatusWatch) {}, func(w *StatusWatch) ([]byte, error) {
		return encodeStatusWatch(w), nil
	}, decodeStatusWatch)
}

func TestRowsOfRetentionKeepEveryField(t *testing.T) {
	t.Parallel()
	checkRoundTrip(t, func(filler, *fileProgress) {}, func(at *fileProgress) ([]byte, error) {
		return encodeFileProgress("cpu", *at), nil
	}, decodeFileProgress)
	checkRoundTrip(t, func(f filler, e *Expiry) {
		e.Jobs = []ArchivedJob{{order(1), "a"}, {job.MemberOrder(order(2), 3), "b.3"}}
		e.key = ExpireIDs.from(dawn) + "!" + e.Jobs[0].Order
	}, func(e *Expiry) ([]byte, error) {
		row, n := encodeExpiry(ExpireIDs, e.Pool, dawn, e.Jobs)
		if n != len(e.Jobs) {
			return nil, fmt.Errorf("%d of %d jobs fit", n, len(e.Jobs))
		}
		return row, nil
	}, decodeExpiry)
}

// TestTombstonesKeepEveryField merges ends of jobs into rows of ids.
func TestTombstonesKeepEveryField(t *testing.T) {
	t.Parallel()
	f := filler{rand.New(rand.NewPCG(9, 10))}
	for range 100 {
		want, j := random[ID](f), random[pool.Job](f)
		want.State, want.Reason, want.End = "", "", End{}
		var row map[string]any
		for _, raw := range [][]byte{encodeID(want, "n"), encodeTombstone(j)} {
			if err := json.Unmarshal(raw, &row); err != nil {
				t.Fatal(err)
			}
		}
		merged, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		want.State, want.Reason, want.End = j.State, j.Reason, endOf(j)
		// The tombstone is written to the row of the job's own id; here the ids differ.
		if got, _, err := decodeID(merged); err != nil || !reflect.DeepEqual(got, *want) {
			t.Fatalf("came back as %+v (%v), want %+v", got, err, *want)
		}
	}
}

func TestUsageRowsKeepEveryField(t *testing.T) {
	t.Parallel()
	f := filler{rand.New(rand.NewPCG(3, 4))}
	for range 300 {
		entry := random[usage.Entry](f)
		for _, d := range []*time.Duration{&entry.Boot, &entry.Busy, &entry.Idle, &entry.Draining} {
			*d = d.Truncate(table.Tick)
		}
		if entry.From.IsZero() || entry.To.IsZero() {
			continue
		}
		want := usage.NewRow(*entry)
		got, err := decodeUsage(again(t, encodeUsage("2026-01-01", "k", &want)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("usage came back as %+v (%v), want %+v", got, err, want)
		}
	}
}

// TestMergeClears makes sure that what became zero is written as zero when a
// head is merged, which leaves absent properties as they were.
func TestMergeClears(t *testing.T) {
	t.Parallel()
	f := filler{rand.New(rand.NewPCG(5, 6))}
	full := random[pool.Head](f)
	raw, err := encodeHead("cpu", full, headRow{spec: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(raw, &row); err != nil {
		t.Fatal(err)
	}
	if raw, err = encodeHead("cpu", &pool.Head{}, headRow{}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &row); err != nil { // into the old one: a merge
		t.Fatal(err)
	}
	merged, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := decodeHead(merged)
	if err != nil || !reflect.DeepEqual(got, pool.Head{}) {
		t.Errorf("merged head is %+v (%v), want all zero", got, err)
	}
}

// checkLimits fails when a row breaks a limit of the service.
func checkLimits(t *testing.T, raw []byte) {
	t.Helper()
	var row map[string]any
	if err := json.Unmarshal(raw, &row); err != nil {
		t.Fatal(err)
	}
	for name, value := range row {
		if s, ok := value.(string); ok && len(utf16.Encode([]rune(s))) > 32<<10 {
			t.Errorf("property %s has %d UTF-16 units, more than 32 Ki", name, len(utf16.Encode([]rune(s))))
		}
	}
	if len(raw) > 1<<20 {
		t.Errorf("row has %d bytes, more than 1 MiB", len(raw))
	}
}

func TestLongRows(t *testing.T) {
	t.Parallel()
	script := strings.Repeat("echo \"😀\" & <x>\n", 32<<10/18)
	control := strings.Repeat("\x01", 32<<10)
	for _, text := range []string{script, control} {
		j := &pool.Job{Order: "o", ID: "j", Reason: strings.Repeat("é", 1e5), Spec: job.Spec{Pool: "cpu", Script: text}}
		for i := range 5000 {
			j.Attempts = append(j.Attempts, job.Attempt{Number: i + 1, Node: "cpu_1", Reason: text, EndedAt: time.Unix(1, 0).UTC()})
		}
		raw, err := encodeJob("cpu", "job!o", j)
		if err != nil {
			t.Fatal(err)
		}
		checkLimits(t, raw)
		got, err := decodeJob(again(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		if got.Spec.Script != text {
			t.Errorf("a script of %d bytes came back with %d", len(text), len(got.Spec.Script))
		}
		if len(got.Reason) == 0 || len(got.Reason) >= 1e5 {
			t.Errorf("reason came back with %d bytes, want its beginning", len(got.Reason))
		}
		last := got.Attempts[len(got.Attempts)-1]
		if n := len(got.Attempts); n < 10 || n > maxAttempts || last.Number != 5000 {
			t.Errorf("%d attempts came back, the last is %d; want up to %d and 5000", n, last.Number, maxAttempts)
		}
		if len(j.Attempts[4999].Reason) != len(text) {
			t.Error("writing a job changed it")
		}
	}
}

func TestLogWithoutRoomLosesLabelsOnly(t *testing.T) {
	t.Parallel()
	l := &pool.Log{Seq: 7}
	for i := range 90 {
		l.Entries = append(l.Entries, usage.Entry{
			Kind: usage.KindAttempt, Key: fmt.Sprint(i), Pool: "cpu", Price: "1.5", Currency: "EUR",
			Labels: map[string]string{"l": strings.Repeat("x", 30_000)},
		})
	}
	raw, err := encodeLog("cpu", pool.LogKey(7), l)
	if err != nil {
		t.Fatal(err)
	}
	checkLimits(t, raw)
	got, err := decodeLog(again(t, raw))
	if err != nil || len(got.Entries) != 90 || got.Entries[89].Price != "1.5" || got.Entries[89].Labels != nil {
		t.Errorf("got %d entries (%v), want 90 with their prices and without labels", len(got.Entries), err)
	}
	if l.Entries[0].Labels == nil {
		t.Error("writing a log changed it")
	}
}

// Operations of many rungs at once may be too much for a row; then those go that a
// listing replaces, and never the ones in flight.
func TestManyOperationsInOneRow(t *testing.T) {
	t.Parallel()
	head := &pool.Head{Spec: pool.Spec{Name: "cpu"}}
	for i := range 10 {
		token := strings.Repeat("t", 2500)
		head.Sets = append(
			head.Sets,
			pool.Set{Name: fmt.Sprint(i), Op: pool.Op{Kind: pool.OpGrow, Token: token, Under: &pool.Op{Kind: pool.OpGrow, Token: token}}},
		)
	}
	raw, err := encodeHead("cpu", head, headRow{spec: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	checkLimits(t, raw)
	got, _, err := decodeHead(again(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	under := 0
	for i, s := range got.Sets {
		if s.Op.Token != head.Sets[i].Op.Token {
			t.Errorf("set %d lost its operation", i)
		}
		if s.Op.Under != nil {
			under++
		}
	}
	if under == 0 || under == 10 || head.Sets[0].Op.Under == nil {
		t.Errorf("%d of ten are left, and the head itself has %v", under, head.Sets[0].Op.Under != nil)
	}
}

// A row of a release before asks, breakers and the time of the request for a node.
func TestRowsOfBefore(t *testing.T) {
	t.Parallel()
	head, _, err := decodeHead(
		[]byte(
			`{"PartitionKey":"cpu","RowKey":"head","Seq":"7","Spec":"{\"name\":\"cpu\"}","BadBoots":2,"BlockCode":"internal","BlockMessage":"x","BlockTries":1,
		"Sets":"[{\"name\":\"d4s-v5\",\"size\":\"Standard_D4s_v5\",\"capacity\":2,\"maybe\":3,\"pendingSince\":\"2026-01-01T00:00:00Z\",\"op\":{\"kind\":\"grow\",\"target\":3}}]"}`,
		),
	)
	if err != nil || len(head.Sets) != 1 || head.Sets[0].Op.Target != 3 || head.Sets[0].PendingSince.IsZero() ||
		head.Sets[0].Breaker.Open() {
		t.Errorf("got %+v (%v)", head, err)
	}
	n, err := decodeNode(
		[]byte(`{"PartitionKey":"cpu","RowKey":"node!a","VMID":"a","State":"creating","CreatedAt":"2026-01-01T00:00:00Z"}`),
	)
	if err != nil || n.CreatedAt.IsZero() || !n.AskedAt.IsZero() {
		t.Errorf("got %+v (%v)", n, err)
	}
}

func TestDamagedRowsAreNamed(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"PartitionKey":"cpu","RowKey":"job!1","Spec":"{","N":"5"}`)
	_, err := decodeJob(raw)
	if err == nil || !strings.Contains(err.Error(), "job!1") || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("got error %v, want one that names the row and the partition", err)
	}
}

// TestNewerRowsAreRefused makes sure that a head which a newer release has written in
// another format is not read as if it said what this release knows.
func TestNewerRowsAreRefused(t *testing.T) {
	t.Parallel()
	raw, err := encodeHead("cpu", &pool.Head{Bundled: true}, headRow{carries: true, spec: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := decodeHead(raw); err != nil {
		t.Errorf("a head of this release: %v", err)
	}
	newer := bytes.Replace(raw, []byte(`"Format":3`), []byte(`"Format":4`), 1)
	const want = "the rows of pool cpu have the format 4, which a newer release has written; this release reads up to 3: deploy the newer one again"
	if _, _, err := decodeHead(newer); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
