package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// Large files are named by the server, address by address. git-lfs asks no proxy for those
// on loopback, so that a server could have it ask the machine itself. The agent therefore
// fetches them by itself, through the gate. With ssh it is still git-lfs that does: its
// server is one whose key the operator has written down.

const (
	lfsMedia = "application/vnd.git-lfs+json"
	// lfsBatch is how many files are asked for at once: what every server takes.
	lfsBatch = 100
	// lfsAtOnce and lfsTries are those of git-lfs.
	lfsAtOnce = 8
	lfsTries  = 3
	lfsPause  = time.Second
	// maxLFSAnswer bounds the answer about a batch.
	maxLFSAnswer = 4 << 20
	// lfsHeader is how long a server may think.
	lfsHeader    = time.Minute
	lfsRedirects = 5
)

// largeFile is a file that a pointer stands for.
type largeFile struct {
	OID  string `json:"oid"`
	Size int64  `json:"size"`
}

// parsePointers reads what `git lfs ls-files --debug` says of each pointer: lines with a
// name and a value.
func parsePointers(text string) []largeFile {
	var files []largeFile
	seen := map[string]bool{}
	size := int64(-1)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "filepath":
			size = -1
		case "size":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				size = n
			}
		case "oid":
			oid := strings.TrimPrefix(value, "sha256 ")
			if size >= 0 && lfsName.MatchString(oid) && !seen[oid] {
				seen[oid] = true
				files = append(files, largeFile{oid, size})
			}
		}
	}
	return files
}

// lfsAction is where the server offers a file.
type lfsAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header"`
}

// lfsAnswer is what a server says of a batch.
type lfsAnswer struct {
	Objects []struct {
		largeFile
		Actions struct {
			Download *lfsAction `json:"download"`
		} `json:"actions"`
		Error *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"objects"`
}

// fetchLarge has the large files of a commit in a cache.
func (a *attempt) fetchLarge(ctx context.Context, dir, repository, commit string) error {
	var out bounded
	if err := a.gitInCache(ctx, dir, &out, "lfs", "ls-files", "--debug", commit); err != nil {
		return err
	}
	files := parsePointers(out.String())
	if err := checkTotal(files, a.cfg.CacheSize); err != nil {
		return err
	}
	if strings.HasPrefix(repository, "ssh:") || strings.HasPrefix(repository, "file:") {
		return a.gitWithServer(ctx, dir, repository, "-c", "remote.origin.url="+repository,
			"-c", "lfs.basictransfersonly=true", "-c", "lfs.transfer.maxretries=3",
			"-c", "lfs.transfer.maxretrydelay=1", "lfs", "fetch", "origin", commit)
	}
	var missing []largeFile
	for _, file := range files {
		if at, err := os.Stat(lfsPlace(dir, file.OID)); err != nil || at.Size() != file.Size {
			missing = append(missing, file)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	client, err := a.lfsClient(repository)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	a.gate.Take()
	for len(missing) > 0 {
		batch := missing[:min(len(missing), lfsBatch)]
		missing = missing[len(batch):]
		if err := a.fetchBatch(ctx, client, dir, repository, batch); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return a.explainLarge(err)
		}
	}
	return nil
}

// checkTotal refuses the large files of a commit when all of them together exceed what
// the cache may hold; 0 = it may hold any number of bytes.
func checkTotal(files []largeFile, most job.Bytes) error {
	left := int64(most)
	for _, file := range files {
		if most > 0 && file.Size > left {
			return fmt.Errorf("the large files of the commit have more than %v, which is what DSVM_SOURCE_CACHE allows", most)
		}
		left -= file.Size
	}
	return nil
}

// explainLarge is explain for what the agent has fetched by itself.
func (a *attempt) explainLarge(err error) error {
	if kept := a.explain(&gitError{}); !errors.As(kept, new(*gitError)) {
		return kept // refused
	}
	return errors.New(a.credential.scrub(printable(err.Error())))
}

// lfsPlace is where git-lfs looks for a file.
func lfsPlace(dir, oid string) string {
	return filepath.Join(dir, "lfs", "objects", oid[:2], oid[2:4], oid)
}

// lfsClient connects through the gate. A redirect goes through it as well, and does not
// lead from https to http; a password is not taken along to another host.
func (a *attempt) lfsClient(repository string) (*http.Client, error) {
	gate, err := url.Parse(a.gate.URL())
	if err != nil {
		return nil, err
	}
	way := &http.Transport{
		Proxy:                 http.ProxyURL(gate),
		ResponseHeaderTimeout: lfsHeader,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{},
	}
	for _, set := range a.cfg.Env {
		if file, ok := strings.CutPrefix(set, "GIT_SSL_CAINFO="); ok {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("GIT_SSL_CAINFO cannot be read: %w", startfault.Innermost(err))
			}
			way.TLSClientConfig.RootCAs = x509.NewCertPool()
			way.TLSClientConfig.RootCAs.AppendCertsFromPEM(text)
		}
	}
	plain := strings.HasPrefix(repository, "http:")
	return &http.Client{Transport: way, CheckRedirect: func(r *http.Request, before []*http.Request) error {
		if len(before) > lfsRedirects {
			return errors.New("the server of large files leads in circles")
		}
		return checkScheme(r.URL, plain)
	}}, nil
}

func checkScheme(u *url.URL, plain bool) error {
	if u.Scheme == "https" || u.Scheme == "http" && plain {
		return nil
	}
	return errors.New("the server of large files leads to an address that is not https")
}

// fetchBatch asks where files are and fetches them.
func (a *attempt) fetchBatch(ctx context.Context, client *http.Client, dir, repository string, files []largeFile) error {
	body, err := json.Marshal(map[string]any{"operation": "download", "transfers": []string{"basic"}, "objects": files})
	if err != nil {
		return err
	}
	base := strings.TrimRight(repository, "/")
	if !strings.HasSuffix(base, ".git") {
		base += ".git"
	}
	var answer lfsAnswer
	err = a.retryLFS(ctx, func() error {
		r, err := a.lfsRequest(ctx, http.MethodPost, base+"/info/lfs/objects/batch", map[string]string{"Content-Type": lfsMedia}, body)
		if err != nil {
			return err
		}
		got, err := client.Do(r)
		if err != nil {
			return err
		}
		defer got.Body.Close()
		text, err := io.ReadAll(io.LimitReader(got.Body, maxLFSAnswer))
		switch {
		case err != nil:
			return err
		case got.StatusCode != http.StatusOK:
			return statusError(got.StatusCode)
		case json.Unmarshal(text, &answer) != nil:
			return lfsFinal{errors.New("the server of large files answers what is not its protocol")}
		}
		return nil
	})
	if err != nil {
		return err
	}
	asked := map[string]int64{}
	for _, file := range files {
		asked[file.OID] = file.Size
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lfsAtOnce)
	for _, object := range answer.Objects {
		size, ok := asked[object.OID]
		delete(asked, object.OID)
		switch {
		case !ok:
			continue
		case object.Error != nil:
			err = fmt.Errorf("the server does not have the large file %.12s: %s (%d)",
				object.OID, startfault.Clip(object.Error.Message), object.Error.Code)
		case object.Actions.Download == nil:
			err = fmt.Errorf("the server does not say where the large file %.12s is", object.OID)
		}
		if err != nil {
			break
		}
		group.Go(func() error {
			return a.retryLFS(ctx, func() error {
				return a.fetchFile(ctx, client, repository, dir, largeFile{object.OID, size}, *object.Actions.Download)
			})
		})
	}
	if failed := group.Wait(); err == nil {
		err = failed
	}
	for oid := range asked {
		if err == nil {
			err = fmt.Errorf("the server says nothing of the large file %.12s", oid)
		}
	}
	return err
}

// lfsRequest makes a request, with the credential where it is for the address and the
// server has given no other.
func (a *attempt) lfsRequest(ctx context.Context, method, address string, header map[string]string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, lfsFinal{errors.New("the server of large files names an address that is none")}
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if method == http.MethodPost {
		r.Header.Set("Accept", lfsMedia)
	}
	if r.Header.Get("Authorization") == "" && a.credential.covers(address) {
		r.SetBasicAuth(a.credential.username, a.credential.password)
	}
	return r, nil
}

// fetchFile fetches one file to its place, if it is the one that was wanted.
func (a *attempt) fetchFile(ctx context.Context, client *http.Client, repository, dir string, file largeFile, from lfsAction) error {
	at, err := url.Parse(from.Href)
	if err == nil {
		err = checkScheme(at, strings.HasPrefix(repository, "http:"))
	}
	if err != nil {
		return lfsFinal{err}
	}
	r, err := a.lfsRequest(ctx, http.MethodGet, from.Href, from.Header, nil)
	if err != nil {
		return err
	}
	got, err := client.Do(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		return statusError(got.StatusCode)
	}
	place := lfsPlace(dir, file.OID)
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return lfsFinal{err}
	}
	part, err := os.CreateTemp(filepath.Dir(place), "tmp_")
	if err != nil {
		return lfsFinal{err}
	}
	defer os.Remove(part.Name())
	defer part.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(part, sum), io.LimitReader(got.Body, file.Size+1))
	switch {
	case err != nil:
		return err
	case n != file.Size || hex.EncodeToString(sum.Sum(nil)) != file.OID:
		return lfsFinal{fmt.Errorf("what the server sends for the large file %.12s is not it", file.OID)}
	}
	if err := errors.Join(part.Close(), os.Rename(part.Name(), place)); err != nil {
		return lfsFinal{err}
	}
	return nil
}

// lfsFinal is an error that trying again does not mend.
type lfsFinal struct{ error }

// statusError is an answer that is not the one that was hoped for.
func statusError(code int) error {
	err := fmt.Errorf("the server of large files answers %d", code)
	if code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout {
		return err
	}
	return lfsFinal{err}
}

// retryLFS does something that may fail by bad luck up to lfsTries times.
func (a *attempt) retryLFS(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == lfsTries || errors.As(err, new(lfsFinal)) || a.gate.Refused() {
			return err
		}
		select {
		case <-time.After(lfsPause):
		case <-ctx.Done():
			return err
		}
	}
}
