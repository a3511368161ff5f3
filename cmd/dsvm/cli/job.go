package cli

import "github.com/spf13/cobra"

func jobCommand(p *Program) *cobra.Command {
	c := noun("job", "Submit, follow, change and cancel jobs",
		jobSubmit(p), jobList(p), jobShow(p), jobExplain(p), jobLogs(p), jobWait(p), jobCancel(p),
		jobExec(p), jobForward(p), jobHold(p), jobRelease(p), jobUpdate(p), jobRerun(p))
	c.Example = `  dsvm job submit --pool cpu --id nightly-42 -- python3 train.py
  dsvm job logs nightly-42 --follow
  dsvm job list --pool cpu --state failed`
	return c
}
