package wire

import (
	"fmt"
	"net/http"
	"time"

	"dsvmpools/shared/tree"
)

// Bounds of the requests about trees.
const (
	// MaxHashes bounds the hashes in one question for what is missing.
	MaxHashes = 10_000
	// MaxQuestion bounds the body of that question, in bytes.
	MaxQuestion = 1 << 20
	// maxMissing bounds the hashes in a refusal.
	maxMissing = 100
)

// TreeQuestion asks which trees and blobs have to be sent. What is there counts as used
// now, so that it stays for long enough to be named by a tree and by a job.
type TreeQuestion struct {
	Trees []tree.Hash `json:"trees,omitempty"`
	Blobs []tree.Hash `json:"blobs,omitempty"`
}

// TreeAnswer says what is not there, and how large a tree may be.
type TreeAnswer struct {
	Trees    []tree.Hash `json:"trees"`
	Blobs    []tree.Hash `json:"blobs"`
	MaxBytes int64       `json:"maxBytes"`
	MaxFiles int         `json:"maxFiles"`
}

// Kept is the answer to a pack or a tree that was sent.
type Kept struct {
	Name string `json:"name"` // of a tree: what `source.tree` of a job takes; of a pack its hash
}

// FileKind says what an entry of a folder is.
type FileKind string

// Kinds of entries.
const (
	PlainFile  FileKind = "file"
	FolderFile FileKind = "folder"
	LinkFile   FileKind = "link"
	OtherFile  FileKind = "other" // a pipe, a socket, a file that has a second name: it cannot be read
)

// File is an entry of a folder that an attempt has written.
type File struct {
	Name       string    `json:"name"`
	Kind       FileKind  `json:"kind"`
	Size       int64     `json:"size"`             // of a file, in bytes
	Executable bool      `json:"executable"`       // of a file
	Target     string    `json:"target,omitempty"` // of a link
	ModifiedAt time.Time `json:"modifiedAt,omitzero"`
}

// BlobsMissing refuses a tree whose blobs are not all there.
func BlobsMissing(missing []tree.Hash) Problem {
	return Problem{
		Type:    ProblemPrefix + "blobsMissing",
		Title:   "Blobs of the tree are missing",
		Status:  http.StatusConflict,
		Detail:  "not all blobs of the tree are there; ask which ones are missing, send them in packs, and send the tree again",
		Missing: missing[:min(len(missing), maxMissing)],
	}
}

// UploadTooLarge refuses a body over the bound of its kind.
func UploadTooLarge(detail string) Problem {
	return Problem{Type: ProblemPrefix + "tooLarge", Title: "The body is too large", Status: http.StatusRequestEntityTooLarge, Detail: detail}
}

// FileChanged refuses a part of a file that is not what the caller has seen.
func FileChanged() Problem {
	return Problem{Type: ProblemPrefix + "changed", Title: "The file is another one now", Status: http.StatusPreconditionFailed,
		Detail: "the file has changed since its ETag was read; read it from its beginning"}
}

// NoSuchRange refuses a range that begins at or after the end of a file.
func NoSuchRange(size int64) Problem {
	return Problem{Type: ProblemPrefix + "noSuchRange", Title: "The file is shorter", Status: http.StatusRequestedRangeNotSatisfiable,
		Detail: fmt.Sprintf("the file has %d bytes; ask for a range within them", size)}
}

// ShareFull refuses what there is no room for.
func ShareFull() Problem {
	return Problem{Type: ProblemPrefix + "shareFull", Title: "The share is full", Status: http.StatusInsufficientStorage,
		Detail: "the share of the deployment has no room; remove old outputs from it, or raise its quota"}
}
