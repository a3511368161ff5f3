package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dsvmpools/shared/client"
)

// agentContainer holds the agents' programs, each under its SHA-256.
const agentContainer = "agent"

// uploadAgentEarly uploads the agent before the app looks for it, which is possible from
// the second deployment on.
func (r *run) uploadAgentEarly(ctx context.Context) error {
	if r.last.output("hostAccount") == "" {
		return nil
	}
	return r.uploadAgent(ctx)
}

// uploadAgent puts the agent's program where nodes fetch it. A program that is there
// already is the same, since its name is its checksum.
func (r *run) uploadAgent(ctx context.Context) error {
	where := []string{"--account-name", r.last.output("hostAccount"), "--container-name", agentContainer,
		"--name", r.packed.Agent.SHA256, "--auth-mode", "login"}
	call := func(verb string, more ...string) []string {
		return append(append([]string{"storage", "blob", verb}, where...), more...)
	}
	return r.az.until(ctx, "the agent is uploaded", rightsBound, func(ctx context.Context) (look, error) {
		there, err := get[struct{ Exists bool }](ctx, r.az, call("exists")...)
		if err == nil && there.Exists {
			return look{done: true}, nil
		}
		if err == nil {
			r.Say("uploading the agent as %.12s...", r.packed.Agent.SHA256)
			_, err = r.az.run(ctx, call("upload", "--file", r.packed.Agent.Path, "--overwrite", "true", "--no-progress", "--output", "none")...)
		}
		if lacksRight(err) {
			return look{why: "the right to write blobs has not reached the account yet"}, nil
		}
		return look{done: err == nil}, err
	})
}

// lacksRight reports whether a call on data failed for a right, which comes minutes after it
// was given.
func lacksRight(err error) bool {
	var failed *azError
	return errors.As(err, &failed) && (strings.Contains(failed.Text, "AuthorizationPermissionMismatch") ||
		strings.Contains(failed.Text, "do not have the required permissions"))
}

// uploadApp gives the zip to the app's plan, which unpacks it and starts it.
func (r *run) uploadApp(ctx context.Context) error {
	r.Say("uploading the function app")
	_, err := r.az.runLong(ctx, "uploading the function app", "functionapp", "deployment", "source", "config-zip",
		"--resource-group", r.name(), "--name", r.last.output("functionAppName"), "--src", r.packed.App.Path, "--output", "none")
	var failed *azError
	if errors.As(err, &failed) && strings.Contains(failed.Text, "Deployment was successful") {
		return nil // az finds the app unhealthy after half a minute; here it is waited for longer
	}
	return err
}

// awaitAnswer waits until the app lists its pools. The key that opens it stays in memory.
func (r *run) awaitAnswer(ctx context.Context) error {
	url, key := r.last.output("functionUrl"), ""
	err := r.az.until(ctx, url+" answers", answerBound, func(ctx context.Context) (look, error) {
		if key == "" {
			keys, err := get[struct{ FunctionKeys map[string]string }](ctx, r.az, "functionapp", "keys", "list",
				"--resource-group", r.name(), "--name", r.last.output("functionAppName"))
			if err != nil || keys.FunctionKeys["default"] == "" {
				return look{why: "the app has no key yet"}, ctx.Err()
			}
			key = keys.FunctionKeys["default"]
		}
		c, err := r.connect(url, key)
		if err != nil {
			return look{}, err
		}
		_, err = c.Pools(ctx)
		var denied *client.Denied
		if errors.As(err, &denied) {
			key = "" // the host makes new keys when it starts the first time
		}
		return look{done: err == nil, why: fmt.Sprint(err)}, ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w; see what the app has logged: `az functionapp log deployment show --resource-group %s --name %s`, and "+
			"Application Insights of the resource group %s; then run this again", err, r.name(), r.last.output("functionAppName"), r.name())
	}
	return err
}
