package httpapi

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// pace says how logs are followed.
type pace struct {
	file   time.Duration // between two looks at a log that has not grown
	job    time.Duration // between two looks at the job
	follow time.Duration // the longest a log is followed in one answer
	most   int64         // bytes in one answer to a log that is not followed live
	share  time.Duration // the longest a call on the share may take; 0 = shareWithin
}

var defaultPace = pace{
	// Quick enough to read along, slow enough for a share.
	file: 150 * time.Millisecond,
	// A row is read each time, for every reader: the end of a job may be seen
	// this much later.
	job: 500 * time.Millisecond,
	// The platform cuts an answer after 230 s. Ending well before leaves the
	// client with a whole answer, and it goes on at its offset.
	follow: 190 * time.Second,
	// An answer that takes longer than the platform allows would never arrive.
	most: 64 << 20,
}

// chunk is what is read and sent at a time.
const chunk = 32 << 10

func (s *server) readLog(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	want, err := s.logRequest(r)
	if err != nil {
		return err
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return err
	}
	if want.attempt == 0 {
		want.attempt = max(1, j.AttemptCount())
	}
	if err := want.check(j); err != nil {
		return err
	}
	if want.follow && !over(j, want.attempt) {
		return s.followLog(w, r, j, want)
	}
	return s.sendLog(w, j, want)
}

// logRequest is what a caller wants of a log.
type logRequest struct {
	stream  string
	attempt int // 0 = the last one
	rank    int // of a gang
	offset  int64
	tail    int64 // last lines; < 0 = from the offset on
	since   time.Time
	follow  bool
}

// maxTail is how many lines may be asked for from the end of a log.
const maxTail = 100_000

func (s *server) logRequest(r *http.Request) (logRequest, error) {
	q := r.URL.Query()
	want := logRequest{stream: r.PathValue("stream")}
	if want.stream != "stdout" && want.stream != "stderr" {
		return want, fault.New(fault.NotFound, "stream", "a job has no log %.50q; it has stdout and stderr", want.stream)
	}
	attempt, err := number(q, "attempt", 1, math.MaxInt32, 0)
	if err != nil {
		return want, err
	}
	want.attempt = int(attempt)
	rank, err := number(q, "rank", 0, math.MaxInt32, 0)
	if err != nil {
		return want, err
	}
	want.rank = int(rank)
	if want.offset, err = number(q, "offset", 0, math.MaxInt64, 0); err != nil {
		return want, err
	}
	if want.tail, err = number(q, "tail", 0, maxTail, -1); err != nil {
		return want, err
	}
	if want.tail >= 0 && q.Has("offset") {
		return want, fault.New(fault.Invalid, "tail", "give either tail or offset: each says where the log begins")
	}
	if want.since, err = pastInstant(q, "since", s.now()); err != nil {
		return want, err
	}
	if !want.since.IsZero() && q.Has("offset") {
		return want, fault.New(fault.Invalid, "since", "give either since or offset: each says where the log begins")
	}
	if text := q.Get("follow"); text != "" {
		if want.follow, err = strconv.ParseBool(text); err != nil {
			return want, fault.New(fault.Invalid, "follow", "follow is %.50q; it takes true or false", text)
		}
	}
	return want, nil
}

// check refuses an attempt that is not there and, where the log is followed,
// will not be the next one either.
func (want logRequest) check(j *pool.Job) error {
	have := j.AttemptCount()
	if want.rank >= max(j.Spec.Nodes, 1) {
		return fault.New(fault.NotFound, "rank", "job %q has no rank %d; its last rank is %d, and the first is 0",
			j.ID, want.rank, max(j.Spec.Nodes, 1)-1)
	}
	switch {
	case want.attempt <= have:
		return nil
	case want.follow && want.attempt == have+1 && !j.State.Final():
		return nil
	case have == 0 && j.State.Final():
		return fault.New(fault.NotFound, "attempt", "job %q never started, so that it has no log; it is %s: %s", j.ID, j.State, j.Reason)
	case have == 0:
		return fault.New(fault.NotFound, "attempt", "job %q has not started yet; follow the log to wait for it", j.ID)
	}
	return fault.New(fault.NotFound, "attempt", "job %q has no attempt %d; its last one is %d", j.ID, want.attempt, have)
}

// over reports whether nothing more will be written to the logs of an attempt.
func over(j *pool.Job, attempt int) bool {
	if attempt > len(j.Attempts) {
		return j.State.Final()
	}
	return attempt < len(j.Attempts) || j.State.Final() || !j.Attempts[attempt-1].EndedAt.IsZero()
}

// mayLack reports whether a missing log is the one of an attempt that has written nothing,
// so far or at all. It is not when the attempt has not begun, or when its job is so old that
// its rows were removed: then its files may have been removed as well.
func mayLack(j *pool.Job, attempt int) bool {
	if j.Archived != nil || attempt > len(j.Attempts) {
		return false
	}
	return over(j, attempt) || !j.Attempts[attempt-1].StartedAt.IsZero()
}

// Bounds of calls on the share, which hangs when its network is gone.
const (
	shareWithin = 20 * time.Second // an answer has to come before the platform cuts it
	shareCalls  = 32               // at once, those that hang included: each holds a thread
)

// shareTurns is for the one share of the process.
var shareTurns = patience.New(shareCalls)

// errShare is a share that does not answer.
func errShare(err error) error {
	if errors.Is(err, patience.ErrTooLong) || errors.Is(err, patience.ErrTooMany) {
		return &fault.Error{
			Code:    fault.Internal,
			Message: "the share does not answer; try again, and look at its mount on the function app",
			Err:     err,
		}
	}
	return err
}

// onShare makes a call on the share, with a bound.
func onShare[T any](s *server, call func() (T, error), late func(T)) (T, error) {
	v, err := patience.Do(shareTurns, cmp.Or(s.pace.share, shareWithin), call, late)
	return v, errShare(err)
}

// openFile opens a file of a log for reading. The path is made of what is stored, never of
// what was asked for. A job may write to its directory: what it puts there in
// place of the log is only read when it is a plain file, and a link leads
// nowhere.
func (s *server) openFile(j *pool.Job, want logRequest, name string) (*os.File, error) {
	return onShare(s, func() (*os.File, error) { return s.findFile(j, want, name) }, func(f *os.File) { f.Close() })
}

func (s *server) findFile(j *pool.Job, want logRequest, name string) (*os.File, error) {
	for _, element := range []string{j.Spec.Pool, j.ID} {
		if element == "." || element == ".." || path.Base(element) != element {
			return nil, fault.New(fault.NotFound, "id", "job %q has a name that no directory can have", j.ID)
		}
	}
	share, err := os.OpenRoot(s.share)
	if err != nil {
		return nil, &fault.Error{Code: fault.Internal, Message: "the share cannot be read", Err: unwrapNotExist(err)}
	}
	replaced := fault.New(
		fault.NotFound,
		"",
		"the %s log of job %q has been replaced by something that is not a file of its own",
		want.stream,
		j.ID,
	)
	dir := share
	defer func() { dir.Close() }()
	for _, element := range []string{"jobs", j.Spec.Pool, j.ID, strconv.Itoa(want.attempt)} {
		below, err := directory(dir, element)
		if errors.Is(err, errNoDirectory) {
			err = replaced
		}
		if err != nil {
			return nil, err
		}
		dir.Close()
		dir = below
	}
	found, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := openFound(dir, name, found)
	if errors.Is(err, errNoFile) {
		err = replaced
	}
	return f, err
}

// errNoFile is something else in the place of a file.
var errNoFile = errors.New("not a file of its own")

// openFound opens a file that was found. It may be replaced between the look and the
// opening, which must not wait for the writer of a pipe, nor follow a link.
func openFound(dir *os.Root, name string, found fs.FileInfo) (*os.File, error) {
	if !found.Mode().IsRegular() {
		return nil, errNoFile
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && (!opened.Mode().IsRegular() || !os.SameFile(found, opened) || otherNames(opened)) {
		err = errNoFile
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// errNoDirectory is something else in the place of a directory.
var errNoDirectory = errors.New("not a directory")

// directory opens one below another, and follows no link to it.
func directory(in *os.Root, name string) (*os.Root, error) {
	found, err := in.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !found.IsDir() {
		return nil, errNoDirectory
	}
	below, err := in.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := below.Stat(".")
	if err == nil && !os.SameFile(found, opened) {
		err = errNoDirectory
	}
	if err != nil {
		below.Close()
		return nil, err
	}
	return below, nil
}

// unwrapNotExist keeps the text of an error but not its identity: a share that
// is not there is not a log that is not there.
func unwrapNotExist(err error) error { return errors.New(err.Error()) }

// sendLog sends what there is of a log.
func (s *server) sendLog(w http.ResponseWriter, j *pool.Job, want logRequest) error {
	text := logText{server: s, job: j, want: want}
	defer text.close()
	err := text.open()
	switch {
	case errors.Is(err, fs.ErrNotExist) && (mayLack(j, want.attempt) || want.follow && over(j, want.attempt)):
		// A log comes into being with its first byte.
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "", "attempt %d of job %q has no %s log (yet)", want.attempt, j.ID, want.stream)
	case err != nil:
		return err
	}
	begin, err := text.begin()
	if err != nil {
		return err
	}
	length := min(max(begin.end-begin.from, 0), s.pace.most)
	next := begin.from + length
	logHeaders(w, begin)
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(begin.note))+length, 10))
	w.Header().Set(wire.NextOffsetHeader, strconv.FormatInt(next, 10))
	w.Header().Set(wire.LogEndHeader, strconv.FormatBool(over(j, want.attempt) && next >= text.size()))
	w.WriteHeader(http.StatusOK)
	if _, err := io.WriteString(w, begin.note); err == nil && length > 0 {
		// If it breaks off, the caller sees fewer bytes than announced.
		_, _ = io.Copy(w, io.NewSectionReader(&text, begin.from, length))
	}
	return nil
}

func logHeaders(w http.ResponseWriter, begin logBegin) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set(wire.LogOffsetHeader, strconv.FormatInt(max(begin.from-int64(len(begin.note)), 0), 10))
}

// followLog sends a log while it is written, until its attempt is over and the
// log is read to its end, or until the time of one answer is up. Once it has
// begun to answer there is no way to report an error: it ends, and the caller
// asks again at its offset and hears of it then. It ends as well where a part of the
// log was cut out: the bytes of one answer follow each other.
func (s *server) followLog(w http.ResponseWriter, r *http.Request, j *pool.Job, want logRequest) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.pace.follow)
	defer cancel()
	text := logText{server: s, job: j, want: want, grows: true}
	defer text.close()
	if err := text.open(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begin, err := text.begin()
	if err != nil {
		return err
	}
	logHeaders(w, begin)
	w.Header().Set(wire.LogEndHeader, "false")
	w.WriteHeader(http.StatusOK)
	if _, err := io.WriteString(w, begin.note); err != nil {
		return nil //nolint:nilerr // the reader has gone
	}
	out := http.NewResponseController(w)
	_ = out.Flush() // a client that has gone is noticed at the first write

	t := tail{text: &text, offset: begin.from, write: func(b []byte) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		return out.Flush()
	}}
	fileTick, jobTick := time.NewTicker(s.pace.file), time.NewTicker(s.pace.job)
	defer fileTick.Stop()
	defer jobTick.Stop()
	for look := true; ; {
		ended := over(j, want.attempt) // before reading: what was written before the end is read then
		if err := t.read(ctx, look || ended); err != nil || ended {
			return nil //nolint:nilerr // see above
		}
		look = false
		select {
		case <-ctx.Done():
			return nil
		case <-fileTick.C:
		case <-jobTick.C:
			look = true
			now, err := s.Jobs.Job(ctx, j.ID)
			if err != nil {
				return nil
			}
			j = now
		}
	}
}

// tail reads on in a log that may not be there yet.
type tail struct {
	text   *logText
	offset int64
	write  func([]byte) error
	buffer [chunk]byte
}

// errGap ends an answer where a part of the log was cut out.
var errGap = errors.New("a part of the log was cut out")

// read sends everything that has come since the last time. Look: it also looks for parts
// that were added, which asks the share once more.
func (t *tail) read(ctx context.Context, look bool) error {
	if len(t.text.pieces) == 0 {
		if err := t.text.open(); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		n, err := t.text.ReadAt(t.buffer[:], t.offset)
		if n > 0 {
			if err := t.write(t.buffer[:n]); err != nil {
				return err
			}
			t.offset += int64(n)
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return err
		case t.text.isGap(t.offset):
			return errGap
		case !look || t.offset < job.LeastLogHead:
			return nil
		default:
			look = false
			if err := t.text.measure(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
