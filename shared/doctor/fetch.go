package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

const (
	// storageScope is that of storage in all of Azure's clouds.
	storageScope = "https://storage.azure.com/.default"
	// storageVersion is one that takes tokens.
	storageVersion = "2021-12-02"
	// vaultVersion is that of the vault's REST API.
	vaultVersion = "7.4"
	// maxAgent bounds what is read of the agent's program, which has some 10 MiB.
	maxAgent = 128 << 20
)

// agent checks that nodes find the agent's program, and that it is the one of its hash.
func (d *Doctor) agent(ctx context.Context) wire.Check {
	const name = "agent"
	if d.AgentURL == "" {
		return wire.Check{Check: name, State: wire.CheckUnknown,
			Detail: "DSVM_AGENT_URL is not set, so that the pools' image has to bring the agent"}
	}
	body, err := d.fetch(ctx, d.AgentURL, storageScope, http.Header{"X-Ms-Version": {storageVersion}})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return wrong(name, err, "run `dsvm deploy` again, which uploads the agent")
	case err != nil:
		return wrong(name, err, orIdentity(err, d.Place.grantStorage("Storage Blob Data Reader", d.AgentURL)))
	}
	defer body.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, io.LimitReader(body, maxAgent))
	if err != nil {
		return wire.Check{Check: name, State: wire.CheckUnknown, Detail: "the agent's program broke off while it was read"}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); !strings.EqualFold(got, d.AgentSHA256) {
		return wire.Check{Check: name, State: wire.CheckFailed,
			Detail: fmt.Sprintf("the agent's program has the hash %s, and nodes accept only %s", got, d.AgentSHA256),
			Mend:   "run `dsvm deploy` again, which uploads the agent and sets its hash"}
	}
	return good(name, "the program of %d bytes has the hash that nodes accept", size)
}

// shareKey checks that the key of the share can be read. It is not shown.
func (d *Doctor) shareKey(ctx context.Context) wire.Check {
	const name = "key of the share"
	u, err := url.Parse(d.ShareKeyURL)
	if err != nil {
		return wire.Check{Check: name, State: wire.CheckFailed, Detail: "DSVM_SHARE_KEY_URL is no URL", Mend: deployAgain}
	}
	vault, suffix, _ := strings.Cut(u.Hostname(), ".")
	u.RawQuery = "api-version=" + vaultVersion
	body, err := d.fetch(ctx, u.String(), "https://"+suffix+"/.default", nil)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return wrong(name, err, deployAgain)
	case err != nil:
		return wrong(name, err, orIdentity(err, d.Place.grant("Key Vault Secrets User", found("Microsoft.KeyVault/vaults", vault))))
	}
	body.Close()
	return good(name, "the vault gives it to the app")
}

// errToken marks an error as that of the identity itself.
var errToken = errors.New("no token")

// orIdentity is what mends a fetch that failed: its right, unless the identity is not there.
func orIdentity(err error, right string) string {
	if errors.Is(err, errToken) {
		return "az functionapp identity assign --name APP --resource-group GROUP --identities IDENTITY_ID, " +
			"with its client id in the setting AZURE_CLIENT_ID"
	}
	return right
}

// web follows no redirect: a token goes where the setting says, and nowhere else.
var web = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// fetch gets a document with the app's identity. Its errors are faults.
func (d *Doctor) fetch(ctx context.Context, address, scope string, header http.Header) (io.ReadCloser, error) {
	token, err := d.Credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return nil, errors.Join(&fault.Error{Code: fault.Internal, Err: err, Message: "the app's identity gets no token"}, errToken)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "", "the address cannot be asked")
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Authorization", "Bearer "+token.Token)
	response, err := web.Do(request)
	if err != nil {
		var shown *url.Error
		if errors.As(err, &shown) {
			err = shown.Err
		}
		return nil, &fault.Error{Code: fault.Internal, Err: err, Message: request.URL.Host + " does not answer"}
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	response.Body.Close()
	code := fault.Internal
	if response.StatusCode == http.StatusNotFound {
		code = fault.NotFound
	}
	return nil, fault.New(code, "", "%s answers %s to the app's identity", request.URL.Host, response.Status)
}
