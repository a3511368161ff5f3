package cli

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"dsvmpools/shared/client"
	"dsvmpools/shared/wire"
)

func loginCommand(p *Program) *cobra.Command {
	var browser bool
	c := &cobra.Command{
		Use: "login", Short: "Sign in at the instance as yourself", Args: cobra.NoArgs,
		Long: `Sign in at the instance as yourself, so that your jobs have your name and your roles
count. It shows an address and a code; open the address on any machine, and type
the code there. With --browser the page opens on this machine and leads back by
itself.

The sign-in is kept in tokens.json in the folder dsvm of your settings, which only
you may read, and is renewed by itself. dsvm logout forgets it.`,
		Example: "  dsvm login\n  dsvm login --browser\n  dsvm --context prod login",
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := p.findInstance()
			if err != nil {
				return err
			}
			if _, err := p.tokensPath(); err != nil {
				return err
			}
			row, err := p.signIn(c.Context(), found, browser)
			if err != nil {
				return err
			}
			all, err := p.readTokens()
			if err != nil {
				return err
			}
			all[instanceKey(found.URL)] = row
			if err := p.writeTokens(all); err != nil {
				return err
			}
			return p.whoami(c.Context())
		},
	}
	c.Flags().BoolVar(&browser, "browser", false, "have a browser on this machine lead back by itself, without a code")
	return c
}

// signIn signs a person in at the issuer of an instance.
func (p *Program) signIn(ctx context.Context, found Instance, browser bool) (signedIn, error) {
	plain, err := client.New(found.URL, "")
	if err != nil {
		return signedIn{}, err
	}
	s := &session{plain, found}
	at, err := plain.SignIn(ctx)
	if err != nil {
		return signedIn{}, s.explain(err)
	}
	e, err := discover(ctx, at.Issuer)
	if err != nil {
		return signedIn{}, err
	}
	config := &oauth2.Config{
		ClientID: at.ClientID,
		Scopes:   []string{at.Scope, "openid", "profile", "offline_access"},
		Endpoint: oauth2.Endpoint{AuthURL: e.Auth, TokenURL: e.Token, DeviceAuthURL: e.Device, AuthStyle: oauth2.AuthStyleInParams},
	}
	get := p.signInByCode
	if browser {
		get = p.signInByBrowser
	}
	token, err := get(ctx, config)
	return signedIn{Issuer: at.Issuer, ClientID: at.ClientID, Scope: at.Scope, TokenURL: e.Token, Token: token}, err
}

// signInByCode is the device code flow (RFC 8628).
func (p *Program) signInByCode(ctx context.Context, config *oauth2.Config) (*oauth2.Token, error) {
	if config.Endpoint.DeviceAuthURL == "" {
		return nil, errors.New("the issuer knows no sign-in by a code; use `dsvm login --browser`")
	}
	code, err := config.DeviceAuth(ctx)
	if err != nil {
		return nil, signInError(err)
	}
	if !isPrivate(code.VerificationURI) {
		return nil, fmt.Errorf("the issuer leads to %.200q, which is neither https nor on this machine", code.VerificationURI)
	}
	p.Say("open %s and type the code %s; waiting until you have signed in there", plain(code.VerificationURI), plain(code.UserCode))
	token, err := config.DeviceAccessToken(ctx, code)
	if err != nil && ctx.Err() == nil {
		err = signInError(err)
	}
	return token, err
}

// browserTime is how long a sign-in by the browser waits.
const browserTime = 5 * time.Minute

// signInByBrowser is the authorization code flow with PKCE (RFC 7636, RFC 8252).
func (p *Program) signInByBrowser(ctx context.Context, config *oauth2.Config) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, browserTime)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the way back from the browser cannot be opened: %w", err)
	}
	config.RedirectURL = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	codes := make(chan string, 1)
	failed := make(chan string, 1)
	web := &http.Server{ReadTimeout: signInTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Referrer-Policy", "no-referrer")
		q := r.URL.Query()
		if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			w.WriteHeader(http.StatusBadRequest) // of another sign-in, or of a stranger
			return
		}
		fmt.Fprintln(w, "You may close this page and go back to the terminal.")
		into, text := codes, q.Get("code")
		if text == "" {
			into, text = failed, q.Get("error")
		}
		select {
		case into <- text:
		default:
		}
	})}
	go web.Serve(l)
	defer web.Close()
	p.Say("open %s", config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier)))
	select {
	case code := <-codes:
		token, err := config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
		if err != nil {
			err = signInError(err)
		}
		return token, err
	case why := <-failed:
		return nil, fmt.Errorf("the issuer refuses the sign-in (%.100s)", plain(why))
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errors.New("nobody has signed in for five minutes; begin again")
		}
		return nil, ctx.Err()
	}
}

func logoutCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the sign-in at the instance", Args: cobra.NoArgs,
		Long: `Forget the sign-in at the instance, and the certificates with which ssh comes into
sessions. Tokens that were given serve on at the instance until they expire, about an
hour; nobody has them any more.`,
		Example: "  dsvm logout",
		RunE: func(*cobra.Command, []string) error {
			found, err := p.findInstance()
			if err != nil {
				return err
			}
			all, err := p.readTokens()
			if err != nil {
				return err
			}
			if _, ok := all[instanceKey(found.URL)]; !ok {
				p.Say("nobody has signed in at %s", found.URL)
				return nil
			}
			delete(all, instanceKey(found.URL))
			return errors.Join(p.writeTokens(all), p.forgetDoors())
		},
	}
}

func whoamiCommand(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Say who you are at the instance, and what you may do", Args: cobra.NoArgs,
		Long: `Say who you are at the instance, and what you may do. Whoever runs dsvm up is its
owner, without signing in.`,
		Example: "  dsvm whoami\n  dsvm whoami -o json",
		RunE:    func(c *cobra.Command, _ []string) error { return p.whoami(c.Context()) },
	}
}

// whoami shows who calls.
func (p *Program) whoami(ctx context.Context) error {
	found, err := p.findInstance()
	if err != nil {
		return err
	}
	c, err := p.clientOf(found, found.TokenFile != "")
	if err != nil {
		return err
	}
	s := &session{c, found}
	stop := p.progress("asking who you are at " + found.URL)
	me, err := s.Me(ctx)
	stop()
	if err != nil {
		return s.explain(err)
	}
	if p.output == outputJSON {
		return p.answer(me, "")
	}
	return p.facts(factsOfMe(me))
}

func factsOfMe(me wire.Me) [][2]string {
	facts := [][2]string{{"kind", me.Kind}, {"login", me.Login}, {"name", me.Name}}
	if me.UID != 0 {
		facts = append(facts, [2]string{"uid", fmt.Sprint(me.UID)})
	}
	if len(me.Teams) == 0 {
		return append(facts, [2]string{"role", "none; an operator of the deployment gives roles"})
	}
	for _, team := range sortedTeams(me) {
		of := " in team " + team
		if team == "*" {
			of = " in every team"
		}
		facts = append(facts, [2]string{"role", string(me.Teams[team]) + of})
	}
	return facts
}
