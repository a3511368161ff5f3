//go:build unix

package compute

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nodePath is the path of the metadata endpoints of instances. Each has a key in its
// path that only the instance's agent gets. In the cloud the address itself says which
// VM asks.
const nodePath = "/node/"

// maxEventsBody bounds the body of a POST to a metadata endpoint, in bytes.
const maxEventsBody = 16 << 10

// tokenLife is the validity of a token that an answer states.
const tokenLife = 24 * time.Hour

// API versions of the real endpoint are dates. Its error for a request without a version
// lists the newest ones.
var (
	versionForm = regexp.MustCompile(`^20\d\d-\d\d-\d\d$`)
	newest      = []string{"2021-12-13", "2021-11-15", "2021-11-01"}
)

// The oldest API versions that have what is served here.
const (
	oldestInstance = "2017-04-02"
	oldestEvents   = "2017-08-01"
	oldestToken    = "2018-02-01"
)

// metadataError is an error of the metadata endpoint, which has its own form of errors.
type metadataError struct {
	status  int
	message string
}

func (e metadataError) Error() string { return e.message }

// metadataKey returns the key of an instance's metadata endpoint. It is the same after a
// restart of the server, and a job cannot guess it from anything that it knows.
func (s *Server) metadataKey(i *instance) string {
	mac := hmac.New(sha256.New, []byte(s.cfg.Token))
	mac.Write([]byte("metadata of " + i.VMID))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// metadataURL returns the URL of an instance's metadata endpoint.
func (s *Server) metadataURL(i *instance) string { return s.URL() + nodePath + s.metadataKey(i) }

// splitNodePath splits the path of a request to a metadata endpoint.
func splitNodePath(path string) (key, rest string, ok bool) {
	if path, ok = strings.CutPrefix(path, nodePath); !ok {
		return "", "", false
	}
	key, rest, _ = strings.Cut(path, "/")
	return key, "/" + strings.TrimSuffix(rest, "/"), true
}

// metadata answers a request to an instance's metadata endpoint.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request, key, path string) error {
	s.mu.Lock()
	i := s.nodes[key]
	s.mu.Unlock()
	if i == nil {
		return metadataError{http.StatusNotFound, "Not found"}
	}
	// An attacker may use a proxy or a page in a browser. These cannot set the first
	// header, and a proxy always sets the second.
	if !strings.EqualFold(r.Header.Get("Metadata"), "true") {
		return metadataError{http.StatusBadRequest, "Bad request. Required metadata header not specified"}
	}
	if r.Header.Get("X-Forwarded-For") != "" {
		return metadataError{http.StatusBadRequest, "Bad request. The request was forwarded, which is not allowed"}
	}
	events := path == "/metadata/scheduledevents"
	if r.Method != http.MethodGet && !(events && r.Method == http.MethodPost) {
		return metadataError{http.StatusMethodNotAllowed, "Method not allowed"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxEventsBody))
	if err != nil {
		return metadataError{http.StatusBadRequest, "Bad request. The body is too large"}
	}
	version := r.URL.Query().Get("api-version")
	old := func(oldest string) error {
		if !versionForm.MatchString(version) || version < oldest {
			return metadataError{http.StatusBadRequest,
				"Bad request. api-version is invalid or was not specified in the request. For more information refer to aka.ms/azureimds"}
		}
		return nil
	}
	switch {
	case events:
		if err := old(oldestEvents); err != nil {
			return err
		}
		return s.scheduledEvents(w, r, i, body)
	case path == "/metadata/identity/oauth2/token":
		if err := old(oldestToken); err != nil {
			return err
		}
		return s.token(w, r, i)
	case path == "/metadata/instance" || strings.HasPrefix(path, "/metadata/instance/"):
		if err := old(oldestInstance); err != nil {
			return err
		}
		return s.instanceDocument(w, r, i, strings.Split(path, "/")[3:])
	}
	return metadataError{http.StatusNotFound, "Not found"}
}

// write answers with the error in the form of the metadata endpoint.
func (e metadataError) write(w http.ResponseWriter) {
	body := map[string]any{"error": e.message}
	if strings.Contains(e.message, "api-version") {
		body["newest-versions"] = newest
	}
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(body)
}

// instanceDocument answers with the document about an instance, or the part at a path.
func (s *Server) instanceDocument(w http.ResponseWriter, r *http.Request, i *instance, path []string) error {
	s.mu.Lock()
	var at any = map[string]any{"compute": s.instanceMetadata(i), "network": map[string]any{"interface": []any{}}}
	s.mu.Unlock()
	for _, name := range path {
		parts, _ := at.(map[string]any)
		found := false
		for key, part := range parts {
			if strings.EqualFold(key, name) {
				at, found = part, true
			}
		}
		if !found {
			return metadataError{http.StatusNotFound, "Not found"}
		}
	}
	if text, leaf := at.(string); leaf {
		if r.URL.Query().Get("format") != "text" {
			return metadataError{http.StatusBadRequest, "Bad request. The requested data is not available in json format; add format=text"}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := w.Write([]byte(text))
		return err
	}
	return json.NewEncoder(w).Encode(at)
}

// instanceMetadata returns the compute part of an instance's document. All values are
// texts, also numbers and booleans. The lock is held.
func (s *Server) instanceMetadata(i *instance) map[string]any {
	st := i.set
	var p profile
	json.Unmarshal(st.profileOf(i), &p)
	tags, list := []string{}, []any{}
	for _, name := range slices.Sorted(maps.Keys(st.Tags)) {
		tags = append(tags, name+":"+st.Tags[name])
		list = append(list, map[string]any{"name": name, "value": st.Tags[name]})
	}
	priority, eviction := st.priority()
	image, admin, computer := map[string]any{"id": "", "publisher": "", "offer": "", "sku": "", "version": ""}, "", ""
	if r := p.StorageProfile.ImageReference; r != (imageReference{}) {
		image = map[string]any{"id": r.ID, "publisher": r.Publisher, "offer": r.Offer, "sku": r.SKU, "version": r.Version}
	}
	if o := p.OSProfile; o.ComputerNamePrefix != "" {
		admin, computer = o.AdminUsername, o.ComputerNamePrefix+fmt.Sprintf("%06s", strings.ToUpper(strconv.FormatInt(int64(i.number()), 36)))
	}
	return map[string]any{
		"azEnvironment":              "AzurePublicCloud",
		"customData":                 "",
		"evictionPolicy":             eviction,
		"isHostCompatibilityLayerVm": "false",
		"licenseType":                "",
		"location":                   st.Location,
		"name":                       i.Name,
		"offer":                      image["offer"],
		"publisher":                  image["publisher"],
		"sku":                        image["sku"],
		"version":                    image["version"],
		"osProfile":                  map[string]any{"adminUsername": admin, "computerName": computer, "disablePasswordAuthentication": "true"},
		"osType":                     "Linux",
		"placementGroupId":           "",
		"plan":                       map[string]any{"name": "", "product": "", "publisher": ""},
		"platformFaultDomain":        "0",
		"platformUpdateDomain":       "0",
		"priority":                   priority,
		"provider":                   "Microsoft.Compute",
		"publicKeys":                 []any{},
		"resourceGroupName":          s.cfg.ResourceGroup,
		"resourceId":                 s.setID(st.Name) + "/virtualMachines/" + i.ID,
		"securityProfile":            map[string]any{"secureBootEnabled": "false", "virtualTpmEnabled": "false"},
		"storageProfile":             map[string]any{"dataDisks": []any{}, "imageReference": image},
		"subscriptionId":             s.cfg.SubscriptionID,
		"tags":                       strings.Join(tags, ";"),
		"tagsList":                   list,
		"userData":                   p.UserData,
		"virtualMachineScaleSet":     map[string]any{"id": s.setID(st.Name)},
		"vmId":                       i.VMID,
		"vmScaleSetName":             st.Name,
		"vmSize":                     i.Size,
		"zone":                       "",
	}
}

// token answers with a token of the node's identity. Numbers are texts, as in the answer
// of the real endpoint.
func (s *Server) token(w http.ResponseWriter, r *http.Request, i *instance) error {
	o, err := s.injectIntoCall(r, "token", i.set.Name+"/"+i.Name)
	if err != nil {
		return err
	}
	resource := r.URL.Query().Get("resource")
	s.mu.Lock()
	none := len(i.set.Identity) == 0 || string(i.set.Identity) == "null" || s.cfg.NodeToken == ""
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	refusal := ""
	switch {
	case resource == "":
		refusal = "Required query variable 'resource' is missing"
	case none:
		refusal = "Identity not found"
	}
	if refusal != "" {
		w.WriteHeader(http.StatusBadRequest)
		return json.NewEncoder(w).Encode(map[string]string{"error": "invalid_request", "error_description": refusal})
	}
	now, life := time.Now(), fmt.Sprint(int(tokenLife.Seconds()))
	err = json.NewEncoder(w).Encode(map[string]string{
		"access_token":   s.cfg.NodeToken,
		"client_id":      clientID,
		"token_type":     "Bearer",
		"resource":       resource,
		"expires_in":     life,
		"ext_expires_in": life,
		"expires_on":     fmt.Sprint(now.Add(tokenLife).Unix()),
		"not_before":     fmt.Sprint(now.Unix()),
	})
	loseAnswer(o)
	return err
}

// clientID returns the client id of the only identity.
const clientID = "00000000-0000-4000-8000-0000000000aa"
