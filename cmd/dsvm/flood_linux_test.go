package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	floodSecret = "It's a Secret to Everybody"
	floodPosts  = 50
	floodBody   = 24 << 20
	floodMemory = 150 << 20 // that the handler may have by then
	// signedMemory is for deliveries of that size that are signed, 20 at once: to parse
	// one takes some 200 MB, and they are parsed one after the other.
	signedMemory = 400 << 20
)

// A flood of deliveries that nobody has signed, of the size of the largest ones,
// costs bounded memory, in the handler and in the host before it, and does not keep
// a small delivery out that is signed. It does not run beside other tests: it takes
// all of the machine.
func TestFloodOfDeliveries(t *testing.T) {
	m := startMachineWith(t, []string{"FLOOD_PUSH_SECRET=" + floodSecret}, t.TempDir())
	if _, err := m.client.Apply(m.ctx, []byte(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.ApplyRules(m.ctx, []byte(`{"name":"r","provider":"github","repository":"octo/*","secret":"FLOOD_PUSH_SECRET","source":false,
		"job":{"pool":"cpu","command":["true"]}}`)); err != nil {
		t.Fatal(err)
	}
	handler, host := m.child("handler"), m.cmd.Process.Pid
	hostBefore := peak(t, host)
	// A well-formed payload, so that what is signed is parsed as well.
	large := delivery("large", floodBody)
	forged := "sha256=" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, signature string
		chunked         bool
		posts           int
		memory          int64
		want            []int
	}{
		{"not signed", "", false, floodPosts, floodMemory, []int{401, 500}},
		{"not signed, in chunks", "", true, floodPosts, floodMemory, []int{401, 500}},
		{"forged", forged, false, floodPosts, floodMemory, []int{401, 500, 503, 408}},
		{"forged, in chunks", forged, true, floodPosts, floodMemory, []int{401, 500, 503, 408}},
		{"signed", sign(large), false, floodPosts / 5, signedMemory, []int{202, 500, 503, 408}},
	} {
		got := map[int]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range tt.posts {
			wg.Go(func() {
				status := m.deliver(bytes.NewReader(large), len(large), tt.chunked, tt.signature)
				mu.Lock()
				defer mu.Unlock()
				got[status]++
			})
		}
		small := delivery(tt.name, 100)
		begin := time.Now()
		if status := m.deliver(bytes.NewReader(small), len(small), false, sign(small)); status != http.StatusAccepted {
			t.Errorf("%s: a small delivery beside the flood got %d", tt.name, status)
		}
		beside := time.Since(begin)
		wg.Wait()
		known := 0
		for _, status := range tt.want {
			known += got[status]
		}
		// A body that comes too slowly ends the handler's connection. When the host still
		// writes by then, its client gets 500, or the end of its own connection.
		if known += got[0]; known != tt.posts || got[tt.want[0]] == 0 {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		if got := peak(t, handler); got > tt.memory {
			t.Errorf("%s: the handler has taken %d MB, want at most %d", tt.name, got>>20, tt.memory>>20)
		}
		t.Logf(
			"%-22s %v, a small one took %s, the handler's peak is %d MB, the host's %d MB",
			tt.name, got, beside.Round(time.Millisecond), peak(t, handler)>>20, peak(t, host)>>20,
		)
	}
	if now := m.child("handler"); now != handler {
		t.Fatalf("the handler has ended: process %d has become %d", handler, now)
	}
	if got := peak(t, host); got > hostBefore+floodMemory {
		t.Errorf("the host has grown from %d to %d MB", hostBefore>>20, got>>20)
	}
}

// delivery is a push of GitHub's of about this size, with as many commits as that
// takes: they are what a parser makes most of.
func delivery(name string, size int) []byte {
	commit := `{"id":"%040x","message":"Train on more data, and on better data","author":{"name":"ann"},"added":["data/a.csv","data/b.csv"],"removed":[],"modified":["src/train.py"]},`
	var commits strings.Builder
	for i := 1; commits.Len() < size; i++ {
		fmt.Fprintf(&commits, commit, i)
	}
	return fmt.Appendf(nil, `{"ref":"refs/heads/%s","before":"%040d","after":"%x","repository":{"full_name":"octo/model","clone_url":"https://github.com/octo/model.git"},
		"pusher":{"name":"p"},"head_commit":{"id":"%[3]x","message":"m","author":{"name":"a"}},"commits":[%s]}`,
		strings.Map(func(r rune) rune {
			if r == ' ' || r == ',' {
				return '-'
			}
			return r
		}, name),
		1,
		sha256.Sum256([]byte(name)),
		strings.TrimSuffix(commits.String(), ","),
	)
}

func sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(floodSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends a delivery and returns the status; 0 when the connection was broken
// off meanwhile.
func (m *machine) deliver(body io.Reader, length int, chunked bool, signature string) int {
	ctx, cancel := context.WithTimeout(m.ctx, time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", m.in.URL+"/api/push/github", io.NopCloser(body))
	if err != nil {
		return -1
	}
	if r.ContentLength = int64(length); chunked {
		r.ContentLength = -1
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	if signature != "" {
		r.Header.Set("X-Hub-Signature-256", signature)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	reply.Body.Close()
	return reply.StatusCode
}

// peak is the most memory that a process has ever had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d has no VmHWM", pid)
	return 0
}
