package cli

import (
	"strings"
	"testing"
)

// TestNamesOfNothing: a name that nothing has is an error for every command that takes
// one, with the remedy said once. A script with a typo must not read "no jobs".
func TestNamesOfNothing(t *testing.T) {
	t.Parallel()
	for args, remedy := range map[string]string{
		"pool show none":                      "dsvm pool list",
		"pool explain NONE":                   "dsvm pool list",
		"pool resume none":                    "dsvm pool list",
		"pool delete none --yes":              "dsvm pool list",
		"node list --pool none":               "dsvm pool list",
		"node list --pool NONE":               "dsvm pool list",
		"job list --pool none":                "dsvm pool list",
		"job list --pool none --state queued": "dsvm pool list",
		"job list --pool NONE":                "dsvm pool list",
		"job submit --pool none -- true":      "dsvm pool list",
		"job show none":                       "dsvm job list",
		"job show no/id":                      "dsvm job list",
		"job cancel none":                     "dsvm job list",
		"job explain none":                    "dsvm job list",
		"job logs none":                       "dsvm job list",
		"job release none":                    "dsvm job list",
		"node drain none":                     "dsvm node list",
		"push show none":                      "dsvm push list",
		"push show NO_NAME":                   "dsvm push list",
		"pool show cpuu":                      "did you mean \"cpu\"? `dsvm pool list`",
		"pool show GPU":                       "did you mean \"gpu\"? `dsvm pool list`",
		"node list --pool cpus":               "did you mean \"cpu\"? `dsvm pool list`",
		"node drain x --pool cpus":            "did you mean \"cpu\"? `dsvm pool list`",
		"job list --pool cpus --state failed": "did you mean \"cpu\"? `dsvm pool list`",
		"job submit --pool cpus -- true":      "did you mean \"cpu\"? `dsvm pool list`",
		"run --pool cpus -- true":             "did you mean \"cpu\"? `dsvm pool list`",
		"job cancel --user ann --pool cpus":   "did you mean \"cpu\"? `dsvm pool list`",
		"pool explain cpus":                   "did you mean \"cpu\"? `dsvm pool list`",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			code, out, errs := b.run(strings.Fields(args)...)
			if code != codeFailure || out != "" || !strings.HasPrefix(errs, "dsvm: there is no ") || strings.Count(errs, remedy) != 1 {
				t.Errorf("got code %d, output %q, error %q; want code 1 and %q once", code, out, errs, remedy)
			}
		})
	}
}
