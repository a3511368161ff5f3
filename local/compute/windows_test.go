//go:build unix

package compute_test

import (
	"net/http"
	"strings"
	"testing"
)

// windowsResource is a complete scale set with Windows as a client sends it.
func windowsResource() string {
	linux := `"linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":` +
		`[{"path":"/home/dsvm/.ssh/authorized_keys","keyData":"ssh-ed25519 AAAA"}]}}`
	return strings.Replace(resource(0), linux, `"adminPassword":"Correct-horse-1","windowsConfiguration":{"provisionVMAgent":true,`+
		`"enableAutomaticUpdates":false,"patchSettings":{"patchMode":"Manual"}}`, 1)
}

func TestWhatIsRefusedOfWindows(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	for _, c := range []struct{ name, old, new, want string }{
		{"no password", `"adminPassword":"Correct-horse-1",`, ``, "adminPassword"},
		{"a short password", `Correct-horse-1`, `Ab-1`, "adminPassword"},
		{"a plain password", `Correct-horse-1`, `correcthorse1`, "adminPassword"},
		{"a known password", `Correct-horse-1`, `P@ssw0rd`, "adminPassword"},
		{"a long name of computers", `"computerNamePrefix":"cpu"`, `"computerNamePrefix":"0123456abc"`, "computerNamePrefix"},
		{"a name that is kept", `"adminUsername":"dsvm"`, `"adminUsername":"Administrator"`, "adminUsername"},
		{"a long name", `"adminUsername":"dsvm"`, `"adminUsername":"abcdefghijklmnopqrstu"`, "adminUsername"},
		{"updates of both kinds", `"enableAutomaticUpdates":false`, `"enableAutomaticUpdates":true`, "patchMode"},
		{"unknown updates", `"patchMode":"Manual"`, `"patchMode":"Never"`, "patchMode"},
		{"a login of Linux", `"windowsConfiguration"`, `"linuxConfiguration":{"disablePasswordAuthentication":true},"windowsConfiguration"`, "linuxConfiguration"},
		{"an unknown license", `"virtualMachineProfile":{`, `"virtualMachineProfile":{"licenseType":"mine",`, "licenseType"},
	} {
		body := strings.Replace(windowsResource(), c.old, c.new, 1)
		if body == windowsResource() {
			t.Errorf("%s: the test changes nothing", c.name)
		}
		resp, got := call(t, s.URL(), http.MethodPut, setPath+"win", body)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %d %s, want 400 with %s", c.name, resp.StatusCode, got, c.want)
		}
	}
	licensed := strings.Replace(resource(0), `"virtualMachineProfile":{`, `"virtualMachineProfile":{"licenseType":"Windows_Server",`, 1)
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", licensed); resp.StatusCode != http.StatusBadRequest || !strings.Contains(got, "licenseType") {
		t.Errorf("Linux with a license of Windows: got %d %s", resp.StatusCode, got)
	}
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"win", windowsResource()); resp.StatusCode != http.StatusCreated {
		t.Fatalf("as it is: got %d %s", resp.StatusCode, got)
	}
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"win", windowsResource()); resp.StatusCode != http.StatusConflict || !strings.Contains(got, "PropertyChangeNotAllowed") {
		t.Errorf("another password: got %d %s", resp.StatusCode, got)
	}
	if _, got := call(t, s.URL(), http.MethodGet, setPath+"win", ""); strings.Contains(got, "Correct-horse-1") {
		t.Errorf("the password is shown: %s", got)
	}
}

// What the client sends of a model with Windows is taken: when the set is made, when its model is
// written again, and when it grows.
func TestWindowsModelIsTaken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := model()
	m.Windows, m.License, m.SSHPublicKey, m.CustomData = true, "Windows_Server", "", nil
	op, err := f.Grow(f.ctx, "set", m, 1)
	f.poll(t, op, err)
	m.Tags = map[string]string{"costCenter": "4711"}
	op, err = f.UpdateModel(f.ctx, "set", m)
	f.poll(t, op, err)
	if got := f.list(t).Model; got != m.Hash("set") {
		t.Errorf("the set has the model %s, want the changed one", got)
	}
	op, err = f.Grow(f.ctx, "set", m, 2)
	f.poll(t, op, err)
	if got := len(f.list(t).Instances); got != 2 {
		t.Errorf("got %d instances, want 2", got)
	}
}
