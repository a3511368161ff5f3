package push

import (
	"cmp"
	"strings"

	"dsvmpools/shared/fault"
)

// bitbucketServer is the one address of Bitbucket Cloud; its payloads name the
// repository's pages there, and not where to clone it from.
const bitbucketServer = "https://bitbucket.org"

// bitbucketRef is a branch or tag before or after a push.
type bitbucketRef struct {
	Type, Name string
	Target     struct {
		Hash, Message string
		Author        struct {
			Raw  string // Name <address>
			User bitbucketUser
			bitbucketUser
		}
	}
}

// bitbucketUser is an account. An author has one where the address belongs to it.
type bitbucketUser struct {
	Nickname    string
	DisplayName string `json:"display_name"`
}

// author is the best name that is known of who wrote a commit.
func (r *bitbucketRef) author() string {
	a := r.Target.Author
	raw, _, _ := strings.Cut(a.Raw, " <")
	return cmp.Or(a.User.Nickname, a.User.DisplayName, a.Nickname, a.DisplayName, raw)
}

// parseBitbucket reads the push event of Bitbucket Cloud: several refs may
// move at once, and no files are listed.
func parseBitbucket(header Header, body []byte) (Delivery, error) {
	switch event := header("X-Event-Key"); event {
	case "repo:push":
	case "diagnostics:ping":
		return ping(), nil
	default:
		return ignore(event), nil
	}
	var in struct {
		Actor      bitbucketUser
		Repository struct {
			FullName string `json:"full_name"`
		}
		Push struct {
			Changes []struct {
				New, Old *bitbucketRef
				Forced   bool
			}
		}
	}
	if err := decodePayload(body, &in); err != nil {
		return Delivery{}, err
	}
	if len(in.Push.Changes) > maxChanges {
		return Delivery{}, fault.New(fault.Invalid, "", "the payload moves %d refs at once; push at most %d", len(in.Push.Changes),
			maxChanges)
	}
	var d Delivery
	for _, c := range in.Push.Changes {
		p := Push{Repository: in.Repository.FullName, CloneURL: bitbucketServer + "/" + in.Repository.FullName + ".git", Forced: c.Forced,
			Pusher: cmp.Or(in.Actor.Nickname,
				in.Actor.DisplayName), Unlisted: "Bitbucket does not list changed files", Delivery: header("X-Request-UUID")}
		ref := c.New
		if c.Old != nil {
			p.Before = c.Old.Target.Hash
		}
		if c.New != nil {
			p.Commit, p.Message, p.Author = c.New.Target.Hash, c.New.Target.Message, c.New.author()
		} else if ref = c.Old; ref == nil {
			continue
		}
		p.Ref = "refs/heads/" + ref.Name
		if ref.Type == "tag" {
			p.Ref = "refs/tags/" + ref.Name
		}
		d.Pushes = append(d.Pushes, p)
	}
	return d, nil
}
