// Package tree holds the form in which a folder travels to the nodes: a tree, which
// lists the files of the folder, and packs, which hold their content. Both are named by
// the SHA-256 of their bytes. The command line makes them, the app checks and keeps
// them, and the agent unfolds them. The package never touches a disk or a network.
package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// Prefix begins the name of a tree in a job's document. The hash follows, in hex.
const Prefix = "tree:sha256:"

// Bounds of a tree. The first two are defaults, and settings of the app; the others hold
// everywhere.
const (
	DefaultMaxBytes = 512 << 20 // of all files together
	DefaultMaxFiles = 50_000
	MaxTreeBytes    = 8 << 20 // of the encoded tree
	ChunkBytes      = 4 << 20 // of a blob: a longer file has several
	maxNameBytes    = 255     // of one part of a path; no common file system takes more
	maxPathBytes    = 4096    // of a whole path
	maxDepth        = 100     // folders of a path: each costs the node a call for every file below it
)

// Modes of files.
const (
	ModePlain   = "644"
	ModeProgram = "755"
)

// Hash is the SHA-256 of a blob, a pack or a tree. Its text is 64 digits of hex, in lower
// case.
type Hash [sha256.Size]byte

// HashOf is the hash of bytes.
func HashOf(b []byte) Hash { return sha256.Sum256(b) }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes a hash.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, ok := ParseHash(string(text))
	if !ok {
		return fmt.Errorf("%q is no hash; it has 64 of 0-9 a-f", document.Clip(string(text)))
	}
	*h = parsed
	return nil
}

// ParseHash reads a hash; false: the text is none.
func ParseHash(text string) (h Hash, ok bool) {
	if len(text) != 2*len(h) || strings.ToLower(text) != text {
		return h, false
	}
	b, err := hex.DecodeString(text)
	return Hash(append(b, h[len(b):]...)), err == nil
}

// Name is how a job's document names a tree.
func (h Hash) Name() string { return Prefix + h.String() }

// ParseName reads the name of a tree as a document has it.
func ParseName(name string) (h Hash, ok bool) {
	text, ok := strings.CutPrefix(name, Prefix)
	if !ok {
		return h, false
	}
	return ParseHash(text)
}

// Entry is a file or a symbolic link of a tree.
type Entry struct {
	Path  string `json:"p"`           // below the tree's top, with /
	Mode  string `json:"m,omitempty"` // of a file: ModePlain or ModeProgram
	Size  int64  `json:"s,omitempty"` // of a file, in bytes
	Blobs []Hash `json:"h,omitempty"` // of a file: its content in parts of ChunkBytes, the last one shorter; none of an empty file
	Link  string `json:"l,omitempty"` // what a symbolic link leads to: relative, and inside the tree; "" = it is a file
}

// Tree is the entries of a folder, in the order of the bytes of their paths. Folders
// follow from the paths; an empty folder is in no tree.
type Tree []Entry

// Limits bound a tree.
type Limits struct {
	Bytes int64
	Files int
}

// Encode writes a tree. Its hash is the tree's name.
func (t Tree) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if t == nil {
		t = Tree{}
	}
	if err := e.Encode(t); err != nil { // strings and numbers have no error
		return nil
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Bytes is the size of all files together.
func (t Tree) Bytes() (total int64) {
	for _, e := range t {
		total += e.Size
	}
	return total
}

// Parse reads a tree and checks it. Errors are *fault.Error with code Invalid, and name
// the path of the entry that breaks a rule.
func Parse(body []byte, limits Limits) (Tree, error) {
	if len(body) > MaxTreeBytes {
		return nil, invalid("the tree has more than %d MiB; send fewer files", MaxTreeBytes>>20)
	}
	if !utf8.Valid(body) {
		return nil, invalid("the tree is no text in UTF-8")
	}
	t, err := decode(body, limits.Files)
	if errors.Is(err, errTooMany) {
		return nil, invalid("the tree has more than %d files, which is all that may be in it", limits.Files)
	}
	if err != nil {
		return nil, invalid("the tree cannot be read: %s", document.Clip(strings.TrimPrefix(err.Error(), "json: ")))
	}
	return t, t.Check(limits)
}

var errTooMany = errors.New("too many entries")

// decode reads the entries of a tree one by one, and no more than so many: an empty entry
// takes thirty times the memory of its text.
func decode(body []byte, most int) (Tree, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	begin, err := d.Token()
	if err != nil {
		return nil, err
	}
	if begin != json.Delim('[') {
		return nil, errors.New("it is no list")
	}
	t := Tree{}
	for d.More() {
		if len(t) == most {
			return nil, errTooMany
		}
		var e Entry
		if err := d.Decode(&e); err != nil {
			return nil, err
		}
		t = append(t, e)
	}
	if _, err := d.Token(); err != nil { // the end of the list
		return nil, err
	}
	if d.More() {
		return nil, errors.New("something follows it")
	}
	return t, nil
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, "", format, args...) }

// Check says which rule a tree breaks, and where.
func (t Tree) Check(limits Limits) error {
	if len(t) > limits.Files {
		return invalid("the tree has %d files; at most %d may be in it", len(t), limits.Files)
	}
	var total int64
	files := make(map[string]bool, len(t))
	last := ""
	for i, e := range t {
		if err := CheckPath(e.Path); err != nil {
			return err
		}
		if i > 0 && e.Path <= last {
			return invalid("the path %q is there twice, or is not in its place; sort the tree by the bytes of its paths", document.Clip(e.Path))
		}
		if n := strings.Count(e.Path, "/"); n > maxDepth {
			return invalid("the path %q has %d folders; at most %d may be in a path", document.Clip(e.Path), n, maxDepth)
		}
		last, files[e.Path] = e.Path, true
		if err := e.check(); err != nil {
			return err
		}
		if total += e.Size; total > limits.Bytes {
			return invalid("the files have more than %d MiB; at most that may be in a tree", limits.Bytes>>20)
		}
	}
	for _, e := range t {
		for i := range len(e.Path) {
			if e.Path[i] == '/' && files[e.Path[:i]] {
				return invalid("the path %q lies below %q, which is no folder", document.Clip(e.Path), document.Clip(e.Path[:i]))
			}
		}
	}
	return nil
}

// check checks what is not about the path.
func (e Entry) check() error {
	if e.Link != "" {
		if e.Mode != "" || e.Size != 0 || e.Blobs != nil {
			return invalid("the entry %q is a link and a file at once", document.Clip(e.Path))
		}
		return CheckLink(e.Path, e.Link)
	}
	switch parts := (e.Size + ChunkBytes - 1) / ChunkBytes; {
	case e.Mode != ModePlain && e.Mode != ModeProgram:
		return invalid("the file %q has the mode %q; it is %s or %s", document.Clip(e.Path), document.Clip(e.Mode), ModePlain, ModeProgram)
	case e.Size < 0 || e.Size > 1<<50:
		return invalid("the file %q has a size of %d", document.Clip(e.Path), e.Size)
	case int64(len(e.Blobs)) != parts:
		return invalid("the file %q has %d bytes and %d hashes; it has one for each %d bytes, the last ones included",
			document.Clip(e.Path), e.Size, len(e.Blobs), ChunkBytes)
	}
	return nil
}

// BlobSize is the size of the i-th blob of a file.
func (e Entry) BlobSize(i int) int { return int(min(ChunkBytes, e.Size-int64(i)*ChunkBytes)) }

// CheckPath says why a path cannot be that of an entry.
func CheckPath(p string) error {
	switch {
	case p == "":
		return invalid("a file of the tree has no path")
	case len(p) > maxPathBytes:
		return invalid("the path %q has %d bytes; shorten it to %d", document.Clip(p), len(p), maxPathBytes)
	case strings.ContainsRune(p, 0):
		return invalid("the path %q has a NUL character; rename the file", document.Clip(p))
	case !utf8.ValidString(p):
		return invalid("the path %q is no text in UTF-8; rename the file", document.Clip(p))
	case strings.HasPrefix(p, "/"):
		return invalid("the path %q is absolute; it must lie below the tree's top", document.Clip(p))
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return invalid("the path %q has a part that is empty, . or ..; write a path below the tree's top", document.Clip(p))
		case len(part) > maxNameBytes:
			return invalid("the path %q has a name of %d bytes; shorten it to %d", document.Clip(p), len(part), maxNameBytes)
		}
	}
	return nil
}

// CheckLink says why a symbolic link at a path may not lead to a target. Links are
// never parents of other entries, so that a target that goes upwards only at its
// beginning, and not above the top, ends inside the tree whatever links it passes.
func CheckLink(at, target string) error {
	outside := invalid("the link %q leads to %q, out of the tree; replace it by a file, or leave it out",
		document.Clip(at), document.Clip(target))
	switch {
	case len(target) > maxPathBytes, strings.ContainsRune(target, 0), !utf8.ValidString(target):
		return invalid("the link %q has a target that no path can be", document.Clip(at))
	case strings.HasPrefix(target, "/"), strings.Contains(target, `\`):
		return outside
	}
	depth, down := strings.Count(at, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." && down:
			return invalid("the link %q leads to %q, which goes down and up again; write it without that", document.Clip(at), document.Clip(target))
		case part == "..":
			if depth--; depth < 0 {
				return outside
			}
		default:
			down = true
		}
	}
	return nil
}

// Split reads a file in parts of ChunkBytes. The part is valid until take returns.
func Split(r io.Reader, take func(part []byte) error) error {
	buffer := make([]byte, ChunkBytes)
	for {
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			if err := take(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
