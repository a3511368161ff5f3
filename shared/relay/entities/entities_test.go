package entities_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/relay/entities"
)

// open starts a relay and its resource manager, which may refuse, and a client of both.
func open(t *testing.T, status int) (*localrelay.Server, *relay.Doors) {
	t.Helper()
	const key = "a2V5"
	s, err := localrelay.Start(localrelay.Config{Addr: "127.0.0.1:0", Rules: []localrelay.Rule{
		{Name: relay.RuleListen, Key: key, Listen: true}, {Name: relay.RuleSend, Key: key, Send: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != 0 || r.Header.Get("Authorization") != "Bearer token" || r.URL.Query().Get("api-version") == "" {
			w.WriteHeader(max(status, http.StatusUnauthorized))
			return
		}
		s.Manager().ServeHTTP(w, r)
	}))
	t.Cleanup(manager.Close)
	n, err := relay.ParseNamespace("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	credential := fleet.StaticCredential("token")
	c, err := entities.New(entities.Config{Subscription: "s", ResourceGroup: "g", Namespace: n.Name(), Endpoint: manager.URL, Credential: credential})
	if err != nil {
		t.Fatal(err)
	}
	return s, &relay.Doors{Namespace: n, ListenKey: key, SendKey: key, Ensure: c.Ensure}
}

// TestDoors has the entities of a node made, and uses its tokens for and against each other.
func TestDoors(t *testing.T) {
	t.Parallel()
	_, doors := open(t, 0)
	door, err := doors.Listen(t.Context(), "lab-0")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := doors.Listen(t.Context(), "lab-0"); err != nil || again.URL != door.URL {
		t.Errorf("a second time: %v, %v", again, err)
	}
	address, token := doors.Send("lab-0", "s1")
	for _, c := range []struct {
		name, address, token string
		want                 fault.Code
	}{
		{"send, nobody listens", address, token, fault.NotFound},
		{"the node's token does not send", address, door.Token, fault.Forbidden},
		{"the token for browsers is for that entity", address, door.WebToken, fault.Forbidden},
		{"a browser needs none", door.WebURL, "", fault.NotFound},
	} {
		if _, err := relay.Dial(t.Context(), c.address, c.token); fault.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestEnsureIsRefused(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]fault.Code{http.StatusForbidden: fault.Forbidden, http.StatusNotFound: fault.NotFound, http.StatusConflict: fault.Internal} {
		_, doors := open(t, status)
		if _, err := doors.Listen(t.Context(), "lab-0"); fault.CodeOf(err) != want {
			t.Errorf("%d: got %v, want %s", status, err, want)
		}
	}
}
