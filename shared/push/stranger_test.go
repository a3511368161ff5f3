package push_test

import (
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
)

// strangers are the values that anybody may write.
var strangers = []string{"Message", "Title", "Author", "Pusher", "Repository", "CloneURL"}

// harmless is the form in which a ref may be an argument, written down once more, by
// its letters.
func harmless(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
	return strings.Trim(s, letters) == "" && !strings.HasPrefix(s, "-")
}

// TestStrangersStayOut: what strangers write can stand nowhere but in `env`, whatever
// the job runs.
func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	for _, place := range []string{
		"name: 'X'", "labels: {a: 'X'}", "workdir: 'X'", "command: ['X']", "command: [python, train.py, 'X']", "command: [my-shell, --run, 'X']", "command: [bash, -c, 'X']",
		"command: [git, checkout, 'X']", "team: 'X'", "pool: 'X'", "image: 'X'", "priority: 'X'", "after: ['X']", "timeout: 'X'", "notBefore: 'X'", "maxCost: 'X'", "secrets: {A: 'X'}",
		"source: {repository: 'https://h/X'}", "source: {path: 'X'}", "resources: {memory: 'X'}", "retry: {on: ['X']}", "notify: ['X']", "id: 'X'",
	} {
		for _, name := range strangers {
			job := "pool: cpu, " + strings.ReplaceAll(place, "X", "a{{."+name+"}}b")
			if !strings.HasPrefix(place, "command") {
				job += ", command: [x]"
			}
			if strings.HasPrefix(place, "pool") {
				job = strings.TrimPrefix(job, "pool: cpu, ")
			}
			_, err := push.ParseRules([]byte(withJob("job: {"+job+"}")), "")
			if fault.CodeOf(err) != fault.Invalid ||
				!strings.Contains(fmt.Sprint(err), "is written by strangers and reaches a job through its environment alone") {
				t.Errorf("%s: got %v", job, err)
			}
		}
	}
	for _, name := range strangers {
		rule(t, withJob("job: {pool: cpu, command: [x], env: {WHY: 'a {{."+name+"}} b'}}"))
		rule(t, withJob("job: {pool: cpu, command: [x], sweep: {list: [{WHY: '{{."+name+"}}'}, {WHY: ''}]}}"))
		_, err := push.ParseRules([]byte(withJob("job: {pool: cpu, script: 'echo {{."+name+"}}'}")), "")
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s in a script: got %v", name, err)
		}
	}
}

// TestSteeringVariables: no value that somebody else chooses goes into a variable that
// says what to run or where from.
func TestSteeringVariables(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"PATH", "Path", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "BASH_FUNC_ls", "ENV", "IFS", "PS4", "PROMPT_COMMAND", "SHELL", "SHELLOPTS", "CDPATH",
		"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONBREAKPOINT", "PYTHONWARNINGS", "PYTHONINSPECT", "GIT_SSH_COMMAND", "GIT_EXEC_PATH", "GIT_DIR", "GIT_CONFIG_COUNT",
		"NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "PERL5LIB", "PERL5DB", "RUBYOPT", "RUBYLIB", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH",
		"DYLD_INSERT_LIBRARIES", "DYLD_LIBRARY_PATH", "HOME", "TMPDIR", "ZDOTDIR", "EDITOR", "PAGER", "LESSOPEN", "GLIBC_TUNABLES", "GCONV_PATH", "HOSTALIASES",
		"http_proxy", "HTTPS_PROXY", "all_proxy", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "npm_config_registry", "CC", "CFLAGS", "MAKEFLAGS",
		"R_PROFILE_USER", "JULIA_LOAD_PATH", "LUA_INIT", "CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "KUBECONFIG", "XDG_CONFIG_HOME", "GOFLAGS", "RUSTC_WRAPPER",
	} {
		for _, value := range append([]string{"Branch", "Tag", "Ref"}, strangers...) {
			for _, in := range []string{"env: {%s: 'a{{.%s}}'}", "sweep: {grid: {%s: [x, '{{.%s}}']}}", "sweep: {list: [{%s: '{{.%s}}'}]}"} {
				place := fmt.Sprintf(in, name, value)
				_, err := push.ParseRules([]byte(withJob("job: {pool: cpu, command: [x], "+place+"}")), "")
				if fault.CodeOf(err) != fault.Invalid ||
					!strings.Contains(err.Error(), "the variable "+name+" makes programs run something") {
					t.Errorf("%s: got %v", place, err)
				}
			}
		}
		rule(t, withJob("job: {pool: cpu, command: [x], env: {"+name+": '/opt/{{.Commit}}'}}"))
	}
	for _, name := range []string{"WHY", "TITLE", "MESSAGE", "COMMIT_MESSAGE", "AUTHOR", "BRANCH", "PUSH_MESSAGE", "RUN_NAME", "LDAP_USER", "ENVIRONMENT"} {
		if push.Steers(name) {
			t.Errorf("%s steers nothing", name)
		}
	}
}

// TestRefsAsArguments: the name of a branch or tag is passed where the template puts it
// when it has a harmless form, and starts nothing otherwise, with the reason.
func TestRefsAsArguments(t *testing.T) {
	t.Parallel()
	places := []string{
		"command: [x, '--at={{.Branch}}{{.Tag}}']", "script: 'git switch {{.Branch}}{{.Tag}}'",
		"workdir: 'a/{{.Branch}}{{.Tag}}', command: [x]", "name: '{{.Ref}}', command: [x]",
		"labels: {on: '{{.Ref}}'}, command: [x]", "user: '{{.Branch}}{{.Tag}}', command: [x]",
		"command: [bash, -c, 'echo {{.Ref}}']",
	}
	for name, good := range map[string]bool{
		"main": true, "release/1.2_x-3": true, "_x": true, ".x": true, "v1.0-rc.1": true, "A/b": true,
		"-x": false, "--upload-pack=touch${IFS}x": false, "a;reboot": false, "a$(id)": false, "a`id`": false, "a|b": false, "a&b": false, "a'b": false, `a"b`: false,
		"a b": false, "é": false, "a%b": false, "a@b": false, "#1": false, "a=b": false, "a,b": false, "a*": false, "{{.Commit}}": false, "a<b": false, "a(b)": false, "a!b": false,
		"a+b": false, "a\u2010b": false, "/etc": false, "a/../../b": false, "..": false, "a#b": false, "ａ": false,
	} {
		for _, kind := range []string{"heads", "tags"} {
			p := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), map[string]any{"ref": "refs/" + kind + "/" + name}))
			for _, place := range places {
				r := rule(t, withJob("branches: ['**']\ntags: ['**']\njob: {pool: cpu, "+place+"}"))
				// `{{.Ref}}` begins with refs/, so a name after it may begin with anything.
				whole := strings.Contains(place, "{{.Ref}}") && (name == "-x" || name == "/etc")
				starts, err := r.MakeJobs(&p, "k")
				if good || whole {
					if err != nil || len(starts) != 1 || !strings.Contains(string(starts[0].Document), name) {
						t.Errorf("%s %s in %s: got %v, %v", kind, name, place, starts, err)
					}
					continue
				}
				if fault.CodeOf(err) != fault.Invalid || len(starts) > 0 || !strings.Contains(err.Error(), "is not passed in `") ||
					!strings.Contains(err.Error(), "$PUSH_") {
					t.Errorf("%s %s in %s: got %v, %v", kind, name, place, starts, err)
				}
			}
			// Through the environment it comes as it is, and what is shown of it is harmless.
			r := rule(t, withJob("branches: ['**']\ntags: ['**']\njob: {pool: cpu, command: [x], env: {ON: '{{.Branch}}{{.Tag}}'}}"))
			got := specs(t, r, &p)[0]
			if got.Env["ON"] != name || got.Env["PUSH_REF"] != "refs/"+kind+"/"+name || !harmless(got.Labels["ref"]) ||
				!harmless("r"+strings.TrimPrefix(got.Name, "r ")) {
				t.Errorf("%s %s: got %v, name %q, labels %q", kind, name, got.Env, got.Name, got.Labels)
			}
		}
	}
}

// TestForks: a pull request, which anybody can open from a fork of a repository, is no
// push and starts nothing.
func TestForks(t *testing.T) {
	t.Parallel()
	d, err := push.Parse(push.GitHub, func(name string) string {
		if strings.EqualFold(name, "X-GitHub-Event") {
			return "pull_request"
		}
		return ""
	}, []byte(`{"action":"opened","pull_request":{"head":{"ref":"x"}}}`))
	if err != nil || len(d.Pushes) > 0 || d.Ignored == "" {
		t.Errorf("got %+v, %v", d, err)
	}
	r := rule(t, withJob("branches: ['**']\ntags: ['**']\njob: {pool: cpu, command: [x]}"))
	for _, ref := range []string{"refs/pull/1/head", "refs/pull/1/merge", "refs/merge-requests/1/head", "refs/pull-requests/1/from", "refs/for/main"} {
		p := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), map[string]any{"ref": ref}))
		if fits, why := r.Match(&p); fits || !strings.Contains(why, "neither a branch nor a tag") {
			t.Errorf("%s: got %v %s", ref, fits, why)
		}
	}
}
