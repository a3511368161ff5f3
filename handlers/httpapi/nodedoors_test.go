package httpapi_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/protocol"
)

// TestOperatorsComeToNodes has a key signed for a node: for operators of every team who have signed
// in and say why, and for nobody else; who asks, and why, is in the audit trail. The pool has no way
// by the relay, which is the way of operators anyway.
func TestOperatorsComeToNodes(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, apptest.WithDoors(t))
	rules, err := caller.ParseRules("g-vision=operator:vision; " + opsID + "=operator")
	if err != nil {
		t.Fatal(err)
	}
	h := httpapi.New(httpapi.Services{Nodes: app.Nodes, Pools: app.Pools, Users: app.Users, Audit: app.Audit,
		Access: httpapi.Access{Roles: rules, Tokens: passes{
			"ann": {ID: annID, Login: "ann@contoso.com", Groups: []string{"g-vision"}},
			"ops": {ID: opsID, Login: "ops@contoso.com"},
		}}}, app.Share, app.Log)
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICmaMSfDrKa2dIhTp4JydV6fFRvwxNdTNSaFLFk300O"
	ask := func(who, method, url, body string, status int, has string) {
		t.Helper()
		r := httptest.NewRequest(method, url, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if who != "" {
			r.Header.Set("Authorization", "Bearer "+who)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		if w.Code != status || !strings.Contains(w.Body.String(), has) {
			t.Errorf("%s %s: got %d %s; want %d and %s", method, url, w.Code, w.Body, status, has)
		}
	}
	for _, document := range []string{`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`,
		`{"name":"lab","kind":"interactive","access":["direct"],"sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`} {
		if err := app.Apply(t.Context(), document); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(pool, vmid string, features ...string) {
		t.Helper()
		err := app.Report(t.Context(), pool, vmid, protocol.ReportItem{Ready: &protocol.Ready{Name: "dsvm-" + vmid, Size: "Standard_D2s_v5",
			CPUs: 2, Boot: "1", HostKeys: []string{key}, Features: append(protocol.Features(), features...)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	ready("cpu", "cpu-0", protocol.FeatureExec, protocol.FeatureShell)
	ready("cpu", "cpu-1", protocol.FeatureExec)
	ready("lab", "lab-0", protocol.FeatureExec, protocol.FeatureShell, protocol.FeatureSession)
	at := func(node, reason string) string {
		return "/api/nodes/" + node + "/certificate?reason=" + url.QueryEscape(reason)
	}
	body := `{"publicKey":"` + key + `"}`
	for node, id := range map[string]string{"dsvm-cpu-0": "node:cpu-0", "lab-0": "node:lab-0"} {
		ask("ops", "POST", at(node, "the disk is full"), body, 200, `"principal":"`+id+`"`)
	}
	for pool, vmid := range map[string]string{"cpu": "cpu-0", "lab": "lab-0"} {
		var doors []*protocol.Enter
		for _, item := range app.Bus.TakeWork(protocol.SessionID(pool, vmid)) {
			if item.Enter != nil {
				doors = append(doors, item.Enter)
			}
		}
		if len(doors) != 1 || doors[0].ID != protocol.EntryOfNode(vmid) || doors[0].Door == nil || len(doors[0].CAs) != 1 {
			t.Errorf("node %s is told %+v", vmid, doors)
		}
	}
	ask("ann", "POST", at("dsvm-cpu-0", "x"), body, 403, "operator in every team")
	ask("", "POST", at("dsvm-cpu-0", "x"), body, 403, "dsvm login")
	ask("ops", "POST", at("dsvm-cpu-0", " "), body, 400, `"field":"reason"`)
	ask("ops", "POST", at("dsvm-cpu-0", "one\ntwo"), body, 400, `"field":"reason"`)
	ask("ops", "POST", at("dsvm-cpu-0", strings.Repeat("x", 201)), body, 400, "200 are the most")
	ask("ops", "POST", at("dsvm-cpu-0", "x"), `{"publicKey":"no key"}`, 400, `"field":"publicKey"`)
	ask("ops", "POST", at("dsvm-cpu-1", "x"), body, 409, "older release")
	ask("ops", "POST", at("none", "x"), body, 404, "none")
	ask("ops", "GET", "/api/audit?user=ops&target=reason%3Dthe%2Bdisk%2Bis%2Bfull", "", 200, `/api/nodes/dsvm-cpu-0/certificate?reason=the+disk+is+full"`)
	ask("ops", "GET", "/api/audit?user=ann", "", 200, `"status":403`)
}
