package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/intake"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
)

// uploadWait is how long an upload waits for memory: others are read at the pace of their
// senders' lines.
const uploadWait = 30 * time.Second

// uploads is the memory for packs, trees and long lists of jobs that arrive at once: 90 MB when all of it is
// in use. Packs are checked whole before they are written. Most packs have 4 MiB.
func uploads() *intake.Room {
	return intake.NewRoom(uploadWait, intake.Size{Bytes: 256 << 10, Count: 16}, intake.Size{Bytes: 5 << 20, Count: 5},
		intake.Size{Bytes: tree.MaxPackBytes, Count: 3})
}

// askMissing says which trees and blobs have to be sent.
func (s *server) askMissing(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readUpload(w, r, wire.MaxQuestion)
	if err != nil {
		return err
	}
	defer body.Release()
	var q wire.TreeQuestion
	d := json.NewDecoder(bytes.NewReader(body.Bytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil || d.More() || bytes.Contains(body.Bytes, []byte("null")) {
		return fault.New(fault.Invalid, "", `the question cannot be read; write {"trees": [...], "blobs": [...]} with hashes of 64 of 0-9 a-f`)
	}
	if n := len(q.Trees) + len(q.Blobs); n > wire.MaxHashes {
		return fault.New(fault.Invalid, "", "the question names %d hashes; ask for at most %d at once", n, wire.MaxHashes)
	}
	answer, err := s.Trees.Missing(r.Context(), q)
	if err != nil {
		return err
	}
	return writeOK(w, answer)
}

// putPack takes a pack.
func (s *server) putPack(w http.ResponseWriter, r *http.Request) error {
	h, err := pathHash(r)
	if err != nil {
		return err
	}
	body, err := s.readUpload(w, r, tree.MaxPackBytes)
	if err != nil {
		return err
	}
	defer body.Release()
	if err := s.Trees.PutPack(r.Context(), h, body.Bytes); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, "application/json", wire.Kept{Name: h.String()})
	return nil
}

// putTree takes a tree.
func (s *server) putTree(w http.ResponseWriter, r *http.Request) error {
	h, err := pathHash(r)
	if err != nil {
		return err
	}
	body, err := s.readUpload(w, r, tree.MaxTreeBytes)
	if err != nil {
		return err
	}
	defer body.Release()
	if err := s.Trees.PutTree(r.Context(), h, body.Bytes); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, "application/json", wire.Kept{Name: h.Name()})
	return nil
}

func pathHash(r *http.Request) (tree.Hash, error) {
	h, ok := tree.ParseHash(r.PathValue("sha256"))
	if !ok {
		return h, fault.New(fault.Invalid, "sha256", "%.80q is no SHA-256; it has 64 of 0-9 a-f", r.PathValue("sha256"))
	}
	return h, nil
}

// readUpload reads a body of at most so many bytes, when there is memory for it. A body
// that announces more is not read at all.
func (s *server) readUpload(w http.ResponseWriter, r *http.Request, most int) (*intake.Body, error) {
	return s.readInto(w, r, r.Body, most,
		wire.UploadTooLarge(fmt.Sprintf("the body has more than %d bytes, which is all that is taken here", most)))
}

// readInto reads a body into the memory for uploads. `from` is the body of the request, and what
// was read of it before.
func (s *server) readInto(w http.ResponseWriter, r *http.Request, from io.Reader, most int, tooLarge error) (*intake.Body, error) {
	if r.ContentLength > int64(most) {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, tooLarge
	}
	body, err := s.uploads.Read(r.Context(), from, most)
	if err == nil {
		return body, nil
	}
	w.Header().Set("Connection", "close")
	switch {
	case errors.Is(err, intake.ErrTooLarge):
		return nil, tooLarge
	case errors.Is(err, intake.ErrFull):
		w.Header().Set("Retry-After", retryAfter(time.Second))
		return nil, wire.Busy("other uploads use up the memory that there is for them; send it again")
	case errors.Is(err, intake.ErrSlow):
		return nil, tooSlow(w)
	}
	return nil, fault.New(fault.Invalid, "", "the request's body broke off; send it again")
}
