//go:build unix

package compute

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// endpoints answers, without a token, what a client must know of a cloud before it signs in:
// what `az cloud register --endpoint-resource-manager` reads. The sign-in is in signin.go; the
// other addresses lead nowhere.
func (s *Server) endpoints(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return errNotServed
	}
	here := s.baseURL(r)
	login := map[string]any{"loginEndpoint": here, "audiences": []string{here + "/"}, "tenant": "common", "identityProvider": "AAD"}
	version := r.URL.Query().Get("api-version")
	if version < "2019-05-01" {
		return json.NewEncoder(w).Encode(map[string]any{
			"galleryEndpoint": here,
			"graphEndpoint":   here,
			"portalEndpoint":  here,
			"authentication":  login,
		})
	}
	cloud := map[string]any{
		"name":                       "dsvm",
		"resourceManager":            here,
		"portal":                     here,
		"gallery":                    here,
		"graph":                      here,
		"graphAudience":              here + "/",
		"microsoftGraphResourceId":   here + "/",
		"batch":                      here,
		"sqlManagement":              here,
		"media":                      here,
		"vmImageAliasDoc":            here,
		"activeDirectoryDataLake":    here,
		"authentication":             login,
		"suffixes":                   map[string]string{"storage": "localhost"},
		"logAnalyticsResourceId":     here,
		"appInsightsResourceId":      here,
		"attestationResourceId":      here,
		"synapseAnalyticsResourceId": here,
		"ossrDbmsResourceId":         here,
	}
	if version < "2022-09-01" { // it lists clouds, of which this server is the only one
		return json.NewEncoder(w).Encode([]any{cloud})
	}
	return json.NewEncoder(w).Encode(cloud)
}

// listSets lists the scale sets of the group, or of the subscription, which has only this group.
func (s *Server) listSets(w http.ResponseWriter, _ *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "get", "", 1); err != nil {
		return err
	}
	names := make([]string, 0, len(s.sets))
	for name := range s.sets {
		names = append(names, name)
	}
	slices.Sort(names)
	values := []any{}
	for _, name := range names {
		values = append(values, s.setBody(s.sets[name], nil))
	}
	return json.NewEncoder(w).Encode(map[string]any{"value": values})
}

// viewSet counts the states of a set's instances.
func (s *Server) viewSet(w http.ResponseWriter, c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "get", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for _, i := range st.Instances {
		for _, status := range s.statuses(i) {
			code, _ := status["code"].(string)
			kind, rest, _ := strings.Cut(code, "/")
			rest, _, _ = strings.Cut(rest, "/") // without the code of a failure
			counts[kind+"/"+rest]++
		}
	}
	codes := make([]string, 0, len(counts))
	for code := range counts {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	summary := []any{}
	for _, code := range codes {
		summary = append(summary, map[string]any{"code": code, "count": counts[code]})
	}
	state := s.stateOfSet(st, nil)
	return json.NewEncoder(w).Encode(map[string]any{
		"virtualMachine": map[string]any{"statusesSummary": summary},
		"statuses":       []any{map[string]any{"code": "ProvisioningState/" + strings.ToLower(state), "level": "Info", "displayStatus": state}},
	})
}

// getInstance answers with one instance, in the form that a list has it.
func (s *Server) getInstance(w http.ResponseWriter, c *call) error {
	return s.withInstance(w, c, func(st *set, i *instance) any {
		return s.instanceView(st, i, strings.EqualFold(c.URL.Query().Get("$expand"), "instanceView"))
	})
}

// viewInstance answers with the states of one instance.
func (s *Server) viewInstance(w http.ResponseWriter, c *call) error {
	return s.withInstance(w, c, func(_ *set, i *instance) any { return map[string]any{"statuses": s.statuses(i)} })
}

// withInstance answers with what show makes of the instance that a call names.
func (s *Server) withInstance(w http.ResponseWriter, c *call, show func(*set, *instance) any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.limit(w, "get", c.set, 1); err != nil {
		return err
	}
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	id := c.PathValue("instance")
	n := slices.IndexFunc(st.Instances, func(i *instance) bool { return i.ID == id })
	if n < 0 {
		return refuse(http.StatusNotFound, "InstanceIdNotFound", "The provided instanceId %s was not found.", id)
	}
	return json.NewEncoder(w).Encode(show(st, st.Instances[n]))
}
