package tables

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// bearer is a client of a table that has nothing but a signature.
func bearer(t testing.TB, s *Server, table, signature string) *aztables.Client {
	t.Helper()
	c, err := aztables.NewClientWithNoCredential(s.base+table+"?"+signature, options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signature signs for a table as the client does.
func signature(t testing.TB, change func(*aztables.SASSignatureValues)) string {
	t.Helper()
	credential, err := aztables.NewSharedKeyCredential(testAccount, testKey)
	if err != nil {
		t.Fatal(err)
	}
	v := aztables.SASSignatureValues{
		TableName:   "pools",
		Permissions: "raud",
		StartTime:   time.Now().Add(-time.Hour).UTC(),
		ExpiryTime:  time.Now().Add(time.Hour).UTC(),
	}
	change(&v)
	text, err := v.Sign(credential)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTableSignature(t *testing.T) {
	t.Parallel()
	s, owner := newTable(t)
	tableOf(t, s, "usage")
	if _, err := owner.AddEntity(deadline(t), row("p", "there"), nil); err != nil {
		t.Fatal(err)
	}
	any := func(v *aztables.SASSignatureValues) {}
	rights := func(r string) func(*aztables.SASSignatureValues) {
		return func(v *aztables.SASSignatureValues) { v.Permissions = r }
	}
	get := func(c *aztables.Client) error { _, err := c.GetEntity(deadline(t), "p", "there", nil); return err }
	add := func(c *aztables.Client) error { _, err := c.AddEntity(deadline(t), row("p", "new"), nil); return err }
	upsert := func(c *aztables.Client) error {
		_, err := c.UpsertEntity(deadline(t), row("p", "there"), nil)
		return err
	}
	update := func(c *aztables.Client) error {
		_, err := c.UpdateEntity(deadline(t), row("p", "there"), nil)
		return err
	}
	remove := func(c *aztables.Client) error { _, err := c.DeleteEntity(deadline(t), "p", "new", nil); return err }
	list := func(c *aztables.Client) error {
		_, err := c.NewListEntitiesPager(nil).NextPage(deadline(t))
		return err
	}
	policies := func(c *aztables.Client) error { _, err := c.GetAccessPolicy(deadline(t), nil); return err }
	drop := func(c *aztables.Client) error { _, err := c.Delete(deadline(t), nil); return err }
	for _, test := range []struct {
		name  string
		sign  func(*aztables.SASSignatureValues)
		table string
		do    func(*aztables.Client) error
		code  string // "" = allowed
	}{
		{"all, get", any, "pools", get, ""},
		{"all, add", any, "pools", add, ""},
		{"all, delete", any, "pools", remove, ""},
		{"all, upsert", any, "pools", upsert, ""},
		{"read, get", rights("r"), "pools", get, ""},
		{"read, list", rights("r"), "pools", list, ""},
		{"read, add", rights("r"), "pools", add, "AuthorizationPermissionMismatch"},
		{"add, upsert", rights("a"), "pools", upsert, "AuthorizationPermissionMismatch"},
		{"update, update", rights("u"), "pools", update, ""},
		{"update, upsert", rights("u"), "pools", upsert, "AuthorizationPermissionMismatch"},
		{"update, delete", rights("u"), "pools", remove, "AuthorizationPermissionMismatch"},
		{"add, list", rights("a"), "pools", list, "AuthorizationPermissionMismatch"},
		{"another table", any, "usage", get, "AuthorizationFailure"},
		{"access policies", any, "pools", policies, "AuthorizationFailure"},
		{"the table itself", any, "pools", drop, "AuthorizationFailure"},
		{"over", func(v *aztables.SASSignatureValues) { v.ExpiryTime = time.Now().Add(-time.Minute).UTC() }, "pools", get, "AuthenticationFailed"},
		{"not yet", func(v *aztables.SASSignatureValues) { v.StartTime = time.Now().Add(time.Minute).UTC() }, "pools", get, "AuthenticationFailed"},
		{"without an end", func(v *aztables.SASSignatureValues) { v.ExpiryTime = time.Time{} }, "pools", get, "AuthenticationFailed"},
		{"from here", func(v *aztables.SASSignatureValues) { v.IPRange.Start = []byte{127, 0, 0, 1} }, "pools", get, ""},
		{"from elsewhere", func(v *aztables.SASSignatureValues) {
			v.IPRange.Start, v.IPRange.End = []byte{192, 0, 2, 1}, []byte{192, 0, 2, 9}
		}, "pools", get, "AuthorizationSourceIPMismatch"},
		{"by no policy", func(v *aztables.SASSignatureValues) { v.Identifier = "none" }, "pools", get, "AuthenticationFailed"},
	} {
		err := test.do(bearer(t, s, test.table, signature(t, test.sign)))
		if test.code == "" && err != nil {
			t.Errorf("%s: got %v, want it allowed", test.name, err)
		} else if test.code != "" {
			t.Run(test.name, func(t *testing.T) { wantError(t, err, 403, test.code) })
		}
	}
	forged := strings.Replace(signature(t, rights("r")), "sp=r", "sp=raud", 1)
	wantError(t, add(bearer(t, s, "pools", forged)), 403, "AuthenticationFailed")
	_, err := bearer(
		t,
		s,
		"pools",
		signature(t, rights("r")),
	).SubmitTransaction(deadline(t), actions{{ActionType: aztables.TransactionTypeAdd, Entity: row("p", "x")}}, nil)
	wantFailed(t, err, 403, "AuthorizationPermissionMismatch", 0)
}

// TestSignatureByPolicy takes what a signature may do from a stored policy, and
// takes it away by changing that.
func TestSignatureByPolicy(t *testing.T) {
	t.Parallel()
	s, owner := newTable(t)
	set := func(p *aztables.AccessPolicy) {
		t.Helper()
		if _, err := owner.SetAccessPolicy(deadline(t), &aztables.SetAccessPolicyOptions{TableACL: []*aztables.SignedIdentifier{{ID: ptr("readers"), AccessPolicy: p}}}); err != nil {
			t.Fatal(err)
		}
	}
	later, earlier := time.Now().Add(time.Hour).UTC(), time.Now().Add(-time.Hour).UTC()
	bare := func(v *aztables.SASSignatureValues) {
		v.Identifier, v.Permissions, v.StartTime, v.ExpiryTime = "readers", "", time.Time{}, time.Time{}
	}
	c := bearer(t, s, "pools", signature(t, bare))
	set(&aztables.AccessPolicy{Permission: ptr("r"), Expiry: &later})
	if got := filtered(t, c, ""); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
	_, err := c.AddEntity(deadline(t), row("p", "r"), nil)
	wantError(t, err, 403, "AuthorizationPermissionMismatch")
	twice := bearer(t, s, "pools", signature(t, func(v *aztables.SASSignatureValues) { v.Identifier = "readers" }))
	_, err = twice.AddEntity(deadline(t), row("p", "r"), nil)
	wantError(t, err, 400, "InvalidInput")
	set(&aztables.AccessPolicy{Permission: ptr("ra"), Expiry: &later})
	if _, err := c.AddEntity(deadline(t), row("p", "r"), nil); err != nil {
		t.Error(err)
	}
	set(&aztables.AccessPolicy{Permission: ptr("ra"), Expiry: &earlier})
	_, err = c.GetEntity(deadline(t), "p", "r", nil)
	wantError(t, err, 403, "AuthenticationFailed")
	// Policies go with their table.
	if _, err := owner.Delete(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	again := tableOf(t, s, "pools")
	if got, err := again.GetAccessPolicy(deadline(t), nil); err != nil || len(got.SignedIdentifiers) != 0 {
		t.Errorf("got %+v, %v; want no policies", got.SignedIdentifiers, err)
	}
}

// signedRange signs for a range of keys and sends it along, which the client
// does not do.
func signedRange(s *Server, keys url.Values) string {
	q := url.Values{"sv": {serviceVersion}, "tn": {"pools"}, "sp": {"raud"}, "se": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}
	text := strings.Join(
		[]string{
			"raud",
			"",
			q.Get("se"),
			"/table/" + testAccount + "/pools",
			"",
			"",
			"",
			serviceVersion,
			keys.Get("spk"),
			keys.Get("srk"),
			keys.Get("epk"),
			keys.Get("erk"),
		},
		"\n",
	)
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	q.Set("sig", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for name := range keys {
		q.Set(name, keys.Get(name))
	}
	return q.Encode()
}

func TestSignatureForARangeOfKeys(t *testing.T) {
	t.Parallel()
	s, owner := newTable(t)
	var all []string
	for _, p := range []string{"a", "b", "c"} {
		for _, r := range []string{"1", "2", "3"} {
			all = append(all, p+"/"+r)
			if _, err := owner.AddEntity(deadline(t), row(p, r), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		keys map[string]string
		want []string
	}{
		{nil, all},
		{map[string]string{"spk": "b"}, all[3:]},
		{map[string]string{"epk": "b"}, all[:6]},
		{map[string]string{"spk": "b", "epk": "b"}, all[3:6]},
		{map[string]string{"spk": "a", "srk": "2", "epk": "c", "erk": "1"}, all[1:7]},
		{map[string]string{"spk": "b", "srk": "2", "epk": "b", "erk": "2"}, all[4:5]},
	} {
		q := url.Values{}
		for name, value := range test.keys {
			q.Set(name, value)
		}
		c := bearer(t, s, "pools", signedRange(s, q))
		if got := filtered(t, c, ""); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %v, want %v", test.keys, got, test.want)
		}
		for _, k := range all {
			p, r, _ := strings.Cut(k, "/")
			within := slices.Contains(test.want, k)
			if _, err := c.GetEntity(deadline(t), p, r, nil); (err == nil) != within {
				t.Errorf("%v: get %s: got %v, want within = %v", test.keys, k, err, within)
			}
			if _, err := c.UpsertEntity(deadline(t), row(p, r), nil); (err == nil) != within {
				t.Errorf("%v: upsert %s: got %v, want within = %v", test.keys, k, err, within)
			}
		}
	}
}

func TestAccountSignature(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	credential, err := aztables.NewSharedKeyCredential(testAccount, testKey)
	if err != nil {
		t.Fatal(err)
	}
	connected := func(services, types, rights string) *aztables.ServiceClient {
		q, err := aztables.AccountSASSignatureValues{
			Services:      services,
			ResourceTypes: types,
			Permissions:   rights,
			ExpiryTime:    time.Now().Add(time.Hour).UTC(),
		}.Sign(
			credential,
		)
		if err != nil {
			t.Fatal(err)
		}
		c, err := aztables.NewServiceClientWithNoCredential(s.base+"?"+q.Encode(), options())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	create := func(c *aztables.ServiceClient) error {
		_, err := c.CreateTable(deadline(t), "made", nil)
		return err
	}
	drop := func(c *aztables.ServiceClient) error { _, err := c.DeleteTable(deadline(t), "made", nil); return err }
	list := func(c *aztables.ServiceClient) error {
		_, err := c.NewListTablesPager(nil).NextPage(deadline(t))
		return err
	}
	properties := func(c *aztables.ServiceClient) error { _, err := c.GetProperties(deadline(t), nil); return err }
	for _, test := range []struct {
		name, services, types, rights string
		do                            func(*aztables.ServiceClient) error
		code                          string
	}{
		{"create", "t", "c", "c", create, ""},
		{"delete", "t", "sco", "d", drop, ""},
		{"list", "t", "c", "l", list, ""},
		{"properties", "bqt", "s", "r", properties, ""},
		{"list without the right", "t", "c", "r", list, "AuthorizationPermissionMismatch"},
		{"create without the right", "t", "c", "rl", create, "AuthorizationPermissionMismatch"},
		{"list at another level", "t", "so", "l", list, "AuthorizationResourceTypeMismatch"},
		{"properties at another level", "t", "co", "r", properties, "AuthorizationResourceTypeMismatch"},
		{"another service", "bq", "sco", "l", list, "AuthorizationServiceMismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do(connected(test.services, test.types, test.rights))
			if test.code != "" {
				wantError(t, err, 403, test.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSecondaryEndpointIsRead(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	if _, err := c.AddEntity(deadline(t), row("p", "r"), nil); err != nil {
		t.Fatal(err)
	}
	at := strings.Replace(s.ConnectionString(), "/"+testAccount, "/"+testAccount+secondarySuffix, 1)
	second, err := aztables.NewServiceClientFromConnectionString(at, options())
	if err != nil {
		t.Fatal(err)
	}
	stats, err := second.GetStatistics(deadline(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if g := stats.GeoReplication; g == nil || *g.Status != aztables.GeoReplicationStatusLive || time.Since(*g.LastSyncTime) > time.Minute {
		t.Errorf("got %+v, want live", g)
	}
	if got := filtered(t, second.NewClient("pools"), ""); !slices.Equal(got, []string{"p/r"}) {
		t.Errorf("got %v", got)
	}
	_, err = second.NewClient("pools").AddEntity(deadline(t), row("p", "x"), nil)
	wantError(t, err, 403, "InsufficientAccountPermissions")
	_, err = second.NewClient("pools").SubmitTransaction(deadline(t), actions{add(row("p", "x"))}, nil)
	wantFailed(t, err, 403, "InsufficientAccountPermissions", 0)
	_, err = connect(t, s).GetStatistics(deadline(t), nil)
	wantError(t, err, 400, "InvalidQueryParameterValue")
}

// TestDocumentsThatAreRefused sends properties and policies that the client
// would not send, or the service not take.
func TestDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	const retention = "<RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>"
	metrics := func(inner string) string {
		return "<StorageServiceProperties><HourMetrics>" + inner + "</HourMetrics></StorageServiceProperties>"
	}
	rule := func(origins, methods, age string) string {
		return "<StorageServiceProperties><Cors><CorsRule><AllowedOrigins>" + origins + "</AllowedOrigins><AllowedMethods>" + methods + "</AllowedMethods><AllowedHeaders/><ExposedHeaders/><MaxAgeInSeconds>" + age + "</MaxAgeInSeconds></CorsRule></Cors></StorageServiceProperties>"
	}
	policies := func(n int, inner string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("<SignedIdentifier><Id>" + strings.Repeat("i", i+1) + "</Id>" + inner + "</SignedIdentifier>")
		}
		return "<SignedIdentifiers>" + b.String() + "</SignedIdentifiers>"
	}
	const service, table = "/?restype=service&comp=properties", "/pools?comp=acl"
	for _, test := range []struct {
		name, target, body string
		want               int
	}{
		{"metrics off", service, metrics("<Version>1.0</Version><Enabled>false</Enabled>" + retention), 202},
		{"metrics on", service, metrics("<Version>1.0</Version><Enabled>true</Enabled><IncludeAPIs>true</IncludeAPIs><RetentionPolicy><Enabled>true</Enabled><Days>365</Days></RetentionPolicy>"), 202},
		{"without a version", service, metrics("<Enabled>false</Enabled>" + retention), 400},
		{"without IncludeAPIs", service, metrics("<Version>1.0</Version><Enabled>true</Enabled>" + retention), 400},
		{"without retention", service, metrics("<Version>1.0</Version><Enabled>false</Enabled>"), 400},
		{"retention without days", service, metrics("<Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>true</Enabled></RetentionPolicy>"), 400},
		{"retention of 366 days", service, metrics("<Version>1.0</Version><Enabled>false</Enabled><RetentionPolicy><Enabled>true</Enabled><Days>366</Days></RetentionPolicy>"), 400},
		{"rule", service, rule("*", "GET,PUT", "5"), 202},
		{"rule without origins", service, rule("", "GET", "5"), 400},
		{"rule for no method", service, rule("*", "FETCH", "5"), 400},
		{"rule with a time below 0", service, rule("*", "GET", "-1"), 400},
		{"rule with a long origin", service, rule(strings.Repeat("x", 257), "GET", "5"), 400},
		{"no XML", service, "<", 400},
		{"five policies", table, policies(5, ""), 204},
		{"six policies", table, policies(6, ""), 400},
		{"id of 65 characters", table, policies(65, ""), 400},
		{"policy with a time that is none", table, policies(1, "<AccessPolicy><Start>today</Start></AccessPolicy>"), 400},
		{"policy with a right that is none", table, policies(1, "<AccessPolicy><Permission>rx</Permission></AccessPolicy>"), 400},
		{"one id twice", table, "<SignedIdentifiers><SignedIdentifier><Id>a</Id></SignedIdentifier><SignedIdentifier><Id>a</Id></SignedIdentifier></SignedIdentifiers>", 400},
		{"policies of no table", "/missing?comp=acl", policies(1, ""), 404},
	} {
		r := send(t, s, "PUT", "/"+testAccount+test.target, "SharedKeyLite", time.Now(), []byte(test.body), nil)
		code := r.Header.Get("x-ms-error-code")
		if r.StatusCode != test.want || (test.want == 400) != (code == "InvalidXmlDocument") {
			body, _ := io.ReadAll(r.Body)
			t.Errorf("%s: got %d %s, want %d: %s", test.name, r.StatusCode, code, test.want, body)
		}
	}
}

// TestHostStyle addresses the account in the host's name, as in the cloud.
func TestHostStyle(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	r := send(t, s, "GET", "/pools()", "SharedKeyLite", time.Now(), nil, host(testAccount+".table.core.windows.net"))
	body, _ := io.ReadAll(r.Body)
	if want := `"odata.metadata":"https://` + testAccount + `.table.core.windows.net/$metadata#pools"`; r.StatusCode != 200 ||
		!strings.Contains(string(body), want) {
		t.Errorf("got %d %s, want %s", r.StatusCode, body, want)
	}
	if r := send(t, s, "GET", "/pools()", "SharedKeyLite", time.Now(), nil, host("other.table.core.windows.net")); r.StatusCode != 404 {
		t.Errorf("another account: got %d, want 404", r.StatusCode)
	}
}
