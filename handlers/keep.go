package handlers

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
)

// defaultKeep is what docs/settings.md says.
var defaultKeep = service.Keep{Finished: 30 * day, Files: 90 * day, IDs: 400 * day, Audit: 400 * day, Trees: 14 * day}

const day = 24 * time.Hour

// leastTrees is more than the age that a note of use may have.
const leastTrees = 2 * time.Hour

// never keeps for ever, as a setting says it; 0 does too.
const never = "never"

// readKeep reads the settings about keeping.
func readKeep(getenv func(string) string) (service.Keep, error) {
	k := defaultKeep
	for _, s := range []struct {
		name string
		into *time.Duration
	}{{"DSVM_KEEP_FINISHED", &k.Finished}, {"DSVM_KEEP_FILES", &k.Files}, {"DSVM_KEEP_IDS", &k.IDs}, {"DSVM_KEEP_TREES", &k.Trees},
		{"DSVM_KEEP_AUDIT", &k.Audit}} {
		switch v := getenv(s.name); v {
		case "":
		case never, "0":
			*s.into = 0
		default:
			d, err := job.ParseDuration(v)
			if err != nil {
				return k, fault.New(fault.Invalid, s.name, "%s: %v, or never", s.name, err)
			}
			*s.into = time.Duration(d)
		}
	}
	if k.Trees != 0 && k.Trees < leastTrees {
		return k, fault.New(fault.Invalid, "DSVM_KEEP_TREES",
			"DSVM_KEEP_TREES is %s; write at least %s, so that a folder that was just sent is there for its job, or never",
			keepText(k.Trees), keepText(leastTrees))
	}
	if v := getenv("DSVM_KEEP_LEDGER"); v != "" && v != never && v != "0" {
		return k, fault.New(
			fault.Invalid,
			"DSVM_KEEP_LEDGER",
			"DSVM_KEEP_LEDGER is %.40q, which is not supported yet: nothing sums up old rows of the ledger so far, "+
				"so it is kept for ever; write never, or leave it out",
			v,
		)
	}
	if k.IDs == 0 {
		return k, nil
	}
	for _, s := range []struct {
		name string
		keep time.Duration
	}{{"DSVM_KEEP_FINISHED", k.Finished}, {"DSVM_KEEP_FILES", k.Files}} {
		if s.keep == 0 || s.keep > k.IDs {
			return k, fault.New(
				fault.Invalid,
				"DSVM_KEEP_IDS",
				"DSVM_KEEP_IDS is %s and %s is %s: an id has to be known for as long as anything else of its job; "+
					"raise DSVM_KEEP_IDS, or set it to never",
				keepText(k.IDs),
				s.name,
				keepText(s.keep),
			)
		}
	}
	return k, nil
}

func keepText(d time.Duration) string {
	if d == 0 {
		return never
	}
	return job.Duration(d).String()
}
