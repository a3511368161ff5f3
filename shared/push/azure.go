package push

import (
	"strings"

	"dsvmpools/shared/fault"
)

// parseAzure reads the service hook "Code pushed" of Azure DevOps: several refs
// may move at once, and no files are listed. What kind of event it is stands in
// the payload alone.
func parseAzure(body []byte) (Delivery, error) {
	var in struct {
		ID        string
		EventType string
		Resource  struct {
			Commits []struct {
				CommitID string
				Comment  string
				Author   struct{ Name string }
			}
			RefUpdates []struct{ Name, OldObjectID, NewObjectID string }
			Repository struct {
				Name      string
				RemoteURL string
				Project   struct{ Name string }
			}
			PushedBy struct{ DisplayName, UniqueName string }
		}
	}
	if err := decodePayload(body, &in); err != nil {
		return Delivery{}, err
	}
	if in.EventType != "git.push" {
		return ignore(in.EventType), nil
	}
	r := in.Resource
	if len(r.RefUpdates) > maxChanges {
		return Delivery{}, fault.New(fault.Invalid, "", "the payload moves %d refs at once; push at most %d", len(r.RefUpdates), maxChanges)
	}
	clone := withoutUser(r.Repository.RemoteURL)
	var d Delivery
	for _, u := range r.RefUpdates {
		p := Push{Repository: organization(clone) + "/" + r.Repository.Project.Name + "/" + r.Repository.Name, CloneURL: clone, Ref: u.Name,
			Before: u.OldObjectID, Commit: u.NewObjectID, Pusher: r.PushedBy.UniqueName,
			Unlisted: "Azure DevOps does not list changed files", Delivery: in.ID}
		if p.Pusher == "" {
			p.Pusher = r.PushedBy.DisplayName
		}
		p.Author = r.PushedBy.DisplayName // a payload without commits names nobody else
		for _, c := range r.Commits {
			if c.CommitID == u.NewObjectID {
				p.Author, p.Message = c.Author.Name, c.Comment
			}
		}
		d.Pushes = append(d.Pushes, p)
	}
	return d, nil
}

// organization is whom a clone address belongs to: dev.azure.com/NAME/…,
// NAME.visualstudio.com/…, or the collection of a server of one's own.
func organization(clone string) string {
	host := Host(clone)
	if name, found := strings.CutSuffix(host, ".visualstudio.com"); found {
		return name
	}
	_, rest, _ := strings.Cut(clone, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "/")
	return name
}

// withoutUser takes the organization's name out that Azure DevOps puts in front
// of the host, and would take for a user.
func withoutUser(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		return address
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	return scheme + "://" + host + "/" + strings.ReplaceAll(path, " ", "%20")
}
