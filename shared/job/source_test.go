package job_test

import (
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

func TestSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		want       *job.Source
	}{
		{"none", "", nil},
		{"the least", "source: {repository: 'https://github.com/acme/train', commit: " + commit + "}\n", &job.Source{Repository: "https://github.com/acme/train", Commit: commit}},
		{"everything", "source:\n  repository: ssh://git@ssh.dev.azure.com:22/v3/acme/a%20b/train\n  commit: " + strings.Repeat("a", 64) +
			"\n  path: training/größe\n  submodules: true\n  lfs: true\n  credential: azure.devops-1\n",
			&job.Source{Repository: "ssh://git@ssh.dev.azure.com:22/v3/acme/a%20b/train", Commit: strings.Repeat("a", 64), Path: "training/größe", Submodules: true, LFS: true, Credential: "azure.devops-1"}},
		{"this machine", "source: {repository: 'http://127.0.0.1:8080/r.git', commit: " + commit + "}\n", &job.Source{Repository: "http://127.0.0.1:8080/r.git", Commit: commit}},
		{"an address of version 6", "source: {repository: 'https://[::1]:8080/r.git', commit: " + commit + "}\n", &job.Source{Repository: "https://[::1]:8080/r.git", Commit: commit}},
		{"a tree", "source: {tree: 'tree:sha256:" + strings.Repeat("ab", 32) + "', path: training}\n", &job.Source{Tree: "tree:sha256:" + strings.Repeat("ab", 32), Path: "training"}},
		{"a file", "source: {repository: 'file:///srv/a..b.git', commit: " + commit + "}\n", &job.Source{Repository: "file:///srv/a..b.git", Commit: commit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := job.Parse([]byte(minimal+c.body), "")
			if err != nil || !reflect.DeepEqual(got.Source, c.want) {
				t.Fatalf("got %+v, %v, want %+v", got.Source, err, c.want)
			}
			again, err := job.Parse(got.Canonical(), "")
			if err != nil || again.Hash() != got.Hash() {
				t.Errorf("read again: got %s, %v", again.Canonical(), err)
			}
		})
	}
}

// folder is the name of a tree.
var folder = "tree:sha256:" + strings.Repeat("ab", 32)

func TestSourceRefuses(t *testing.T) {
	t.Parallel()
	at := func(repository string) job.Source {
		return job.Source{Repository: repository, Commit: commit}
	}
	with := func(change func(*job.Source)) job.Source {
		s := at("https://github.com/acme/train")
		change(&s)
		return s
	}
	for _, c := range []struct {
		name          string
		source        job.Source
		field, saying string
	}{
		{"no repository", at(""), "repository", "is missing"},
		{"no scheme", at("github.com/acme/train"), "repository", "write https://host/path"},
		{"the short form of ssh", at("git@github.com:acme/train"), "repository", "ssh://git@host/path"},
		{"a long address", at("https://github.com/" + strings.Repeat("a", 1000)), "repository", "shorten it to 1000"},
		{"a program", at("ext::sh -c touch% /tmp/x://a/b"), "repository", "cannot be read"},
		{"another helper", at("ext://host/path"), "repository", "is ext; write https or ssh"},
		{"plain git", at("git://host/path"), "repository", "is git; write https or ssh"},
		{"http", at("http://github.com/acme/train"), "repository", "write https"},
		{"http of a host that looks like this machine", at("http://localhost.evil.example/r"), "repository", "write https"},
		{"a token", at("https://secret@github.com/acme/train"), "repository", "has a user or a secret"},
		{"a user and a password", at("https://ann:secret@github.com/acme/train"), "repository", "has a user or a secret"},
		{"an empty user", at("https://@github.com/acme/train"), "repository", "has a user or a secret"},
		{"a password for ssh", at("ssh://git:secret@github.com/acme/train"), "repository", "has a user or a secret"},
		{"an option as user", at("ssh://-oProxyCommand=secret@github.com/acme/train"), "repository", "has a user or a secret"},
		{"an option as host", at("ssh://-oProxyCommand=x/acme/train"), "repository", "names no host"},
		{"no host", at("https:///acme/train"), "repository", "names no host"},
		{"a file of another host", at("file://host/srv/r.git"), "repository", "file:///path"},
		{"no path", at("https://github.com"), "repository", "cannot be read"},
		{"the root", at("https://github.com//"), "repository", "names no repository"},
		{"upwards", at("https://github.com/a/../b"), "repository", "names no repository"},
		{"upwards, hidden", at("file:///a/%2E%2e/b"), "repository", "names no repository"},
		{"a query", at("https://github.com/a?token=secret"), "repository", "without ? and #"},
		{"a line break", at("https://github.com/a\nb"), "repository", "cannot be read"},
		{"half a character", at("https://github.com/a%2"), "repository", "cannot be read"},
		{"no commit", with(func(s *job.Source) { s.Commit = "" }), "commit", "is missing"},
		{"a branch", with(func(s *job.Source) { s.Commit = "main" }), "commit", "no branch or tag"},
		{"a short name", with(func(s *job.Source) { s.Commit = commit[:12] }), "commit", "40 or 64"},
		{"capitals", with(func(s *job.Source) { s.Commit = strings.ToUpper(commit) }), "commit", "40 or 64"},
		{"an option", with(func(s *job.Source) { s.Commit = "--upload-pack=x" }), "commit", "40 or 64"},
		{"a deleted branch", with(func(s *job.Source) { s.Commit = strings.Repeat("0", 40) }), "commit", "all zeros"},
		{"an absolute path", with(func(s *job.Source) { s.Path = "/etc" }), "path", "below the repository's top"},
		{"a path upwards", with(func(s *job.Source) { s.Path = "a/../../b" }), "path", "without .. and .git"},
		{"a path on Windows", with(func(s *job.Source) { s.Path = `a\..` }), "path", "with /"},
		{"the repository's own files", with(func(s *job.Source) { s.Path = "a/.Git/hooks" }), "path", "without .. and .git"},
		{"a line break in the path", with(func(s *job.Source) { s.Path = "a\nb" }), "path", "cannot be shown"},
		{"a long path", with(func(s *job.Source) { s.Path = strings.Repeat("a", 201) }), "path", "shorten it to 200"},
		{"a secret as credential", with(func(s *job.Source) { s.Credential = "user:secret" }), "credential", "the name that the nodes know"},
		{"a path as credential", with(func(s *job.Source) { s.Credential = "../secret" }), "credential", "the name that the nodes know"},
		{"a tree and a repository", with(func(s *job.Source) { s.Tree = folder }), "repository", "a tree is no repository"},
		{"a tree and a commit", job.Source{Tree: folder, Commit: commit}, "commit", "a tree is no repository"},
		{"a tree and a credential", job.Source{Tree: folder, Credential: "github"}, "credential", "a tree is no repository"},
		{"a tree and submodules", job.Source{Tree: folder, Submodules: true}, "submodules", "a tree is no repository"},
		{"a tree and large files", job.Source{Tree: folder, LFS: true}, "lfs", "a tree is no repository"},
		{"a tree of another hash", job.Source{Tree: "tree:md5:" + strings.Repeat("ab", 16)}, "tree", "write tree:sha256: and 64"},
		{"a tree and a path upwards", job.Source{Tree: folder, Path: "../x"}, "path", "without .. and .git"},
		{"a long credential", with(func(s *job.Source) { s.Credential = strings.Repeat("s", 65) }), "credential", "the name that the nodes know"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.source.Validate()
			if err == nil {
				t.Fatal("got it accepted, want a refusal")
			}
			refused(t, err, "source."+c.field, err.Error())
			if !strings.Contains(err.Error(), c.saying) || strings.Contains(err.Error(), "secret@") ||
				strings.Contains(err.Error(), ":secret") || len(err.Error()) > 300 {
				t.Errorf("got %q, want it to say %q and no secret", err, c.saying)
			}
		})
	}
}

func TestSourceInADocument(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, field, message string }{
		{"a slip", "source: {repositori: x}\n", "source.repositori", "line 3: there is no field `source.repositori`; did you mean `repository`?"},
		{"a text", "source: https://github.com/acme/train\n", "source", "line 3: `source` is a text; write an object, for example {\"repository\": \"https://github.com/acme/train\", \"commit\": \"…\"}"},
		{"nothing in it", "source: {}\n", "source.repository", "line 3: `source.repository` is missing; write the address of the repository, for example https://github.com/acme/train"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := job.Parse([]byte(minimal+c.body), "")
			refused(t, err, c.field, c.message)
		})
	}
}

// Only ParseReader reads a job that has nothing to run, and nothing else.
func TestParseReader(t *testing.T) {
	t.Parallel()
	const reader = "pool: cpu\nsource: {repository: 'https://github.com/acme/train', commit: " + commit + "}\n"
	const not = "the job is to read its source's own jobs; give it a `source`, and neither `command` nor `script`"
	for _, c := range []struct{ name, body, field, message string }{
		{"a source alone", reader, "", ""},
		{"with a command", reader + "command: [make]\n", "source", "line 2: " + not},
		{"with a script", reader + "script: make\n", "source", "line 2: " + not},
		{"without a source", "pool: cpu\n", "source", not},
		{"without a commit", "pool: cpu\nsource: {repository: 'https://github.com/acme/train'}\n", "source.commit", "line 2: `source.commit` is missing; write the whole name of the commit"},
		{"without a pool", strings.Replace(reader, "pool: cpu", "name: x", 1), "pool", "`pool` is missing; name the pool the job is to run in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec, err := job.ParseFileJob([]byte(c.body), "")
			if c.message != "" {
				refused(t, err, c.field, c.message)
				return
			}
			if err != nil || !spec.ReadsJobFile() {
				t.Errorf("got %+v, %v", spec, err)
			}
		})
	}
	_, err := job.Parse([]byte(reader), "")
	refused(t, err, "command", "`command` is missing; give `command` as a list of texts, or `script` as a text")
}

// FuzzRepository: an address that is accepted holds nothing that git or ssh
// could take for an option, another transport or a secret.
func FuzzRepository(f *testing.F) {
	for _, seed := range []string{"https://github.com/acme/train", "ssh://git@host:22/~ann/r.git", "file:///srv/r", "http://[::1]:80/r", "https://a:b@c/d", "ext::sh", "https://h/%2e%2e/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, at string) {
		s := job.Source{Repository: at, Commit: commit}
		if err := s.Validate(); err != nil {
			if len(err.Error()) > 1000 {
				t.Fatalf("got a refusal of %d bytes", len(err.Error()))
			}
			return
		}
		scheme, rest, _ := strings.Cut(at, "://")
		host, path, _ := strings.Cut(rest, "/")
		if strings.ContainsAny(at, " \t\r\n\x00\"\\?#|<>`{}^") || strings.HasPrefix(host, "-") || path == "" ||
			strings.Contains("/"+path+"/", "/../") || scheme != "ssh" && strings.Contains(host, "@") ||
			scheme == "ssh" && strings.Count(host, ":") > 1 && !strings.Contains(host, "[") {
			t.Fatalf("%q was accepted", at)
		}
	})
}
