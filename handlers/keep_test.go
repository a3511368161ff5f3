package handlers

import (
	"errors"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/service"
)

func TestReadKeep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     service.Keep
		field    string // of the error
	}{
		{"nothing set", nil, service.Keep{Finished: 30 * day, Files: 90 * day, IDs: 400 * day, Audit: 400 * day, Trees: 14 * day}, ""},
		{"set", map[string]string{"DSVM_KEEP_FINISHED": "12h", "DSVM_KEEP_FILES": "1d", "DSVM_KEEP_IDS": "1d", "DSVM_KEEP_TREES": "2d", "DSVM_KEEP_AUDIT": "3d"}, service.Keep{Finished: day / 2, Files: day, IDs: day, Audit: 3 * day, Trees: 2 * day}, ""},
		{"for ever", map[string]string{"DSVM_KEEP_FINISHED": "never", "DSVM_KEEP_FILES": "0", "DSVM_KEEP_IDS": "never", "DSVM_KEEP_LEDGER": "never", "DSVM_KEEP_TREES": "never", "DSVM_KEEP_AUDIT": "never"}, service.Keep{}, ""},
		{"files for a shorter time than rows", map[string]string{"DSVM_KEEP_FILES": "7d"}, service.Keep{Finished: 30 * day, Files: 7 * day, IDs: 400 * day, Audit: 400 * day, Trees: 14 * day}, ""},
		{"ids before rows", map[string]string{"DSVM_KEEP_IDS": "29d", "DSVM_KEEP_FILES": "1d"}, service.Keep{}, "DSVM_KEEP_IDS"},
		{"ids before files", map[string]string{"DSVM_KEEP_IDS": "89d"}, service.Keep{}, "DSVM_KEEP_IDS"},
		{"rows for ever and ids not", map[string]string{"DSVM_KEEP_FINISHED": "never"}, service.Keep{}, "DSVM_KEEP_IDS"},
		{"files for ever and ids not", map[string]string{"DSVM_KEEP_FILES": "0"}, service.Keep{}, "DSVM_KEEP_IDS"},
		{"no duration", map[string]string{"DSVM_KEEP_FINISHED": "a month"}, service.Keep{}, "DSVM_KEEP_FINISHED"},
		{"trees for too short a time", map[string]string{"DSVM_KEEP_TREES": "1h"}, service.Keep{}, "DSVM_KEEP_TREES"},
		{"the ledger", map[string]string{"DSVM_KEEP_LEDGER": "365d"}, service.Keep{}, "DSVM_KEEP_LEDGER"},
	} {
		got, err := readKeep(func(name string) string { return c.settings[name] })
		var f *fault.Error
		if c.field == "" && (err != nil || got != c.want) || c.field != "" && (!errors.As(err, &f) || f.Field != c.field) {
			t.Errorf("%s: got %+v, %v; want %+v, or an error about %q", c.name, got, err, c.want, c.field)
		}
	}
}
