package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dsvmpools/shared/fault"
)

// Number reads Edm.Int32 and Edm.Int64 alike: an exit code of Windows does not
// fit into the first.
type Number int64

// UnmarshalJSON reads 7 and "7".
func (n *Number) UnmarshalJSON(data []byte) error {
	i, err := strconv.ParseInt(string(bytes.Trim(data, `"`)), 10, 64)
	*n = Number(i)
	return err
}

// TimeOf is a time that was read. It undoes what a full row writes for the zero time.
func TimeOf(t time.Time) time.Time {
	if t.Equal(noTime) {
		return time.Time{}
	}
	return t
}

// Decode reads a row into a struct that has the names of properties. The error
// names the row.
func Decode(raw []byte, row any) error {
	if err := json.Unmarshal(raw, row); err != nil {
		return Damaged(raw, err)
	}
	return nil
}

// DecodeKey reads the row key alone.
func DecodeKey(raw []byte) (string, error) {
	var row struct{ RowKey string }
	err := Decode(raw, &row)
	return row.RowKey, err
}

// DecodeText reads the JSON value that a property holds. what names the property
// in the error.
func DecodeText(raw []byte, what, text string, value any) error {
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return Damaged(raw, fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// DecodeOptional is DecodeText for a property that may be absent.
func DecodeOptional(raw []byte, what, text string, value any) error {
	if text == "" {
		return nil
	}
	return DecodeText(raw, what, text, value)
}

// Damaged says which row cannot be read, and why.
func Damaged(raw []byte, cause error) error {
	var keys struct{ PartitionKey, RowKey string }
	_ = json.Unmarshal(raw, &keys) // the keys are for the message only
	return wrap(fault.Internal, cause, "row %q of partition %q cannot be read", keys.RowKey, keys.PartitionKey)
}

// LongText reads a text that Row.Long has written. first is the property of that
// name, which the caller has read. Few texts take more than one property, so that
// the row is only read again when it has a second one.
func LongText(raw []byte, name, first string) (string, error) {
	if !bytes.Contains(raw, []byte(`"`+chunkName(name, 1)+`"`)) {
		return first, nil
	}
	var row map[string]json.RawMessage
	if err := Decode(raw, &row); err != nil {
		return "", err
	}
	text := []byte(first)
	for i := 1; i < chunks; i++ {
		var chunk string
		if value, ok := row[chunkName(name, i)]; !ok {
			continue
		} else if err := Decode(value, &chunk); err != nil {
			return "", Damaged(raw, err)
		}
		text = append(text, chunk...)
	}
	return string(text), nil
}

// PlainText is LongText of a text in which JSON escapes nothing, such as base64 for URLs. It finds its properties
// without decoding the row, which takes most of the time of reading a long one.
func PlainText(raw []byte, name string) ([]byte, error) {
	text := make([]byte, 0, len(raw))
	for i := range chunks {
		_, rest, found := bytes.Cut(raw, []byte(`"`+chunkName(name, i)+`":"`))
		if !found && i > 0 {
			break
		}
		chunk, _, ended := bytes.Cut(rest, []byte(`"`))
		if !found || !ended || bytes.IndexByte(chunk, '\\') >= 0 {
			return decodeLong(raw, name)
		}
		text = append(text, chunk...)
	}
	return text, nil
}

func decodeLong(raw []byte, name string) ([]byte, error) {
	var row map[string]any
	if err := Decode(raw, &row); err != nil {
		return nil, err
	}
	first, _ := row[name].(string)
	text, err := LongText(raw, name, first)
	return []byte(text), err
}

// DecodeETag reads the ETag of a row that Scan has read.
func DecodeETag(raw []byte) (ETag, error) {
	var row struct {
		ETag ETag `json:"odata.etag"`
	}
	err := Decode(raw, &row)
	if err == nil && row.ETag == "" {
		err = Damaged(raw, errors.New("it has no ETag"))
	}
	return row.ETag, err
}
