// Package metrics writes figures as text of OpenMetrics 1.0 (github.com/prometheus/OpenMetrics),
// which Prometheus and collectors of OpenTelemetry read. It knows gauges alone: several short-lived
// processes of an app answer in turn, and each reads its figures from the rows, so that nobody counts.
package metrics

import (
	"bytes"
	"io"
	"strings"
)

// ContentType is the type of what Write writes.
const ContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// Family is a metric with all its samples.
type Family struct {
	Name    string   // such as dsvm_jobs
	Help    string   // one line
	Labels  []string // their names, in the order of Sample.Labels
	Samples []Sample
}

// Sample is one figure.
type Sample struct {
	Labels []string // values, for the labels of the family
	Value  string   // decimal
}

// Gauge begins a family.
func Gauge(name, help string, labels ...string) Family {
	return Family{Name: name, Help: help, Labels: labels}
}

// Add adds a sample.
func (f *Family) Add(value string, labels ...string) {
	f.Samples = append(f.Samples, Sample{labels, value})
}

// Write writes families one after the other, and the end.
func Write(w io.Writer, families []Family) error {
	var b bytes.Buffer
	for _, f := range families {
		b.WriteString("# TYPE " + f.Name + " gauge\n# HELP " + f.Name + " " + escape(f.Help) + "\n")
		for _, s := range f.Samples {
			b.WriteString(f.Name)
			for i, name := range f.Labels {
				b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + name + `="` + escape(s.Labels[i]) + `"`)
			}
			if len(f.Labels) > 0 {
				b.WriteByte('}')
			}
			b.WriteString(" " + s.Value + "\n")
		}
	}
	b.WriteString("# EOF\n")
	_, err := w.Write(b.Bytes())
	return err
}

// escape keeps a text on its line and within its quotes.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(text)
}
