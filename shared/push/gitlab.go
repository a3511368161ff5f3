package push

// parseGitLab reads the push and tag events of GitLab. It lists at most 20
// commits and says how many there are.
func parseGitLab(header Header, body []byte) (Delivery, error) {
	switch event := header("X-Gitlab-Event"); event {
	case "Push Hook", "Tag Push Hook":
	default:
		return ignore(event), nil
	}
	var in struct {
		Kind     string `json:"object_kind"`
		Ref      string
		Before   string
		After    string
		Checkout *string `json:"checkout_sha"`
		User     string  `json:"user_username"`
		UserName string  `json:"user_name"`
		Project  struct {
			Path     string `json:"path_with_namespace"`
			CloneURL string `json:"git_http_url"`
		}
		Commits []commit
		Total   int `json:"total_commits_count"`
	}
	if err := decodePayload(body, &in); err != nil {
		return Delivery{}, err
	}
	p := Push{Repository: in.Project.Path, CloneURL: in.Project.CloneURL, Ref: in.Ref, Before: in.Before, Commit: in.After,
		Pusher: in.User, Files: files(in.Commits), Delivery: gitLabDelivery(header)}
	if p.Pusher == "" {
		p.Pusher = in.UserName
	}
	if in.Checkout != nil && *in.Checkout != "" {
		p.Commit = *in.Checkout // of an annotated tag, `after` is the tag itself
	}
	p.Author = p.Pusher // a payload without commits names nobody else
	for i := range in.Commits {
		if in.Commits[i].ID == p.Commit {
			p.setCommit(&in.Commits[i])
		}
	}
	switch n := len(in.Commits); {
	case in.Total > n:
		p.Unlisted = moreCommits
	case n == 0:
		p.Unlisted = "the payload lists no commits"
	case !listed(in.Commits, p.Commit):
		p.Unlisted = "the pushed commit is not among those that the payload lists"
	}
	return Delivery{Pushes: []Push{p}}, nil
}

// gitLabDelivery is the id that stays the same when GitLab sends an event again.
// Versions before 17.4 name the event only.
func gitLabDelivery(header Header) string {
	if id := header("Idempotency-Key"); id != "" {
		return id
	}
	return header("X-Gitlab-Event-UUID")
}
