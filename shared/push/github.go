package push

import "cmp"

// Lengths at which a list of commits may have been cut: GitHub lists at most
// 2,048 (https://docs.github.com/webhooks, event push), and 20 before 2022, as
// older Enterprise Servers still do.
const (
	gitHubMost    = 2048
	gitHubMostOld = 20
)

// parseGitHub reads what GitHub, Gitea and Forgejo send.
func parseGitHub(provider Provider, header Header, body []byte) (Delivery, error) {
	event, delivery := header("X-GitHub-Event"), header("X-GitHub-Delivery")
	if provider == Gitea {
		event = cmp.Or(header("X-Gitea-Event"), header("X-Forgejo-Event"))
		delivery = cmp.Or(header("X-Gitea-Delivery"), header("X-Forgejo-Delivery"))
	}
	switch event {
	case "push":
	case "ping":
		return ping(), nil
	default:
		return ignore(event), nil
	}
	var in struct {
		Ref, Before, After string
		Deleted, Forced    bool
		Commits            []commit
		Total              int     `json:"total_commits"` // Gitea
		HeadCommit         *commit `json:"head_commit"`
		Repository         struct {
			FullName string `json:"full_name"`
			CloneURL string `json:"clone_url"`
		}
		Pusher struct{ Name, Login, Username string }
	}
	if err := decodePayload(body, &in); err != nil {
		return Delivery{}, err
	}
	p := Push{Repository: in.Repository.FullName, CloneURL: in.Repository.CloneURL, Ref: in.Ref, Before: in.Before, Commit: in.After,
		Deleted: in.Deleted, Forced: in.Forced, Files: files(in.Commits), Delivery: delivery}
	p.Pusher = cmp.Or(in.Pusher.Login, in.Pusher.Username, in.Pusher.Name)
	if in.HeadCommit != nil {
		p.setCommit(in.HeadCommit)
		if !p.Deleted && in.HeadCommit.ID != "" {
			p.Commit = in.HeadCommit.ID // of an annotated tag, `after` is the tag itself
		}
	}
	n := len(in.Commits)
	switch {
	case provider == Gitea && in.Total > n, provider == GitHub && (n == gitHubMostOld || n >= gitHubMost):
		p.Unlisted = moreCommits
	case n == 0:
		p.Unlisted = "the payload lists no commits"
	case !listed(in.Commits, p.Commit):
		p.Unlisted = "the pushed commit is not among those that the payload lists"
	}
	return Delivery{Pushes: []Push{p}}, nil
}

func listed(commits []commit, id string) bool {
	for i := range commits {
		if commits[i].ID == id {
			return true
		}
	}
	return false
}
