package job

import (
	"regexp"
	"strings"

	"dsvmpools/shared/document"
)

// devices are names that Windows and Azure Files keep for devices, in any letter case
// and with any ending behind a point.
var devices = regexp.MustCompile(`^(?i)(con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9]|lpt[0-9])[ ]*(\..*)?$`)

// Portable reports whether a folder of this name can be on the share, which is Azure
// Files and may be looked at from Windows.
func Portable(name string) bool {
	return name != "" && !devices.MatchString(name) && !strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
}

// CheckNewID reports whether a job can be given an id. Jobs of before, which CheckID lets
// be found, may have others.
func CheckNewID(id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if !Portable(id) {
		return invalid("id", "`id` is %q, which cannot be the name of a folder on the share: Azure Files and Windows keep CON, PRN, AUX, NUL, COM0-9 and LPT0-9, also with .txt or the like behind them, "+
			"and take no name that ends with a point; write another, such as job-1", document.Clip(id))
	}
	return nil
}
