//go:build unix

package compute

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxUserData of an instance, in bytes before encoding.
const maxUserData = 64 << 10

// Limits of the tags of a resource, in characters.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
)

var (
	prefixForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	digitsAlone = regexp.MustCompile(`^[0-9]+$`)
	publicKey   = regexp.MustCompile(`^(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/]+=*( .*)?\s*$`)
)

// keptTags begin the names of tags that the service keeps for itself, in any case.
var keptTags = []string{"microsoft", "azure", "windows"}

// tagRequirements are those of a set's tags.
func (m *model) tagRequirements() []requirement {
	all := []requirement{{len(m.Tags) <= maxTags, refuse(http.StatusBadRequest, "InvalidTag",
		"Number of tags on the resource is %d, which exceeds the limit of %d.", len(m.Tags), maxTags)}}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(m.Tags)) {
		small := strings.ToLower(name)
		isKept := slices.ContainsFunc(keptTags, func(prefix string) bool { return strings.HasPrefix(small, prefix) })
		isShort := name != "" && utf8.RuneCountInString(name) <= maxTagName && utf8.RuneCountInString(m.Tags[name]) <= maxTagValue
		all = append(all,
			requirement{!strings.ContainsAny(name, `<>%&\?/`), refuse(http.StatusBadRequest, "InvalidTagNameCharacters",
				"The following tag names from set 'resource tags' are invalid: '%s'. "+
					"Tag names cannot contain reserved characters '<,>,%%,&,\\,?,/'.", name)},
			requirement{!isKept, refuse(http.StatusBadRequest, "InvalidTagName",
				"The tag name '%s' is reserved: names cannot begin with 'microsoft', 'azure' or 'windows'.", name)},
			requirement{isShort, refuse(http.StatusBadRequest, "InvalidTag",
				"The tag '%s' is too long: a name has 1 to %d characters and a value at most %d.", name, maxTagName, maxTagValue)},
			requirement{!seen[small], refuse(http.StatusBadRequest, "InvalidTagName",
				"The tag name '%s' occurs twice. Tag names are case insensitive.", name)},
		)
		seen[small] = true
	}
	return all
}

// loginRequirements are those of the ways in which an administrator signs in: without any
// the service refuses a set, also if nobody ever signs in.
func (p *profile) loginRequirements() []requirement {
	if p.OSProfile.WindowsConfiguration != nil {
		return nil
	}
	linux := p.OSProfile.LinuxConfiguration
	home := "/home/" + p.OSProfile.AdminUsername + "/.ssh/authorized_keys"
	hasPassword := p.OSProfile.AdminPassword != "" && !linux.DisablePasswordAuthentication
	all := []requirement{{hasPassword || len(linux.SSH.PublicKeys) > 0, refuse(http.StatusBadRequest, "InvalidParameter",
		"Authentication using either SSH or by user name and password must be enabled in Linux profile.")}}
	for _, key := range linux.SSH.PublicKeys {
		all = append(all,
			requirement{publicKey.MatchString(key.KeyData), invalid("linuxConfiguration.ssh.publicKeys.keyData", "it is no public key.")},
			requirement{key.Path == home, invalid("linuxConfiguration.ssh.publicKeys.path", "it is limited to %s.", home)},
		)
	}
	return all
}

// diskRequirements are those of the OS disk, and of the security that must fit it.
func (p *profile) diskRequirements() []requirement {
	disk, security := p.StorageProfile.OSDisk, p.SecurityProfile.SecurityType
	isEphemeral := disk.DiffDiskSettings.Option != "" || disk.DiffDiskSettings.Placement != ""
	return []requirement{
		{!isEphemeral || disk.DiffDiskSettings.Option == "Local", invalid("osDisk.diffDiskSettings.option", "it must be Local.")},
		{!isEphemeral || disk.Caching == "ReadOnly", invalid("osDisk.caching", "it must be ReadOnly for an ephemeral OS disk.")},
		{isOneOf(disk.DiffDiskSettings.Placement, "", "CacheDisk", "ResourceDisk", "NvmeDisk"),
			invalid("osDisk.diffDiskSettings.placement", "it must be CacheDisk, ResourceDisk or NvmeDisk.")},
		{security != "Standard", refuse(http.StatusBadRequest, "BadRequest", "The value 'Standard' is not available for property "+
			"'securityType' until the feature 'Microsoft.Compute/UseStandardSecurityType' is registered for the subscription.")},
		{isOneOf(security, "", "Standard", "TrustedLaunch", "ConfidentialVM"), invalid("securityProfile.securityType", "it is not known.")},
	}
}
