//go:build unix

package compute

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// windows is the part of a profile that is checked of a machine with Windows.
type windows struct {
	ProvisionVMAgent       *bool
	EnableAutomaticUpdates *bool
	PatchSettings          struct{ PatchMode string }
}

// Limits of what Windows takes, in characters.
const (
	maxWindowsPrefix            = 9 // 6 follow it, and a computer name has 15
	maxWindowsUser              = 20
	leastPassword, mostPassword = 8, 123
)

// windowsUsers are names that the service keeps from administrators of Windows; the list of its
// documentation is longer.
var windowsUsers = []string{"administrator", "admin", "user", "user1", "test", "guest", "root", "console", "david", "support_388945a0"}

// knownPasswords are those that the service refuses as too well known.
var knownPasswords = []string{"abc@123", "P@$$w0rd", "P@ssw0rd", "P@ssword123", "Pa$$word", "pass@word1", "Password!", "Password1",
	"Password22", "iloveyou!"}

// passwordKinds are the kinds of characters of which a password has three.
var passwordKinds = []*regexp.Regexp{regexp.MustCompile(`[a-z]`), regexp.MustCompile(`[A-Z]`), regexp.MustCompile(`[0-9]`),
	regexp.MustCompile(`[^A-Za-z0-9]`)}

// windowsRequirements are those of a machine with Windows.
func (p *profile) windowsRequirements() []requirement {
	guest, license := p.OSProfile, p.LicenseType
	if guest.WindowsConfiguration == nil {
		return []requirement{{!strings.HasPrefix(license, "Windows"), invalid("licenseType", "it is for machines with Windows.")}}
	}
	user, password, patch := guest.AdminUsername, guest.AdminPassword, guest.WindowsConfiguration.PatchSettings.PatchMode
	updates := guest.WindowsConfiguration.EnableAutomaticUpdates
	automatic := updates == nil || *updates
	linux := guest.LinuxConfiguration
	return []requirement{
		{!linux.DisablePasswordAuthentication && len(linux.SSH.PublicKeys) == 0,
			invalid("linuxConfiguration", "it excludes windowsConfiguration.")},
		{len(guest.ComputerNamePrefix) <= maxWindowsPrefix, invalid("osProfile.computerNamePrefix",
			"Windows computer name prefix cannot be more than %d characters long.", maxWindowsPrefix)},
		{utf8.RuneCountInString(user) <= maxWindowsUser && !strings.HasSuffix(user, ".") && !slices.Contains(windowsUsers, strings.ToLower(user)),
			invalid("osProfile.adminUsername", "The Admin Username specified is not allowed.")},
		{password == "" || isStrong(password), invalid("osProfile.adminPassword",
			"The supplied password must be between %d-%d characters long and must satisfy at least 3 of password complexity requirements.",
			leastPassword, mostPassword)},
		{!slices.Contains(knownPasswords, password), invalid("osProfile.adminPassword", "The supplied password is not allowed.")},
		{isOneOf(patch, "", "Manual", "AutomaticByOS", "AutomaticByPlatform"), invalid("patchSettings.patchMode", "it is not known.")},
		{patch != "Manual" || !automatic, invalid("patchSettings.patchMode", "Manual needs enableAutomaticUpdates to be false.")},
		{patch != "AutomaticByOS" || automatic, invalid("patchSettings.patchMode", "AutomaticByOS needs enableAutomaticUpdates.")},
		{isOneOf(license, "", "None", "Windows_Server", "Windows_Client"), invalid("licenseType", "it is not known.")},
	}
}

func isStrong(password string) bool {
	n := utf8.RuneCountInString(password)
	kinds := 0
	for _, kind := range passwordKinds {
		if kind.MatchString(password) {
			kinds++
		}
	}
	const least = 3
	return n >= leastPassword && n <= mostPassword && kinds >= least
}

// checkPassword refuses a new set with Windows that has no password of the administrator, and a
// password for one that is there: it keeps its own. st is nil for a new set.
func (st *set) checkPassword(want *set) error {
	var p profile
	if json.Unmarshal(want.Properties["virtualMachineProfile"], &p) != nil || p.OSProfile.WindowsConfiguration == nil {
		return nil
	}
	switch has := p.OSProfile.AdminPassword != ""; {
	case st == nil && !has:
		return invalid("osProfile.adminPassword", "it is required for Windows.")
	case st != nil && has:
		return refuse(http.StatusConflict, "PropertyChangeNotAllowed", "Changing property 'osProfile.adminPassword' is not allowed.")
	}
	return nil
}
