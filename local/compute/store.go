//go:build unix

package compute

import (
	"encoding/json"
	"fmt"
	"strings"

	"dsvmpools/local/disk"
)

// Buckets of the store file. A set with its instances is one value; an operation is one
// value.
var (
	setsBucket = []byte("sets")
	opsBucket  = []byte("operations")
)

// load reads the sets and the operations.
func (s *Server) load() error {
	return s.db.View(func(tx *disk.Tx) error {
		err := forEach(tx, setsBucket, func(k, v []byte) error {
			st := new(set)
			if err := json.Unmarshal(v, st); err != nil {
				return fmt.Errorf("scale set %s cannot be read; the file is damaged: %w", k, err)
			}
			for _, inst := range st.Instances {
				inst.set, inst.kill, inst.halt = st, make(chan struct{}), make(chan struct{})
				if inst.State == deleting {
					close(inst.kill)
				}
			}
			s.sets[string(k)] = st
			return nil
		})
		if err != nil {
			return err
		}
		return forEach(tx, opsBucket, func(k, v []byte) error {
			o := new(op)
			if err := json.Unmarshal(v, o); err != nil {
				return fmt.Errorf("operation %s cannot be read; the file is damaged: %w", k, err)
			}
			s.ops[o.ID] = o
			return nil
		})
	})
}

func forEach(tx *disk.Tx, bucket []byte, visit func(k, v []byte) error) error {
	if b := tx.Bucket(bucket); b != nil {
		return b.ForEach(visit)
	}
	return nil
}

// save writes a set and the operations that changed with it, in one transaction. It
// removes the set if it is not in s.sets any more, and the expired operations. The lock is
// held, so callers see only what is on disk.
func (s *Server) save(st *set, changed []*op, expired ...string) error {
	key := []byte(strings.ToLower(st.Name))
	var value []byte
	values := make([][]byte, len(changed))
	var err error
	if s.sets[string(key)] == st {
		if value, err = json.Marshal(st); err != nil {
			return err
		}
	}
	for n, o := range changed {
		if values[n], err = json.Marshal(o); err != nil {
			return err
		}
	}
	s.recordSnapshot(st)
	return s.db.Update(func(tx *disk.Tx) error {
		sets, err := tx.CreateBucketIfNotExists(setsBucket)
		if err != nil {
			return err
		}
		ops, err := tx.CreateBucketIfNotExists(opsBucket)
		if err != nil {
			return err
		}
		for _, id := range expired {
			if err := ops.Delete([]byte(id)); err != nil {
				return err
			}
		}
		for n, o := range changed {
			if err := ops.Put([]byte(o.ID), values[n]); err != nil {
				return err
			}
		}
		if value == nil {
			return sets.Delete(key)
		}
		return sets.Put(key, value)
	})
}
