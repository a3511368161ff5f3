package store

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// rowFormats has one row of each kind as it stands in the tables of every
// deployment: "kind<space>row", one a line.
//
//go:embed testdata/rows.txt
var rowFormats string

// rewrites read a row of a kind and write it again.
var rewrites = map[string]func(partition, key string, raw []byte) ([]byte, error){
	"head": func(partition, _ string, raw []byte) ([]byte, error) {
		h, version, err := decodeHead(raw)
		if err != nil {
			return nil, err
		}
		spec, err := table.Compact(&h.Spec)
		if err != nil {
			return nil, err
		}
		carries, err := decodeCarried(raw, version.Carried)
		if err != nil {
			return nil, err
		}
		return encodeHead(partition, &h, headRow{version, carries.needsFormat(), false, spec})
	},
	"node": func(partition, key string, raw []byte) ([]byte, error) {
		n, err := decodeNode(raw)
		if err != nil {
			return nil, err
		}
		return encodeNode(partition, key, n), nil
	},
	"job": func(partition, key string, raw []byte) ([]byte, error) {
		j, err := decodeJob(raw)
		if err != nil {
			return nil, err
		}
		return encodeJob(partition, key, j)
	},
	"bundle": func(partition, key string, raw []byte) ([]byte, error) {
		jobs, err := decodeBundle(raw)
		if err != nil {
			return nil, err
		}
		return encodeBundle(partition, &pool.Bundle{Key: key, Jobs: jobs})
	},
	"log": func(partition, key string, raw []byte) ([]byte, error) {
		l, err := decodeLog(raw)
		if err != nil {
			return nil, err
		}
		return encodeLog(partition, key, l)
	},
	"logs": func(partition, _ string, raw []byte) ([]byte, error) {
		logs, err := decodeLogRows(raw)
		if err != nil {
			return nil, err
		}
		var c carried
		for _, l := range logs {
			if _, added, err := c.addLog(partition, l); err != nil || !added {
				return nil, errors.Join(err, fmt.Errorf("added is %t", added))
			}
		}
		page, _, err := encodeLogPage(partition, c.Logs)
		return page, err
	},
	"edit": func(partition, _ string, raw []byte) ([]byte, error) {
		e, err := decodeLogRow(raw)
		if err != nil || len(e) == 1 {
			return encodeLogRow(partition, e[0]), err
		}
		return encodeEditPage(partition, e)
	},
	"id": func(_, _ string, raw []byte) ([]byte, error) {
		id, nonce, err := decodeID(raw)
		return encodeID(&id, nonce), err
	},
	"expiry": func(_, key string, raw []byte) ([]byte, error) {
		e, err := decodeExpiry(raw)
		if err != nil {
			return nil, err
		}
		kind, rest, _ := strings.Cut(key, "!")
		ended, err := time.Parse(stampLayout, rest[:len(stampLayout)])
		if err != nil {
			return nil, err
		}
		row, _ := encodeExpiry(ExpiryKind(kind), e.Pool, ended, e.Jobs)
		return row, nil
	},
	"shelf": func(_, key string, raw []byte) ([]byte, error) {
		at, err := decodeFileProgress(raw)
		return encodeFileProgress(strings.TrimPrefix(key, fileProgressKey("")), at), err
	},
	"rule": func(_, _ string, raw []byte) ([]byte, error) {
		r, err := decodeRule(raw)
		if err != nil {
			return nil, err
		}
		return encodeRule(&r)
	},
	"push": func(_, _ string, raw []byte) ([]byte, error) {
		p, err := decodePush(raw)
		if err != nil {
			return nil, err
		}
		return encodePush(&p)
	},
	"watch": func(_, _ string, raw []byte) ([]byte, error) {
		w, err := decodeStatusWatch(raw)
		return encodeStatusWatch(&w), err
	},
	"usage": func(partition, key string, raw []byte) ([]byte, error) {
		r, err := decodeUsage(raw)
		return encodeUsage(partition, key, &r), err
	},
}

// TestRowFormats makes sure that rows that were written by an earlier release
// are read in full, and that they are written as before, byte by byte: the
// names of properties, their types, their values and their order.
func TestRowFormats(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for line := range strings.Lines(rowFormats) {
		kind, row, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		rewrite := rewrites[kind]
		if rewrite == nil {
			t.Errorf("there is no rewrite for rows of kind %q", kind)
			continue
		}
		seen[kind] = true
		var keys struct{ PartitionKey, RowKey string }
		if err := table.Decode([]byte(row), &keys); err != nil {
			t.Fatal(err)
		}
		got, err := rewrite(keys.PartitionKey, keys.RowKey, []byte(row))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		} else if !bytes.Equal(got, []byte(row)) {
			t.Errorf("%s is written as\n%s\nwant\n%s", kind, got, row)
		}
	}
	for kind := range rewrites {
		if !seen[kind] {
			t.Errorf("testdata/rows.txt has no row of kind %q", kind)
		}
	}
}
