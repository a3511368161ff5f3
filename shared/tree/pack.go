package tree

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A pack is, in this order: packMagic; the stored form of each blob; a record of the index
// for each blob (hash, stored bytes, bytes, form); the number of records; indexMagic.
// Numbers have four bytes, the lowest first. Packs are full at packTarget, so that one is
// sent within a minute over a slow line.
const (
	packMagic  = "dsvmpak1"
	indexMagic = "dsvmidx1"
	recordSize = len(Hash{}) + 4 + 4 + 1
	footerSize = 4 + len(indexMagic)

	// MaxPackBytes bounds a pack.
	MaxPackBytes = 20 << 20
	// MaxPackBlobs bounds the blobs in a pack.
	MaxPackBlobs = 20_000
	// maxInflated bounds the blobs of a pack as they are unpacked: somebody has to check
	// them in one request.
	maxInflated = 64 << 20

	packTarget     = 4 << 20  // stored bytes after which a Packer is full
	inflatedTarget = 24 << 20 // and bytes that were put into it
	blobsTarget    = 10_000   // and blobs
)

// The stored forms of a blob.
const (
	formPlain   = 0
	formDeflate = 1
)

// ErrDamaged is a pack, or a part of one, that is not what its name says.
var ErrDamaged = errors.New("the pack is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Blob says where in a pack the bytes with a hash are.
type Blob struct {
	Hash   Hash
	Size   int // as unpacked
	offset int64
	stored int
	form   byte
}

// Packer puts blobs together to a pack. The zero value is empty.
type Packer struct {
	body     bytes.Buffer
	index    []byte
	blobs    int
	inflated int
	deflate  *flate.Writer
}

// Add puts the bytes of a blob, at most ChunkBytes of them, into the pack.
func (p *Packer) Add(h Hash, content []byte) error {
	if p.body.Len() == 0 {
		p.body.WriteString(packMagic)
	}
	begin := p.body.Len()
	if p.deflate == nil {
		var err error
		if p.deflate, err = flate.NewWriter(&p.body, flate.BestSpeed); err != nil {
			return err
		}
	} else {
		p.deflate.Reset(&p.body)
	}
	_, err := p.deflate.Write(content)
	if err := errors.Join(err, p.deflate.Close()); err != nil {
		return err
	}
	form := byte(formDeflate)
	if p.body.Len()-begin >= len(content) {
		p.body.Truncate(begin)
		p.body.Write(content)
		form = formPlain
	}
	p.index = append(p.index, h[:]...)
	p.index = binary.LittleEndian.AppendUint32(p.index, uint32(p.body.Len()-begin))
	p.index = binary.LittleEndian.AppendUint32(p.index, uint32(len(content)))
	p.index = append(p.index, form)
	p.blobs++
	p.inflated += len(content)
	return nil
}

// IsEmpty reports whether nothing was added.
func (p *Packer) IsEmpty() bool { return p.blobs == 0 }

// IsFull reports whether the pack is to be finished before another blob is added.
func (p *Packer) IsFull() bool {
	return p.body.Len() >= packTarget || p.inflated >= inflatedTarget || p.blobs >= blobsTarget
}

// Finish returns the pack, and makes the packer empty.
func (p *Packer) Finish() (Hash, []byte) {
	p.body.Write(p.index)
	p.body.Write(binary.LittleEndian.AppendUint32(nil, uint32(p.blobs)))
	p.body.WriteString(indexMagic)
	pack := bytes.Clone(p.body.Bytes())
	p.body.Reset()
	p.index, p.blobs, p.inflated = p.index[:0], 0, 0
	return HashOf(pack), pack
}

// ReadIndex reads which blobs a pack of a size has. It checks the form of the index, and
// none of the blobs. ErrDamaged: it is no pack.
func ReadIndex(r io.ReaderAt, size int64) ([]Blob, error) {
	least := int64(len(packMagic) + footerSize)
	if size < least || size > MaxPackBytes {
		return nil, damaged("it has %d bytes", size)
	}
	footer := make([]byte, footerSize)
	if err := readAt(r, footer, size-int64(footerSize)); err != nil {
		return nil, err
	}
	count := int64(binary.LittleEndian.Uint32(footer))
	if string(footer[4:]) != indexMagic || count > MaxPackBlobs || count*int64(recordSize) > size-least {
		return nil, damaged("it has no index")
	}
	end := size - int64(footerSize) - count*int64(recordSize) // of the blobs
	index := make([]byte, count*int64(recordSize))
	if err := readAt(r, index, end); err != nil {
		return nil, err
	}
	blobs := make([]Blob, 0, count)
	offset, inflated := int64(len(packMagic)), 0
	for ; len(index) > 0; index = index[recordSize:] {
		var b Blob
		n := copy(b.Hash[:], index)
		b.stored, b.Size = int(binary.LittleEndian.Uint32(index[n:])), int(binary.LittleEndian.Uint32(index[n+4:]))
		b.offset, b.form = offset, index[n+8]
		offset += int64(b.stored)
		inflated += b.Size
		if b.Size > ChunkBytes || b.form > formDeflate || b.form == formPlain && b.stored != b.Size || offset > end || inflated > maxInflated {
			return nil, damaged("its index is wrong")
		}
		blobs = append(blobs, b)
	}
	if offset != end {
		return nil, damaged("its index leaves something out")
	}
	return blobs, nil
}

// Read reads a blob out of its pack. ErrDamaged: the bytes there have another hash.
func (b Blob) Read(r io.ReaderAt) ([]byte, error) {
	stored := make([]byte, b.stored)
	if err := readAt(r, stored, b.offset); err != nil {
		return nil, err
	}
	content := stored
	if b.form == formDeflate {
		content = make([]byte, b.Size+1) // one more, to see that it ends there
		n, err := io.ReadFull(flate.NewReader(bytes.NewReader(stored)), content)
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) || n != b.Size {
			return nil, damaged("the blob %s has another size", b.Hash)
		}
		content = content[:n]
	}
	if HashOf(content) != b.Hash {
		return nil, damaged("the blob %s has another hash", b.Hash)
	}
	return content, nil
}

// CheckPack checks a whole pack with all of its blobs, and returns their places.
func CheckPack(pack []byte) ([]Blob, error) {
	r := bytes.NewReader(pack)
	blobs, err := ReadIndex(r, r.Size())
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(pack, []byte(packMagic)) {
		return nil, damaged("it does not begin as one")
	}
	for _, b := range blobs {
		if _, err := b.Read(r); err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

// readAt reads all bytes at an offset. A file that is too short is damaged.
func readAt(r io.ReaderAt, into []byte, offset int64) error {
	n, err := r.ReadAt(into, offset)
	switch {
	case n == len(into):
		return nil
	case errors.Is(err, io.EOF):
		return damaged("it is too short")
	}
	return err
}
