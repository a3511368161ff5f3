package pool_test

import (
	"reflect"
	"testing"
	"time"

	"dsvmpools/shared/pool"
)

// A row is what is stored, and nothing else: what the scheduler derives from rows
// belongs into its own types, so that a row may be copied and compared.
func TestRowsArePlain(t *testing.T) {
	t.Parallel()
	for _, row := range []any{pool.Head{}, pool.Node{}, pool.Job{}, pool.Log{}, pool.Change{}, pool.SetCalls{}, pool.Partition{}, pool.Delta{}} {
		for _, path := range unexported(reflect.TypeOf(row), reflect.TypeOf(row).Name(), map[reflect.Type]bool{}) {
			t.Errorf("%s is not exported; a row has no place for what is derived from it", path)
		}
	}
	type bad struct{ Inner []struct{ cache int } }
	if got := unexported(reflect.TypeOf(bad{}), "bad", map[reflect.Type]bool{}); len(got) != 1 || got[0] != "bad.Inner.cache" {
		t.Errorf("the check of a bad row found %q", got)
	}
}

// unexported lists the fields without a capital letter, in a type and in those that it
// is made of.
func unexported(of reflect.Type, path string, seen map[reflect.Type]bool) []string {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return unexported(of.Elem(), path, seen)
	}
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() || seen[of] {
		return nil
	}
	seen[of] = true
	var found []string
	for i := range of.NumField() {
		f := of.Field(i)
		if !f.IsExported() {
			found = append(found, path+"."+f.Name)
			continue
		}
		found = append(found, unexported(f.Type, path+"."+f.Name, seen)...)
	}
	return found
}
