// Package client calls the HTTP API. It returns the API's own shapes, and
// errors as *fault.Error. It tries again only what is harmless twice, and only
// while nothing answers or the server asks for it; it prints nothing.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

const (
	// callTimeout bounds one call that is not a log: longer than the platform
	// lets any answer take would be waiting for nothing.
	callTimeout = 60 * time.Second
	// tries of a call that is harmless twice: a server that is just starting is
	// there after the last one, and nobody waits long for one that is not.
	tries = 4
	// firstPause is doubled after each try.
	firstPause = 100 * time.Millisecond
	// longestPause bounds what a Retry-After makes a caller wait.
	longestPause = 10 * time.Second
	// maxAnswer bounds what is read of an answer that is not a log.
	maxAnswer = 64 << 20
)

// Client calls one instance.
type Client struct {
	base  string
	key   string
	token func(ctx context.Context) (string, error) // of a person; nil = there is a key
	http  *http.Client
}

// New makes a client of the instance at an address such as
// http://127.0.0.1:7071. The key may be empty.
func New(address, key string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "url",
			"%.200q is not the address of an instance; it looks like https://name.azurewebsites.net", address)
	}
	return &Client{base: strings.TrimRight(u.Scheme+"://"+u.Host+u.Path, "/"), key: key, http: &http.Client{}}, nil
}

// NewSignedIn makes a client that calls as a person. token gives a token that serves now, for
// each request.
func NewSignedIn(address string, token func(ctx context.Context) (string, error)) (*Client, error) {
	c, err := New(address, "")
	if err == nil {
		c.token = token
	}
	return c, err
}

// signedInPrefix is below which people find the API.
const signedInPrefix = "/web"

// Unreachable is the error when nothing answers at the address.
type Unreachable struct {
	Address string
	Err     error
}

func (e *Unreachable) Error() string { return "nothing answers at " + e.Address }
func (e *Unreachable) Unwrap() error { return e.Err }

// Denied is the error when the key, or the sign-in, is missing or wrong.
type Denied struct {
	Address string
	// SignIn is why the sign-in of a person is not taken, as the instance says; "" = it is
	// the key that is not taken.
	SignIn string
}

func (e *Denied) Error() string {
	if e.SignIn != "" {
		return e.SignIn
	}
	return e.Address + " does not accept the key"
}

// request is one call of the API.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	header       http.Header
	once         bool          // not harmless twice
	timeout      time.Duration // 0 = callTimeout
	accepted     *bool         // set if the answer is 202; nil = it does not matter
}

// call makes a request and reads its answer into `into`, unless that is nil.
func (c *Client) call(ctx context.Context, r request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.timeout, callTimeout))
	defer cancel()
	response, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if r.accepted != nil {
		*r.accepted = response.StatusCode == http.StatusAccepted
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the answer of %s broke off: %w", c.base, err)
	}
	if into == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s%s does not answer like an instance of this version: %w", c.base, r.path, err)
	}
	return nil
}

// send makes a request, again where that is harmless, and returns an answer
// that is a success.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	for try := 1; ; try++ {
		response, err := c.sendOnce(ctx, r)
		if err == nil {
			return response, nil
		}
		wait, again := worthAnother(err, backoff.After(try, firstPause, longestPause))
		if !again || r.once || try == tries {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

// worthAnother reports which errors pass by themselves, and how soon.
func worthAnother(err error, pause time.Duration) (time.Duration, bool) {
	var unreachable *Unreachable
	if errors.As(err, &unreachable) {
		return pause, errors.Is(err, syscall.ECONNREFUSED) || refused(err)
	}
	var f *fault.Error
	if errors.As(err, &f) && f.Code == fault.Throttled {
		return min(max(f.RetryAfter, pause), longestPause), true
	}
	return 0, false
}

func (c *Client) sendOnce(ctx context.Context, r request) (*http.Response, error) {
	address := c.base + r.path
	if c.token != nil {
		address = c.base + signedInPrefix + r.path
	}
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	q, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("a request to %s cannot be made: %w", address, err)
	}
	for name, values := range r.header {
		q.Header[name] = values
	}
	if c.key != "" {
		q.Header.Set(wire.KeyHeader, c.key)
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, err
		}
		q.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(q)
	if err != nil {
		var network *net.OpError
		if ctx.Err() == nil && errors.As(err, &network) && network.Op == "dial" {
			return nil, &Unreachable{Address: c.base, Err: err}
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("%s does not answer in time: %w", c.base, err)
		}
		return nil, err
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	return nil, c.problem(response)
}

// problem turns an answer that is no success into an error.
func (c *Client) problem(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, wire.MaxDocument))
	var p wire.Problem
	isOwn := strings.HasPrefix(response.Header.Get("Content-Type"), wire.ProblemType) && json.Unmarshal(body, &p) == nil
	switch {
	case response.StatusCode == http.StatusUnauthorized && isOwn && p.Type == wire.NotSignedInType:
		return &Denied{Address: c.base, SignIn: p.Detail}
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden && !isOwn:
		return &Denied{Address: c.base}
	case !isOwn:
		p = wire.Problem{Detail: fmt.Sprintf("%s answers %s", c.base, response.Status)}
	}
	p.Status = response.StatusCode
	f := p.Fault()
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.RetryAfter = time.Duration(seconds) * time.Second
	}
	return f
}
