package fleet

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

const (
	// MaxConsole bounds what is read of a serial log: its end, in bytes.
	MaxConsole = 1 << 20
	// consoleTime bounds reading it.
	consoleTime = 30 * time.Second
	// consoleMinutes is how long the address of the log is good for.
	consoleMinutes = 5
)

// consoleHosts are where Azure keeps boot diagnostics, in its clouds: the managed
// storage, and accounts of one's own.
var consoleHosts = []string{
	".blob.storage.azure.net", ".blob.core.windows.net",
	".blob.core.usgovcloudapi.net", ".blob.core.chinacloudapi.cn",
}

// Console returns the end of an instance's serial log, MaxConsole bytes at most, as Azure
// has it from the boot diagnostics; nothing where there is none yet. fault.NotFound: there
// is no such instance.
func (c *Client) Console(ctx context.Context, set, instance string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, consoleTime)
	defer cancel()
	options := armcompute.VirtualMachineScaleSetVMsClientRetrieveBootDiagnosticsDataOptions{
		SasURIExpirationTimeInMinutes: to.Ptr[int32](consoleMinutes),
	}
	got, err := c.vms.RetrieveBootDiagnosticsData(ctx, c.cfg.ResourceGroup, set, instance, &options)
	if err != nil {
		return nil, classify(err)
	}
	address := value(got.SerialConsoleLogBlobURI)
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || !c.holdsConsoles(u) {
		// The address itself is a secret, so that it is in no error.
		return nil, fault.New(fault.Internal, "", "Azure names a place for the serial log that this app does not read from")
	}
	return c.readTail(ctx, u)
}

// holdsConsoles reports whether a serial log may be read from an address: https at a host
// of Azure's storage; for a resource manager on this machine, that server itself.
func (c *Client) holdsConsoles(u *url.URL) bool {
	if u.User != nil {
		return false
	}
	if c.local != "" {
		return door.IsLoopback(u.Hostname()) && u.Port() == c.local
	}
	host := strings.ToLower(u.Hostname())
	return u.Scheme == "https" && u.Port() == "" &&
		slices.ContainsFunc(consoleHosts, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}

// plainWeb fetches what carries its own right in its address. It follows no redirect.
var plainWeb = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// readTail reads the end of a blob. Blob storage knows no range that counts from the end,
// so that the length is asked for first.
func (c *Client) readTail(ctx context.Context, u *url.URL) ([]byte, error) {
	response, err := fetch(ctx, http.MethodHead, u, 0)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	from := max(response.ContentLength-MaxConsole, 0)
	response, err = fetch(ctx, http.MethodGet, u, from)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	log, err := io.ReadAll(io.LimitReader(response.Body, MaxConsole))
	if err != nil {
		return nil, unread(err)
	}
	return log, nil
}

// fetch sends one request. Its errors do not show the address.
func fetch(ctx context.Context, method string, u *url.URL, from int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, unread(errors.New("the request cannot be made"))
	}
	if from > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	response, err := plainWeb.Do(request)
	if err != nil {
		var shown *url.Error
		if errors.As(err, &shown) {
			err = shown.Err
		}
		return nil, unread(err)
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPartialContent {
		return response, nil
	}
	response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, fault.New(fault.NotFound, "", "the node has written nothing to its serial console yet")
	}
	return nil, unread(errors.New(response.Status))
}

func unread(cause error) error {
	return &fault.Error{Code: fault.Internal, Message: "the serial log cannot be read from Azure's storage", Err: cause}
}
