// Package tables is Azure Table Storage on one machine: the Table REST API as
// aztables speaks it, over plain HTTP on loopback, path style. What it
// acknowledges is on disk. Limits of size and form are those of the service.
// It has no service properties, no access policies and no token credentials.
package tables

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"dsvmpools/local/disk"

	"github.com/google/uuid"
)

// Limits of the service and of this server.
const (
	maxTransactionBytes = 4 << 20
	maxEntityBytes      = 1 << 20
	maxHeaderBytes      = 64 << 10
	maxClockSkew        = 15 * time.Minute // a request whose date is further off is refused
	requestTimeout      = 30 * time.Second // the service's own bound on a request
	idleTimeout         = 2 * time.Minute
)

// Config says where the server listens and stores, and who may use it.
type Config struct {
	Addr    string // loopback host:port; port 0 = any free one
	Path    string // store file
	Account string
	Key     string // base64
	Log     *slog.Logger
}

// Stats are counts since the start.
type Stats struct {
	Requests        int64 // of all kinds
	Transactions    int64 // entity-group transactions
	EntitiesWritten int64 // inserts, changes and deletes that took effect
	Reads           int64 // of single entities
	Queries         int64
}

// Server is a running account.
type Server struct {
	cfg      Config
	key      []byte
	db       *disk.DB
	clock    clock
	listener net.Listener
	http     *http.Server

	requests, transactions, written, reads, queries atomic.Int64
}

// Start opens the store and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address; the local tables serve this machine only", cfg.Addr)
	}
	s := &Server{cfg: cfg}
	if s.key, err = base64.StdEncoding.DecodeString(cfg.Key); err != nil || cfg.Account == "" {
		return nil, errors.New("the local tables need an account name and a base64 key")
	}
	if s.db, err = disk.Open(cfg.Path); err != nil {
		return nil, err
	}
	if err = s.clock.restore(s.db); err == nil {
		s.listener, err = net.Listen("tcp", cfg.Addr)
	}
	if err != nil {
		s.db.Close()
		return nil, err
	}
	s.http = &http.Server{Handler: s, MaxHeaderBytes: maxHeaderBytes, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout}
	if cfg.Log != nil {
		s.http.ErrorLog = slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)
	}
	go s.http.Serve(s.listener)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// ConnectionString is what a client needs. It holds the key.
func (s *Server) ConnectionString() string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;TableEndpoint=http://%s/%s", s.cfg.Account, s.cfg.Key, s.Addr(), s.cfg.Account)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	return Stats{Requests: s.requests.Load(), Transactions: s.transactions.Load(), EntitiesWritten: s.written.Load(), Reads: s.reads.Load(), Queries: s.queries.Load()}
}

// Close finishes the requests under way, briefly, and closes the store.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	return s.db.Close()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	h := w.Header()
	h.Set("x-ms-request-id", uuid.NewString())
	h.Set("x-ms-version", "2019-02-02")
	if id := r.Header.Get("x-ms-client-request-id"); id != "" && len(id) <= 1024 {
		h.Set("x-ms-client-request-id", id)
	}
	if err := s.authorize(r); err != nil {
		err.write(w)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTransactionBytes))
	if err != nil {
		fail(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.").write(w)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/"+s.cfg.Account)
	if !ok {
		errNotFound.write(w)
		return
	}
	path = strings.TrimPrefix(path, "/")
	if path == "$batch" && r.Method == http.MethodPost {
		s.transaction(w, r, body)
		return
	}
	rep, failure := s.do(request{method: r.Method, path: path, query: r.URL.Query(), header: r.Header, body: body})
	if failure != nil {
		failure.write(w)
		return
	}
	rep.write(w)
}

// authorize checks the shared key, in both of its forms.
func (s *Server) authorize(r *http.Request) *failure {
	refused := fail(http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil || time.Since(at).Abs() > maxClockSkew {
		return refused
	}
	resource := "/" + s.cfg.Account + r.URL.EscapedPath()
	if comp := r.URL.Query().Get("comp"); comp != "" {
		resource += "?comp=" + comp
	}
	kind, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	account, signature, _ := strings.Cut(rest, ":")
	var sign string
	switch kind {
	case "SharedKeyLite":
		sign = date + "\n" + resource
	case "SharedKey":
		sign = strings.Join([]string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), date, resource}, "\n")
	default:
		return refused
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(sign))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if account != s.cfg.Account || !hmac.Equal([]byte(want), []byte(signature)) {
		return refused
	}
	return nil
}

// request is one operation, alone or within a transaction.
type request struct {
	method string
	path   string // below the account, unescaped
	query  url.Values
	header http.Header
	body   []byte
}

// reply is how an operation went well.
type reply struct {
	status  int
	etag    string
	headers map[string]string
	body    []byte // nil: none
	format  string
}

func (r reply) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range r.headers {
		h.Set(k, v)
	}
	if r.etag != "" {
		h.Set("ETag", r.etag)
	}
	if r.body != nil {
		h.Set("Content-Type", r.format+";streaming=true;charset=utf-8")
	}
	w.WriteHeader(r.status)
	w.Write(r.body)
}

// failure is an error in the service's words.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func fail(status int, code, format string, args ...any) *failure {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

var (
	errNotFound      = fail(http.StatusNotFound, "ResourceNotFound", "The specified resource does not exist.")
	errTableNotFound = fail(http.StatusNotFound, "TableNotFound", "The table specified does not exist.")
	errExists        = fail(http.StatusConflict, "EntityAlreadyExists", "The specified entity already exists.")
	errCondition     = fail(http.StatusPreconditionFailed, "UpdateConditionNotSatisfied", "The update condition specified in the request was not satisfied.")
	errInput         = fail(http.StatusBadRequest, "InvalidInput", "One of the request inputs is not valid.")
)

func (f *failure) write(w http.ResponseWriter) {
	w.Header().Set("x-ms-error-code", f.code)
	w.Header().Set("Content-Type", "application/json;odata=minimalmetadata;streaming=true;charset=utf-8")
	w.WriteHeader(f.status)
	w.Write(f.body())
}

// internal turns a foreign error into an answer.
func internal(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return fail(http.StatusInternalServerError, "InternalError", "The server encountered an internal error: %v", err)
}
