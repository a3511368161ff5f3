package service

import (
	"path/filepath"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// shareRoots are the paths below which the workdir of a job may lie: where the share is on
// a VM, and where it is for nodes on the machine of this process.
func shareRoots(share string) []string {
	roots := []string{pool.SharePath}
	if share != "" {
		roots = append(roots, filepath.Clean(share))
		if real, err := filepath.EvalSymlinks(share); err == nil {
			roots = append(roots, real)
		}
	}
	return roots
}

// refusesWorkdir refuses a workdir that is an absolute path and not on the share: no agent
// starts a job there. Whether a folder is there, only the node knows.
func (s *Jobs) refusesWorkdir(spec *job.Spec) *fault.Error {
	if !strings.HasPrefix(spec.Workdir, "/") {
		return nil
	}
	for _, root := range s.shareRoots {
		if below, err := filepath.Rel(root, filepath.FromSlash(spec.Workdir)); err == nil && filepath.IsLocal(below) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "workdir",
		"`workdir` is %q, which is not on the share; write a folder below the job's own, without / at its beginning, "+
			"or one on the share, which is %s on a VM and DSVM_SHARE in a job", document.Clip(spec.Workdir), pool.SharePath)
}
