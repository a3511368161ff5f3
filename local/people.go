//go:build unix

package local

import (
	"cmp"
	"log/slog"
	"net"
	"os"
	"os/user"
	"time"

	issuer "dsvmpools/local/identity"
	"dsvmpools/shared/wholefile"
)

// renewToken is between two tokens of the owner: many fit into the time that one serves, so
// that a machine that slept has a good one soon.
const renewToken = 10 * time.Minute

// tokenFile holds the token of the owner, for the command line of the same user.
func tokenFile(dir string) string { return dataFile(dir, "owner.token") }

// startIssuer starts the issuer of sign-ins, and keeps a token of the owner in a file that
// nobody else may read.
func (in *Instance) startIssuer(cfg Config, id *identity, log *slog.Logger) (err error) {
	in.issuer, err = issuer.Start(issuer.Config{
		Addr:  id.addr("issuer"),
		Path:  dataFile(cfg.Dir, "issuer.json"),
		Users: cfg.Users,
		Owner: ownerLogin(),
		Log:   log,
	})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.issuer.Close)
	if err := id.setPort("issuer", in.issuer.Addr()); err != nil {
		return err
	}
	if err := in.writeToken(cfg.Dir); err != nil {
		return err
	}
	stop := make(chan struct{})
	in.close = append(in.close, func() error { close(stop); return nil })
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(renewToken):
			}
			if err := in.writeToken(cfg.Dir); err != nil {
				log.Error("token of the owner cannot be written", "error", err)
			}
		}
	}()
	return nil
}

// writeToken writes a new token of the owner, in one step.
func (in *Instance) writeToken(dir string) error {
	token, _, err := in.issuer.OwnerToken()
	if err != nil {
		return err
	}
	return wholefile.Replace(tokenFile(dir), []byte(token), 0o600)
}

// ownerLogin is what the person who runs the instance is called. With sudo that is the
// person, and not root.
func ownerLogin() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil && name == "" {
		name = u.Username
	}
	if name == "root" {
		name = ""
	}
	return cmp.Or(name, "owner") + "@local"
}

// PageURL is an address of the page that signs the owner in, once, within a day.
func (in *Instance) PageURL() string { return in.URL + "/#k=" + in.issuer.NewPageKey() }

// pageOrigins are the origins of the page of a host at an address.
func pageOrigins(addr string) []string {
	_, port, _ := net.SplitHostPort(addr)
	return []string{"http://" + addr, "http://localhost:" + port}
}
