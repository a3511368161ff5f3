//go:build unix

package compute

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/door"
)

// answer holds an answer until it is complete. A handler writes it under the
// server's lock, so a slow reader must not hold that lock.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// ServeHTTP answers one request: to the resource manager, to its sign-in, or to the
// metadata endpoint of an instance.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{header: w.Header(), status: http.StatusOK}
	h := a.header
	h.Set("x-ms-request-id", uuid.NewString())
	h.Set("x-ms-correlation-request-id", uuid.NewString())
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "application/json; charset=utf-8")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if key, path, ok := splitNodePath(r.URL.Path); ok {
		if err := s.metadata(a, r, key, path); err != nil {
			s.writeError(a, r, err)
		}
	} else if name, ok := splitConsolePath(r.URL.Path); ok {
		if err := s.console(a, r, name); err != nil {
			s.writeError(a, r, err)
		}
	} else if strings.EqualFold(strings.TrimSuffix(r.URL.Path, "/"), "/metadata/endpoints") {
		if err := s.endpoints(a, r); err != nil {
			s.writeError(a, r, err)
		}
	} else if answer := s.signInHandler(r.URL.Path); answer != nil {
		if err := answer(a, r); err != nil {
			s.writeError(a, r, err)
		}
	} else {
		s.manager.ServeHTTP(a, r)
	}
	w.WriteHeader(a.status)
	w.Write(a.body.Bytes())
}

// writeError answers with an error. An error that is not of the service goes to the log,
// and the caller gets status 500.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var f interface{ write(http.ResponseWriter) }
	if !errors.As(err, &f) {
		s.cfg.Log.Error("call failed", "method", r.Method, "path", r.URL.Path, "error", err)
		f = refuse(http.StatusInternalServerError, "InternalServerError", "The call could not be carried out.")
	}
	f.write(w)
}

// guarded refuses requests from web pages. A metadata endpoint accepts any content type,
// as in the cloud: it requires a header that a page cannot set. The sign-in takes a form:
// without the secret it does nothing.
func (s *Server) guarded() http.Handler {
	calls, anyBody := door.Door{}.Guard(s, true), door.Door{}.Guard(s, false)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := splitNodePath(r.URL.Path); ok || s.signInHandler(r.URL.Path) != nil {
			anyBody.ServeHTTP(w, r)
			return
		}
		calls.ServeHTTP(w, r)
	})
}

// Patterns of the paths that are served. The resource manager compares paths
// without regard to case: see canonicalPath. Every path ends with a slash here.
const (
	subscriptionPath = "/subscriptions/{subscription}/"
	groupPath        = subscriptionPath + "resourceGroups/{group}/"
	setsPath         = "providers/Microsoft.Compute/virtualMachineScaleSets/"
	setPath          = groupPath + setsPath + "{set}/"
	instancePath     = setPath + "virtualMachines/{instance}/"
	locationPath     = subscriptionPath + "providers/Microsoft.Compute/locations/{location}/"
	pathEnd          = "{$}"
)

// words are the fixed segments of the patterns.
var words = []string{
	"subscriptions",
	"resourceGroups",
	"providers",
	"Microsoft.Compute",
	"virtualMachineScaleSets",
	"virtualMachines",
	"instanceView",
	"delete",
	"locations",
	"operations",
	"usages",
	"vmSizes",
	"retrieveBootDiagnosticsData",
}

// nameSegment is the position of the one name in a path that an answer repeats
// as the caller writes it: a scale set or an operation. It is never a fixed word.
const nameSegment = 7

// call is a request to the resource manager that has passed the common checks.
type call struct {
	*http.Request
	set   string // name of the scale set as the caller writes it; "" = the path names none
	body  []byte
	chaos chaos.Verdict // what an injection does to the answer
}

// errNotServed answers what the service has, and this server has not.
var errNotServed = refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested operation is not served by the local compute.")

// handler answers a call, or returns the error to answer with.
type handler func(w http.ResponseWriter, c *call) error

// managerHandler serves the calls of the resource manager. A path that is not
// served gets the error of the first segment that does not exist.
func (s *Server) managerHandler() http.Handler {
	mux := http.NewServeMux()
	get := func(pattern, operation string, h handler, otherwise http.Handler) {
		mux.Handle("GET "+pattern, s.serveCall(operation, h))
		mux.Handle("HEAD "+pattern, otherwise) // a mux answers it as GET, and the resource manager does not
	}
	noSubscription := s.refuseAll(http.StatusNotFound, "SubscriptionNotFound", "The subscription could not be found.")
	noGroup := s.refuseAll(http.StatusNotFound, "ResourceGroupNotFound",
		"Resource group could not be found: the local compute has one only, '"+s.cfg.ResourceGroup+"'.")
	noType := s.refuseAll(http.StatusNotFound, "InvalidResourceType",
		"The resource type could not be found: the local compute has scale sets and their instances only.")
	notServed := s.serveCall("", func(http.ResponseWriter, *call) error {
		return errNotServed
	})

	mux.Handle("/", noSubscription)
	mux.Handle(subscriptionPath, notServed)
	mux.Handle(groupPath, noType)
	mux.Handle(subscriptionPath+"providers/", noType)
	for provider, served := range s.cfg.Providers {
		mux.Handle(groupPath+"providers/"+provider+"/", served)
	}
	mux.Handle(setPath, notServed)

	get("/subscriptions/"+pathEnd, "", s.listSubscriptions, noSubscription)
	get(subscriptionPath+pathEnd, "", s.getSubscription, notServed)
	get(subscriptionPath+"resourceGroups/"+pathEnd, "", s.listGroups, notServed)
	get(groupPath+pathEnd, "", s.getGroup, notServed)
	mux.Handle(groupPath+pathEnd, notServed)

	get(setPath+pathEnd, "get", s.get, notServed)
	mux.Handle("PUT "+setPath+pathEnd, s.serveCall("put", s.put))
	mux.Handle("PATCH "+setPath+pathEnd, s.serveCall("patch", s.patch))
	mux.Handle("DELETE "+setPath+pathEnd, s.serveCall("delete", s.deleteSet))
	mux.Handle("POST "+setPath+"delete/"+pathEnd, s.serveCall("deleteInstances", s.deleteInstances))
	get(setPath+"virtualMachines/"+pathEnd, "list", s.list, notServed)
	get(groupPath+setsPath+pathEnd, "listSets", s.listSets, noType)
	get(subscriptionPath+setsPath+pathEnd, "listSets", s.listSets, noType)
	get(setPath+"instanceView/"+pathEnd, "viewSet", s.viewSet, notServed)
	get(instancePath+pathEnd, "getInstance", s.getInstance, notServed)
	get(instancePath+"instanceView/"+pathEnd, "viewInstance", s.viewInstance, notServed)
	mux.Handle("DELETE "+instancePath+pathEnd, s.serveCall("deleteInstance", s.deleteInstance))
	mux.Handle("POST "+instancePath+"retrieveBootDiagnosticsData/"+pathEnd, s.serveCall("bootDiagnostics", s.bootDiagnostics))

	mux.Handle(locationPath+"operations/{operation}/"+pathEnd, s.serveCall("operation", s.operation))
	get(locationPath+"usages/"+pathEnd, "usages", s.usages, noType)
	get(locationPath+"vmSizes/"+pathEnd, "vmSizes", s.vmSizes, noType)
	return s.authorize(canonicalPath(s.checkScope(mux, noSubscription, noGroup)))
}

// refuseAll answers every request with one error.
func (s *Server) refuseAll(status int, code, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.writeError(w, r, refuse(status, code, "%s", message)) })
}

// deletesInstance reports whether a request deletes one instance: the only thing that the
// nodes' identity has a right to.
func deletesInstance(r *http.Request) bool {
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	const kind, all = 8, 10 // where the kind of the resource is, and how many segments there are
	return r.Method == http.MethodDelete && len(segments) == all && strings.EqualFold(segments[kind], "virtualMachines")
}

// authorize checks the caller's token and the version of the API.
func (s *Server) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		isNode := s.cfg.NodeToken != "" && isEqualSecret(given, s.cfg.NodeToken)
		switch {
		case isNode && !deletesInstance(r):
			s.writeError(w, r, failure("AuthorizationFailed"))
		case !isEqualSecret(given, s.cfg.Token) && !isNode:
			s.writeError(w, r, refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid."))
		case r.URL.Query().Get("api-version") == "":
			s.writeError(w, r, refuse(http.StatusBadRequest, "MissingApiVersionParameter",
				"The api-version query parameter (?api-version=) is required for all requests."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isEqualSecret compares in constant time.
func isEqualSecret(got, want string) bool {
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// canonicalPath writes the fixed words of a path as the patterns do, with one slash at the
// end. Names stay as the caller writes them. A segment that makes a mux redirect (empty,
// dots) becomes a dash, which names nothing.
func canonicalPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		for i, segment := range segments {
			word := slices.IndexFunc(words, func(word string) bool { return strings.EqualFold(word, segment) })
			switch {
			case segment == "" || segment == "." || segment == "..":
				segments[i] = "-"
			case word >= 0 && i != nameSegment:
				segments[i] = words[word]
			}
		}
		canonical, url := *r, *r.URL
		url.Path, url.RawPath = "/"+strings.Join(segments, "/")+"/", ""
		canonical.URL = &url
		next.ServeHTTP(w, &canonical)
	})
}

// checkScope passes on the requests for the server's subscription and, if the path names a
// resource group, for its group.
func (s *Server) checkScope(next, noSubscription, noGroup http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		segments := strings.Split(r.URL.Path, "/") // the first one is empty
		switch {
		case len(segments) > 2 && segments[2] != "" && !strings.EqualFold(segments[2], s.cfg.SubscriptionID):
			noSubscription.ServeHTTP(w, r)
		case len(segments) > 4 && segments[3] == "resourceGroups" && segments[4] != "" && !strings.EqualFold(segments[4], s.cfg.ResourceGroup):
			noGroup.ServeHTTP(w, r)
		case s.cfg.Surroundings.Unregistered && len(segments) > 6 && segments[3] == "resourceGroups":
			s.writeError(w, r, failure("MissingSubscriptionRegistration"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// serveCall reads a call, charges it to the rates, carries out injections, and calls the
// handler. operation is the name that rates and injections use; "" = neither applies.
func (s *Server) serveCall(operation string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.writeError(w, r, refuse(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content is too large."))
			return
		}
		c := &call{Request: r, set: r.PathValue("set"), body: body}
		if err := s.limitManager(w, r.Method); err != nil {
			s.writeError(w, r, err)
			return
		}
		c.chaos, err = s.injectIntoCall(r, operation, cmp.Or(c.set, s.setOf(r.PathValue("operation"))))
		if err == nil {
			err = h(w, c)
		}
		if err != nil {
			s.writeError(w, r, err)
		}
		loseAnswer(c.chaos)
	})
}

// loseAnswer ends the connection after the work and before the answer, if an injection
// requires it.
func loseAnswer(o chaos.Verdict) {
	if o.Do == chaos.Lose {
		panic(http.ErrAbortHandler)
	}
}
