//go:build unix

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// sentence is a run in one line.
func (r benchResult) sentence() string {
	text := fmt.Sprintf("bare loop %.0f/s", r.BareJobsPerSecond)
	if r.JobsPerSecond > 0 {
		text += fmt.Sprintf("; %.0f jobs/s, ratio %.2f, %.2f ms of processor a job", r.JobsPerSecond, r.Ratio, r.PerJob.UnderLoad.CPUMs)
	}
	if r.Sweep != nil {
		text += fmt.Sprintf("; sweep %.0f jobs/s, ratio %.2f", r.Sweep.JobsPerSecond, r.Sweep.Ratio)
	}
	for _, p := range r.Peers {
		text += fmt.Sprintf("; %s %.0f/s", p.Name, p.JobsPerSecond)
	}
	return text
}

// print writes the figures for people.
func (r benchResult) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, values ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, values...))
	}
	m := r.Machine
	line("machine", "%d processors %s, %s", m.CPUs, m.Processor, m.FileSystem)
	line("message batch size", "%d", m.MessageMost)
	if len(r.Runs) > 1 {
		line("runs", "%d; each figure is the median", len(r.Runs))
	}
	r.printRates(line)
	r.printTimes(line)
	if err := w.Flush(); err != nil {
		return err
	}
	return r.printCosts(to)
}

func (r benchResult) printRates(line func(name, format string, values ...any)) {
	line("bare loop of /bin/true", "%.0f/s", r.BareJobsPerSecond)
	if r.BareSameJobPerSecond > 0 {
		line("bare loop of the job", "%.0f/s", r.BareSameJobPerSecond)
	}
	if r.JobsPerSecond > 0 {
		load := fmt.Sprintf("%d jobs, %s", r.Jobs, r.Job)
		if r.Queued > 0 {
			load += fmt.Sprintf(", %d queued", r.Queued)
		}
		line(load, "%.0f/s, %.2f of the bare loop", r.JobsPerSecond, r.Ratio)
	}
	if s := r.Sweep; s != nil {
		line(fmt.Sprintf("sweep of %d members", s.Members), "%.0f/s, %.2f of the bare loop", s.JobsPerSecond, s.Ratio)
	}
	for _, p := range r.Peers {
		cpu := ""
		if p.CPUMs > 0 {
			cpu = fmt.Sprintf(", %.2f ms of processor a job", p.CPUMs)
		}
		line(p.Name, "%.0f/s%s", p.JobsPerSecond, cpu)
	}
	for _, p := range r.Absent {
		line(p.Name, "%s", p.Reason)
	}
}

func (r benchResult) printTimes(line func(name, format string, values ...any)) {
	times := func(p percentiles) string {
		text := fmt.Sprintf("p50 %.1f ms, p95 %.1f ms", p.P50, p.P95)
		if p.P99 != nil {
			text += fmt.Sprintf(", p99 %.1f ms", *p.P99)
		}
		return text
	}
	if r.AcceptedToStartedMs.P50 > 0 {
		line("accepted to started, at rest", "%s", times(r.AcceptedToStartedMs))
	}
	if l := r.AtLoad; l != nil {
		line(fmt.Sprintf("the same at %.0f jobs/s", l.JobsPerSecond), "%s (%d jobs)", times(l.AcceptedToStartedMs), l.Jobs)
	}
	if r.AcceptedToCapacityRequestMs.P50 > 0 {
		line("accepted to request for capacity", "%s", times(r.AcceptedToCapacityRequestMs))
	}
}

// printCosts writes a table with a column for each way that jobs were run.
func (r benchResult) printCosts(to io.Writer) error {
	type column struct {
		title string
		cost  perJob
	}
	var columns []column
	if r.AcceptedToStartedMs.P50 > 0 {
		columns = append(columns, column{"at rest", r.PerJob.AtRest})
	}
	if r.JobsPerSecond > 0 {
		columns = append(columns, column{"under load", r.PerJob.UnderLoad})
	}
	if r.Sweep != nil {
		columns = append(columns, column{"sweep", r.Sweep.PerJob})
	}
	if len(columns) == 0 {
		return nil
	}
	fmt.Fprintln(to)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name, format string, value func(perJob) float64) {
		fmt.Fprintf(w, "%s\t", name)
		for _, c := range columns {
			fmt.Fprintf(w, format+"\t", value(c.cost))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "each job\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprintln(w)
	row("messages sent", "%.2f", func(p perJob) float64 { return p.MessagesSent })
	row("messages delivered", "%.2f", func(p perJob) float64 { return p.MessagesDelivered })
	row("table transactions", "%.2f", func(p perJob) float64 { return p.TableTransactions })
	row("entities written", "%.2f", func(p perJob) float64 { return p.EntitiesWritten })
	row("processor, ms", "%.2f", func(p perJob) float64 { return p.CPUMs })
	row("of it servers and host", "%.2f", func(p perJob) float64 { return p.CPUMsByPart.Servers })
	row("handler", "%.2f", func(p perJob) float64 { return p.CPUMsByPart.Handler })
	row("agents", "%.2f", func(p perJob) float64 { return p.CPUMsByPart.Agents })
	row("the jobs themselves", "%.2f", func(p perJob) float64 { return p.CPUMsByPart.Jobs })
	row("bytes written", "%.0f", func(p perJob) float64 { return p.BytesWritten })
	row("syncs", "%.2f", func(p perJob) float64 { return p.Syncs })
	row("bytes left on the share", "%.0f", func(p perJob) float64 { return p.ShareBytes })
	row("bytes left in the tables", "%.0f", func(p perJob) float64 { return p.RowBytes })
	if err := w.Flush(); err != nil {
		return err
	}
	return r.MemoryMB.print(to)
}

// print writes a table with a row for each part.
func (m *benchMemory) print(to io.Writer) error {
	if m == nil {
		return nil
	}
	fmt.Fprintln(to)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "memory, MB\tresident at most\tat the end, not of files\t")
	row := func(name string, peak, anonymous float64) {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t\n", name, peak, anonymous)
	}
	row("servers and host", m.Peak.Servers, m.Anonymous.Servers)
	row("handler", m.Peak.Handler, m.Anonymous.Handler)
	row("largest agent", m.Peak.Agent, m.Anonymous.Agent)
	return w.Flush()
}
