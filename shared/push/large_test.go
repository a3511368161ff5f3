package push_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/push"
)

const benchSecret = "It's a Secret to Everybody"

// atLimit is a push of GitHub as large as it sends any: the recorded one with as
// many changed files as go into 25 MB. Nobody has published one.
func atLimit(t testing.TB) ([]byte, int) {
	t.Helper()
	const head = "fd489864e7642b48eaad6e3f155c10e46810ec72"
	empty := changed(t, recorded(t, payloads[push.GitHub]), map[string]any{"commits": commits(1, head, func(int) map[string]any {
		return map[string]any{"modified": []any{"FILES"}}
	})})
	const entry = len(`"data/file-0000000.bin",`)
	n := (push.MaxBody - len(empty)) / entry
	var list bytes.Buffer
	list.Grow(n * entry)
	for i := range n {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `"data/file-%07d.bin"`, i)
	}
	body := bytes.Replace(empty, []byte(`"FILES"`), list.Bytes(), 1)
	return append(body, bytes.Repeat([]byte(" "), push.MaxBody-len(body))...), n
}

// The largest payload that a host sends is read whole.
func TestLargest(t *testing.T) {
	t.Parallel()
	body, n := atLimit(t)
	p := one(t, push.GitHub, body)
	if len(body) != push.MaxBody || !p.FilesKnown || len(p.Files) != n || p.Files[n-1] != fmt.Sprintf("data/file-%07d.bin", n-1) {
		t.Errorf("got %d files of %d bytes (%s), want %d of %d", len(p.Files), len(body), p.Unlisted, n, push.MaxBody)
	}
}

// BenchmarkDelivery is all that a delivery costs but for tables and queues:
// verify, read, match, make the jobs.
func BenchmarkDelivery(b *testing.B) {
	large, _ := atLimit(b)
	for name, body := range map[string][]byte{"typical": recorded(b, payloads[push.GitHub]), "25MB": large} {
		b.Run(name, func(b *testing.B) {
			m := hmac.New(sha256.New, []byte(benchSecret))
			m.Write(body)
			header := headers(
				"X-GitHub-Event", "push", "X-GitHub-Delivery", "d1", "X-Hub-Signature-256",
				"sha256="+hex.EncodeToString(m.Sum(nil)),
			)
			r := rule(b, withJob("branches: [master]\npaths: ['app/**', 'data/**']\njob: {pool: cpu, command: [train, '{{.Commit}}']}\n"))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				proof, err := push.ReadProof(push.GitHub, header)
				if err != nil || !proof.Verify(benchSecret, body) {
					b.Fatal("not verified", err)
				}
				d, err := push.Parse(push.GitHub, header, body)
				if err != nil {
					b.Fatal(err)
				}
				if fits, why := r.Match(&d.Pushes[0]); !fits {
					b.Fatal(why)
				}
				starts, err := r.MakeJobs(&d.Pushes[0], push.Key(push.GitHub, header, body))
				if err != nil || len(starts) != 1 || !strings.HasPrefix(starts[0].ID, "push-r-") {
					b.Fatal(starts, err)
				}
			}
		})
	}
}
