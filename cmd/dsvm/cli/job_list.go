package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// states are what --state takes.
var states = namesOf([]job.State{job.Submitted, job.Held, job.Queued, job.Assigned, job.Running,
	job.Succeeded, job.Failed, job.Cancelled, job.TimedOut, job.Rejected})

// jobColumns are those of a list of jobs.
const jobColumns = "ID ?1POOL ?5NAME ?6TEAM *STATE ?2<EXIT ?3SUBMITTED ?4TOOK REASON"

// jobCostColumns have what jobs cost besides.
const jobCostColumns = "ID ?1POOL ?5NAME ?6TEAM *STATE ?2<EXIT ?3SUBMITTED ?4TOOK <COST REASON"

// listFlags are the flags of job list as they were written.
type listFlags struct {
	filter       client.JobFilter
	states       []string
	labels       []string
	since, until string
	sort         string
	reverse, all bool
	cost         bool
	limit        int
}

func jobList(p *Program) *cobra.Command {
	var f listFlags
	c := &cobra.Command{
		Use: "list", Short: "List jobs of all pools, newest first", Args: noArgsBut("--pool"),
		Long: `List jobs of all pools, newest first. Filters narrow the list before it is cut at
--limit; where it is cut, a line on standard error says how many jobs there are.

--since and --until take how long ago (2h, 3d), today, yesterday, a day
(2026-01-31, from midnight on), or a time ("2026-01-31 18:00",
2026-01-31T18:00:00Z). --name takes a part of
the name, or a pattern with * and ? for the whole of it; letter case does not
matter. --sort puts the latest or longest first and what has not come that far
last; it sorts up to 10,000 jobs.`,
		Example: "  dsvm job list\n  dsvm job list --pool cpu --state failed,timedOut --since 2d\n" +
			"  dsvm job list --name 'train-*' --label project=x --sort took\n" +
			"  dsvm job list --sweep tune --state failed --all -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := p.jobQuery(f, c.Flags().Changed("limit"))
			if err != nil {
				return err
			}
			found, err := ask(c.Context(), p, "asking for the jobs", func(ctx context.Context, s *session) (wire.JobList, error) {
				return s.ListJobs(ctx, q)
			})
			if err != nil {
				return err
			}
			if err := p.list(found.Items, p.jobTable(found.Items, f.cost), "no such jobs"); err != nil {
				return err
			}
			if cut := cutText(found); cut != "" {
				p.Say("%s", cut)
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.filter.Pool, "pool", "", "only jobs of this pool")
	c.Flags().StringVar(&f.filter.Team, "team", "", "only jobs of this team")
	c.Flags().StringVar(&f.filter.User, "user", "", "only jobs of this user")
	c.Flags().StringVar(&f.filter.Name, "name", "", "only jobs whose name has this part, or is like this pattern with * and ?")
	c.Flags().StringVar(&f.filter.Sweep, "sweep", "", "the members of this sweep that have begun; without it no members are listed")
	c.Flags().StringArrayVar(&f.labels, "label", nil, "only jobs with this label, NAME=VALUE; may be repeated")
	c.Flags().StringSliceVar(&f.states, "state", nil,
		"only jobs in these states: "+strings.Join(states, ", ")+"; active: all that have not ended")
	c.Flags().StringVar(&f.since, "since", "", "only jobs submitted then or later: 2h (ago), 3d, a day or a time")
	c.Flags().StringVar(&f.until, "until", "", "only jobs submitted before: 2h (ago), 3d, a day or a time")
	c.Flags().StringVar(&f.sort, "sort", string(wire.BySubmitted), "what to sort by: "+strings.Join(namesOf(wire.JobSorts), ", "))
	c.Flags().BoolVar(&f.reverse, "reverse", false, "the other way round")
	c.Flags().IntVar(&f.limit, "limit", wire.DefaultLimit, "how many jobs at most")
	c.Flags().BoolVar(&f.cost, "cost", false, "what each has cost until now, and why it waits")
	c.Flags().BoolVar(&f.all, "all", false, "all jobs, without a limit")
	complete(c, "pool", p.completePools)
	complete(c, "state", cobra.FixedCompletions(append(states, wire.Active), cobra.ShellCompDirectiveNoFileComp))
	complete(c, "sort", cobra.FixedCompletions(namesOf(wire.JobSorts), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// jobQuery reads the flags. limited: a limit was given.
func (p *Program) jobQuery(f listFlags, limited bool) (wire.JobQuery, error) {
	q := wire.JobQuery{JobFilter: f.filter, Sort: wire.JobSort(f.sort), Reverse: f.reverse, Limit: f.limit, Count: true, Short: f.cost}
	if err := checkLimit(f.limit); err != nil {
		return q, err
	}
	if f.all {
		if limited {
			return q, WrongUse("--all and --limit contradict each other; give one of them")
		}
		q.Limit, q.Count = client.Everything, false
	}
	for _, text := range f.states {
		if strings.EqualFold(text, wire.Active) {
			q.States = append(q.States, wire.ActiveStates...)
			continue
		}
		state, ok := readState(text)
		if !ok {
			return q, WrongUse("--state is %q; it takes %s", text, strings.Join(states, ", "))
		}
		q.States = append(q.States, state)
	}
	if !slices.Contains(wire.JobSorts, q.Sort) {
		return q, WrongUse("--sort is %q; it takes one of %s", f.sort, strings.Join(namesOf(wire.JobSorts), ", "))
	}
	var err error
	if q.Labels, err = readLabels(f.labels); err != nil {
		return q, err
	}
	q.Since, q.Until, err = p.period([2]string{"--since", f.since}, [2]string{"--until", f.until}, p.zone())
	return q, err
}

// readLabels reads the flags --label of a filter; nil = there are none.
func readLabels(texts []string) (map[string]string, error) {
	var labels map[string]string
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, WrongUse("--label is %q; it takes NAME=VALUE", text)
		}
		if had, twice := labels[name]; twice && had != value {
			return nil, WrongUse("no job has two values of the label %q; give --label %s=VALUE once", name, name)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
}

// readState reads a state as the contract names it or as people write it.
func readState(text string) (job.State, bool) {
	bare := strings.NewReplacer(" ", "", "-", "", "_", "").Replace(text)
	for _, state := range states {
		if strings.EqualFold(state, bare) {
			return job.State(state), true
		}
	}
	return "", false
}

// cutText says how much of a list is shown; "" = all of it.
func cutText(l wire.JobList) string {
	shown := len(l.Items)
	if l.Continue == "" || l.Total == nil || *l.Total <= shown && !l.AtLeast {
		return ""
	}
	all := thousands(*l.Total)
	if l.AtLeast {
		all = "more than " + all
	}
	return fmt.Sprintf("%s of %s jobs shown; `--all` shows all of them, `--limit` more", thousands(shown), all)
}

// jobTable shows jobs in a table, also what they cost if that was asked for.
func (p *Program) jobTable(jobs []wire.Job, hasCost bool) *table {
	columns := jobColumns
	if hasCost {
		columns = jobCostColumns
	}
	t := newTable(columns)
	for _, j := range jobs {
		row := []any{j.ID, j.Pool, j.Name, j.Team, j.State, exitText(j.ExitCode), p.age(j.SubmittedAt),
			p.took(j.StartedAt, j.EndedAt)}
		if hasCost {
			row = append(row, amountText(j.Cost))
		}
		t.add(append(row, cmp.Or(sweepText(j), j.Why, j.Reason))...)
	}
	return t
}

// sweepText is how far a sweep that goes on has come.
func sweepText(j wire.Job) string {
	w := j.Sweep
	if w == nil || j.State.Final() || j.State == job.Held {
		return ""
	}
	text := fmt.Sprintf("%d%% of %d members, %d running", w.Percent, w.Members, w.Running)
	if bad := w.Failed + w.TimedOut; bad > 0 {
		text += fmt.Sprintf(", %d failed", bad)
	}
	return text
}

func exitText(code *int) string {
	if code == nil {
		return ""
	}
	return fmt.Sprint(*code)
}

// took is how long something ran, or has been running.
func (p *Program) took(from, to *time.Time) string {
	if from == nil {
		return ""
	}
	if to == nil {
		return span(p.Now().Sub(*from))
	}
	return span(to.Sub(*from))
}
