package link

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/shared/bus/tolerant"
)

// tokenTime is the validity of the tokens that makeToken signs.
const tokenTime = time.Hour

// The kinds of tokens, as Service Bus names them, and the scope of an identity's token.
const (
	sasToken    = "servicebus.windows.net:sastoken"
	bearerToken = "jwt"
	scope       = "https://servicebus.azure.net//.default"
)

// Address is a namespace and the credential for it.
type Address struct {
	Host       string                 // with its port, if there is one
	Plain      bool                   // an emulator, without TLS
	KeyName    string                 // the key; "" = the credential
	Key        string                 // in base64, as the service gives it
	Token      string                 // a signed token in place of a key
	Credential azcore.TokenCredential // without a key or token
}

// ParseAddress reads a connection string. What it does not name stays empty.
func ParseAddress(connectionString string) (a Address) {
	a.Host, a.Plain = tolerant.Endpoint(connectionString)
	for part := range strings.SplitSeq(connectionString, ";") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "sharedaccesskeyname":
			a.KeyName = value
		case "sharedaccesskey":
			a.Key = value
		case "sharedaccesssignature":
			a.Token = value
		}
	}
	return a
}

// audience returns the resource of a token.
func (a Address) audience(entity string) string {
	scheme := "amqps"
	if a.Plain {
		scheme = "amqp"
	}
	return fmt.Sprintf("%s://%s/%s", scheme, a.Host, entity)
}

// makeToken signs a token for an entity, or gets one from the credential.
func (a Address) makeToken(ctx context.Context, entity string, now time.Time) (kind, token string, until time.Time, err error) {
	until = now.Add(tokenTime)
	switch {
	case a.Token != "":
		return sasToken, a.Token, until, nil
	case a.Key != "":
		resource, end := strings.ToLower(url.QueryEscape(a.audience(entity))), fmt.Sprint(until.Unix()) // in the client's form
		mac := hmac.New(sha256.New, []byte(a.Key))
		mac.Write([]byte(resource + "\n" + end))
		sign := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		token = fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", resource, sign, end, url.QueryEscape(a.KeyName))
		return sasToken, token, until, nil
	case a.Credential == nil:
		return "", "", until, fmt.Errorf("there is no key and no identity for %s", a.Host)
	}
	got, err := a.Credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	return bearerToken, got.Token, got.ExpiresOn, err
}
