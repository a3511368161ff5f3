package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/wire"
)

// balancerPool gives each person a node, and one address to all of them.
const balancerPool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},"idleTimeout":"2s",
	"access":["balancer"],"sessions":{"resources":{"cpus":2},"jupyter":"off"}}`

// arm lists resources by the resource manager, as their names.
func (i *instance) arm(kind string) (names []string) {
	i.t.Helper()
	at := i.ARM + "/subscriptions/" + i.Subscription + "/resourceGroups/" + i.ResourceGroup + "/providers/" + kind + "?api-version=2025-01-01"
	r, err := http.NewRequestWithContext(i.ctx, http.MethodGet, at, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+i.ARMToken)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		i.t.Fatal(err)
	}
	defer answer.Body.Close()
	var list struct{ Value []struct{ Name string } }
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || answer.StatusCode != http.StatusOK {
		i.t.Fatalf("the list of %s: %s, %v", kind, answer.Status, err)
	}
	for _, one := range list.Value {
		names = append(names, one.Name)
	}
	return names
}

// billed lists all that costs money by the hour: machines, public addresses, balancers, and
// listeners at the relay. Rules of the network are among it, which are free, and open something.
func (i *instance) billed() (left []string) {
	i.t.Helper()
	for _, kind := range []string{"Microsoft.Network/publicIPAddresses", "Microsoft.Network/loadBalancers",
		"Microsoft.Network/networkSecurityGroups/nodes/securityRules"} {
		for _, name := range i.arm(kind) {
			left = append(left, kind+"/"+name)
		}
	}
	for _, set := range i.arm("Microsoft.Compute/virtualMachineScaleSets") {
		for _, name := range i.arm("Microsoft.Compute/virtualMachineScaleSets/" + set + "/virtualMachines") {
			left = append(left, "Microsoft.Compute/"+name)
		}
	}
	for _, entity := range []string{"lab-1", "lab-1-web", "lab-2", "lab-2-web"} {
		if i.Relay.Listeners(entity) > 0 {
			left = append(left, "Microsoft.Relay/"+entity)
		}
	}
	return left
}

// TestPeopleComeByTheBalancer has two people come to their nodes by the one address of their
// pool. When they are gone, nothing is left that is billed by the hour, and nothing is open.
func TestPeopleComeByTheBalancer(t *testing.T) {
	if os.Getenv("DSVM_LONG") == "" {
		t.Skip("the handler is killed and started again twice: DSVM_LONG=1; TestPeopleComeDirectly looks at what is left")
	}
	t.Parallel()
	i, ann, bob := startPeople(t, balancerPool)
	i.connect(ann, bob)
	if a, b := i.sessionOf("ann"), i.sessionOf("bob"); a.Node == b.Node {
		t.Errorf("both are on node %q", a.Node)
	}
	for _, l := range []*laptop{ann, bob} {
		user, _, _ := strings.Cut(l.login, "@")
		i.until("the way of "+user, func() bool { // the balancer is made when the first node is listed
			out, err := l.run("ssh", l.sshArgs("lab.dsvm", "id -un")...)
			return err == nil && strings.Contains(out, user)
		})
		text, err := os.ReadFile(filepath.Join(l.home, ".dsvm", "lab.dsvm.door"))
		var at struct{ Doors []wire.Door }
		if err == nil {
			err = json.Unmarshal(text, &at)
		}
		if err != nil || len(at.Doors) != 1 || at.Doors[0].Kind != wire.DoorBalancer {
			t.Errorf("the ways of %s are %s, %v", user, text, err)
		}
	}
	billed := strings.Join(i.billed(), " ")
	for _, want := range []string{"loadBalancers/dsvm-lab-", "publicIPAddresses/dsvm-lab-", "securityRules/dsvm-lab-", "Microsoft.Compute/"} {
		if !strings.Contains(billed, want) {
			t.Errorf("with two people, there is %s, and no %s", billed, want)
		}
	}
	for _, l := range []*laptop{ann, bob} {
		l.must("", os.Args[0], "session", "stop", "lab")
		i.killHandler() // who was to close what is open
	}
	i.until("a pool that costs nothing", func() bool { return len(i.billed()) == 0 })
}
