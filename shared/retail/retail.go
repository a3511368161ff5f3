// Package retail asks Azure's Retail Prices API, which lists what everybody pays. It reads
// all rows of one filter; package price picks the one that counts. It sends nothing about
// the deployment but the names of its region and sizes, and needs no credential.
package retail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/price"
)

// Endpoint is the API of the public cloud.
const Endpoint = "https://prices.azure.com"

// Setting is the name of the setting with another address.
const Setting = "DSVM_PRICES_ENDPOINT"

const (
	path       = "/api/retail/prices"
	apiVersion = "2023-01-01-preview"
)

// Limits of one answer. The API has up to 1000 rows a page, and some ten for one size.
const (
	callTimeout = 20 * time.Second // it answers in a second or two
	maxPages    = 20
	maxPage     = 4 << 20
)

// Pauses after a refusal for now. The app is woken for a bounded time: what the API wants
// more time for comes with the next refresh.
const (
	tries     = 4
	firstWait = time.Second
	mostWait  = 30 * time.Second
)

// Client asks the API.
type Client struct {
	base   *url.URL
	client *http.Client
	pause  func(ctx context.Context, d time.Duration) error
}

// New returns a client of the API at an address; "" = Endpoint. It connects to public
// addresses, and to the host that the address names, whatever it is. Errors have code
// Invalid.
func New(address string) (*Client, error) {
	var guard outbound.Guard
	if address == "" {
		address = Endpoint
	} else if base, err := url.Parse(address); err != nil || base.Host == "" || base.User != nil ||
		base.RawQuery != "" || base.Fragment != "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fault.New(fault.Invalid, Setting, "%s is no address of a price service; write one such as %s", Setting, Endpoint)
	} else if guard, err = outbound.Parse(base.Hostname()); err != nil {
		return nil, fault.New(fault.Invalid, Setting, "%s has a host that cannot be used; write an address such as %s", Setting, Endpoint)
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return &Client{base: base.JoinPath(path), client: guard.Client(), pause: pause}, nil
}

// Items are all rows for a filter of package price, of all pages. Errors: Throttled when the
// API asks to be left alone for longer than a call may take, Internal when it does not
// answer, or answers with what is no list of prices. It tries again what may pass.
func (c *Client) Items(ctx context.Context, filter string) ([]price.Item, error) {
	at := *c.base
	at.RawQuery = url.Values{"api-version": {apiVersion}, "currencyCode": {"'USD'"}, "$filter": {filter}}.Encode()
	var all []price.Item
	for range maxPages {
		page, err := c.page(ctx, &at)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextPageLink == "" {
			return all, nil
		}
		next, err := url.Parse(page.NextPageLink)
		if err != nil || origin(next) != origin(c.base) || next.User != nil {
			return nil, fault.New(fault.Internal, "", "the price service leads to another host for its next page, and nobody follows")
		}
		at = *next
	}
	return nil, fault.New(fault.Internal, "", "the price service has more than %d pages for one thing", maxPages)
}

// origin is scheme, host and port of an address. The API writes the port of its scheme into
// its links.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + u.Hostname() + ":" + port
}

// page is one answer.
type page struct {
	Items        []price.Item `json:"Items"`
	NextPageLink string       `json:"NextPageLink"`
}

func (c *Client) page(ctx context.Context, at *url.URL) (page, error) {
	for try := 1; ; try++ {
		p, err := c.ask(ctx, at)
		var f *fault.Error
		if err == nil || try == tries || !errors.As(err, &f) || f.Code != fault.Throttled {
			return p, err
		}
		wait := f.RetryAfter
		if wait == 0 {
			wait = backoff.After(try, firstWait, mostWait)
		}
		if wait > mostWait {
			return p, err
		}
		if err := c.pause(ctx, wait); err != nil {
			return p, err
		}
	}
}

func (c *Client) ask(ctx context.Context, at *url.URL) (p page, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return p, err
	}
	q.Header.Set("User-Agent", "dsvmpools")
	response, err := c.client.Do(q)
	if refused := (*outbound.RefusedError)(nil); errors.As(err, &refused) {
		return p, fault.New(fault.Internal, "", "the price service is not asked: %v", refused)
	}
	if err != nil {
		return p, &fault.Error{Code: fault.Throttled, Message: "the price service does not answer", Err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage+1))
	switch {
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError:
		return p, &fault.Error{Code: fault.Throttled, RetryAfter: retryAfter(response.Header),
			Message: fmt.Sprintf("the price service asks to be left alone (%d)", response.StatusCode)}
	case response.StatusCode != http.StatusOK:
		return p, fault.New(fault.Internal, "", "the price service refuses with %d: %.200q", response.StatusCode, body)
	case err != nil:
		return p, &fault.Error{Code: fault.Throttled, Message: "the answer of the price service ends early", Err: err}
	case len(body) > maxPage:
		return p, fault.New(fault.Internal, "", "a page of the price service has more than %d bytes", maxPage)
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Items == nil {
		return p, &fault.Error{Code: fault.Internal, Message: "the price service answers with what is no list of prices", Err: err}
	}
	return p, nil
}

// retryAfter is how long the API wants to be left alone: seconds, or a date, which no
// answer of this API has been seen with and which then counts as not said.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
