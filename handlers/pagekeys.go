package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dsvmpools/handlers/page"
	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

// pageKeysSetting is the address at which the key of an address of the page becomes a token:
// the token endpoint of the issuer that `dsvm up` starts.
const pageKeysSetting = "DSVM_PAGE_KEYS"

// pageKeyGrant is the kind of grant that swaps such a key; local/identity has the same.
const pageKeyGrant = "urn:dsvm:grant:page-key"

const (
	pageKeyTime   = 10 * time.Second // for the issuer to answer: it is on this machine
	pageKeyAnswer = 64 << 10         // bytes of its answer
)

// pageKeys swaps keys at the issuer of this machine.
type pageKeys struct {
	address, client string
	http            *http.Client
}

// newPageKeys reads the address. Only this machine has such keys.
func newPageKeys(address, client string) (*pageKeys, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || !door.IsLoopback(u.Hostname()) {
		return nil, fault.New(fault.Invalid, pageKeysSetting,
			pageKeysSetting+" is %.100q; it takes an address of this machine, such as http://127.0.0.1:7071/token, which `dsvm up` sets", address)
	}
	return &pageKeys{address, client, &http.Client{Timeout: pageKeyTime, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}, nil
}

// Swap implements page.Keys.
func (k *pageKeys) Swap(ctx context.Context, key string) (token string, until time.Time, err error) {
	form := url.Values{"grant_type": {pageKeyGrant}, "client_id": {k.client}, "code": {key}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, k.address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", until, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	reply, err := k.http.Do(r)
	if err != nil {
		return "", until, err
	}
	defer reply.Body.Close()
	var said struct {
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"`
		Error   string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(reply.Body, pageKeyAnswer)).Decode(&said); err != nil {
		return "", until, err
	}
	switch {
	case said.Error == "invalid_grant":
		return "", until, page.ErrKey
	case reply.StatusCode != http.StatusOK || said.Token == "":
		return "", until, errors.New("the issuer gives no token")
	}
	return said.Token, time.Now().Add(time.Duration(said.Expires) * time.Second), nil
}
