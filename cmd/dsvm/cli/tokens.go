package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Sign-ins are in a file beside the contexts, by the address of the instance. The file holds
// tokens: nobody else may read it, and no command prints them.

// tokensFile is the name of the file in ConfigDir.
const tokensFile = "tokens.json"

// maxTokens bounds what is read of the file, and of a discovery document.
const maxTokens = 1 << 20

// signInTime bounds a request to an issuer.
const signInTime = 30 * time.Second

// signedIn is a sign-in at one instance.
type signedIn struct {
	Issuer   string        `json:"issuer"`
	ClientID string        `json:"clientId"`
	Scope    string        `json:"scope"`
	TokenURL string        `json:"tokenUrl"`
	Token    *oauth2.Token `json:"token"`
}

// tokensPath is where the file is.
func (p *Program) tokensPath() (string, error) {
	name, err := p.contextsPath()
	return filepath.Join(filepath.Dir(name), tokensFile), err
}

// readTokens reads the file. Without a file, or a folder for it, nobody has signed in.
func (p *Program) readTokens() (map[string]signedIn, error) {
	all := map[string]signedIn{}
	name, err := p.tokensPath()
	if err != nil {
		return all, nil //nolint:nilerr // there is no place where a sign-in could be
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err == nil && runtime.GOOS != "windows" && at.Mode().Perm()&0o077 != 0 {
		return all, fmt.Errorf("%s holds tokens, and others may read it; `chmod 600 %s` makes it yours alone", name, name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokens))
	if err != nil {
		return all, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	if json.Unmarshal(text, &all) != nil || all == nil {
		return map[string]signedIn{}, fmt.Errorf("%s does not hold sign-ins; remove it, and `dsvm login` makes another", name)
	}
	return all, nil
}

// writeTokens writes the file.
func (p *Program) writeTokens(all map[string]signedIn) error {
	name, err := p.tokensPath()
	if err != nil {
		return err
	}
	return writePrivate(name, all)
}

// hasSignedIn reports whether there is a sign-in at an instance.
func (p *Program) hasSignedIn(address string) (bool, error) {
	all, err := p.readTokens()
	_, ok := all[instanceKey(address)]
	return ok, err
}

// instanceKey is how the file names an instance.
func instanceKey(address string) string { return strings.ToLower(strings.TrimRight(address, "/")) }

// notSignedIn is the error of a command that needs a person, where nobody has signed in.
type notSignedIn struct{ address, context string } // context: the one that --context names; "" = none

func (e *notSignedIn) Error() string {
	return fmt.Sprintf("nobody has signed in at %s; sign in with %s", e.address, loginWith(e.context))
}

// loginWith is how somebody signs in at the instance of a context; "" = the one that
// commands find by themselves.
func loginWith(context string) string {
	if context == "" {
		return "`dsvm login`"
	}
	return "`dsvm --context " + context + " login`"
}

// tokenOf gives the token of the sign-in at an instance, renewed when it is old.
func (p *Program) tokenOf(address string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		all, err := p.readTokens()
		if err != nil {
			return "", err
		}
		row, ok := all[instanceKey(address)]
		if !ok || row.Token == nil {
			return "", &notSignedIn{address, p.context}
		}
		if row.Token.Valid() {
			return row.Token.AccessToken, nil
		}
		ctx, cancel := context.WithTimeout(ctx, signInTime)
		defer cancel()
		config := oauth2.Config{ClientID: row.ClientID, Endpoint: oauth2.Endpoint{TokenURL: row.TokenURL, AuthStyle: oauth2.AuthStyleInParams}}
		token, err := config.TokenSource(ctx, row.Token).Token()
		if err != nil {
			return "", signInError(err)
		}
		row.Token = token
		all[instanceKey(address)] = row
		return token.AccessToken, p.writeTokens(all)
	}
}

// signInError says what to do about an error of the issuer. It never shows what the issuer
// has answered in full, which may hold tokens.
func signInError(err error) error {
	var answered *oauth2.RetrieveError
	switch {
	case !errors.As(err, &answered):
		return fmt.Errorf("the issuer of the sign-in does not answer: %w", err)
	case answered.ErrorCode == "invalid_grant" || answered.ErrorCode == "expired_token" || answered.ErrorCode == "interaction_required":
		return errors.New("the sign-in has expired; sign in again with `dsvm login`")
	case answered.ErrorDescription != "":
		first, _, _ := strings.Cut(answered.ErrorDescription, "\n")
		return fmt.Errorf("the issuer refuses the sign-in: %s", strings.TrimRight(first, ". \r"))
	}
	return fmt.Errorf("the issuer refuses the sign-in (%s)", answered.ErrorCode)
}

// readTokenFile gives the token of the owner of an instance on this machine.
func readTokenFile(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("the token of the instance's owner cannot be read (%w); "+
				"only who runs `dsvm up` has it, others sign in with `dsvm login`", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// endpoints are where an issuer does what.
type endpoints struct {
	Issuer string `json:"issuer"`
	Device string `json:"device_authorization_endpoint"`
	Token  string `json:"token_endpoint"`
	Auth   string `json:"authorization_endpoint"`
}

// discover reads the discovery document of an issuer. Secrets go only where nobody can read
// along: to https, or to this machine.
func discover(ctx context.Context, issuer string) (e endpoints, err error) {
	if !isPrivate(issuer) {
		return e, fmt.Errorf("the instance names the issuer %.200q, which is neither https nor on this machine", issuer)
	}
	ctx, cancel := context.WithTimeout(ctx, signInTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return e, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return e, fmt.Errorf("the issuer of the sign-in does not answer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxTokens))
	if err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(body, &e) != nil || e.Issuer != issuer {
		return e, fmt.Errorf("%s does not answer as an issuer of sign-ins (%s)", issuer, response.Status)
	}
	for _, address := range []string{e.Token, e.Device, e.Auth} {
		if address != "" && !isPrivate(address) {
			return e, fmt.Errorf("the issuer leads to %.200q, which is neither https nor on this machine", address)
		}
	}
	return e, nil
}

// isPrivate reports whether nobody reads along on the way to an address.
func isPrivate(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost" || u.Hostname() == "::1")
}
