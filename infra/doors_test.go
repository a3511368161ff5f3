package infra_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"dsvmpools/handlers"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/relay"
)

// TestRelayIsWhereTheAppLooks: with the template's settings the app makes its entities in the
// relay that the template makes, and calls nothing else of the resource manager for it.
func TestRelayIsWhereTheAppLooks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"new", "own"} {
		all := snapshots(t)[name]
		var called []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			called = append(called, r.Method+" "+r.URL.Path)
			w.WriteHeader(http.StatusCreated)
		}))
		t.Cleanup(server.Close)
		set := appSettings(t, all)
		settings, err := handlers.ReadSettings(func(name string) string {
			value, _ := set[name].(string)
			if name == "AZURE_RESOURCE_MANAGER_ENDPOINT" {
				return server.URL
			}
			return value
		})
		if err != nil {
			t.Fatal(err)
		}
		doors, err := settings.Doors(fleet.StaticCredential("t"))
		if err != nil || doors == nil {
			t.Fatalf("%s: got %v, %v", name, doors, err)
		}
		if _, err := doors.Listen(t.Context(), "lab-01"); err != nil {
			t.Fatal(err)
		}
		made := ofType(all, "Microsoft.Relay/namespaces")
		if len(made) != 1 {
			t.Fatalf("%s: %d relays", name, len(made))
		}
		want := "PUT " + made[0].ID + "/hybridConnections/lab-01"
		if !slices.Equal(called, []string{want, want + "-web"}) {
			t.Errorf("%s: the app calls %q, want %s", name, called, want)
		}
	}
}

// TestRulesOfTheRelay: each rule has the one right that its key is used for, and its key is in
// the vault that the app's settings name, which nodes may not read.
func TestRulesOfTheRelay(t *testing.T) {
	t.Parallel()
	want := map[string]string{relay.RuleListen: "Listen", relay.RuleSend: "Send"}
	for name, all := range snapshots(t) {
		set := appSettings(t, all)
		rules := ofType(all, "Microsoft.Relay/namespaces/authorizationRules")
		if on := set["DSVM_RELAY"] != ""; on != (len(rules) == len(want)) || on != (set["DSVM_SSH_CA"] != "") {
			t.Errorf("%s: %d rules, DSVM_RELAY=%v, DSVM_SSH_CA=%v", name, len(rules), set["DSVM_RELAY"], set["DSVM_SSH_CA"])
		}
		for _, rule := range rules {
			kind := rule.Name[strings.LastIndex(rule.Name, "/")+1:]
			if rights, _ := rule.Properties["rights"].([]any); len(rights) != 1 || rights[0] != want[kind] {
				t.Errorf("%s: the rule %s has the rights %v", name, kind, rights)
			}
			setting, _ := set["DSVM_RELAY_"+strings.ToUpper(kind)+"_KEY"].(string)
			vault, secret, _ := strings.Cut(strings.TrimPrefix(setting, "@Microsoft.KeyVault(SecretUri=https://"), ".vault.azure.net/secrets/")
			isThere := slices.ContainsFunc(ofType(all, "Microsoft.KeyVault/vaults/secrets"), func(r resource) bool {
				return r.Name+")" == vault+"/"+secret && strings.Contains(text(r.Properties, "value"), "authorizationRules/"+kind) &&
					strings.HasPrefix(vault, "kd-")
			})
			if !isThere {
				t.Errorf("%s: no secret of the relay's rule %s is at %s", name, kind, setting)
			}
		}
	}
}

// TestWaysNeedTheirRights: with the template's settings the app opens a node and makes a balancer
// where the template gives it the rights to, and each call that it makes needs one of them.
func TestWaysNeedTheirRights(t *testing.T) {
	t.Parallel()
	for name, all := range snapshots(t) {
		set := appSettings(t, all)
		var called []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			called = append(called, r.Method+" "+r.URL.Path)
			switch {
			case r.Method != http.MethodGet:
				w.WriteHeader(http.StatusCreated)
			case strings.HasSuffix(r.URL.Path, "/securityRules"):
				_, _ = w.Write([]byte(`{"value":[]}`))
			case len(called) > 4 && strings.Contains(r.URL.Path, "/publicIPAddresses/"):
				_, _ = w.Write([]byte(`{"properties":{"provisioningState":"Succeeded"}}`))
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		t.Cleanup(server.Close)
		settings, err := handlers.ReadSettings(func(name string) string {
			value, _ := set[name].(string)
			if name == "AZURE_RESOURCE_MANAGER_ENDPOINT" {
				return server.URL
			}
			return value
		})
		if err != nil {
			t.Fatal(err)
		}
		opens, err := settings.Network(fleet.StaticCredential("t"))
		if err != nil || (opens == nil) != (set["DSVM_WAYS_FROM"] == "") {
			t.Fatalf("%s: got %v, %v; DSVM_WAYS_FROM is %q", name, opens, err, set["DSVM_WAYS_FROM"])
		}
		if opens == nil {
			continue
		}
		for range 3 {
			if _, _, err := opens.Open(t.Context(), "lab", pool.Network{Open: []string{"10.1.0.4:443"}, Balancer: true, Address: true}); err != nil {
				t.Fatal(err)
			}
		}
		guard, _ := set["DSVM_NETWORK_GUARD"].(string)
		nodes := "/subscriptions/" + set["AZURE_SUBSCRIPTION_ID"].(string) + "/resourceGroups/" + set["AZURE_RESOURCE_GROUP"].(string) + "/providers/Microsoft.Network/"
		puts := map[string]bool{}
		for _, call := range called {
			method, path, _ := strings.Cut(call, " ")
			isThere := strings.HasPrefix(path, guard+"/securityRules") || strings.HasPrefix(path, nodes+"loadBalancers/") || strings.HasPrefix(path, nodes+"publicIPAddresses/")
			if !isThere || guard == "" {
				t.Errorf("%s: the app has no right for %s", name, call)
			}
			if method == http.MethodPut {
				puts[strings.Split(strings.TrimPrefix(path, guard+"/"), "/")[0]] = true
			}
		}
		if len(puts) < 2 {
			t.Errorf("%s: the app makes %v", name, called)
		}
		if name == "ways" {
			isIts := func(r resource) bool { return r.ID == guard }
			if !slices.ContainsFunc(ofType(all, "Microsoft.Network/networkSecurityGroups"), isIts) {
				t.Errorf("the template makes no security group %s", guard)
			}
		}
	}
}
