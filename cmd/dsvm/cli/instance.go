package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dsvmpools/shared/client"
)

// Where an instance on this machine describes itself.
const (
	InstanceFolder = ".dsvm"
	InstanceFile   = "instance.json"
)

// maxInstance bounds what is read of a description.
const maxInstance = 64 << 10

// Instance says how an instance is reached.
type Instance struct {
	URL        string `json:"url"` // of the HTTP API
	Key        string `json:"key"`
	ServiceBus string `json:"serviceBus"` // connection strings and endpoint of the services of a local one
	Tables     string `json:"tables"`
	ARM        string `json:"arm"`
	Control    string `json:"control"` // of faults, at a local one
	ControlKey string `json:"controlKey"`
	TokenFile  string `json:"tokenFile"` // with a token of the owner of a local one

	Source string `json:"-"` // where this was found

	context string // the name of the context that it is of; "" = none
}

// errNoInstance is the cause when no instance is found.
var errNoInstance = errors.New("no instance is found")

// FindInstance finds the instance to talk to: the one the environment names, or
// the one that describes itself in the folder or the nearest above it.
func FindInstance(folder string, getenv func(string) string) (Instance, error) {
	if address := getenv("DSVM_URL"); address != "" {
		return Instance{URL: address, Key: getenv("DSVM_KEY"), Source: "DSVM_URL"}, nil
	}
	for dir := folder; ; {
		name := filepath.Join(dir, InstanceFolder, InstanceFile)
		found, err := readInstance(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
		above := filepath.Dir(dir)
		if above == dir {
			return Instance{}, fmt.Errorf("%w: there is no %s in %s or above it, no current context, and DSVM_URL is not set; "+
				"start one here with `dsvm up`, or name one that runs with `dsvm context add`", errNoInstance,
				filepath.Join(InstanceFolder, InstanceFile), folder)
		}
		dir = above
	}
}

func readInstance(name string) (Instance, error) {
	f, err := os.Open(name)
	if err != nil {
		return Instance{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxInstance))
	if err != nil {
		return Instance{}, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	found := Instance{Source: name}
	if err := json.Unmarshal(text, &found); err != nil || found.URL == "" {
		return Instance{}, fmt.Errorf("%s does not describe an instance; remove it and start one with `dsvm up`", name)
	}
	return found, nil
}

// session is a client that knows where its instance was found.
type session struct {
	*client.Client
	instance Instance
}

// connect makes a client of the instance. It does not call it.
func (p *Program) connect() (*session, error) {
	found, err := p.findInstance()
	if err != nil {
		return nil, err
	}
	c, err := p.clientOf(found, false)
	if err != nil {
		return nil, err
	}
	return &session{c, found}, nil
}

// clientOf makes a client of an instance: as the person who has signed in there; else, for
// what needs a person, as the owner of an instance on this machine; else with the key.
func (p *Program) clientOf(found Instance, asPerson bool) (*client.Client, error) {
	signedIn, err := p.hasSignedIn(found.URL)
	if err != nil {
		return nil, err
	}
	var c *client.Client
	switch {
	case signedIn:
		c, err = client.NewSignedIn(found.URL, p.tokenOf(found.URL))
	case asPerson && found.TokenFile != "":
		c, err = client.NewSignedIn(found.URL, readTokenFile(found.TokenFile))
	case asPerson || found.Key == "" && found.context != "":
		return nil, &notSignedIn{found.URL, p.context}
	default:
		c, err = client.New(found.URL, found.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found.Source, err)
	}
	return c, nil
}

// with connects, runs something that may take a while, and adds to an error
// what only this side knows.
func (p *Program) with(ctx context.Context, what string, fn func(ctx context.Context, s *session) error) error {
	s, err := p.connect()
	if err != nil {
		return err
	}
	stop := p.progress(what + " at " + s.instance.URL)
	defer stop()
	return s.explain(fn(ctx, s))
}

// explain says of an instance that does not answer, or refuses the key, what to do about
// it.
func (s *session) explain(err error) error {
	denied, isDenied := err.(*client.Denied) // where it is wrapped, somebody has said already what to do
	unreachable, isUnreachable := err.(*client.Unreachable)
	env := s.instance.Source == "DSVM_URL"
	switch {
	case isDenied && denied.SignIn != "":
		return fmt.Errorf("%w; sign in with %s", denied, loginWith(s.instance.context))
	case isDenied && env:
		return fmt.Errorf("%w; set DSVM_KEY to a key of the function app, or unset DSVM_URL to use the instance of this folder", denied)
	case isDenied && s.instance.context != "":
		return fmt.Errorf("%w that %s has; `dsvm context add %s --url %s` takes another one", denied, s.instance.Source,
			s.instance.context, s.instance.URL)
	case isDenied:
		return fmt.Errorf("%w that %s has; `dsvm up` writes the file again when it starts the instance", denied, s.instance.Source)
	case isUnreachable && env:
		return fmt.Errorf("%w, which DSVM_URL names; check the address, or unset DSVM_URL and start an instance here with `dsvm up`", unreachable)
	case isUnreachable && s.instance.context != "":
		return fmt.Errorf("%w, which %s names; check the address, or choose another one with `dsvm context use`", unreachable, s.instance.Source)
	case isUnreachable:
		return fmt.Errorf("%w, which %s names: the instance has stopped or is stopping; `dsvm up` starts it again", unreachable,
			s.instance.Source)
	}
	return err
}
