package boot_test

import (
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"dsvmpools/infra"
	"dsvmpools/shared/boot"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// config is what the template of a deployment sets, with a pool that mounts shares in each way.
func config() boot.Config {
	return boot.Config{
		Template:            infra.NodeTemplate,
		AgentURL:            "https://acmehost.blob.core.windows.net/agent/" + strings.Repeat("ab", 32),
		AgentSHA256:         strings.Repeat("AB", 32),
		ClientID:            "11111111-2222-3333-4444-555555555555",
		ServiceBusNamespace: "acme.servicebus.windows.net",
		WorkQueue:           "work",
		NodeEventsQueue:     "node-events",
		LogBound:            "2Gi",
		Share:               boot.Share{Account: "acmeshare", Name: "dsvm", Auth: pool.AuthKey},
		ShareKeyURL:         "https://acme.vault.azure.net/secrets/share-key",
		Shares: []pool.Share{
			{Account: "acmedata", Name: "data", Path: "/mnt/data-sets", Protocol: pool.ProtocolSMB, Auth: pool.AuthKey},
			{Account: "acmeshare", Name: "models", Path: "/mnt/models", Protocol: pool.ProtocolSMB, Auth: pool.AuthKey},
			{Account: "acmeid", Name: "data", Path: "/data", Protocol: pool.ProtocolSMB, Auth: pool.AuthIdentity},
			{Account: "acmenfs", Name: "big", Path: "/mnt/big", Protocol: pool.ProtocolNFS},
		},
	}
}

// written are the files of custom data by path, as cloud-init would write them.
type written map[string]struct{ content, permissions string }

// render renders custom data and reads it as cloud-init does.
func render(t *testing.T, c boot.Config) (written, []byte) {
	t.Helper()
	data, err := boot.CloudInit(c)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, data), data
}

func read(t *testing.T, data []byte) written {
	t.Helper()
	var document struct {
		Files []struct{ Path, Content, Permissions string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	files := written{}
	for _, f := range document.Files {
		if _, twice := files[f.Path]; twice {
			t.Errorf("%s is written twice", f.Path)
		}
		files[f.Path] = struct{ content, permissions string }{f.Content, f.Permissions}
	}
	return files
}

func TestCloudInitBegins(t *testing.T) {
	t.Parallel()
	_, data := render(t, config())
	if !strings.HasPrefix(string(data), "#cloud-config\n") {
		t.Errorf("cloud-init would not know what this is: %.40q", data)
	}
	t.Logf("%d of %d bytes", len(data), boot.MaxCustomData)
}

func TestMountsOfShares(t *testing.T) {
	t.Parallel()
	files, _ := render(t, config())
	for name, lines := range map[string][]string{
		"mnt-share.mount": {"What=//acmeshare.file.core.windows.net/dsvm", "Where=/mnt/share", "Type=cifs", "vers=3.1.1,seal,",
			"credentials=/etc/dsvmpools/acmeshare.cred"},
		`mnt-data\x2dsets.mount`: {"What=//acmedata.file.core.windows.net/data", "Where=/mnt/data-sets", "credentials=/etc/dsvmpools/acmedata.cred"},
		"mnt-models.mount":       {"What=//acmeshare.file.core.windows.net/models", "gid=dsvmjob,dir_mode=0770,file_mode=0660"},
		"data.mount":             {"What=//acmeid.file.core.windows.net/data", "sec=krb5,cruid=0"},
		"mnt-big.mount":          {"What=acmenfs.file.core.windows.net:/acmenfs/big", "Type=nfs", "vers=4.1"},
	} {
		text := files["/etc/systemd/system/"+name].content
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Errorf("%s lacks %s:\n%s", name, line, text)
			}
		}
		if !strings.Contains(files["/etc/dsvmpools/mounts"].content, name+"\n") {
			t.Errorf("nothing mounts %s", name)
		}
	}
	want := "key acmeshare https://acme.vault.azure.net/secrets/share-key\n" +
		"key acmedata https://acme.vault.azure.net/secrets/share-key-acmedata\n" +
		"identity acmeid acmeid.file.core.windows.net\n" +
		"nfs acmenfs acmenfs.file.core.windows.net\n"
	if got := files["/etc/dsvmpools/logins"]; got.content != want || got.permissions != "0600" {
		t.Errorf("got logins %s\n%s\nwant\n%s", got.permissions, got.content, want)
	}
}

func TestShareOfThePoolTakesThePlaceOfTheDeployments(t *testing.T) {
	t.Parallel()
	c := config()
	c.Shares = []pool.Share{{Account: "acmedata", Name: "own", Path: pool.SharePath, Protocol: pool.ProtocolSMB, Auth: pool.AuthIdentity}}
	files, _ := render(t, c)
	if got := files["/etc/dsvmpools/mounts"].content; got != "mnt-share.mount\n" {
		t.Errorf("mounts are %q", got)
	}
	if got := files["/etc/systemd/system/mnt-share.mount"].content; !strings.Contains(got, "What=//acmedata.file.core.windows.net/own\n") {
		t.Errorf("at %s is mounted:\n%s", pool.SharePath, got)
	}
}

// Only the setup of nodes on which people work looks for an SSH server.
func TestSessions(t *testing.T) {
	t.Parallel()
	for _, want := range []bool{true, false} {
		c := config()
		c.Sessions = want
		files, _ := render(t, c)
		if got := strings.Contains(files["/etc/dsvmpools/node.env"].content, "DSVM_SESSIONS=\"true\"\n"); got != want {
			t.Errorf("got %t, want %t", got, want)
		}
		if !strings.Contains(files["/usr/local/sbin/dsvm-setup"].content, `[ -z "${DSVM_SESSIONS:-}" ] || need_sshd`) {
			t.Error("the setup does not look at DSVM_SESSIONS")
		}
	}
}

func TestOtherCloud(t *testing.T) {
	t.Parallel()
	c := config()
	c.AgentURL = "https://acmehost.blob.core.chinacloudapi.cn/agent/x"
	c.ShareKeyURL = "https://acme.vault.azure.cn/secrets/share-key"
	c.ResourceManager = "https://management.chinacloudapi.cn"
	files, _ := render(t, c)
	env := files["/etc/dsvmpools/node.env"].content
	for _, line := range []string{`DSVM_VAULT_RESOURCE="https://vault.azure.cn"`, `DSVM_VAULT_SUFFIX="vault.azure.cn"`,
		`AZURE_RESOURCE_MANAGER_ENDPOINT="https://management.chinacloudapi.cn"`} {
		if !strings.Contains(env, line+"\n") {
			t.Errorf("the environment lacks %s:\n%s", line, env)
		}
	}
	if got := files["/etc/systemd/system/mnt-share.mount"].content; !strings.Contains(got, "What=//acmeshare.file.core.chinacloudapi.cn/dsvm\n") {
		t.Errorf("the share is mounted from elsewhere:\n%s", got)
	}
}

func TestImageThatCarriesAll(t *testing.T) {
	t.Parallel()
	c := boot.Config{Template: infra.NodeTemplate, ServiceBusNamespace: "acme.servicebus.windows.net"}
	files, _ := render(t, c)
	want := "AZURE_TOKEN_CREDENTIALS=\"ManagedIdentityCredential\"\nServiceBusConnection__fullyQualifiedNamespace=\"acme.servicebus.windows.net\"\n" +
		"SHARE_PATH=\"/mnt/share\"\n"
	if got := files["/etc/dsvmpools/node.env"]; got.content != want || got.permissions != "0600" {
		t.Errorf("got environment %s\n%s\nwant\n%s", got.permissions, got.content, want)
	}
	if got := files["/etc/dsvmpools/mounts"].content + files["/etc/dsvmpools/logins"].content; got != "" {
		t.Errorf("something is mounted: %q", got)
	}
}

func TestCloudInitRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(c *boot.Config)
		field  string
		want   string
	}{
		"an agent without a hash":     {func(c *boot.Config) { c.AgentSHA256 = "" }, "DSVM_AGENT_SHA256", "no SHA-256"},
		"half a hash":                 {func(c *boot.Config) { c.AgentSHA256 = "abcd" }, "DSVM_AGENT_SHA256", "no SHA-256"},
		"an agent without TLS":        {func(c *boot.Config) { c.AgentURL = "http://acme.example/x" }, "DSVM_AGENT_URL", "https URL"},
		"an agent with a signature":   {func(c *boot.Config) { c.AgentURL += "?sig=secret" }, "DSVM_AGENT_URL", "without a query"},
		"a vault with a blank":        {func(c *boot.Config) { c.ShareKeyURL += " x" }, "DSVM_SHARE_KEY_URL", "https URL"},
		"a line break in a queue":     {func(c *boot.Config) { c.WorkQueue = "work\nLD_PRELOAD=/x" }, "WORK_QUEUE", "no setting may have"},
		"an account with a command":   {func(c *boot.Config) { c.Share.Account = "a;reboot" }, "share.account", "no name of an account"},
		"a share with an option":      {func(c *boot.Config) { c.Share.Name = "a,uid=0" }, "share.name", "no name of a share"},
		"a path with a specifier":     {func(c *boot.Config) { c.Shares[0].Path = "/mnt/%H" }, "share.path", "cannot be that of a mount"},
		"a path that leads up":        {func(c *boot.Config) { c.Shares[0].Path = "/mnt/../etc" }, "share.path", "cannot be that of a mount"},
		"an unknown protocol":         {func(c *boot.Config) { c.Shares[0].Protocol = "ftp" }, "share.protocol", "cannot be mounted"},
		"an unknown login":            {func(c *boot.Config) { c.Shares[0].Auth = "guest" }, "share.protocol", "cannot be mounted"},
		"a key without a vault":       {func(c *boot.Config) { c.ShareKeyURL = "" }, "share.auth", "names no vault"},
		"more than Azure takes":       {func(c *boot.Config) { c.WorkQueue = strings.Repeat("w", 60000) }, "", "Azure takes at most 65535"},
		"a template that is not one":  {func(c *boot.Config) { c.Template = "{{" }, "", "cannot be read"},
		"a template of other content": {func(c *boot.Config) { c.Template = "{{.Nothing}}" }, "", "cannot be rendered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused := config()
			c.change(&refused)
			_, err := boot.CloudInit(refused)
			var f *fault.Error
			if f, _ = err.(*fault.Error); f == nil || f.Code != fault.Invalid || f.Field != c.field || !strings.Contains(f.Message, c.want) {
				t.Errorf("got %v; want the fault of %q with %q", err, c.field, c.want)
			}
		})
	}
}

// Secrets come by the node's identity: the custom data names where, and no word of it is
// the value of a setting that is secret.
func TestCloudInitHasNoSecret(t *testing.T) {
	t.Parallel()
	_, data := render(t, config())
	if found := regexp.MustCompile(`(?i)sig=|AccountKey|SharedAccessKey|BEGIN [A-Z ]*PRIVATE KEY`).Find(data); found != nil {
		t.Errorf("the custom data has %s", found)
	}
}

// hostile are values that mean something to YAML, to systemd, to a shell or to the template.
var hostile = []string{
	"", " ", "x", `"`, `'`, `\`, "`reboot`", "$(reboot)", "${PATH}", "%H%n", "%%", "a b", "#c", ": x", "- y", "|", ">", "&a", "*a", "!x", "{{.Mounts}}", "{}", "[]",
	"x\ny: z", "\r", "\t", "\x00", "\x1b[0m", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffd", "é", "日本", "🙂", "\xff", "a\\", `a\"b`, `"; reboot; "`, "'\\''", "~", "null", "yes", "0x1f", "1e3",
}

// A value either comes to the process that reads it as it is, or is refused.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	var values []string
	for _, a := range hostile {
		for _, b := range []string{"", `"`, "$x", "\\", "\n"} {
			values = append(values, a+b, b+a)
		}
	}
	checked := 0
	for _, v := range values {
		if checkHostile(t, v) {
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d of %d values were written", checked, len(values))
	}
}

func FuzzCloudInit(f *testing.F) {
	for _, v := range hostile {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) { checkHostile(t, v) })
}

// checkHostile renders custom data with a value everywhere, and reports whether it was
// taken as a setting.
func checkHostile(t *testing.T, value string) (taken bool) {
	t.Helper()
	c := config()
	c.WorkQueue, c.NodeEventsQueue, c.ServiceBusNamespace, c.ClientID, c.ResourceManager, c.LogBound = value, value, value, value, value, value
	wanted := []string{"AZURE_CLIENT_ID", "AZURE_RESOURCE_MANAGER_ENDPOINT", "DSVM_LOG_BOUND", "NODE_EVENTS_QUEUE",
		"ServiceBusConnection__fullyQualifiedNamespace", "WORK_QUEUE"}
	plain, _ := render(t, config())
	data, err := boot.CloudInit(c)
	switch {
	case err != nil && fault.CodeOf(err) != fault.Invalid:
		t.Fatalf("%q: %v", value, err)
	case err == nil:
		taken = true
		files := read(t, data)
		for name, f := range files {
			if name != "/etc/dsvmpools/node.env" && f != plain[name] {
				t.Fatalf("%q changes %s:\n%s", value, name, f.content)
			}
		}
		if len(files) != len(plain) {
			t.Fatalf("%q adds a file", value)
		}
		got := parseEnvironment(t, files["/etc/dsvmpools/node.env"].content)
		for _, name := range wanted {
			if got[name] != value {
				t.Fatalf("%q comes to the agent as %s=%q", value, name, got[name])
			}
		}
	}
	// As a part of a share it is refused, or is the name that it seems to be.
	for _, s := range []pool.Share{
		{Account: value, Name: "data", Path: "/mnt/data"}, {Account: "acme", Name: value, Path: "/mnt/data"}, {Account: "acme", Name: "data", Path: "/mnt/" + value},
	} {
		c := config()
		s.Protocol, s.Auth, c.Shares = pool.ProtocolSMB, pool.AuthKey, []pool.Share{s}
		data, err := boot.CloudInit(c)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("%+v: %v", s, err)
			}
			continue
		}
		units := strings.Fields(read(t, data)["/etc/dsvmpools/mounts"].content)
		text := read(t, data)["/etc/systemd/system/"+units[len(units)-1]].content
		if !strings.Contains(text, fmt.Sprintf("\nWhat=//%s.file.core.windows.net/%s\nWhere=%s\n", s.Account, s.Name, s.Path)) ||
			strings.Count(text, "\n") != 11 || !isPlain(s) {
			t.Fatalf("%+v becomes\n%s", s, text)
		}
	}
	return taken
}

// isPlain reports whether a share has no character that systemd or the options of a mount read in their own way.
func isPlain(s pool.Share) bool {
	return !strings.ContainsAny(s.Account+s.Name+s.Path, "%\\\"' ,\t\n$#;=") && path.Clean(s.Path) == s.Path
}

// parseEnvironment reads a file of settings as systemd does, as far as one is written here:
// NAME="value", with a backslash before characters that would mean something else.
func parseEnvironment(t *testing.T, text string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for line := range strings.Lines(text) {
		name, quoted, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || len(quoted) < 2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
			t.Fatalf("the line %q is no setting", line)
		}
		var value strings.Builder
		for rest := quoted[1 : len(quoted)-1]; rest != ""; rest = rest[1:] {
			switch {
			case rest[0] == '\\' && len(rest) > 1 && strings.Contains("\"\\`$", rest[1:2]):
				rest = rest[1:]
			case rest[0] == '"':
				t.Fatalf("a quote ends early in %q", line)
			}
			value.WriteByte(rest[0])
		}
		settings[name] = value.String()
	}
	return settings
}

// A shell reads the file of settings as systemd does.
func TestShellReadsTheEnvironment(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	c := config()
	c.WorkQueue = "a\"b'c\\d`e$(f)${g} %h #i ; j & 日本 \\\""
	files, _ := render(t, c)
	out, err := exec.Command(bash, "-c", files["/etc/dsvmpools/node.env"].content+`printf %s "$WORK_QUEUE"`).CombinedOutput()
	if err != nil || string(out) != c.WorkQueue {
		t.Errorf("got %q, %v; want %q", out, err, c.WorkQueue)
	}
}

// Scripts are judged by shellcheck, cloud-init by its own schema, and units by systemd,
// where these programs are there.
func TestJudges(t *testing.T) {
	t.Parallel()
	files, data := render(t, config())
	dir := t.TempDir()
	var scripts, units []string
	for name, f := range files {
		file := writeFile(t, dir, path.Base(name), f.content)
		switch {
		case strings.HasPrefix(f.content, "#!"):
			scripts = append(scripts, file)
		case strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".mount"):
			units = append(units, file)
		}
	}
	if len(scripts) != 4 || len(units) != 8 {
		t.Fatalf("%d scripts and %d units", len(scripts), len(units))
	}
	slices.Sort(units)
	judge(t, "shellcheck", append([]string{"--severity=style", "--exclude=SC2015,SC1091,SC2154"}, scripts...), nil)
	judge(t, "cloud-init", []string{"schema", "--config-file", writeFile(t, dir, "user-data", string(data))}, nil)
	// What is not installed here is no fault of the units.
	judge(t, "systemd-analyze", append([]string{"--man=no", "verify"}, units...), regexp.MustCompile(`is not executable: No such file|not-found|not be found|Unit .* not found`))
}
