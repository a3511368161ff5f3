package admin

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Queue is a queue with its description and state.
type Queue struct {
	Name                                   string
	Description                            Description
	Created, Updated                       time.Time
	Accessed                               time.Time // zero: never
	ActiveCount, DeadCount, ScheduledCount int
	Bytes                                  int64
}

// Info describes the namespace.
type Info struct {
	Name    string
	Premium bool
	Created time.Time
}

// Errors of a Namespace that have their own status. Any other error is an error of the
// client: the answer is 400 with its text.
var (
	ErrExists   = errors.New("the queue exists")
	ErrNotFound = errors.New("there is no such queue")
	ErrInternal = errors.New("the server could not do it")
	// ErrThrottled means that the namespace has used up its operations of this second.
	ErrThrottled = errors.New("the namespace is being throttled")
)

// Namespace has the queues. Names are compared without regard to case.
type Namespace interface {
	Info() Info
	Get(name string) (Queue, bool)
	List() []Queue // by name
	Create(name string, said Description) (Queue, error)
	Update(name string, said Description) (Queue, error)
	Delete(name string) error
	// Authorize reports whether a token is valid for a path of the namespace, and whether
	// it may manage that path.
	Authorize(token, path string) (manage bool, err error)
	// Spend takes the credits of a management operation. It returns ErrThrottled when there
	// are too few.
	Spend() error
}

// The claims that an error of the service calls missing.
const (
	readClaims   = "Manage,EntityRead claims required for this operation."
	writeClaims  = "Authorization failed for specified action: Manage,EntityWrite."
	deleteClaims = "Authorization failed for specified action: Manage,EntityDelete."
)

// maxPage bounds the queues in one list.
const maxPage = 100

type handler struct{ ns Namespace }

// Handler answers requests for a namespace.
func Handler(ns Namespace) http.Handler { return &handler{ns} }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	manage, err := h.ns.Authorize(r.Header.Get("Authorization"), path)
	if err != nil {
		fail(w, http.StatusUnauthorized, err.Error())
		return
	}
	if err := h.ns.Spend(); err != nil {
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusServiceUnavailable, "SubCode=50009. The request was terminated because the namespace "+h.ns.Info().Name+
			" is being throttled. Error code : 50009. Please wait 2 seconds and try again.")
		return
	}
	base := "https://" + r.Host + "/"
	switch r.Method {
	case http.MethodGet:
		h.get(w, r, base, path, manage)
	case http.MethodPut:
		h.put(w, r, base, path, manage)
	case http.MethodDelete:
		h.delete(w, path, manage)
	default:
		fail(w, http.StatusMethodNotAllowed, "The method "+r.Method+" is not known here.")
	}
}

func (h *handler) get(w http.ResponseWriter, r *http.Request, base, path string, manage bool) {
	switch lower := strings.ToLower(path); {
	case lower == "$namespaceinfo":
		info := h.ns.Info()
		body := namespaceInfo{CreatedTime: timeText(info.Created),
			ModifiedTime: timeText(info.Created), MessagingSKU: "Standard", Name: info.Name, NamespaceType: "Messaging"}
		if info.Premium {
			units := 1
			body.MessagingSKU, body.MessagingUnits = "Premium", &units
		}
		answer(w, http.StatusOK, entry{ID: base + path, Title: title{"text", info.Name}, Updated: timeText(info.Created), Author: info.Name,
			Link: link{"self", base + path}, Content: content{"application/xml", body}})
	case lower == "$resources/queues":
		if !manage {
			fail(w, http.StatusUnauthorized, readClaims)
			return
		}
		h.list(w, r, base, path)
	case strings.HasPrefix(lower, "$"):
		fail(w, http.StatusNotFound, "There is nothing at "+path+". "+errTopic.Error())
	default:
		q, ok := h.ns.Get(path)
		switch {
		case !ok: // the service does not answer 404 here
			answer(
				w,
				http.StatusOK,
				feed{
					ID:      base + path,
					Title:   title{"text", "Publicly Listed Services"},
					Updated: timeText(time.Now()),
					Link:    link{"self", base + path},
				},
			)
		case !manage:
			fail(w, http.StatusUnauthorized, readClaims)
		default:
			answer(w, http.StatusOK, h.entry(base, q))
		}
	}
}

func (h *handler) list(w http.ResponseWriter, r *http.Request, base, path string) {
	query := r.URL.Query()
	number := func(name string, or int) (int, error) {
		if !query.Has(name) {
			return or, nil
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s is a number, and not below 0.", name)
		}
		return n, nil
	}
	skip, err1 := number("$skip", 0)
	top, err2 := number("$top", maxPage)
	if err := errors.Join(err1, err2); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	all := h.ns.List()
	all = all[min(skip, len(all)):]
	all = all[:min(top, maxPage, len(all))]
	f := feed{ID: base + path, Title: title{"text", "Queues"}, Updated: timeText(time.Now()), Link: link{"self", base + path}}
	for _, q := range all {
		f.Entries = append(f.Entries, h.entry(base, q))
	}
	answer(w, http.StatusOK, f)
}

func (h *handler) put(w http.ResponseWriter, r *http.Request, base, path string, manage bool) {
	if !manage {
		fail(w, http.StatusUnauthorized, writeClaims)
		return
	}
	said, err := readEntry(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("A description has up to %d bytes.", maxBody))
		return
	case errors.Is(err, errTopic):
		fail(w, http.StatusBadRequest, "SubCode=40000. "+err.Error())
		return
	case err != nil:
		fail(w, http.StatusBadRequest, errBody.Error())
		return
	}
	do, status := h.ns.Create, http.StatusCreated
	if r.Header.Get("If-Match") != "" {
		do, status = h.ns.Update, http.StatusOK
	}
	q, err := do(path, said)
	if err != nil {
		failWith(w, path, err)
		return
	}
	answer(w, status, h.entry(base, q))
}

func (h *handler) delete(w http.ResponseWriter, path string, manage bool) {
	if !manage {
		fail(w, http.StatusUnauthorized, deleteClaims)
		return
	}
	if err := h.ns.Delete(path); err != nil {
		failWith(w, path, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func failWith(w http.ResponseWriter, path string, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, "SubCode=40400. Entity '"+path+"' was not found.")
	case errors.Is(err, ErrExists):
		fail(w, http.StatusConflict, "SubCode=40900. Conflict. An entity with the name '"+path+"' exists.")
	case errors.Is(err, ErrInternal):
		fail(w, http.StatusInternalServerError, "SubCode=50000. "+err.Error())
	default:
		fail(w, http.StatusBadRequest, "SubCode=40000. "+err.Error())
	}
}

func fail(w http.ResponseWriter, status int, detail string) {
	answer(w, status, failure{Code: status, Detail: detail})
}

func answer(w http.ResponseWriter, status int, body any) {
	b, err := xml.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append([]byte(xml.Header), b...))
}
