package deploy

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder plays Azure for the real az, as its proxy: every connection, to whatever host,
// ends here. It answers from a cloud and notes each request.
type recorder struct {
	t         *testing.T
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
	server    *httptest.Server

	mu       sync.Mutex
	cloud    *cloud
	requests []string
	unknown  []string
	zip      int // bytes of the app that came
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, key: key, cloud: newCloud()}
	for _, name := range providers[2:] { // each call of az takes a second
		r.cloud.Providers[name] = true
	}
	r.authority = r.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil)
	r.server = httptest.NewServer(http.HandlerFunc(r.proxy))
	t.Cleanup(r.server.Close)
	return r
}

// certificate makes one, signed by the authority, or by itself.
func (r *recorder) certificate(c *x509.Certificate, by *x509.Certificate) *x509.Certificate {
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &r.key.PublicKey, r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

// proxy opens the connection that a client wants to have passed on.
func (r *recorder) proxy(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodConnect {
		r.token(w, q)
		return
	}
	host, _, _ := net.SplitHostPort(q.Host)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	own := r.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, r.authority)
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own.Raw}, PrivateKey: r.key}}})
	defer secure.Close()
	for in := bufio.NewReader(secure); ; {
		inner, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if inner.Header.Get("Expect") == "100-continue" {
			fmt.Fprint(secure, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, _ := io.ReadAll(inner.Body)
		answer := httptest.NewRecorder()
		r.serve(answer, inner, host, body)
		result := answer.Result()
		result.ContentLength = int64(answer.Body.Len())
		if inner.Method == http.MethodHead {
			result.Body = http.NoBody
		}
		result.Request = inner
		if result.Write(secure) != nil {
			return
		}
	}
}

// token plays the endpoint where a program on a machine of Azure gets its tokens, so that az
// can sign in.
func (r *recorder) token(w http.ResponseWriter, q *http.Request) {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	token := part(map[string]string{"alg": "RS256", "typ": "JWT"}) + "." + part(map[string]any{
		"oid": "99999999-0000-4000-8000-000000000000", "tid": "22222222-2222-4333-8444-555555555555", "exp": time.Now().Add(time.Hour).Unix(),
		"aud": q.URL.Query().Get("resource"),
	}) + ".c2ln"
	writeJSON(w, 200, map[string]any{"access_token": token, "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "token_type": "Bearer",
		"resource": q.URL.Query().Get("resource")})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func notFound(w http.ResponseWriter, code string) {
	writeJSON(w, 404, map[string]any{"error": map[string]string{"code": code, "message": "It is not there."}})
}

func (r *recorder) serve(w http.ResponseWriter, q *http.Request, host string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimSuffix(q.URL.Path, "/")
	r.requests = append(r.requests, q.Method+" "+host+path)
	switch {
	case host == "management.azure.com":
		r.resourceManager(w, q, strings.TrimPrefix(path, "/subscriptions/"+testSubscription), body)
	case strings.HasSuffix(host, ".blob.core.windows.net"):
		r.blob(w, q, strings.TrimPrefix(path, "/"), body)
	case strings.HasSuffix(host, ".scm.azurewebsites.net") && path == "/api/publish":
		r.zip, r.cloud.App = len(body), "uploaded"
		w.WriteHeader(202)
	case strings.HasSuffix(host, ".scm.azurewebsites.net"):
		writeJSON(w, 200, map[string]any{"status": 4, "complete": true})
	case path == "/admin/host/status":
		writeJSON(w, 200, map[string]string{"state": "Running"})
	default:
		r.unknown = append(r.unknown, q.Method+" "+host+path)
		notFound(w, "ResourceNotFound")
	}
}

func (r *recorder) blob(w http.ResponseWriter, q *http.Request, name string, body []byte) {
	w.Header().Set("x-ms-version", q.Header.Get("x-ms-version"))
	switch {
	case !strings.HasPrefix(q.Header.Get("Authorization"), "Bearer "):
		w.WriteHeader(403)
	case q.Method == http.MethodPut:
		r.cloud.Blobs[name] += string(body)
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(201)
	case r.cloud.Blobs[name] == "":
		w.Header().Set("x-ms-error-code", "BlobNotFound")
		w.WriteHeader(404)
	default:
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("x-ms-blob-type", "BlockBlob")
		w.WriteHeader(200)
	}
}

// The parts of the paths of the resource manager.
const (
	pathDeployments = "/providers/Microsoft.Resources/deployments/"
	pathImages      = "/providers/Microsoft.Compute/locations/westeurope/publishers/microsoft-dsvm/artifacttypes/vmimage/offers/ubuntu-2204/skus/2204-gen2/versions"
	pathSite        = "/resourceGroups/tools/providers/Microsoft.Web/sites/fn-tools"
)

// resourceManager answers what is asked of a subscription, a resource group or a resource.
func (r *recorder) resourceManager(w http.ResponseWriter, q *http.Request, path string, body []byte) {
	value := func(items ...any) { writeJSON(w, 200, map[string]any{"value": append([]any{}, items...)}) }
	subscription := map[string]any{"id": "/subscriptions/" + testSubscription, "subscriptionId": testSubscription, "displayName": "Test",
		"state": "Enabled", "tenantId": "22222222-2222-4333-8444-555555555555"}
	c := r.cloud
	switch {
	case path == "/subscriptions":
		value(subscription)
	case path == "/tenants":
		value(map[string]string{"tenantId": "22222222-2222-4333-8444-555555555555"})
	case path == "":
		writeJSON(w, 200, subscription)
	case path == "/providers/Microsoft.Authorization/permissions":
		value(map[string]any{"actions": []string{"*"}, "notActions": []string{}})
	case path == "/providers":
		var all []any
		for _, name := range providers {
			if c.Providers[name] {
				all = append(all, map[string]string{"namespace": name, "registrationState": "Registered"})
			}
		}
		value(all...)
	case strings.HasSuffix(path, "/register") && q.Method == http.MethodPost:
		name := strings.TrimSuffix(strings.TrimPrefix(path, "/providers/"), "/register")
		c.Providers[name] = true
		writeJSON(w, 200, map[string]string{"namespace": name, "registrationState": "Registering"})
	case strings.HasPrefix(path, "/providers/") && strings.Count(path, "/") == 2:
		r.provider(w, strings.TrimPrefix(path, "/providers/"))
	case path == pathImages:
		writeJSON(w, 200, []any{map[string]string{"name": "25.06.18", "location": "westeurope"}})
	case path == pathImages+"/25.06.18":
		writeJSON(w, 200, map[string]any{"name": "25.06.18", "location": "westeurope", "properties": map[string]any{"osDiskImage": map[string]string{"operatingSystem": "Linux"}}})
	case path == "/providers/Microsoft.Compute/skus":
		value(map[string]any{"name": "Standard_D2s_v5", "resourceType": "virtualMachines", "family": "standardDSv5Family", "locations": []string{"westeurope"},
			"size": "D2s_v5", "tier": "Standard", "restrictions": []any{}, "capabilities": []any{}, "locationInfo": []any{map[string]any{"location": "westeurope", "zones": []any{}}}})
	case path == "/providers/Microsoft.Compute/locations/westeurope/usages":
		value(map[string]any{"unit": "Count", "currentValue": 3, "limit": 4, "name": map[string]string{"value": "standardDSv5Family", "localizedValue": "DSv5"}})
	case path == "/providers/Microsoft.KeyVault/deletedVaults", strings.HasSuffix(path, "/functionAppStacks"):
		value()
	case path == "/resources" && q.URL.Query().Get("$filter") == "resourceGroup eq 'tools'":
		r.groups(w, q, "/resourceGroups/tools/resources", body)
	case strings.HasPrefix(path, pathDeployments):
		r.deployment(w, q, strings.TrimPrefix(path, pathDeployments), body)
	case strings.HasPrefix(path, "/providers/Microsoft.Authorization/role"):
		r.role(w, q, path)
	case strings.HasPrefix(strings.ToLower(path), strings.ToLower(pathSite)):
		r.site(w, q, path[len(pathSite):])
	default:
		r.groups(w, q, path, body)
	}
}

// provider answers what resource types a provider has: az asks before it deletes a resource
// whose type it does not know.
func (r *recorder) provider(w http.ResponseWriter, name string) {
	var types []any
	seen := map[string]bool{}
	for _, res := range r.cloud.Resources {
		if namespace, kind, _ := strings.Cut(res.Type, "/"); namespace == name && !seen[kind] {
			seen[kind] = true
			types = append(types, map[string]any{"resourceType": kind, "locations": []string{"West Europe"}, "apiVersions": []string{"2025-01-01"}})
		}
	}
	writeJSON(w, 200, map[string]any{"namespace": name, "registrationState": "Registered", "resourceTypes": append([]any{}, types...)})
}

func (r *recorder) deployment(w http.ResponseWriter, q *http.Request, rest string, body []byte) {
	record, verb, _ := strings.Cut(rest, "/")
	var sent struct {
		Location   string
		Properties struct {
			Template   json.RawMessage
			Parameters map[string]struct{ Value json.RawMessage }
		}
	}
	// az puts the file of the template into its own JSON as it is, under a name without quotes.
	body = bytes.Replace(body, []byte(", template:{"), []byte(`, "template":{`), 1)
	if err := json.Unmarshal(body, &sent); len(body) > 0 && err != nil {
		r.unknown = append(r.unknown, err.Error()+": "+string(body[:min(len(body), 1000)]))
		writeJSON(w, 400, map[string]any{"error": map[string]string{"code": "InvalidRequestContent", "message": string(body)}})
		return
	}
	switch {
	case verb == "whatIf":
		writeJSON(w, 200, map[string]any{"status": "Succeeded", "properties": map[string]any{"changes": []any{map[string]any{
			"resourceId": "/subscriptions/" + testSubscription + "/resourceGroups/tools", "changeType": "Create", "after": map[string]any{"name": "tools"}}}}})
	case verb == "validate":
		writeJSON(w, 200, map[string]any{"properties": map[string]any{"provisioningState": "Succeeded"}})
	case q.Method == http.MethodPut:
		if len(sent.Properties.Template) < 1000 {
			r.unknown = append(r.unknown, "a deployment without its template")
		}
		r.cloud.make("tools", record, sent.Location, sent.Properties.Parameters)
		r.cloud.Resources = r.withIDs(r.cloud.Resources)
		writeJSON(w, 201, r.withName(record))
	case q.Method == http.MethodDelete:
		delete(r.cloud.Deployments, record)
		w.WriteHeader(204)
	case r.cloud.Deployments[record] == nil:
		notFound(w, "DeploymentNotFound")
	default:
		writeJSON(w, 200, r.withName(record))
	}
}

func (r *recorder) withIDs(all []resource) []resource {
	for i := range all {
		if all[i].Type == "Microsoft.Web/sites" {
			all[i].Name = "fn-tools"
		}
		all[i].ID = "/subscriptions/" + testSubscription + "/resourceGroups/tools/providers/" + all[i].Type + "/" + all[i].Name
	}
	return all
}

func (r *recorder) withName(record string) map[string]any {
	var d map[string]any
	_ = json.Unmarshal(r.cloud.Deployments[record], &d)
	d["name"], d["id"] = record, "/subscriptions/"+testSubscription+pathDeployments+record
	for _, output := range d["properties"].(map[string]any)["outputs"].(map[string]any) {
		output.(map[string]any)["type"] = "String"
	}
	return d
}

func (r *recorder) role(w http.ResponseWriter, q *http.Request, path string) {
	const definitions, assignments = "/providers/Microsoft.Authorization/roleDefinitions", "/providers/Microsoft.Authorization/roleAssignments"
	id := func(kind, name string) string { return "/subscriptions/" + testSubscription + kind + "/" + name }
	name := path[strings.LastIndex(path, "/")+1:]
	switch {
	case path == definitions:
		var all []any
		for name, role := range r.cloud.Roles {
			all = append(all, map[string]any{"id": id(definitions, name), "name": name, "properties": map[string]any{"roleName": role, "type": "CustomRole"}})
		}
		writeJSON(w, 200, map[string]any{"value": append([]any{}, all...)})
	case path == assignments:
		var all []any
		for each, role := range r.cloud.Assignments {
			all = append(all, map[string]any{"id": id(assignments, each[1:]), "name": each[1:], "properties": map[string]any{
				"roleDefinitionId": id(definitions, role), "principalId": "p", "scope": "/subscriptions/" + testSubscription}})
		}
		writeJSON(w, 200, map[string]any{"value": append([]any{}, all...)})
	case q.Method == http.MethodDelete && strings.HasPrefix(path, assignments):
		delete(r.cloud.Assignments, "/"+name)
		writeJSON(w, 200, map[string]any{"id": id(assignments, name)})
	case q.Method == http.MethodDelete:
		delete(r.cloud.Roles, name)
		writeJSON(w, 200, map[string]any{"id": id(definitions, name)})
	case r.cloud.Roles[name] != "" && strings.HasPrefix(path, definitions):
		writeJSON(w, 200, map[string]any{"id": id(definitions, name), "name": name, "properties": map[string]any{"roleName": r.cloud.Roles[name]}})
	default:
		notFound(w, "RoleDefinitionDoesNotExist")
	}
}

func (r *recorder) site(w http.ResponseWriter, q *http.Request, rest string) {
	switch {
	case rest == "" && q.Method == http.MethodDelete:
		r.cloud.Resources = slices.DeleteFunc(r.cloud.Resources, func(res resource) bool { return res.Type == "Microsoft.Web/sites" })
		w.WriteHeader(200)
	case rest == "":
		writeJSON(w, 200, map[string]any{"id": "/subscriptions/" + testSubscription + pathSite, "name": "fn-tools", "kind": "functionapp,linux",
			"location": "West Europe", "properties": map[string]any{
				"serverFarmId":     "/subscriptions/" + testSubscription + "/resourceGroups/tools/providers/Microsoft.Web/serverfarms/toolsh",
				"defaultHostName":  "fn-tools.azurewebsites.net",
				"enabledHostNames": []string{"fn-tools.azurewebsites.net", "fn-tools.scm.azurewebsites.net"},
				"sku":              "FlexConsumption", "reserved": true, "state": "Running",
				"hostNameSslStates": []any{map[string]string{"name": "fn-tools.scm.azurewebsites.net", "hostType": "Repository"},
					map[string]string{"name": "fn-tools.azurewebsites.net", "hostType": "Standard"}},
				"functionAppConfig": map[string]any{"runtime": map[string]string{"name": "custom", "version": "1.0"}}}})
	case rest == "/stop":
		r.cloud.Stopped = true
		w.WriteHeader(200)
	case strings.EqualFold(rest, "/config/slotConfigNames"):
		writeJSON(w, 200, map[string]any{"properties": map[string]any{}})
	case slices.ContainsFunc(references, func(f reference) bool { return rest == "/config/configreferences/appsettings/"+f.setting }):
		writeJSON(w, 200, map[string]any{"properties": map[string]string{"status": "Resolved"}})
	case rest == "/config/appsettings/list":
		writeJSON(w, 200, map[string]any{"properties": map[string]string{}})
	case strings.HasSuffix(rest, "/host/default/listkeys"), strings.HasSuffix(rest, "/host/default/listKeys"):
		writeJSON(w, 200, map[string]any{"masterKey": "the-master-key", "functionKeys": map[string]string{"default": "the-key"}, "systemKeys": map[string]string{}})
	default:
		r.unknown = append(r.unknown, q.Method+" site"+rest)
		notFound(w, "ResourceNotFound")
	}
}

func (r *recorder) groups(w http.ResponseWriter, q *http.Request, path string, body []byte) {
	c := r.cloud
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 3)
	if !strings.EqualFold(parts[0], "resourceGroups") || len(parts) < 2 {
		r.unknown = append(r.unknown, q.Method+" "+path)
		notFound(w, "ResourceNotFound")
		return
	}
	name, rest := parts[1], ""
	if len(parts) == 3 {
		rest = parts[2]
	}
	switch {
	case c.Groups[name] == nil:
		notFound(w, "ResourceGroupNotFound")
	case rest == "" && q.Method == http.MethodDelete:
		delete(c.Groups, name)
		if name == "tools" {
			c.Resources = nil
		}
		w.WriteHeader(200)
	case rest == "":
		writeJSON(w, 200, map[string]any{"id": "/subscriptions/" + testSubscription + path, "name": name, "location": "westeurope", "tags": c.Groups[name]})
	case rest == "providers/Microsoft.Web/serverfarms/toolsh" && q.Method == http.MethodGet:
		writeJSON(w, 200, map[string]any{"id": "/subscriptions/" + testSubscription + path, "name": "toolsh", "location": "West Europe",
			"sku": map[string]string{"name": "FC1", "tier": "FlexConsumption"}})
	case rest == "providers/Microsoft.Resources/tags/default":
		var sent struct {
			Operation  string
			Properties struct{ Tags map[string]string }
		}
		_ = json.Unmarshal(body, &sent)
		for key, value := range sent.Properties.Tags {
			c.Groups[name][key] = value
		}
		writeJSON(w, 200, map[string]any{"id": path, "name": "default", "properties": map[string]any{"tags": c.Groups[name]}})
	case rest == "resources":
		var all []any
		for _, res := range c.Resources {
			all = append(all, map[string]any{"id": res.ID, "name": res.Name, "type": res.Type, "location": "westeurope"})
		}
		writeJSON(w, 200, map[string]any{"value": append([]any{}, all...)})
	case rest == "providers/Microsoft.Compute/virtualMachineScaleSets":
		var all []any
		for set, n := range c.Sets {
			all = append(all, map[string]any{"id": "/subscriptions/" + testSubscription + path + "/" + set, "name": set, "location": "westeurope",
				"tags": map[string]string{"dsvmpools-pool": "cpu"}, "sku": map[string]any{"name": "Standard_D2s_v5", "capacity": n}})
		}
		writeJSON(w, 200, map[string]any{"value": append([]any{}, all...)})
	case strings.HasPrefix(rest, "providers/Microsoft.Compute/virtualMachineScaleSets/") && q.Method == http.MethodDelete:
		delete(c.Sets, rest[strings.LastIndex(rest, "/")+1:])
		w.WriteHeader(200)
	case q.Method == http.MethodDelete:
		c.Resources = slices.DeleteFunc(c.Resources, func(res resource) bool { return strings.HasSuffix(strings.ToLower(res.ID), strings.ToLower(path)) })
		w.WriteHeader(200)
	default:
		r.unknown = append(r.unknown, q.Method+" "+path)
		notFound(w, "ResourceNotFound")
	}
}
