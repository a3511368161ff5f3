package job

import (
	"time"

	"dsvmpools/shared/document"
)

// defaultBackoff is the pause before a retry when the job does not say.
const defaultBackoff = Duration(10 * time.Second)

// fields of the contract, in its order.
var fields = []string{"id", "pool", "name", "team", "user", "command", "script", "args", "workdir", "env", "secrets", "image",
	"resources", "nodes", "priority", "after", "notBefore", "timeout", "retry", "sweep", "source", "labels", "maxCost", "stop", "notify"}

// Parse reads a job's document, checks it and fills in the defaults. On an
// error the id and the pool are still filled in where they can be read, so that
// the refusal can name the job. Errors are *fault.Error with code Invalid.
func Parse(body []byte, contentType string) (Spec, error) {
	return parse(body, contentType, Spec.Validate)
}

// ParseFileJob reads the document of a job that has nothing to run and reports the
// jobs its source brings along, with the same care.
func ParseFileJob(body []byte, contentType string) (Spec, error) {
	return parse(body, contentType, Spec.validateFileJob)
}

func parse(body []byte, contentType string, validate func(Spec) error) (Spec, error) {
	n, err := document.Parse(body, contentType)
	if err != nil {
		return Spec{}, err
	}
	return parseNode(n, validate)
}

// ParseNode is Parse for a document that has been read already.
func ParseNode(n *document.Node) (Spec, error) { return parseNode(n, Spec.Validate) }

func parseNode(n *document.Node, validate func(Spec) error) (Spec, error) {
	r := document.ReadWithHints(n, hints, fields...)
	s := Spec{ID: peek(n, "id"), Pool: peek(n, "pool")}
	r.String("id", "nightly-1")
	r.String("pool", "cpu")
	s.Name, s.Team, s.User = r.String("name", "nightly eval"), r.String("team", "vision"), r.String("user", "ann")
	if r.IsText("command") {
		r.Fail("command", "`command` is a text; write a list of its words, such as [\"python\", \"train.py\"], "+
			"or name it `script`, which a shell reads")
	}
	s.Command = r.Strings("command", `["python", "train.py"]`)
	s.Script = r.String("script", "python train.py")
	if s.Args = r.Strings("args", `["--epochs", "3"]`); len(s.Args) == 0 {
		s.Args = nil
	}
	s.Workdir = r.String("workdir", "src")
	s.Env = r.Map("env", `{"K": "v"}`)
	s.Secrets = r.MapOfSecrets("secrets", `{"TOKEN": "keyvault:vault/secret"}`)
	s.Source = source(r)
	s.Labels = r.Map("labels", `{"project": "x"}`)
	s.After = r.Strings("after", `["prepare-1"]`)
	if len(s.After) == 0 {
		s.After = nil
	}
	s.NotBefore = r.Time("notBefore")
	r.Text("timeout", "15m", &s.Timeout)
	if r.Has("timeout") && s.Timeout == 0 {
		r.Fail("timeout", "`timeout` is zero; write at least 1s, or leave it out for a job without a limit")
	}
	s.Priority = Priority(r.String("priority", "normal"))
	if s.Priority == "" {
		s.Priority = Normal
	}
	s.Resources.CPUs = 1
	if sub := r.Sub("resources", `{"cpus": 1, "gpus": 1, "memory": "4Gi"}`, "cpus", "gpus", "memory"); sub != nil {
		s.Resources.CPUs = sub.Int("cpus", 1, 1, maxCPUs)
		s.Resources.GPUs = sub.Int("gpus", 0, 0, maxGPUs)
		sub.Text("memory", "4Gi", &s.Resources.Memory)
	}
	s.Retry.Backoff = defaultBackoff
	if sub := r.Sub("retry", `{"max": 2}`, "max", "on", "backoff"); sub != nil {
		s.Retry.Max = sub.Int("max", 0, 0, maxRetries)
		s.Retry.On = sub.Strings("on", `["nodeLost"]`)
		if sub.Has("on") && len(s.Retry.On) == 0 {
			sub.Fail("on", "`retry.on` is empty; write when the job is retried, for example [\"nodeLost\"], or leave it out")
		}
		sub.Text("backoff", "10s", &s.Retry.Backoff)
	}
	if s.Stop = r.String("stop", StopLeader); s.Stop == stopGroup {
		s.Stop = ""
	}
	if s.Nodes = r.Int("nodes", 1, 1, maxNodes); s.Nodes == 1 {
		s.Nodes = 0
	}
	s.Sweep = readSweep(r)
	r.Later("image", "maxCost", "notify")
	if err := r.Err(); err != nil {
		return s, err
	}
	return s, n.Locate(validate(s))
}

// peek reads a text field whatever else is wrong with the document.
func peek(n *document.Node, name string) string {
	for _, f := range n.Fields {
		if f.Name == name && f.Value.Kind == document.String {
			return f.Value.Text
		}
	}
	return ""
}
