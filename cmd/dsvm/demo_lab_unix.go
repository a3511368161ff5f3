//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxLabAnswer bounds what is read of an answer of JupyterLab.
const maxLabAnswer = 1 << 20

// openLab is a browser that is in a session's JupyterLab.
type openLab struct {
	files  *url.URL
	cookie string
}

// openLab comes in to the person's JupyterLab as a browser does: by a ticket, which gets a
// cookie, through the relay. It saves a file there, and finds it.
func (v *visitor) openLab(ctx context.Context) error {
	address, err := v.dsvm(ctx, "jupyter", peoplePoolName, "--no-browser")
	if err != nil {
		return fmt.Errorf("%s gets no address of JupyterLab: %w\n%s", v.name, err, address)
	}
	at, ticket, isTicket := strings.Cut(address, "#")
	page, err := url.Parse(at)
	if err != nil || !isTicket {
		return errors.New("the address of JupyterLab has no ticket")
	}
	body, err := json.Marshal(map[string]string{"ticket": ticket})
	if err != nil {
		return err
	}
	lab := &openLab{files: page.JoinPath("../../api/contents")}
	status := 0
	// The door of a node opens within a second or two after a session is ready.
	err = v.d.await(ctx, "the door to the JupyterLab of "+v.name, func() (bool, error) {
		var header http.Header
		status, header, _, err = lab.browse(ctx, http.MethodPost, page, string(body))
		lab.cookie, _, _ = strings.Cut(header.Get("Set-Cookie"), ";") // it is for https, as the relay has it in the cloud
		return status != http.StatusNotFound && status != http.StatusBadGateway && status != http.StatusServiceUnavailable, err
	})
	if err != nil || status != http.StatusNoContent || lab.cookie == "" {
		return errors.Join(err, fmt.Errorf("the ticket of %s is answered with status %d", v.name, status))
	}
	err = v.d.await(ctx, "the JupyterLab of "+v.name, func() (bool, error) { // it may still be starting
		status, _, _, err := lab.browse(ctx, http.MethodGet, page.JoinPath("../../lab"), "")
		return status == http.StatusOK, err
	})
	if err == nil {
		err = lab.save(ctx)
	}
	if err != nil {
		return err
	}
	status, _, answer, err := lab.browse(ctx, http.MethodGet, lab.files, "")
	if err != nil || status != http.StatusOK || !strings.Contains(answer, savedFile) {
		return errors.Join(err, fmt.Errorf("the JupyterLab of %s does not list the file that was saved in it", v.name))
	}
	if v.d.ways.ssh && !strings.Contains(answer, `"private"`) {
		return fmt.Errorf("the JupyterLab of %s does not list the file that was made by SSH", v.name)
	}
	v.lab = lab
	v.d.say("JupyterLab of %s works in that home, in the browser, through the relay", v.name)
	return nil
}

// savedFile is what is saved in JupyterLab.
const savedFile = "saved-in-jupyterlab.txt"

// save saves a file, as somebody does who works.
func (l *openLab) save(ctx context.Context) error {
	const file = `{"type":"file","format":"text","content":"it works"}`
	status, _, answer, err := l.browse(ctx, http.MethodPut, l.files.JoinPath(savedFile), file)
	if err != nil || status != http.StatusOK && status != http.StatusCreated {
		return errors.Join(err, fmt.Errorf("a file cannot be saved in JupyterLab: status %d, %s", status, answer))
	}
	return nil
}

// browse sends a request as a page of the same site does.
func (l *openLab) browse(ctx context.Context, method string, at *url.URL, body string) (int, http.Header, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	r.Header.Set("Origin", at.Scheme+"://"+at.Host)
	if l.cookie != "" {
		r.Header.Set("Cookie", l.cookie)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxLabAnswer))
	return reply.StatusCode, reply.Header, string(text), err
}
