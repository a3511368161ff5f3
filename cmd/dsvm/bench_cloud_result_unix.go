//go:build unix

package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
)

// boundPart is the part of a limit from which it counts as what bounds the load: the pace
// of requests stays a little below a limit, so that few are refused.
const boundPart = 0.85

// cloudResult is what `dsvm bench --cloud-rates` prints.
type cloudResult struct {
	Machine       benchMachine `json:"machine"`
	Jobs          int          `json:"jobs"`
	Pools         int          `json:"pools"`
	Succeeded     int          `json:"succeeded"`
	Seconds       float64      `json:"seconds"` // from the first message to the last row
	JobsPerSecond float64      `json:"jobsPerSecond"`
	// BoundBy is the name of the limit that is used most, if it is used up; else empty.
	BoundBy  string       `json:"boundBy"`
	MostUsed string       `json:"mostUsed"` // the name of the limit that is used most
	Limits   []cloudLimit `json:"limits"`
	// Requests are those that the services count, by kind, and RefusedPart the part of all
	// that was refused.
	Requests     []cloudRequests `json:"requests"`
	RefusedPart  float64         `json:"refusedPart"`
	DeadLettered int             `json:"deadLettered"` // messages, with those on the queue `rejected`
	UserErrors   int             `json:"userErrors"`   // errors that somebody saw who sent jobs or looked at pools
	PerJob       cloudPerJob     `json:"perJob"`
}

// cloudLimit is a limit of the cloud and how much of it the load used.
type cloudLimit struct {
	Name        string  `json:"name"`
	Limit       float64 `json:"limit"` // a second
	Used        float64 `json:"used"`  // a second, on average
	Part        float64 `json:"part"`  // used of limit
	FullSeconds int64   `json:"fullSeconds"`
}

// cloudRequests are requests of one kind.
type cloudRequests struct {
	Kind     string  `json:"kind"`
	Requests int64   `json:"requests"`
	Refused  int64   `json:"refused"`
	Part     float64 `json:"part"` // refused of requests
}

// cloudPerJob is what one job costs of the limits.
type cloudPerJob struct {
	Credits  float64 `json:"credits"`
	Entities float64 `json:"entities"` // of its pool's partition, read and written
	All      float64 `json:"allEntities"`
	Requests float64 `json:"tableRequests"`
	CPUMs    float64 `json:"cpuMs"`
}

// Names of the limits.
const (
	limitPartition = "entities of the busiest partition"
	limitAccount   = "entities of the account"
	limitCredits   = "credits of the namespace"
	limitProcessor = "processor of this machine"
)

// cloudCounters are the services' counts, and the processor time of all processes.
type cloudCounters struct {
	bus       servicebus.RateStats
	tables    tables.RateStats
	processor time.Duration
}

func (b *cloudBencher) readCloudCounters() cloudCounters {
	p := readProcesses()
	return cloudCounters{b.in.Bus.RateStats(), b.in.Tables.RateStats(), p.servers + p.handler + p.agents + p.jobs}
}

// newCloudResult is the difference of two readings.
func newCloudResult(load cloudLoad, m benchMachine, took time.Duration, was, is cloudCounters) cloudResult {
	seconds, jobs, divisor := took.Seconds(), float64(load.jobs), max(load.divisor, 1)
	r := cloudResult{Machine: m, Jobs: load.jobs, Pools: load.pools, Seconds: seconds, JobsPerSecond: jobs / seconds}
	busiest, ofPools := int64(0), int64(0)
	for name, n := range is.tables.Partitions {
		n -= was.tables.Partitions[name]
		busiest = max(busiest, n)
		if strings.HasPrefix(name, "pools/") {
			ofPools += n
		}
	}
	entities, credits := is.tables.Entities-was.tables.Entities, is.bus.Credits-was.bus.Credits
	processor := is.processor - was.processor
	limit := func(name string, limit, used float64, full int64) {
		used /= seconds
		r.Limits = append(r.Limits, cloudLimit{Name: name, Limit: limit, Used: used, Part: used / limit, FullSeconds: full})
	}
	full := is.tables.FullSeconds - was.tables.FullSeconds
	limit(limitPartition, float64(tables.PartitionRate/divisor), float64(busiest), full)
	limit(limitAccount, float64(tables.AccountRate/divisor), float64(entities), full)
	limit(limitCredits, float64(servicebus.CreditsPerSecond/divisor), float64(credits), is.bus.FullSeconds-was.bus.FullSeconds)
	limit(limitProcessor, float64(runtime.NumCPU()), processor.Seconds(), 0)
	most := r.Limits[0]
	for _, l := range r.Limits {
		if l.Part > most.Part {
			most = l
		}
	}
	r.MostUsed = most.Name
	if most.Part >= boundPart {
		r.BoundBy = most.Name
	}
	r.countRequests(was, is)
	r.PerJob = cloudPerJob{
		Credits:  float64(credits) / jobs,
		Entities: float64(ofPools) / jobs,
		All:      float64(entities) / jobs,
		CPUMs:    ms(processor) / jobs,
	}
	for _, k := range r.Requests[:3] {
		r.PerJob.Requests += float64(k.Requests) / jobs
	}
	return r
}

// countRequests lists the requests by kind, those to the tables first.
func (r *cloudResult) countRequests(was, is cloudCounters) {
	all := cloudRequests{}
	add := func(kind string, requests, refused int64) {
		k := cloudRequests{Kind: kind, Requests: requests, Refused: refused}
		if requests > 0 {
			k.Part = float64(refused) / float64(requests)
		}
		r.Requests = append(r.Requests, k)
		all.Requests += requests
		all.Refused += refused
	}
	ofTables := func(kind string, was, is tables.RequestCount) {
		refused := is.RefusedByPartition + is.RefusedByAccount - was.RefusedByPartition - was.RefusedByAccount
		add(kind, is.Requests-was.Requests, refused)
	}
	ofBus := func(kind string, was, is servicebus.RequestCount) {
		add(kind, is.Requests-was.Requests, is.Refused-was.Refused)
	}
	ofTables("table writes and transactions", was.tables.Writes, is.tables.Writes)
	ofTables("table reads", was.tables.Reads, is.tables.Reads)
	ofTables("pages of table queries", was.tables.Pages, is.tables.Pages)
	ofBus("sends", was.bus.Sends, is.bus.Sends)
	ofBus("requests to management links", was.bus.Management, is.bus.Management)
	ofBus("administration", was.bus.Administration, is.bus.Administration)
	if all.Requests > 0 {
		r.RefusedPart = float64(all.Refused) / float64(all.Requests)
	}
}

// print writes the figures for people.
func (r cloudResult) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "machine\t%d processors %s, %s\n", r.Machine.CPUs, r.Machine.Processor, r.Machine.FileSystem)
	fmt.Fprintf(w, "%d jobs of /bin/true, pools: %d\t%.0f/s, %.0f s\n", r.Jobs, r.Pools, r.JobsPerSecond, r.Seconds)
	bound := r.BoundBy
	if bound == "" {
		bound = "no limit alone; the most used one: " + r.MostUsed
	}
	fmt.Fprintf(w, "bound by\t%s\n", bound)
	fmt.Fprintf(w, "refused\t%.2f %% of all requests\n", 100*r.RefusedPart)
	fmt.Fprintf(w, "dead-lettered or rejected\t%d\n", r.DeadLettered)
	fmt.Fprintf(w, "errors that users saw\t%d\n", r.UserErrors)
	fmt.Fprintf(w, "each job\t%.2f credits, %.1f entities of its pool, %.1f in all, %.2f table requests, %.2f ms of processor\n",
		r.PerJob.Credits, r.PerJob.Entities, r.PerJob.All, r.PerJob.Requests, r.PerJob.CPUMs)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to)
	w = tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "limit\ta second\tused\tpart\tfull seconds\t")
	for _, l := range r.Limits {
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.0f %%\t%d\t\n", l.Name, l.Limit, l.Used, 100*l.Part, l.FullSeconds)
	}
	fmt.Fprintln(w, "\t\t\t\t\t")
	fmt.Fprintln(w, "kind\trequests\trefused\tpart\t\t")
	for _, k := range r.Requests {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.2f %%\t\t\n", k.Kind, k.Requests, k.Refused, 100*k.Part)
	}
	return w.Flush()
}
