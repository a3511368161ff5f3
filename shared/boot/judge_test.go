package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// judge runs a program that finds faults: it must end well and print nothing but lines that
// are allowed. Without the program the judgement is left out, unless DSVM_REQUIRE_JUDGES
// is set.
func judge(t *testing.T, program string, arguments []string, allowed *regexp.Regexp) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("DSVM_REQUIRE_JUDGES") != "" {
			t.Errorf("%v", err)
		}
		t.Logf("%s is not here and judges nothing", program)
		return
	}
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if allowed == nil {
		if err != nil {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
		return
	}
	for line := range strings.Lines(string(out)) {
		if !allowed.MatchString(line) {
			t.Errorf("%s: %s", program, line)
		}
	}
}
