// Package answer makes answers of HTTP that are asked for often cost little: a tag by which a
// caller asks whether anything has changed, and compression. It is for handlers of HTTP; it sends
// nothing by itself, and keeps nothing between two answers.
package answer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// least is how long a text has to be, in bytes, for compression to be worth it: what is
// shorter fits into one packet anyway.
const least = 1 << 10

// Tag is the ETag of a text: a strong one, from a hash of it.
func Tag(text []byte) string {
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// Has reports whether the caller has the text with this tag already (RFC 9110, section 13.1.2).
func Has(r *http.Request, tag string) bool {
	for list := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		list = strings.TrimPrefix(strings.TrimSpace(list), "W/")
		if list == tag || list == "*" {
			return true
		}
	}
	return false
}

// TakesGzip reports whether the caller takes a compressed answer (RFC 9110, section 12.5.3).
func TakesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, hasWeight := strings.Cut(strings.TrimSpace(coding), ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		if !hasWeight {
			return true
		}
		_, number, _ := strings.Cut(weight, "=")
		q, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		return err == nil && q > 0
	}
	return false
}

var writers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// Compress returns the text in the format gzip, or nil where that is not worth it.
func Compress(text []byte) []byte {
	if len(text) < least {
		return nil
	}
	var b bytes.Buffer
	w := writers.Get().(*gzip.Writer)
	defer writers.Put(w)
	w.Reset(&b)
	_, errWrite := w.Write(text)
	if err := w.Close(); err != nil || errWrite != nil || b.Len() >= len(text) {
		return nil
	}
	return b.Bytes()
}
