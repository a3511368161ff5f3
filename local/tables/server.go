// Package tables is Azure Table Storage on one machine: the Table REST API as
// aztables speaks it, over HTTP and https on one port of loopback, path style. What it
// acknowledges is on disk. Limits of size and form are those of the service, so
// that a request that the service would refuse is refused here too.
//
// Shared keys and shared access signatures are checked; token credentials are
// not known. Rates, pages that end early and the time for which the name of a
// deleted table is blocked are the service's when Config asks for them.
//
// Injections of Config.Chaos may name the operations createTable, deleteTable, listTables, insert,
// get, query, replace, merge, upsert, delete and transaction; the entity is the
// table. They can delay, refuse with any of the service's codes, throttle,
// disconnect before anything is done, and lose the answer. A refusal with a code
// of the 4xx stands inside the answer to a transaction, at its first operation.
//
// It never serves other machines. It sorts keys by their bytes.
package tables

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/local/disk"
	"dsvmpools/local/internal/tlsport"
	"dsvmpools/shared/door"
)

// Bounds on what a client can make the server hold.
const (
	maxTransactionBytes = 4 << 20          // the service's bound on a request body
	maxDiscardedBytes   = 64 << 20         // of a larger body: read, so that its sender comes to read the answer
	maxHeaderBytes      = 64 << 10         // keys are at most 2 KiB, a filter 32 KiB, escaped
	headerTimeout       = 10 * time.Second // a request's head
	requestTimeout      = 30 * time.Second // the service's own bound on a request
	idleTimeout         = 2 * time.Minute  // longer than clients keep connections
	stopTimeout         = 2 * time.Second  // for the requests under way at Close
)

// serviceVersion is the one that aztables asks for.
const serviceVersion = "2019-02-02"

const (
	requestIDHeader       = "x-ms-request-id"
	clientRequestIDHeader = "x-ms-client-request-id"
	contentSuffix         = ";streaming=true;charset=utf-8"
	maxClientRequestID    = 1024 // characters; longer ones are not given back
)

// Config says where the server listens and stores, and who may use it.
type Config struct {
	Addr    string // loopback host:port; port 0 = any free one; Open does not use it
	Path    string // store file
	Account string // letters, digits and dashes
	Key     string // base64
	Log     *slog.Logger
	TLS     *tls.Config // for clients that begin with TLS; nil = plain HTTP only

	// CloudRates has the service's rates: 2,000 entities a second and partition,
	// 20,000 a second in all, beyond that 503 ServerBusy. Its pages also end
	// early, some of them empty, and DeleteHold has another default.
	CloudRates bool
	// PartitionRate and AccountRate are the entities a second with CloudRates; 0 = as in
	// the cloud.
	PartitionRate, AccountRate int
	// DeleteHold is for how long the name of a deleted table is blocked; 0 = it
	// is free at once, with CloudRates after 40 s.
	DeleteHold time.Duration
	Chaos      *chaos.Set // nil = everything goes well
}

// cloudDomain is where accounts are in the cloud. Clients that know no other address
// come here through a proxy. Only the service gives out names below it.
const cloudDomain = ".table.core.windows.net"

// cloudDeleteHold is what the service asks clients to wait at least.
const cloudDeleteHold = 40 * time.Second

// Stats are counts since the start; they only rise.
type Stats struct {
	Requests        int64 // of all kinds
	Transactions    int64 // entity-group transactions, also those that failed
	EntitiesWritten int64 // inserts, changes and deletes that took effect
	Reads           int64 // of single entities
	Queries         int64 // pages of entities
}

// Server is an open account.
type Server struct {
	cfg      Config
	key      []byte
	base     string // URL of the account, with a slash
	db       *disk.DB
	clock    clock
	rates    *rates // nil = any
	deleted  deletions
	listener net.Listener // nil = it does not listen
	http     *http.Server
	ended    chan struct{}

	instance                                        [8]byte // first half of every request id
	requests, transactions, written, reads, queries atomic.Int64
}

var accountName = regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`)

// Open opens the store without listening: a client in the same process takes the server
// as its transport, see RoundTrip. Config.Addr is not used.
func Open(cfg Config) (*Server, error) {
	if !accountName.MatchString(cfg.Account) {
		return nil, fmt.Errorf("the account name %q of the local tables must be letters, digits and dashes", cfg.Account)
	}
	key, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil || len(key) == 0 {
		return nil, errors.New("the key of the local tables must be base64, and not empty")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, key: key, base: inProcessBase + cfg.Account + "/"}
	rand.Read(s.instance[:])
	s.deleted.hold = cfg.DeleteHold
	if cfg.CloudRates {
		s.rates = newRates(time.Now, cfg.PartitionRate, cfg.AccountRate)
		if cfg.DeleteHold == 0 {
			s.deleted.hold = cloudDeleteHold
		}
	}
	if s.db, err = disk.Open(cfg.Path); err != nil {
		return nil, err
	}
	if err = s.clock.restore(s.db); err != nil {
		s.db.Close()
		return nil, startError(cfg, err)
	}
	return s, nil
}

// Start opens the store and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("the address of the local tables is host:port: %w", err)
	}
	if !door.IsLoopback(host) {
		return nil, fmt.Errorf("%s is not a loopback address; the local tables serve this machine only", cfg.Addr)
	}
	s, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		s.db.Close()
		return nil, startError(cfg, err)
	}
	s.base = "http://" + s.Addr() + "/" + cfg.Account + "/"
	s.http = &http.Server{
		Handler:           door.Door{Domain: cloudDomain}.Guard(s, true),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(tlsport.Listen(s.listener, cfg.TLS)); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("the local tables have stopped listening", "error", err)
		}
	}()
	return s, nil
}

func startError(cfg Config, err error) error {
	return fmt.Errorf("the local tables in %s cannot start: %w", cfg.Path, err)
}

// Addr is where the server listens; "" = it does not.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// ConnectionString is what a client needs. It holds the key.
func (s *Server) ConnectionString() string {
	return s.connectionString("http", strings.TrimSuffix(s.base, "/"))
}

// SecureConnectionString is what a client with TLS needs; the server must have Config.TLS.
// It holds the key.
func (s *Server) SecureConnectionString() string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return s.connectionString("https", "https://localhost:"+port+"/"+s.cfg.Account)
}

func (s *Server) connectionString(protocol, endpoint string) string {
	return fmt.Sprintf("DefaultEndpointsProtocol=%s;AccountName=%s;AccountKey=%s;TableEndpoint=%s",
		protocol, s.cfg.Account, s.cfg.Key, endpoint)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	return Stats{
		Requests: s.requests.Load(), Transactions: s.transactions.Load(), EntitiesWritten: s.written.Load(),
		Reads: s.reads.Load(), Queries: s.queries.Load(),
	}
}

// Close finishes the requests under way, briefly, and closes the store.
func (s *Server) Close() error {
	if s.http == nil {
		return s.db.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.ended
	return s.db.Close()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set(requestIDHeader, s.requestID(s.requests.Add(1)))
	h.Set("x-ms-version", serviceVersion)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	if id := r.Header.Get(clientRequestIDHeader); id != "" && len(id) <= maxClientRequestID {
		h.Set(clientRequestIDHeader, id)
	}
	req, bad := s.accept(r)
	if bad != nil {
		bad.write(w)
		return
	}
	if req.operation == transaction {
		s.transaction(w, &req)
		return
	}
	bad, lose := s.injectFailure(req.ctx, w, req.operation, req.table)
	var rep reply
	if bad == nil {
		rep, bad = s.do(&req)
	}
	switch {
	case lose:
		abort()
	case bad != nil:
		bad.write(w)
	default:
		rep.write(w)
	}
}

// readBody reads the body. It allocates the announced size at once. A body that is too
// large is read to its end and thrown away: many clients read no answer before they have
// sent everything, and take a connection that ends meanwhile for a fault to retry.
func readBody(r *http.Request) (string, *failure) {
	if r.ContentLength == 0 {
		return "", nil
	}
	if r.ContentLength <= maxTransactionBytes {
		b := bodies.Get().(*bytes.Buffer)
		defer func() {
			if b.Cap() <= maxKeptBody {
				b.Reset()
				bodies.Put(b)
			}
		}()
		if r.ContentLength > 0 {
			b.Grow(int(r.ContentLength) + bytes.MinRead)
		}
		if _, err := b.ReadFrom(io.LimitReader(r.Body, maxTransactionBytes+1)); err != nil {
			return "", errInput
		}
		if b.Len() <= maxTransactionBytes {
			return b.String(), nil
		}
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDiscardedBytes) // an error ends the connection, and with it the answer
	return "", errBodySize
}

// bodies are buffers for the bodies of requests, used again up to a size: a body is
// copied once, into the string that all its names and values share.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxKeptBody = 256 << 10

// requestID is the id of the nth request, in the form that the service uses.
func (s *Server) requestID(n int64) string {
	id := uuid.UUID(append(s.instance[:], binary.BigEndian.AppendUint64(nil, uint64(n))...))
	return id.String()
}
