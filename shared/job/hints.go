package job

import "dsvmpools/shared/document"

// hints are for names that a person writes who knows another scheduler, or has forgotten
// where a field belongs.
var hints = makeHints(map[string][]string{
	"write it as `resources.cpus`":   {"cpu", "cpus", "cores", "ncpus", "threads", "resources.cpu", "resources.cores"},
	"write it as `resources.gpus`":   {"gpu", "gpus", "accelerators", "resources.gpu"},
	"write it as `resources.memory`": {"memory", "mem", "ram", "resources.mem", "resources.ram"},
	"write it as `sweep.count`":      {"count", "array", "tasks", "replicas"},
	"write it as `sweep.grid`":       {"grid", "matrix"},
	"write it as `sweep.parallel`":   {"parallel", "maxparallel"},
	"write it as `env`":              {"environment", "environmentvariables", "vars", "variables"},
	"write it as `after`":            {"depends_on", "dependson", "depends", "needs", "requires", "dependencies"},
	"write it as `retry.max`":        {"retries", "maxretries", "max_retries", "attempts"},
	"write it as `timeout`, such as 2h": {"time", "walltime", "maxtime", "time_limit", "timelimit", "maxwallclocktime",
		"max_wall_time"},
	"write it as `workdir`":                              {"cwd", "workingdir", "working_dir", "directory", "dir", "chdir"},
	"write it as `command`, a list, or as `script`":      {"cmd", "run", "commands", "commandline", "entrypoint", "steps", "exec"},
	"write it as `pool`":                                 {"queue", "partition", "cluster", "pool_id", "poolid", "poolname"},
	"write it as `name`":                                 {"title", "jobname", "job_name", "displayname"},
	"write it as `labels`":                               {"tags", "metadata", "annotations", "label"},
	"write it as `secrets`":                              {"secret"},
	"write it as `source.repository`":                    {"repository", "repo", "git", "source.repo", "source.url", "source.git"},
	"write `source.commit`, the whole name of a commit":  {"branch", "commit", "source.branch", "source.ref", "source.tag", "source.sha"},
	"write its fields at the beginning of the line":      {"job", "jobs", "spec"},
	"write the values of a parameter below `sweep.grid`": {"sweep.parameters", "sweep.params", "sweep.lr", "sweep.seed", "sweep.matrix"},
	"write it as `nodes`":                                {"nnodes", "num_nodes", "nodecount", "num_instances", "hosts"},
	"write it as `notBefore`":                            {"begin", "start", "not_before", "schedule", "at"},
})

func makeHints(byHint map[string][]string) document.Hints {
	all := document.Hints{}
	for hint, names := range byHint {
		for _, name := range names {
			all[name] = hint
		}
	}
	return all
}
