package handlers

import (
	"strings"
	"testing"

	"dsvmpools/shared/fleet"
)

func TestDoorsOfSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, relay, listen, send string
		isThere                   bool
		wrong                     string
	}{
		{"none", "", "", "", false, ""},
		{"all", "https://contoso.servicebus.windows.net", "a", "b", true, ""},
		{"no key", "https://contoso.servicebus.windows.net", "", "b", false, "DSVM_RELAY_LISTEN_KEY"},
		{"no other key", "https://contoso.servicebus.windows.net", "a", "", false, "DSVM_RELAY_SEND_KEY"},
		{"no URL", "contoso", "a", "b", false, "DSVM_RELAY"},
		{"without TLS", "http://contoso.servicebus.windows.net", "a", "b", false, "DSVM_RELAY"},
	} {
		s, err := ReadSettings(func(name string) string {
			switch name {
			case "DSVM_RELAY":
				return c.relay
			case "DSVM_RELAY_LISTEN_KEY":
				return c.listen
			case "DSVM_RELAY_SEND_KEY":
				return c.send
			}
			return ""
		})
		said := strings.Contains(err.Error(), "DSVM_RELAY")
		if said != (c.wrong != "") || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: got %v, want a word on %q", c.name, err, c.wrong)
		}
		if doors, err := s.Doors(fleet.StaticCredential("x")); c.wrong == "" && (err != nil || (doors != nil) != c.isThere) {
			t.Errorf("%s: got %v, %v", c.name, doors, err)
		}
	}
}
