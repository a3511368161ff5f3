package job

import (
	"regexp"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// The rules for names of pools and ids of jobs stand here and nowhere else, with
// the sentences for a name that breaks them and for a name of nothing. Other
// packages must not write their own.

// IDForm describes a new job's id, as the end of a sentence.
const IDForm = "1 to 100 characters of A-Z a-z 0-9 . _ -, no name that Windows keeps such as NUL, and no point at its end"

var (
	poolPattern = regexp.MustCompile(`^[a-z0-9-]{1,24}$`)
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	// devicePattern has the names that Windows and Azure Files keep for devices, in
	// any letter case and with any extension.
	devicePattern = regexp.MustCompile(`^(?i)(con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9]|lpt[0-9])[ ]*(\..*)?$`)
)

// CheckPool returns an error with code Invalid when a text cannot be the name of a
// pool. field is the field or setting that holds the text.
func CheckPool(field, name string) error {
	if !poolPattern.MatchString(name) {
		return invalid(field, "`%s` is %q; a pool's name has 1 to 24 characters of a-z 0-9 -", field, document.Clip(name))
	}
	return nil
}

// NoPool is the error for a name that no pool has. known are the names of pools, for a
// hint.
func NoPool(name string, known ...string) *fault.Error {
	if near := document.Nearest(name, known); near != "" && near != name {
		return fault.New(fault.NotFound, "pool",
			"there is no pool %q; did you mean %q? `dsvm pool list` shows the pools", document.Clip(name), near)
	}
	return fault.New(fault.NotFound, "pool",
		"there is no pool %q; create it with `dsvm pool apply -f FILE` or name one of `dsvm pool list`", document.Clip(name))
}

// CheckID returns an error with code Invalid when a text cannot be the id of a job.
func CheckID(id string) error {
	if !idPattern.MatchString(id) || id == "." || id == ".." {
		return invalid("id", "`id` is %q; write 1 to 100 characters of A-Z a-z 0-9 . _ -, other than . and ..", document.Clip(id))
	}
	return nil
}

// CheckNewID returns an error with code Invalid when a new job cannot get an id. Old
// jobs may have ids that CheckID accepts and CheckNewID does not.
func CheckNewID(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if !Portable(id) {
		return invalid(
			"id",
			"`id` is %q, which cannot be the name of a folder on the share: Azure Files and Windows keep CON, "+
				"PRN, AUX, NUL, COM0-9 and LPT0-9, "+
				"also with an extension such as .txt, and take no name that ends with a point; write another, such as job-1",
			document.Clip(id),
		)
	}
	return nil
}

// NoJob is the error for an id that no job has.
func NoJob(id string) *fault.Error {
	return fault.New(fault.NotFound, "id", "there is no job %q; `dsvm job list` shows the jobs that are known", clipID(id))
}

// clipID shortens only what is too long to be an id.
func clipID(id string) string {
	if idPattern.MatchString(id) {
		return id
	}
	return document.Clip(id)
}

// Portable reports whether a folder of this name can be on the share, which is Azure
// Files and may be opened from Windows.
func Portable(name string) bool {
	return name != "" && !devicePattern.MatchString(name) && !strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
}
