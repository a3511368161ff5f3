package chaos

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Paths of the control service of an instance.
const (
	pathInjections = "/faults"
	pathSeed       = "/faults/seed"
	pathInstance   = "/instances/{name}/{do}"
)

// maxBody bounds a request or an answer, in bytes. An injection is a line.
const maxBody = 1 << 20

// Document is the JSON form of an injection, with what it has done so far.
type Document struct {
	ID          string  `json:"id,omitempty"`
	Do          Action  `json:"do"`
	Target      string  `json:"target"`
	Probability float64 `json:"probability,omitempty"`
	After       int     `json:"after,omitempty"`
	Count       int     `json:"count,omitempty"`
	Delay       string  `json:"delay,omitempty"`      // like 1.5s or 500ms, as time.Duration writes it
	RetryAfter  string  `json:"retryAfter,omitempty"` // likewise
	Code        string  `json:"code,omitempty"`
	Amount      int     `json:"amount,omitempty"`
	Seen        int     `json:"seen"`
	Hits        int     `json:"hits"`
}

// Status is the active injections and the seed of their random numbers.
type Status struct {
	Seed       uint64     `json:"seed"`
	Injections []Document `json:"rules"`
}

func documentOf(s State) Document {
	d := Document{
		ID:          s.ID,
		Do:          s.Do,
		Target:      s.Target,
		Probability: s.Probability,
		After:       s.After,
		Count:       s.Count,
		Code:        s.Code,
		Amount:      s.Amount,
		Seen:        s.Seen,
		Hits:        s.Hits,
	}
	if s.Delay > 0 {
		d.Delay = s.Delay.String()
	}
	if s.RetryAfter > 0 {
		d.RetryAfter = s.RetryAfter.String()
	}
	return d
}

// Injection returns the checked injection that a document describes.
func (d Document) Injection() (Injection, error) {
	r := Injection{
		ID:          d.ID,
		Do:          d.Do,
		Target:      d.Target,
		Probability: d.Probability,
		After:       d.After,
		Count:       d.Count,
		Code:        d.Code,
		Amount:      d.Amount,
	}
	for _, span := range []struct {
		name, text string
		to         *time.Duration
	}{{"delay", d.Delay, &r.Delay}, {"retryAfter", d.RetryAfter, &r.RetryAfter}} {
		if span.text == "" {
			continue
		}
		var err error
		if *span.to, err = time.ParseDuration(span.text); err != nil {
			return r, fmt.Errorf("%s is %q; write a time like 2s or 500ms", span.name, span.text)
		}
	}
	return r, r.Check()
}

// Control serves a set to the command line. Evict and Remove act on one instance at
// once: Evict gives it the notice of the cloud first, Remove deletes it unannounced.
type Control struct {
	Set           *Set
	Key           string // bearer token that every request must have
	Evict, Remove func(instance string) error
}

// Handler returns the HTTP handler of the service.
func (c *Control) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathInjections, func(w http.ResponseWriter, _ *http.Request) { c.writeStatus(w) })
	mux.HandleFunc("POST "+pathInjections, func(w http.ResponseWriter, r *http.Request) {
		var d Document
		in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		in.DisallowUnknownFields()
		if err := in.Decode(&d); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("the rule cannot be read: %w", err))
			return
		}
		injection, err := d.Injection()
		if err == nil {
			_, err = c.Set.Add(injection)
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		c.writeStatus(w)
	})
	mux.HandleFunc("DELETE "+pathInjections, func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if c.Set.Remove(id) == 0 && id != "" {
			refuse(w, http.StatusNotFound, fmt.Errorf("no rule has the id %s", id))
			return
		}
		c.writeStatus(w)
	})
	mux.HandleFunc("PUT "+pathSeed, func(w http.ResponseWriter, r *http.Request) {
		var seed uint64
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&seed); err != nil {
			refuse(w, http.StatusBadRequest, errors.New("a seed is a whole number of at most 64 bits"))
			return
		}
		c.Set.Seed(seed)
		c.writeStatus(w)
	})
	mux.HandleFunc("POST "+pathInstance, func(w http.ResponseWriter, r *http.Request) {
		act := map[string]func(string) error{"evict": c.Evict, "remove": c.Remove}[r.PathValue("do")]
		if act == nil {
			refuse(w, http.StatusNotFound, errors.New("an instance can be evicted or removed"))
			return
		}
		if err := act(r.PathValue("name")); err != nil {
			refuse(w, http.StatusConflict, err)
			return
		}
		c.writeStatus(w)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.Key)) == 0 {
			refuse(w, http.StatusUnauthorized, errors.New("the key is not the one of this instance"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// writeStatus answers with the active injections.
func (c *Control) writeStatus(w http.ResponseWriter) {
	states, seed := c.Set.List()
	s := Status{Seed: seed, Injections: []Document{}}
	for _, state := range states {
		s.Injections = append(s.Injections, documentOf(state))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s)
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// Client talks to the control service of an instance.
type Client struct{ URL, Key string }

// Status returns the active injections.
func (c Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodGet, pathInjections, nil)
}

// Add adds an injection after the others.
func (c Client) Add(ctx context.Context, d Document) (Status, error) {
	return c.call(ctx, http.MethodPost, pathInjections, d)
}

// Remove removes an injection, or all of them with an empty id.
func (c Client) Remove(ctx context.Context, id string) (Status, error) {
	return c.call(ctx, http.MethodDelete, pathInjections+"?id="+url.QueryEscape(id), nil)
}

// Seed restarts the random numbers of all injections.
func (c Client) Seed(ctx context.Context, seed uint64) (Status, error) {
	return c.call(ctx, http.MethodPut, pathSeed, seed)
}

// Evict evicts a spot instance with the notice that the cloud gives.
func (c Client) Evict(ctx context.Context, instance string) error {
	_, err := c.call(ctx, http.MethodPost, "/instances/"+url.PathEscape(instance)+"/evict", nil)
	return err
}

// Kill deletes an instance unannounced.
func (c Client) Kill(ctx context.Context, instance string) error {
	_, err := c.call(ctx, http.MethodPost, "/instances/"+url.PathEscape(instance)+"/remove", nil)
	return err
}

func (c Client) call(ctx context.Context, method, path string, in any) (s Status, err error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return s, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, &body)
	if err != nil {
		return s, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return s, err
	}
	if resp.StatusCode != http.StatusOK {
		var why struct{ Error string }
		if json.Unmarshal(b, &why) != nil || why.Error == "" {
			return s, fmt.Errorf("the instance answers %s", resp.Status)
		}
		return s, errors.New(why.Error)
	}
	return s, json.Unmarshal(b, &s)
}
