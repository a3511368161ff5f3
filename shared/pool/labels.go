package pool

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"dsvmpools/shared/document"
)

// Limits of Azure for the tags of a resource. Labels become tags of the scale sets of a
// pool, of their nodes, and of the nodes' disks and network interfaces.
const (
	maxTags     = 50
	ownTags     = 3 // of every scale set: the pool, the model, the time of the deployment
	maxTagName  = 512
	maxTagValue = 256
	tagNameNot  = `<>%&\?/` + "\x7f"
)

// Names of tags that Azure, or this program, keeps for itself begin so, in any case.
var keptTagNames = []string{"microsoft", "azure", "windows", "dsvmpools"}

// validateLabels refuses what Azure refuses of tags when the first job waits for a node.
func validateLabels(labels map[string]string) error {
	if len(labels) > maxTags-ownTags {
		return invalid("labels", "`labels` has %d names; name at most %d, because each is a tag of the pool's scale sets",
			len(labels), maxTags-ownTags)
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		small := strings.ToLower(name)
		kept := slices.IndexFunc(keptTagNames, func(prefix string) bool { return strings.HasPrefix(small, prefix) })
		switch {
		case strings.TrimSpace(name) == "" || strings.TrimSpace(name) != name:
			return invalid("labels", "`labels` has the name %q; write one that neither is empty nor begins or ends with a space",
				document.Clip(name))
		case utf8.RuneCountInString(name) > maxTagName:
			return invalid("labels", "`labels` has a name of %d characters; Azure takes at most %d", utf8.RuneCountInString(name), maxTagName)
		case strings.ContainsAny(name, tagNameNot) || strings.ContainsFunc(name, isControl):
			return invalid("labels", "`labels` has the name %q; Azure takes none with < > %% & \\ ? / in it, "+
				"since labels are tags of the pool's scale sets", document.Clip(name))
		case kept >= 0:
			return invalid("labels", "`labels` has the name %q; names that begin with %s are kept", document.Clip(name), keptTagNames[kept])
		case seen[small] != "":
			return invalid("labels", "`labels` has the names %q and %q, which are one for Azure; keep one of them",
				document.Clip(seen[small]), document.Clip(name))
		case utf8.RuneCountInString(labels[name]) > maxTagValue:
			return invalid("labels."+document.Clip(name), "`labels.%s` has %d characters; Azure takes at most %d", document.Clip(name),
				utf8.RuneCountInString(labels[name]), maxTagValue)
		}
		seen[small] = name
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' }
