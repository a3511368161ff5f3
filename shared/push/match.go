package push

import (
	"fmt"
	"strings"

	"dsvmpools/shared/document"
)

// Match reports whether a push starts the rule's jobs. The sentence says why, or why
// not, to the author of the rule.
func (rule *Rule) Match(p *Push) (bool, string) {
	fits, why := rule.match(p)
	if fits && rule.FromFile {
		why += fmt.Sprintf("; the jobs come from the file %s at that commit", rule.FileName())
	}
	return fits, why
}

func (rule *Rule) match(p *Push) (bool, string) {
	switch {
	case p.Provider != rule.Provider:
		return false, fmt.Sprintf("the push comes from %s, and the rule is for %s", p.Provider, rule.Provider)
	case Host(p.CloneURL) != Host(rule.Server):
		return false, fmt.Sprintf("the repository is at %s, and the rule is for %s", Host(p.CloneURL), Host(rule.Server))
	case !matches([]string{strings.ToLower(rule.Repository)}, strings.ToLower(p.Repository)):
		return false, fmt.Sprintf("the repository is %s, and the rule is for %s", document.Clip(p.Repository), rule.Repository)
	case p.Branch == "" && p.Tag == "":
		return false, fmt.Sprintf("the ref %s is neither a branch nor a tag", document.Clip(p.Ref))
	case p.Deleted:
		return false, fmt.Sprintf("%s was deleted", p.refPhrase())
	case p.AsksForNoJobs():
		return false, fmt.Sprintf("the commit's message asks for no jobs: %q", document.Clip(p.Title()))
	}
	if ok, why := rule.matchRef(p); !ok {
		return false, why
	}
	switch {
	case len(rule.Paths) == 0:
		return true, fmt.Sprintf("%s fits the rule", p.refPhrase())
	case !p.FilesKnown:
		return true, fmt.Sprintf("%s fits the rule; `paths` has no effect, since the changed files are not known: %s",
			p.refPhrase(), p.Unlisted)
	case !matchesAny(rule.Paths, p.Files):
		return false, fmt.Sprintf("none of the %d changed files fits `paths`", len(p.Files))
	}
	return true, fmt.Sprintf("%s and the changed files fit the rule", p.refPhrase())
}

// matchRef judges the branch or the tag. A rule that names neither is for all
// branches and for no tag.
func (rule *Rule) matchRef(p *Push) (bool, string) {
	patterns, field, name := rule.Branches, "branches", p.Branch
	if p.Tag != "" {
		patterns, field, name = rule.Tags, "tags", p.Tag
	}
	switch {
	case len(patterns) > 0 && !matches(patterns, name):
		return false, fmt.Sprintf("%s does not fit `%s`", p.refPhrase(), field)
	case len(patterns) == 0 && p.Tag != "":
		return false, fmt.Sprintf("%s starts nothing, since the rule has no `tags`", p.refPhrase())
	case len(patterns) == 0 && len(rule.Tags) > 0:
		return false, fmt.Sprintf("%s starts nothing, since the rule has `tags` and no `branches`", p.refPhrase())
	}
	return true, ""
}

// refPhrase is the kind and the name of the ref, such as "branch main".
func (p *Push) refPhrase() string {
	return p.kindOfRef() + " " + document.Clip(p.Tag+p.Branch)
}

func (p *Push) kindOfRef() string {
	if p.Tag != "" {
		return "tag"
	}
	return "branch"
}
