package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"dsvmpools/agent/startfault"
)

// The node's metadata endpoint and the versions that are asked for; any newer
// one has the same fields.
const (
	instanceVersion = "2021-02-01"
	eventsVersion   = "2020-07-01"
	metadataTimeout = 5 * time.Second // it is on the node's own host
	firstEvents     = 2 * time.Minute // the first question about events switches them on, which takes that long
	maxMetadata     = 1 << 20         // of an answer
)

// poolTag names the pool of a node, as the scale set's model has it.
const poolTag = "dsvmpools-pool"

// metadata asks a node's metadata endpoint. No proxy is used, whatever the
// environment says: it would ask about itself.
type metadata struct {
	base string
	http *http.Client
}

func newMetadata(base string) *metadata {
	dialer := net.Dialer{Timeout: metadataTimeout}
	return &metadata{strings.TrimSuffix(base, "/"), &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ask sends one request and decodes its answer.
func (m *metadata) ask(ctx context.Context, timeout time.Duration, method, path, version string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, m.base+"/metadata/"+path+"?api-version="+version, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Metadata", "true")
	answer, err := m.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxMetadata))
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return statusError{answer.StatusCode, startfault.Clip(string(text))}
	case into == nil:
		return nil
	}
	if raw, ok := into.(*rawText); ok {
		*raw = text
		return nil
	}
	return json.Unmarshal(text, into)
}

// rawText is an answer that is no JSON.
type rawText []byte

// statusError is an answer of the metadata endpoint that refuses something.
type statusError struct {
	status int
	text   string
}

func (e statusError) Error() string {
	return fmt.Sprintf("the metadata endpoint answered %d: %s", e.status, e.text)
}

// vmFacts is what the endpoint says of the node.
type vmFacts struct {
	VMID     string `json:"vmId"`
	Name     string `json:"name"`
	Size     string `json:"vmSize"`
	ID       string `json:"resourceId"`
	TagsList []struct{ Name, Value string }
}

// identify fills in who the node is, where the settings do not say. It asks
// until it is answered, since a node that does not know itself is of no use.
// False when the context ends first.
func (c *Config) identify(ctx context.Context) bool {
	m, pause := newMetadata(c.Metadata), pauses{}
	for c.VMID == "" || c.Pool == "" || c.Node == "" || c.Size == "" {
		var who vmFacts
		err := m.ask(ctx, metadataTimeout, http.MethodGet, "instance/compute", instanceVersion, nil, &who)
		if err == nil {
			c.VMID, c.Node, c.Size = cmp.Or(c.VMID, strings.ToLower(who.VMID)), cmp.Or(c.Node, who.Name), cmp.Or(c.Size, who.Size)
			for _, tag := range who.TagsList {
				if tag.Name == poolTag {
					c.Pool = cmp.Or(c.Pool, tag.Value)
				}
			}
			return true // what is missing still is said by checkIdentity
		}
		if c.Log != nil {
			c.Log.Warn("the node's metadata cannot be read; trying again", "error", err.Error())
		}
		if !pause.wait(ctx) {
			return false
		}
	}
	return true
}

// resourceID asks for the resource id of the VM.
func (m *metadata) resourceID(ctx context.Context) (string, error) {
	var who vmFacts
	err := m.ask(ctx, metadataTimeout, http.MethodGet, "instance/compute", instanceVersion, nil, &who)
	return who.ID, err
}

// scheduledEvent is something that is about to be done to VMs.
type scheduledEvent struct {
	EventID      string `json:"EventId"`
	EventType    string // Freeze, Reboot, Redeploy, Preempt, Terminate
	EventStatus  string // Scheduled, Started
	ResourceType string
	Resources    []string // names of the VMs
	NotBefore    string   // RFC 1123; "" when it has started
}

// events asks what is about to be done to this VM and its neighbours.
func (m *metadata) events(ctx context.Context, timeout time.Duration) ([]scheduledEvent, error) {
	var document struct{ Events []scheduledEvent }
	err := m.ask(ctx, timeout, http.MethodGet, "scheduledevents", eventsVersion, nil, &document)
	return document.Events, err
}

// approve says that an event need not wait any longer.
func (m *metadata) approve(ctx context.Context, id string) error {
	body, err := json.Marshal(map[string]any{"StartRequests": []any{map[string]string{"EventId": id}}})
	if err != nil {
		return err
	}
	return m.ask(ctx, metadataTimeout, http.MethodPost, "scheduledevents", eventsVersion, body, nil)
}

// endsNode reports whether the event is the end of the node of this name. Events of
// a placement group reach all of its VMs.
func (e scheduledEvent) endsNode(node string) bool {
	if e.EventType != "Preempt" && e.EventType != "Terminate" {
		return false
	}
	for _, name := range e.Resources {
		if strings.EqualFold(name, node) {
			return true
		}
	}
	return false
}

// at is when the event takes place at the earliest; now, when it has begun.
func (e scheduledEvent) at(now time.Time) time.Time {
	if at, err := time.Parse(time.RFC1123, e.NotBefore); err == nil {
		return at
	}
	return now
}
