package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// target is a server under test: the local tables or Azurite.
type target struct {
	name    string
	url     string // of the account, without a slash at its end
	service *aztables.ServiceClient
	http    *http.Client
	etags   map[string]string // of what was last written, by key
	stale   string            // one that is no more
}

func newTarget(name, address string) (*target, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy, transport.MaxIdleConnsPerHost = nil, 16
	t := &target{name: name, url: address, http: &http.Client{Transport: transport}, etags: map[string]string{}}
	credential, err := aztables.NewSharedKeyCredential(account, key)
	if err != nil {
		return nil, err
	}
	t.service, err = aztables.NewServiceClientWithSharedKey(
		address,
		credential,
		&aztables.ClientOptions{ClientOptions: policy.ClientOptions{
			Transport: t.http, Retry: policy.RetryOptions{MaxRetries: -1},
		}},
	)
	return t, err
}

// send is a request that the client would not send. The path is below the
// account and escaped already.
func (t *target) send(ctx context.Context, method, path string, header map[string]string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, t.url+"/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json;odata=minimalmetadata")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("x-ms-version", "2019-02-02")
	r.Header.Set("DataServiceVersion", "3.0")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	sign(r)
	return t.http.Do(r)
}

var keyBytes, _ = base64.StdEncoding.DecodeString(key)

func sign(r *http.Request) {
	date := time.Now().UTC().Format(http.TimeFormat)
	r.Header.Set("x-ms-date", date)
	text := date + "\n/" + account + r.URL.EscapedPath()
	if comp := r.URL.Query().Get("comp"); comp != "" {
		text += "?comp=" + comp
	}
	mac := hmac.New(sha256.New, keyBytes)
	mac.Write([]byte(text))
	r.Header.Set("Authorization", "SharedKeyLite "+account+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// entityPath is the path of an entity.
func entityPath(table, partition, row string) string {
	quote := func(k string) string { return "'" + url.PathEscape(strings.ReplaceAll(k, "'", "''")) + "'" }
	return table + "(PartitionKey=" + quote(partition) + ",RowKey=" + quote(row) + ")"
}
