package httpapi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"mime"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

const (
	// mostEntries bounds the entries of a folder that is listed: all of them are sorted.
	mostEntries = 100_000
	// entriesAtOnce are read of a folder with one call on the share.
	entriesAtOnce = 1000
)

// outputFolder is where an attempt's output is, below its folder on the share.
const outputFolder = "output"

// fileRequest names something in the output of an attempt.
type fileRequest struct {
	job     *pool.Job
	attempt int
	path    string // "" = the output itself
}

// findOutput reads which attempt's output is asked for.
func (s *server) findOutput(r *http.Request, name string) (fileRequest, error) {
	id, err := jobID(r)
	if err != nil {
		return fileRequest{}, err
	}
	attempt, err := number(r.URL.Query(), "attempt", 1, math.MaxInt32, 0)
	if err != nil {
		return fileRequest{}, err
	}
	if name != "" {
		if err := tree.CheckPath(name); err != nil {
			return fileRequest{}, fault.New(fault.Invalid, "path", "%s", err)
		}
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return fileRequest{}, err
	}
	want := fileRequest{job: j, attempt: int(attempt), path: name}
	switch have := j.AttemptCount(); {
	case have == 0:
		return want, fault.New(fault.NotFound, "attempt", "job %q has not started, so that it has no files", j.ID)
	case want.attempt == 0:
		want.attempt = have
	case want.attempt > have:
		return want, fault.New(fault.NotFound, "attempt", "job %q has no attempt %d; its last one is %d", j.ID, want.attempt, have)
	}
	return want, nil
}

// listFiles lists a folder in the output of an attempt.
func (s *server) listFiles(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	want, err := s.findOutput(r, strings.TrimSuffix(q.Get("path"), "/"))
	if err != nil {
		return err
	}
	all, err := onShare(s, func() ([]wire.File, error) { return s.readFolder(want) }, nil)
	if errors.Is(err, fs.ErrNotExist) && want.path == "" {
		err = nil // an attempt that has written nothing may have no output
	}
	if err != nil {
		return want.explain(err)
	}
	answer, err := page(all, q, func(i int) string { return all[i].Name })
	if err != nil {
		return err
	}
	return writeOK(w, answer)
}

// explain says what of an output cannot be read.
func (want fileRequest) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoDirectory):
		return fault.New(fault.NotFound, "path", "the output of attempt %d of job %q has no %.300q", want.attempt, want.job.ID, want.path)
	case errors.Is(err, errNoFile):
		return fault.New(fault.NotFound, "path", "%.300q in the output of job %q is not a file of its own; "+
			"folders are listed, links are not followed", want.path, want.job.ID)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotFound, "path", "the job has taken away the right to read %.300q", want.path)
	}
	return err
}

// openFolder opens the folder with a path in an output, and follows no link to it.
func (s *server) openFolder(want fileRequest, folder string) (*os.Root, error) {
	j := want.job
	for _, element := range []string{j.Spec.Pool, j.ID} {
		if element == "." || element == ".." || path.Base(element) != element {
			return nil, fs.ErrNotExist // no directory has such a name
		}
	}
	dir, err := os.OpenRoot(s.share)
	if err != nil {
		return nil, &fault.Error{Code: fault.Internal, Message: "the share cannot be read", Err: unwrapNotExist(err)}
	}
	elements := []string{"jobs", j.Spec.Pool, j.ID, strconv.Itoa(want.attempt), outputFolder}
	if folder != "" && folder != "." {
		elements = append(elements, strings.Split(folder, "/")...)
	}
	for _, element := range elements {
		below, err := directory(dir, element)
		dir.Close()
		if err != nil {
			return nil, err
		}
		dir = below
	}
	return dir, nil
}

// readFolder reads a folder, sorted by name.
func (s *server) readFolder(want fileRequest) ([]wire.File, error) {
	dir, err := s.openFolder(want, want.path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer list.Close()
	var all []wire.File
	for {
		entries, err := list.ReadDir(entriesAtOnce)
		for _, e := range entries {
			if found, err := e.Info(); err == nil { // else it is gone by now
				all = append(all, describe(dir, found))
			}
		}
		switch {
		case len(all) > mostEntries:
			return nil, fault.New(fault.Invalid, "path", "the folder has more than %d entries; have the job pack them into one file", mostEntries)
		case errors.Is(err, io.EOF):
			slices.SortFunc(all, func(a, b wire.File) int { return strings.Compare(a.Name, b.Name) })
			return all, nil
		case err != nil:
			return nil, err
		}
	}
}

// describe says what an entry of a folder is.
func describe(dir *os.Root, found fs.FileInfo) wire.File {
	f := wire.File{Name: found.Name(), Kind: wire.OtherFile, ModifiedAt: found.ModTime().UTC()}
	switch mode := found.Mode(); {
	case mode.IsRegular() && !otherNames(found):
		f.Kind, f.Size, f.Executable = wire.PlainFile, found.Size(), mode&0o100 != 0
	case mode.IsDir():
		f.Kind = wire.FolderFile
	case mode&fs.ModeSymlink != 0:
		f.Kind = wire.LinkFile
		f.Target, _ = dir.Readlink(found.Name())
	}
	return f
}

// readFile sends a file of an output, or ranges of it.
func (s *server) readFile(w http.ResponseWriter, r *http.Request) error {
	want, err := s.findOutput(r, r.PathValue("path"))
	if err != nil {
		return err
	}
	f, err := onShare(s, func() (*os.File, error) { return s.openOutput(want) }, func(f *os.File) { f.Close() })
	if err != nil {
		return want.explain(err)
	}
	defer f.Close()
	found, err := onShare(s, f.Stat, nil)
	if err != nil {
		return fmt.Errorf("size of a file: %w", err)
	}
	tag := fmt.Sprintf(`"%x-%x"`, found.Size(), found.ModTime().UnixNano())
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && !strings.Contains(match, tag) {
		return wire.FileChanged()
	}
	if err := checkRange(w, r, found.Size()); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(want.path)}))
	w.Header().Set("ETag", tag)
	http.ServeContent(w, r, "", found.ModTime(), io.NewSectionReader(shareFile{s, f}, 0, found.Size()))
	return nil
}

// rangePattern is a range that begins at a byte: what clients use to go on. Others are
// ignored, which a server may do.
var rangePattern = regexp.MustCompile(`^bytes=([0-9]{1,18})-([0-9]{0,18})$`)

// checkRange leaves net/http only what it answers without text of its own.
func checkRange(w http.ResponseWriter, r *http.Request, size int64) error {
	r.Header.Del("If-Unmodified-Since")
	parts := rangePattern.FindStringSubmatch(r.Header.Get("Range"))
	if parts == nil {
		r.Header.Del("Range")
		return nil
	}
	from, _ := strconv.ParseInt(parts[1], 10, 64) // the pattern lets nothing else through
	to, err := strconv.ParseInt(parts[2], 10, 64)
	switch {
	case err == nil && to < from:
		r.Header.Del("Range")
	case from >= size:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return wire.NoSuchRange(size)
	}
	return nil
}

// openOutput opens a file of an output.
func (s *server) openOutput(want fileRequest) (*os.File, error) {
	dir, err := s.openFolder(want, path.Dir(want.path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := path.Base(want.path)
	found, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	return openFound(dir, name, found)
}
