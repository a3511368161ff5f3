package admin

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"time"
)

// entry is an ATOM entry that holds one description.
type entry struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom entry"`
	ID      string   `xml:"id"`
	Title   title    `xml:"title"`
	Updated string   `xml:"updated"`
	Author  string   `xml:"author>name"`
	Link    link     `xml:"link"`
	Content content  `xml:"content"`
}

type title struct {
	Type string `xml:"type,attr"`
	Text string `xml:",chardata"`
}

type link struct {
	Rel  string `xml:"rel,attr"`
	HRef string `xml:"href,attr"`
}

type content struct {
	Type  string `xml:"type,attr"`
	Value any
}

// feed is a list of entries.
type feed struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string   `xml:"id"`
	Title   title    `xml:"title"`
	Updated string   `xml:"updated"`
	Link    link     `xml:"link"`
	Entries []entry  `xml:"entry"`
}

// namespaceInfo is the content of $namespaceinfo.
type namespaceInfo struct {
	XMLName        xml.Name `xml:"NamespaceInfo"`
	CreatedTime    string
	MessagingSKU   string
	MessagingUnits *int `xml:",omitempty"`
	ModifiedTime   string
	Name           string
	NamespaceType  string
}

// failure is the body of an error.
type failure struct {
	XMLName xml.Name `xml:"Error"`
	Code    int
	Detail  string
}

// neverTime is the time that the service writes for an event that has not happened.
const neverTime = "0001-01-01T00:00:00"

func timeText(t time.Time) string {
	if t.IsZero() {
		return neverTime
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// entry returns the entry of a queue.
func (h *handler) entry(base string, q Queue) entry {
	d := q.Description
	d.XMLName = xml.Name{Space: busSpace, Local: "QueueDescription"}
	d.CreatedAt, d.UpdatedAt, d.AccessedAt = timeText(q.Created), timeText(q.Updated), timeText(q.Accessed)
	d.CountDetails = &CountDetails{
		ActiveMessageCount:     int32(q.ActiveCount),
		DeadLetterMessageCount: int32(q.DeadCount),
		ScheduledMessageCount:  int32(q.ScheduledCount),
	}
	total := int64(q.ActiveCount + q.DeadCount + q.ScheduledCount)
	d.MessageCount, d.SizeInBytes = &total, &q.Bytes
	self := base + q.Name
	return entry{ID: self, Title: title{"text", q.Name}, Updated: timeText(q.Updated), Author: h.ns.Info().Name,
		Link: link{"self", self}, Content: content{"application/xml", d}}
}

// maxBody bounds a description; the largest with all its rules is far smaller.
const maxBody = 1 << 20

var errBody = errors.New("The body is not an ATOM entry with the description of a queue.")

// readEntry reads the description of a queue. It ignores unknown elements.
func readEntry(r io.Reader) (d Description, err error) {
	var e struct {
		XMLName xml.Name `xml:"entry"`
		Content struct {
			Queue *Description `xml:"QueueDescription"`
		} `xml:"content"`
	}
	if err := xml.NewDecoder(r).Decode(&e); err != nil {
		return d, err
	}
	if e.Content.Queue == nil {
		return d, errBody
	}
	d = *e.Content.Queue
	for _, s := range []**string{&d.ForwardTo, &d.ForwardDeadLetteredMessagesTo, &d.LockDuration, &d.DefaultMessageTimeToLive,
		&d.DuplicateDetectionHistoryTimeWindow, &d.AutoDeleteOnIdle, &d.Status} {
		if *s != nil && strings.TrimSpace(**s) == "" {
			*s = nil
		}
	}
	// Only the server sets these fields.
	d.SizeInBytes, d.MessageCount, d.CountDetails = nil, nil, nil
	d.CreatedAt, d.UpdatedAt, d.AccessedAt = "", "", ""
	return d, nil
}
