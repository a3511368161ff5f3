package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/client"
	"dsvmpools/shared/door"
)

// pageKeyTime bounds the question for a key: the issuer is on this machine.
const pageKeyTime = 10 * time.Second

// maxPageKey bounds the answer, in bytes.
const maxPageKey = 64 << 10

func pageCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "page", Short: "Print the address of the page", Args: cobra.NoArgs,
		Long: `Print the address of the page, which shows jobs in a browser. For an instance on
this machine it signs its owner in: once, and within a day. Elsewhere the page
asks who you are.`,
		Example: "  dsvm page\n  xdg-open \"$(dsvm page)\"",
		RunE:    func(c *cobra.Command, _ []string) error { return p.page(c.Context()) },
	}
}

// page prints the address of the page.
func (p *Program) page(ctx context.Context) error {
	found, err := p.findInstance()
	if err != nil {
		return err
	}
	address := strings.TrimSuffix(found.URL, "/") + "/"
	if found.TokenFile != "" {
		key, err := p.pageKey(ctx, found)
		if err != nil {
			return err
		}
		address += "#k=" + key
	}
	if p.output == outputJSON {
		return p.answer(map[string]string{"url": address}, "")
	}
	_, err = fmt.Fprintln(p.Out, address)
	return err
}

// pageKey asks the issuer of an instance on this machine for a key, as its owner.
func (p *Program) pageKey(ctx context.Context, found Instance) (string, error) {
	token, err := readTokenFile(found.TokenFile)(ctx)
	if err != nil {
		return "", err
	}
	plain, err := client.New(found.URL, "")
	if err != nil {
		return "", err
	}
	where, err := plain.SignIn(ctx)
	if err != nil {
		return "", (&session{plain, found}).explain(err)
	}
	if u, err := url.Parse(where.Issuer); err != nil || !door.IsLoopback(u.Hostname()) {
		return "", fmt.Errorf("the issuer is at %.100q, which is not this machine; start the instance again with `dsvm up`", where.Issuer)
	}
	ctx, cancel := context.WithTimeout(ctx, pageKeyTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, where.Issuer+"/pagekey", nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("the issuer at %s does not answer: %w", where.Issuer, err)
	}
	defer reply.Body.Close()
	var said struct{ Key string }
	if err := json.NewDecoder(io.LimitReader(reply.Body, maxPageKey)).Decode(&said); err != nil || said.Key == "" {
		return "", fmt.Errorf("the issuer at %s gives no key (%s); start the instance again with `dsvm up`", where.Issuer, reply.Status)
	}
	return said.Key, nil
}
