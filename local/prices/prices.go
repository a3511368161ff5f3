// Package prices plays Azure's Retail Prices API on one machine: its filter without `or`,
// its pages, its refusals for too many requests, and beside each price the rows that are not
// it, each of which somebody has taken for the price once. Prices are invented from those of
// its configuration.
//
// It knows nothing of pools and jobs, and it keeps nothing.
package prices

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/door"
)

// Path is where the API is.
const Path = "/api/retail/prices"

// pageSize is how many rows the service has on a page.
const pageSize = 1000

const (
	headerTimeout = 10 * time.Second
	mostFilter    = 4096
	defaultRetry  = 10 * time.Second
)

// Size is a size whose prices there are.
type Size struct {
	Name    string
	PerHour string // regular, with Linux; "" = there is no price
}

// Config says what there is.
type Config struct {
	Addr     string
	Sizes    []Size
	PageSize int          // 0 = that of the service
	Chaos    *chaos.Set   // nil = everything goes well
	Log      *slog.Logger // nil = nothing is logged
	Now      func() time.Time
}

// Server is a running server.
type Server struct {
	cfg Config
	web *http.Server
	at  net.Addr

	mu      sync.Mutex
	changes map[string][]change // of prices, by size in small letters
}

// change is a price from a time on.
type change struct {
	from    time.Time
	perHour string
}

// Start starts a server. Errors: the address cannot be listened at.
func Start(cfg Config) (*Server, error) {
	cfg.PageSize = cmp.Or(cfg.PageSize, pageSize)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, at: l.Addr(), changes: map[string][]change{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, s.answer)
	s.web = &http.Server{Handler: door.Door{}.Guard(mux, false), ReadHeaderTimeout: headerTimeout}
	go func() {
		if err := s.web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("local prices have ended", "error", err)
		}
	}()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() error { return s.web.Close() }

// Addr is the address at which it listens.
func (s *Server) Addr() string { return s.at.String() }

// URL is the address for its clients.
func (s *Server) URL() string { return "http://" + s.Addr() }

// SetPrice changes the regular price of a size from a time on, which may be in the future.
func (s *Server) SetPrice(size, perHour string, from time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(size)
	s.changes[key] = append(s.changes[key], change{from, perHour})
}

// answer answers one request.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	call := chaos.Call{Server: "prices", Operation: "list"}
	switch v := s.cfg.Chaos.Decide(call, chaos.Delay, chaos.Refuse, chaos.Throttle, chaos.Disconnect); v.Do {
	case chaos.Delay:
		t := time.NewTimer(v.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		}
	case chaos.Refuse:
		refuse(w, http.StatusInternalServerError, "InternalServerError")
		return
	case chaos.Throttle:
		w.Header().Set("Retry-After", strconv.Itoa(int(cmp.Or(v.RetryAfter, defaultRetry)/time.Second)))
		refuse(w, http.StatusTooManyRequests, "Too many requests")
		return
	case chaos.Disconnect:
		panic(http.ErrAbortHandler)
	}
	query := r.URL.Query()
	if currency := cmp.Or(query.Get("currencyCode"), "'USD'"); currency != "'USD'" {
		refuse(w, http.StatusBadRequest, "Invalid currency")
		return
	}
	conditions, err := parse(query.Get("$filter"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	skip, err := strconv.Atoi(cmp.Or(query.Get("$skip"), "0"))
	if err != nil || skip < 0 {
		refuse(w, http.StatusBadRequest, "Invalid $skip")
		return
	}
	var found []map[string]any
	for _, row := range s.rows(conditions["armRegionName"], conditions["armSkuName"]) {
		if conditions.hold(row) {
			found = append(found, row)
		}
	}
	found = found[min(skip, len(found)):]
	next := any(nil)
	if len(found) > s.cfg.PageSize {
		found = found[:s.cfg.PageSize]
		query.Set("$skip", strconv.Itoa(skip+s.cfg.PageSize))
		next = (&url.URL{Scheme: "http", Host: r.Host, Path: Path, RawQuery: query.Encode()}).String()
	}
	if found == nil {
		found = []map[string]any{}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(map[string]any{"BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail",
		"Items": found, "NextPageLink": next, "Count": len(found)})
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"Error": map[string]string{"Code": "BadRequest", "Message": message}})
}

// conditions are what a filter asks fields to be.
type conditions map[string]string

// parse reads a filter: `FIELD eq 'VALUE'`, with `and` between them. The service knows no
// `or`.
func parse(filter string) (conditions, error) {
	all := conditions{}
	if len(filter) > mostFilter {
		return nil, errors.New("the filter is too long")
	}
	for rest := strings.TrimSpace(filter); rest != ""; {
		field, after, ok := strings.Cut(rest, " eq '")
		if !ok || !fields[field] {
			return nil, fmt.Errorf("invalid filter at %.100q", rest)
		}
		value, after, ok := text(after)
		if !ok {
			return nil, fmt.Errorf("invalid filter: a text does not end in %.100q", rest)
		}
		all[field] = value
		if rest = strings.TrimSpace(after); rest != "" {
			if rest, ok = strings.CutPrefix(rest, "and "); !ok {
				return nil, fmt.Errorf("invalid filter at %.100q", rest)
			}
		}
	}
	return all, nil
}

// text reads a text of OData up to its end; two quotes are one.
func text(in string) (value, rest string, ok bool) {
	var b strings.Builder
	for {
		part, after, found := strings.Cut(in, "'")
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if in, ok = strings.CutPrefix(after, "'"); !ok {
			return b.String(), after, true
		}
		b.WriteByte('\'')
	}
}

// hold reports whether a row fulfils all conditions. Values are compared with their case, as
// the preview version of the service does.
func (c conditions) hold(row map[string]any) bool {
	for field, want := range c {
		if field == "priceType" {
			field = "type"
		}
		if got, _ := row[field].(string); got != want {
			return false
		}
	}
	return true
}
