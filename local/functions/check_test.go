//go:build unix

package functions

import (
	"strings"
	"testing"
)

// What the host would skip, or serve in another way than one reads it, is said before.
func TestCheckApp(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"JOBS": "jobs", "Bus__fullyQualifiedNamespace": "x", "EACH": "0 * * * * *"}
	timer := strings.Replace(timerYearly, "0 0 0 1 1 *", "%EACH%", 1)
	other := strings.Replace(httpAny, "{*path}", "x/{id}", 1)
	post := strings.Replace(other, `"authLevel"`, `"methods":["post"],"authLevel"`, 1)
	get := strings.Replace(other, `"authLevel"`, `"methods":["get"],"authLevel"`, 1)
	for _, tt := range []struct {
		name, host string
		functions  map[string]string
		missing    string // setting that is taken out
		want       string // "" = nothing is wrong
	}{
		{"whole", hostJSON, map[string]string{"Jobs": jobsBatch, "Each": timer, "Api": httpAny}, "", ""},
		{"methods apart", hostJSON, map[string]string{"A": post, "B": get}, "", ""},
		{"a queue without a setting", hostJSON, map[string]string{"Jobs": jobsBatch}, "JOBS", "function Jobs: queueName: the setting JOBS is missing"},
		{"no connection", hostJSON, map[string]string{"Jobs": jobsBatch}, "Bus__fullyQualifiedNamespace", "the setting Bus is missing"},
		{"a schedule without a setting", hostJSON, map[string]string{"Each": timer}, "EACH", "the setting EACH is missing"},
		{"two routes", hostJSON, map[string]string{"A": httpAny, "B": other}, "", "functions A and B fit one request: OPTIONS /x/"},
		{"two routes, one method", hostJSON, map[string]string{"A": httpAny, "B": post}, "", "functions A and B fit one request: POST /x/"},
		{"no host.json that is taken", `{"version":"3.0"}`, map[string]string{"A": httpAny}, "", "host.json: "},
		{"no executable", `{"version":"2.0"}`, map[string]string{"A": httpAny}, "", "defaultExecutablePath is missing"},
		{"no function", hostJSON, nil, "", "there is no function"},
	} {
		has := map[string]string{}
		for name, value := range settings {
			if name != tt.missing {
				has[name] = value
			}
		}
		var text []string
		for _, err := range CheckApp(script(tt.host, tt.functions), has) {
			text = append(text, err.Error())
		}
		if got := strings.Join(text, "; "); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
