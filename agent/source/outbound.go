package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/outbound"
)

// A job's author names a repository, its server names others by redirects, and the
// agent is who connects: from inside the network, as a user that may have rights. So
// git reaches a server through a gate of the agent's own, and ssh gets the address that was looked at.

// openGate opens the way by which one attempt's source is fetched.
func (a *attempt) openGate() (*outbound.Gate, error) {
	var proxies httpproxy.Config
	for _, set := range a.cfg.Env {
		switch name, value, _ := strings.Cut(set, "="); name {
		case "HTTPS_PROXY":
			proxies.HTTPSProxy = value
		case "NO_PROXY":
			proxies.NoProxy = value
		}
	}
	return outbound.Open(a.cfg.AllowPrivate, proxies.ProxyFunc())
}

// gateEnvironment is the environment in which git can reach a repository, and nothing else. The
// gate's key is in it, which jobs of another user cannot read; those of the agent's own
// can connect to what it lets through by themselves.
func (a *attempt) gateEnvironment(ctx context.Context, repository string, secret *credential) ([]string, error) {
	a.gate.Take() // of an earlier run
	u, err := url.Parse(repository)
	if err != nil {
		return nil, err
	}
	command := "false" // no address of another kind leads to ssh
	if u.Scheme == "ssh" {
		host, err := a.pinAddress(ctx, u)
		if err != nil {
			return nil, err
		}
		command = secret.sshCommand(host)
	}
	gate := a.gate.URL()
	env := []string{"GIT_ALLOW_PROTOCOL=" + u.Scheme, "GIT_SSH_COMMAND=" + command, "GIT_HTTP_PROXY_AUTHMETHOD=basic",
		"http_proxy=" + gate, "https_proxy=" + gate, "HTTP_PROXY=" + gate, "HTTPS_PROXY=" + gate}
	for _, set := range a.cfg.Env {
		if strings.HasPrefix(set, "GIT_") {
			env = append(env, set)
		}
	}
	return env, nil
}

// pinAddress makes options for ssh that have it connect to an address that was looked at, while
// the host's key is still looked for under its name.
func (a *attempt) pinAddress(ctx context.Context, u *url.URL) (string, error) {
	address, err := a.cfg.AllowPrivate.Lookup(ctx, u.Hostname())
	if refused := (*outbound.RefusedError)(nil); errors.As(err, &refused) {
		return "", refused
	}
	if err != nil {
		return "", fmt.Errorf("the address of the host %q cannot be found: %w", startfault.Clip(u.Hostname()), startfault.Innermost(err))
	}
	known := u.Hostname()
	if port := u.Port(); port != "" && port != "22" {
		known = "[" + known + "]:" + port
	}
	return fmt.Sprintf(" -o HostName=%s -o 'HostKeyAlias=%s' -o CheckHostIP=no", address, known), nil
}

// explain is a run's error as the job's owner reads it. What git says of a host that
// must not be reached is not passed on: it could say what is there.
func (a *attempt) explain(err error) error {
	if err == nil {
		return nil
	}
	kept := a.gate.Take()
	if refused := (*outbound.RefusedError)(nil); errors.As(kept, &refused) {
		return refused
	}
	if said := (*gitError)(nil); kept != nil && errors.As(err, &said) {
		return fmt.Errorf("its host cannot be reached (%v): %w", startfault.Innermost(kept), said)
	}
	return err
}
