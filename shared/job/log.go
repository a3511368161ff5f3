package job

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// LogFile is the name of the file in an attempt's directory that holds a stream,
// stdout or stderr, of a rank; jobs on one node have only rank 0.
func LogFile(stream string, rank int) string {
	if rank == 0 {
		return stream + ".log"
	}
	return stream + "." + strconv.Itoa(rank) + ".log"
}

// LeastLogBound is the smallest bound of a log, in bytes. A file of a log that is smaller
// than LeastLogHead is the whole log.
const (
	LeastLogBound = 512 << 10
	LeastLogHead  = 128 << 10
)

// ParseLogBound reads the bound of a log: an amount from LeastLogBound up, or 0 for none.
func ParseLogBound(text string) (Bytes, error) {
	size, err := ParseBytes(text)
	if err == nil && size != 0 && size < LeastLogBound {
		err = fmt.Errorf("%v is too little; it takes %v or more, or 0 for no bound", size, Bytes(LeastLogBound))
	}
	return size, err
}

// LogsCut says how many bytes of what an attempt has written are missing in its logs: they
// were cut out, since a log had more than its bound, or could not be written.
type LogsCut struct {
	Stdout int64 `json:"stdout,omitempty"`
	Stderr int64 `json:"stderr,omitempty"`
}

// LogCut says where the text of a log is that has more than its bound: the first Head
// bytes in LogFile, and the last ones in parts of which each begins at an offset of the
// log and ends where the next one begins. What lies between Head and the first part was
// cut out.
type LogCut struct {
	Head  int64   `json:"head"`
	Parts []int64 `json:"parts"`
}

// CutFile is the name of the file beside a log that holds its LogCut, as JSON.
func CutFile(stream string, rank int) string { return LogFile(stream, rank) + ".cut" }

// PartFile is the name of the file beside a log that holds the part from an offset on.
func PartFile(stream string, rank int, from int64) string {
	return LogFile(stream, rank) + "." + strconv.FormatInt(from, 10)
}

// mostLogParts is more parts than any agent keeps.
const mostLogParts = 64

// MaxCutFile is the most bytes that a LogCut has as JSON.
const MaxCutFile = 4 << 10

// DecodeLogCut reads a LogCut. It reports false for anything that cannot be one.
func DecodeLogCut(text []byte) (LogCut, bool) {
	var c LogCut
	if len(text) > MaxCutFile || json.Unmarshal(text, &c) != nil || len(c.Parts) == 0 || len(c.Parts) > mostLogParts {
		return LogCut{}, false
	}
	for i, from := range c.Parts {
		if from < c.Head || c.Head < 0 || i > 0 && from <= c.Parts[i-1] {
			return LogCut{}, false
		}
	}
	return c, true
}

// Missing is how many bytes were cut out.
func (c LogCut) Missing() int64 {
	if len(c.Parts) == 0 {
		return 0
	}
	return c.Parts[0] - c.Head
}
