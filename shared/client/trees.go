package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

const (
	// uploadTimeout bounds the sending of one pack: the platform cuts an answer after 230 s.
	uploadTimeout = 220 * time.Second
	// uploadsAtOnce are enough to fill a line whose answers take their time.
	uploadsAtOnce = 3
	// uploadTries and longestUploadPause are about a minute: longer than a server takes to
	// be replaced. Every part of sending a folder is harmless twice.
	uploadTries        = 9
	longestUploadPause = 10 * time.Second
)

// TreeFile is a file, or a symbolic link, of a folder that is to be sent.
type TreeFile struct {
	Path    string                        // below the folder, with /
	Program bool                          // it may be run
	Link    string                        // what a link leads to; "" = it is a file
	Open    func() (io.ReadCloser, error) // of a file; it may be called several times
}

// TreeText is a file of a folder whose content is there.
func TreeText(path string, content []byte) TreeFile {
	return TreeFile{Path: path, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(content))), nil }}
}

// SentTree says what came of sending a folder.
type SentTree struct {
	Name  string // what `source.tree` of a job takes
	Files int
	Bytes int64 // of all files together
	New   int64 // of these, what the instance did not have
	Sent  int64 // bytes of the packs that were sent for it
}

// TreeLimits asks how large a folder may be.
func (c *Client) TreeLimits(ctx context.Context) (tree.Limits, error) {
	answer, err := c.missing(ctx, wire.TreeQuestion{})
	return tree.Limits{Bytes: answer.MaxBytes, Files: answer.MaxFiles}, err
}

func (c *Client) missing(ctx context.Context, q wire.TreeQuestion) (wire.TreeAnswer, error) {
	var answer wire.TreeAnswer
	body, err := json.Marshal(q)
	if err != nil {
		return answer, err
	}
	err = c.insist(ctx, request{method: "POST", path: "/api/files/missing", body: body, timeout: uploadTimeout,
		header: http.Header{"Content-Type": {"application/json"}}}, &answer)
	return answer, err
}

// insist makes a request that is harmless twice, again and again while the instance is
// away or busy.
func (c *Client) insist(ctx context.Context, r request, into any) error {
	for try := 1; ; try++ {
		err := c.call(ctx, r, into)
		if err == nil || ctx.Err() != nil || try == uploadTries || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff.After(try, firstPause, longestUploadPause)):
		}
	}
}

// errChanged is a file that changed while it was sent.
type errChanged struct{ path string }

func (e errChanged) Error() string {
	return fmt.Sprintf(
		"the file %q changed while it was read, twice; send the folder when nothing writes to it, or leave the file out", e.path)
}

// SendTree sends a folder and returns its name. Only what the instance does not have is
// sent, so that a call that was broken off goes on where it was. report is called
// while content is sent, by one goroutine at a time; nil = by none.
func (c *Client) SendTree(ctx context.Context, files []TreeFile, report func(done, all int64)) (SentTree, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b TreeFile) int { return strings.Compare(a.Path, b.Path) })
	for again := false; ; again = true {
		sent, err := c.sendTreeOnce(ctx, files, report)
		var changed errChanged
		var p *fault.Error
		retry := errors.As(err, &changed) || errors.As(err, &p) && p.Code == fault.Conflict // a pack went meanwhile
		if !retry || again {
			return sent, err
		}
	}
}

func (c *Client) sendTreeOnce(ctx context.Context, files []TreeFile, report func(done, all int64)) (SentTree, error) {
	list, err := hashFiles(ctx, files)
	if err != nil {
		return SentTree{}, err
	}
	body := list.Encode()
	if len(body) > tree.MaxTreeBytes {
		return SentTree{}, fault.New(fault.Invalid, "", "the list of the %d files has more than %d MiB; send fewer files, or shorter paths",
			len(files), tree.MaxTreeBytes>>20)
	}
	h := tree.HashOf(body)
	sent := SentTree{Name: h.Name(), Files: len(files), Bytes: list.Bytes()}
	answer, err := c.missing(ctx, wire.TreeQuestion{Trees: []tree.Hash{h}})
	if err != nil || len(answer.Trees) == 0 {
		return sent, err
	}
	if err := list.Check(tree.Limits{Bytes: answer.MaxBytes, Files: answer.MaxFiles}); err != nil {
		return sent, err
	}
	needed, err := c.missingBlobs(ctx, list)
	if err != nil {
		return sent, err
	}
	u := upload{client: c, files: files, list: list, needed: needed, report: report}
	if err := u.run(ctx); err != nil {
		return sent, err
	}
	sent.New, sent.Sent = u.all, u.sent.Load()
	return sent, c.insist(ctx, request{method: "PUT", path: "/api/files/trees/" + h.String(), body: body, timeout: uploadTimeout,
		header: http.Header{"Content-Type": {"application/json"}}}, nil)
}

// hashFiles reads all files, and makes their tree.
func hashFiles(ctx context.Context, files []TreeFile) (tree.Tree, error) {
	list := make(tree.Tree, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, f := range files {
		list[i] = tree.Entry{Path: f.Path, Mode: tree.ModePlain}
		if err := tree.CheckPath(f.Path); err != nil {
			return nil, err
		}
		switch {
		case f.Link != "":
			list[i].Mode, list[i].Link = "", f.Link
			if err := tree.CheckLink(f.Path, f.Link); err != nil {
				return nil, err
			}
			continue
		case f.Program:
			list[i].Mode = tree.ModeProgram
		}
		g.Go(func() error {
			return eachPart(ctx, f, func(part []byte) error {
				list[i].Blobs = append(list[i].Blobs, tree.HashOf(part))
				list[i].Size += int64(len(part))
				return nil
			})
		})
	}
	return list, g.Wait()
}

// eachPart reads a file in parts.
func eachPart(ctx context.Context, f TreeFile, take func(part []byte) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	return tree.Split(in, func(part []byte) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return take(part)
	})
}

// missingBlobs asks which blobs of a tree have to be sent.
func (c *Client) missingBlobs(ctx context.Context, list tree.Tree) (map[tree.Hash]bool, error) {
	seen, needed := map[tree.Hash]bool{}, map[tree.Hash]bool{}
	var all []tree.Hash
	for _, e := range list {
		for _, h := range e.Blobs {
			if !seen[h] {
				seen[h] = true
				all = append(all, h)
			}
		}
	}
	for some := range slices.Chunk(all, wire.MaxHashes) {
		answer, err := c.missing(ctx, wire.TreeQuestion{Blobs: some})
		if err != nil {
			return nil, err
		}
		for _, h := range answer.Blobs {
			needed[h] = true
		}
	}
	return needed, nil
}

// upload sends the blobs that are needed.
type upload struct {
	client *Client
	files  []TreeFile
	list   tree.Tree
	needed map[tree.Hash]bool
	report func(done, all int64)

	all  int64 // bytes of content to send
	sent atomic.Int64
	mu   sync.Mutex
	done int64 // bytes of content that the instance has taken
}

func (u *upload) run(ctx context.Context) error {
	counted := map[tree.Hash]bool{}
	for _, e := range u.list {
		for i, h := range e.Blobs {
			if u.needed[h] && !counted[h] {
				counted[h] = true
				u.all += int64(e.BlobSize(i))
			}
		}
	}
	if u.all == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploadsAtOnce)
	err := u.fill(ctx, g)
	if failed := g.Wait(); failed != nil {
		return failed // that has ended the filling as well
	}
	return err
}

// fill puts the blobs into packs, and has them sent.
func (u *upload) fill(ctx context.Context, g *errgroup.Group) error {
	var p tree.Packer
	var content int64
	flush := func() {
		h, pack := p.Finish()
		size := content
		content = 0
		g.Go(func() error { return u.put(ctx, h, pack, size) })
	}
	for i, f := range u.files {
		e := u.list[i]
		if !slices.ContainsFunc(e.Blobs, func(h tree.Hash) bool { return u.needed[h] }) {
			continue
		}
		part := 0
		err := eachPart(ctx, f, func(body []byte) error {
			if part >= len(e.Blobs) || tree.HashOf(body) != e.Blobs[part] {
				return errChanged{e.Path}
			}
			h := e.Blobs[part]
			part++
			if !u.needed[h] {
				return nil
			}
			delete(u.needed, h)
			content += int64(len(body))
			err := p.Add(h, body)
			if p.IsFull() {
				flush()
			}
			return err
		})
		if err == nil && part < len(e.Blobs) {
			err = errChanged{e.Path}
		}
		if err != nil {
			return err
		}
	}
	if !p.IsEmpty() {
		flush()
	}
	return nil
}

// put sends a pack.
func (u *upload) put(ctx context.Context, h tree.Hash, pack []byte, content int64) error {
	err := u.client.insist(ctx, request{method: "PUT", path: "/api/files/packs/" + h.String(), body: pack, timeout: uploadTimeout,
		header: http.Header{"Content-Type": {"application/octet-stream"}}}, nil)
	if err != nil {
		return err
	}
	u.sent.Add(int64(len(pack)))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done += content
	if u.report != nil {
		u.report(u.done, u.all)
	}
	return nil
}

// Output names the output of an attempt.
type Output struct {
	Job     string
	Attempt int // 0 = the last one
}

func (o Output) query() url.Values {
	q := url.Values{}
	if o.Attempt > 0 {
		q.Set("attempt", strconv.Itoa(o.Attempt))
	}
	return q
}

// Files lists a folder in an output, by name; "" is the output itself.
func (c *Client) Files(ctx context.Context, o Output, folder string) ([]wire.File, error) {
	q := o.query()
	if folder != "" {
		q.Set("path", folder)
	}
	q.Set("limit", strconv.Itoa(wire.MaxLimit))
	all := []wire.File{}
	for {
		var list wire.List[wire.File]
		if err := c.insist(ctx, request{method: "GET", path: jobPath(o.Job) + "/files", query: q}, &list); err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if list.Continue == "" {
			return all, nil
		}
		q.Set("continue", list.Continue)
	}
}

// FilePart is an answer with bytes of a file.
type FilePart struct {
	Body       io.ReadCloser
	Size       int64  // of the whole file
	Tag        string // its ETag
	ModifiedAt time.Time
}

// ReadFile reads a file of an output from an offset to its end. With a tag, the file has
// to be the one that had it: fault.Conflict says that it has changed. The caller closes the
// body, which may break off.
func (c *Client) ReadFile(ctx context.Context, o Output, path string, offset int64, tag string) (FilePart, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	if tag != "" {
		header.Set("If-Match", tag)
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	response, err := c.send(ctx, request{method: "GET", path: jobPath(o.Job) + "/files/" + strings.Join(parts, "/"),
		query: o.query(), header: header})
	if err != nil {
		return FilePart{}, err
	}
	got := FilePart{Body: response.Body, Size: response.ContentLength, Tag: response.Header.Get("ETag")}
	got.ModifiedAt, _ = http.ParseTime(response.Header.Get("Last-Modified")) // without one, the copy has the time of now
	if response.StatusCode == http.StatusPartialContent {
		_, whole, _ := strings.Cut(response.Header.Get("Content-Range"), "/")
		if got.Size, err = strconv.ParseInt(whole, 10, 64); err != nil {
			response.Body.Close()
			return FilePart{}, fmt.Errorf("%s answers with a part of a file that it does not describe", c.base)
		}
	} else if offset > 0 {
		response.Body.Close()
		return FilePart{}, fmt.Errorf("%s answers with all of a file where a part was asked for", c.base)
	}
	return got, nil
}

// MayPass reports whether an error may pass by itself: the instance is away or busy, or an
// answer has broken off.
func MayPass(err error) bool { return err == nil || passing(err) }
