//go:build unix

package compute_test

import (
	"net/http"
	"strings"
	"testing"

	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
)

// change is a complete scale set with texts replaced, which must be in it.
func change(t *testing.T, capacity int, pairs ...string) string {
	t.Helper()
	body := resource(capacity)
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(body, pairs[i]) {
			t.Fatalf("%q is not in the model", pairs[i])
		}
		body = strings.Replace(body, pairs[i], pairs[i+1], 1)
	}
	return body
}

const (
	inProfile = `"virtualMachineProfile":{`
	inDisk    = `"osDisk":{`
	inTags    = `"tags":{`
	inNIC     = `"primary":true,`
	inIP      = `"subnet":{`
	keyPath   = `/home/dsvm/.ssh/authorized_keys`
	keys      = `,"ssh":{"publicKeys":[{"path":"/home/dsvm/.ssh/authorized_keys","keyData":"ssh-ed25519 AAAA"}]}`
)

// What Azure refuses of a model's form is refused with its code.
func TestModelsThatAzureRefuses(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	for _, c := range []struct{ name, old, new, code, says string }{
		{"nobody can sign in", keys, ``, "InvalidParameter", "Authentication using either SSH or by user name and password must be enabled"},
		{"an empty key", `ssh-ed25519 AAAA`, ``, "InvalidParameter", "keyData"},
		{"a key elsewhere", keyPath, `/root/.ssh/authorized_keys`, "InvalidParameter", "publicKeys.path"},
		{"a prefix with a dot", `"computerNamePrefix":"cpu"`, `"computerNamePrefix":"c.u"`, "InvalidParameter", "computerNamePrefix"},
		{"a prefix of digits", `"computerNamePrefix":"cpu"`, `"computerNamePrefix":"123"`, "InvalidParameter", "computerNamePrefix"},
		{"a tag with a slash", inTags, inTags + `"a/b":"x",`, "InvalidTagNameCharacters", "a/b"},
		{"a tag of Azure's", inTags, inTags + `"AzureX":"x",`, "InvalidTagName", "reserved"},
		{"tags that differ by case", inTags, inTags + `"a":"x","A":"x",`, "InvalidTagName", "twice"},
		{"a long tag", inTags, inTags + `"a":"` + strings.Repeat("x", 257) + `",`, "InvalidTag", "too long"},
		{"too many tags", inTags, inTags + manyTags(50), "InvalidTag", "exceeds the limit"},
		{"user data not encoded", inProfile, inProfile + `"userData":"#",`, "InvalidParameter", "userData"},
		{"user data too long", inProfile, inProfile + `"userData":"` + strings.Repeat("AAAA", 21846) + `",`, "InvalidParameter", "userData"},
		{"Standard security", inProfile, inProfile + `"securityProfile":{"securityType":"Standard"},`, "BadRequest", "UseStandardSecurityType"},
		{"unknown security", inProfile, inProfile + `"securityProfile":{"securityType":"Trusted"},`, "InvalidParameter", "securityType"},
		{"an ephemeral disk that is written back", inDisk, inDisk + `"caching":"ReadWrite","diffDiskSettings":{"option":"Local"},`, "InvalidParameter", "caching"},
		{"an ephemeral disk nowhere", inDisk, inDisk + `"caching":"ReadOnly","diffDiskSettings":{"option":"Local","placement":"Disk"},`, "InvalidParameter", "placement"},
	} {
		resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", change(t, 0, c.old, c.new))
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("x-ms-error-code") != c.code || !strings.Contains(got, c.says) {
			t.Errorf("%s: got %d %s, want 400 %s with %q", c.name, resp.StatusCode, got, c.code, c.says)
		}
	}
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"t` + strings.Repeat("x", i) + `":"",`)
	}
	return b.String()
}

// What a model names must be there, and what Azure's documents do not agree on can be
// refused.
func TestSurroundings(t *testing.T) {
	t.Parallel()
	r := receive(t)
	for _, c := range []struct {
		name   string
		change func(*compute.Surroundings)
		body   []string
		status int
		code   string // of the error or the one inside it; "" = accepted
	}{
		{"everything is there", func(e *compute.Surroundings) {
			e.Subnets, e.Images = map[string]string{"/subscriptions/s/subnets/n": "westeurope"}, map[string]int{"p:o:s": 30}
		}, nil, 201, ""},
		{"no such subnet", func(e *compute.Surroundings) { e.Subnets = map[string]string{} }, nil, 400, "InvalidResourceReference"},
		{"a subnet elsewhere", func(e *compute.Surroundings) {
			e.Subnets = map[string]string{"/subscriptions/s/subnets/n": "northeurope"}
		}, nil, 400, "InvalidResourceReference"},
		{"no such image", func(e *compute.Surroundings) { e.Images = map[string]int{} }, nil, 404, "PlatformImageNotFound"},
		{"no such image of one's own", func(e *compute.Surroundings) { e.Images = map[string]int{} },
			[]string{`{"publisher":"p","offer":"o","sku":"s","version":"latest"}`, `{"id":"/subscriptions/i"}`}, 404, "GalleryImageNotFound"},
		{"a disk smaller than the image", func(e *compute.Surroundings) { e.Images = map[string]int{"p:o:s": 150} },
			[]string{inDisk, inDisk + `"diskSizeGB":30,`}, 400, "InvalidParameter"},
		{"a disk as large as the image", func(e *compute.Surroundings) { e.Images = map[string]int{"p:o:s": 150} },
			[]string{inDisk, inDisk + `"diskSizeGB":150,`}, 201, ""},
		{"nobody has registered", func(e *compute.Surroundings) { e.Unregistered = true }, nil, 409, "MissingSubscriptionRegistration"},
		{"SKU of an address", func(e *compute.Surroundings) { e.RefuseAddressSKU = true },
			[]string{inIP, `"publicIPAddressConfiguration":{"name":"a","sku":{"name":"Standard"}},` + inIP}, 400, "InvalidJson"},
		{"an address without one", func(e *compute.Surroundings) { e.RefuseAddressSKU = true },
			[]string{inIP, `"publicIPAddressConfiguration":{"name":"a"},` + inIP}, 201, ""},
		{"SKU of an address, accepted", func(*compute.Surroundings) {},
			[]string{inIP, `"publicIPAddressConfiguration":{"name":"a","sku":{"name":"Standard"}},` + inIP}, 201, ""},
		{"deletion of an interface", func(e *compute.Surroundings) { e.RefuseDeleteOption = true },
			[]string{inNIC, inNIC + `"deleteOption":"Delete",`}, 400, "InvalidParameter"},
		{"deletion of a disk", func(e *compute.Surroundings) { e.RefuseDeleteOption = true },
			[]string{inDisk, inDisk + `"deleteOption":"Delete",`}, 400, "InvalidParameter"},
		{"deletion, accepted", func(*compute.Surroundings) {}, []string{inNIC, inNIC + `"deleteOption":"Delete",`}, 201, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t.TempDir(), r.address(), "plain")
			c.change(&cfg.Surroundings)
			s := launch(t, cfg)
			resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", change(t, 0, c.body...))
			if resp.StatusCode != c.status || c.code != "" && !strings.Contains(got, `"code":"`+c.code+`"`) {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, got, c.status, c.code)
			}
		})
	}
}

// A set keeps some properties for its life; a model that changes one changes nothing.
func TestPropertiesThatCannotChange(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", resource(0)); resp.StatusCode != http.StatusCreated {
		t.Fatalf("got %d %s", resp.StatusCode, got)
	}
	for _, c := range []struct{ old, new, code, says string }{
		{`"location":"westeurope"`, `"location":"northeurope"`, "InvalidResourceLocation", "westeurope"},
		{`"location":`, `"zones":["1"],"location":`, "PropertyChangeNotAllowed", "'zones'"},
		{inProfile, inProfile + `"priority":"Spot","evictionPolicy":"Delete",`, "PropertyChangeNotAllowed", "'priority'"},
		{`"singlePlacementGroup":false`, `"singlePlacementGroup":true`, "PropertyChangeNotAllowed", "'singlePlacementGroup'"},
		{`"platformFaultDomainCount":1`, `"platformFaultDomainCount":5`, "PropertyChangeNotAllowed", "'platformFaultDomainCount'"},
		{`"computerNamePrefix":"cpu"`, `"computerNamePrefix":"gpu"`, "PropertyChangeNotAllowed", "'osProfile.computerNamePrefix'"},
		{`"publisher":"p"`, `"publisher":"q"`, "PropertyChangeNotAllowed", "'imageReference.publisher'"},
		{`"offer":"o"`, `"offer":"q"`, "PropertyChangeNotAllowed", "'imageReference.offer'"},
		{inDisk, inDisk + `"caching":"ReadOnly","diffDiskSettings":{"option":"Local"},`, "PropertyChangeNotAllowed", "'osDisk.diffDiskSettings'"},
		{`"orchestrationMode"`, `"proximityPlacementGroup":{"id":"/p"},"orchestrationMode"`, "PropertyChangeNotAllowed", "'proximityPlacementGroup'"},
	} {
		resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", change(t, 0, c.old, c.new))
		if resp.StatusCode != http.StatusConflict || resp.Header.Get("x-ms-error-code") != c.code || !strings.Contains(got, c.says) {
			t.Errorf("%s: got %d %s, want 409 %s with %s", c.new, resp.StatusCode, got, c.code, c.says)
		}
	}
	for _, allowed := range [][]string{{`"sku":"s"`, `"sku":"t"`}, {`"ssh-ed25519 AAAA"`, `"ssh-ed25519 BBBB"`}, {inTags, inTags + `"a":"b",`}} {
		if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", change(t, 0, allowed...)); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s", allowed[1], resp.StatusCode, got)
		}
	}
}

// Instances keep the model that they were created with, and the list says which is old.
func TestInstancesKeepTheirModel(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := model()
	first.UserData = []byte("first")
	op, err := f.Grow(f.ctx, "set", first, 1)
	f.poll(t, op, err)
	if l := f.list(t); l.Instances[0].Outdated {
		t.Error("an instance is old as soon as it is made")
	}
	second := first
	second.UserData = []byte("second")
	op, err = f.UpdateModel(f.ctx, "set", second)
	f.poll(t, op, err)
	op, err = f.Grow(f.ctx, "set", second, 2)
	f.poll(t, op, err)
	l := f.list(t)
	if len(l.Instances) != 2 || !l.Instances[0].Outdated || l.Instances[1].Outdated || l.Model != second.Hash("set") {
		t.Fatalf("got %+v", l)
	}
	f.Server.Close()
	s, err := start(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err = clientOf(t, s.URL()).List(f.ctx, "set")
	if err != nil || !l.Instances[0].Outdated || l.Instances[1].Outdated {
		t.Errorf("after a restart: got %+v, %v", l, err)
	}
}

// What an instance is started with is never shown, so that a client that reads a set and
// writes it back would lose it.
func TestStartDataIsNotShown(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", change(t, 0, inProfile, inProfile+`"userData":"YQ==",`)); resp.StatusCode != http.StatusCreated {
		t.Fatalf("got %d %s", resp.StatusCode, got)
	}
	resp, got := call(t, s.URL(), http.MethodGet, setPath+"cpu", "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(got, "computerNamePrefix") || strings.Contains(got, "userData") ||
		strings.Contains(got, "customData") {
		t.Errorf("got %d %s", resp.StatusCode, got)
	}
}

// The real client reads the refusals as what an operator mends, or as what cannot change.
func TestClientReadsRefusals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	op, err := f.Grow(f.ctx, "set", model(), 1)
	f.poll(t, op, err)
	zonal := model()
	zonal.Zones = []string{"1"}
	if _, err := f.UpdateModel(f.ctx, "set", zonal); fault.CodeOf(err) != fault.Immutable {
		t.Errorf("zones: got %v, want immutable", err)
	}
	other := model()
	other.Image.Offer = "another"
	if _, err := f.Grow(f.ctx, "set", other, 2); fault.CodeOf(err) != fault.Immutable {
		t.Errorf("an image of another offer: got %v, want immutable", err)
	}
	tagged := model()
	tagged.Tags = map[string]string{"a/b": "x"}
	if _, err := f.Grow(f.ctx, "other", tagged, 1); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "labels") {
		t.Errorf("a tag: got %v, want invalid about labels", err)
	}
}
