package metrics

import (
	"strings"
	"testing"
)

// Names of strangers stay on their line and within their quotes.
func TestWrite(t *testing.T) {
	t.Parallel()
	jobs := Family{Name: "dsvm_jobs", Help: "Jobs,\nof a pool.", Labels: []string{"pool", "state"}}
	jobs.Add("3", "a\"b\\c\nd", "queued")
	jobs.Add("0.25", "cpu", "held")
	none := Family{Name: "dsvm_none", Help: "Nothing."}
	troubles := Family{Name: "dsvm_troubles", Help: "Troubles."}
	troubles.Add("2")
	var b strings.Builder
	if err := Write(&b, []Family{jobs, none, troubles}); err != nil {
		t.Fatal(err)
	}
	want := `# TYPE dsvm_jobs gauge
# HELP dsvm_jobs Jobs,\nof a pool.
dsvm_jobs{pool="a\"b\\c\nd",state="queued"} 3
dsvm_jobs{pool="cpu",state="held"} 0.25
# TYPE dsvm_none gauge
# HELP dsvm_none Nothing.
# TYPE dsvm_troubles gauge
# HELP dsvm_troubles Troubles.
dsvm_troubles 2
# EOF
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
