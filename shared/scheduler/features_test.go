package scheduler

import (
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// A job with a folder goes only to nodes whose agents know folders.
func TestFeaturesOfAJobWithAFolder(t *testing.T) {
	t.Parallel()
	needs := func(source *job.Source) string {
		j := &Job{Job: &pool.Job{Spec: job.Spec{Command: []string{"true"}, Source: source}}}
		return j.features()
	}
	if got := needs(&job.Source{Tree: "tree:sha256:00"}); got != " tree" {
		t.Errorf("a folder needs %q", got)
	}
	if got := needs(&job.Source{Repository: "r", Commit: "c"}) + needs(nil); got != "" {
		t.Errorf("a commit and nothing need %q", got)
	}
	old, now := &Node{Node: &pool.Node{Features: []string{"secrets"}}}, &Node{Node: &pool.Node{Features: []string{"secrets", "tree"}}}
	if old.hasFeatures(" tree") || !now.hasFeatures(" tree") {
		t.Error("the nodes are mixed up")
	}
}
