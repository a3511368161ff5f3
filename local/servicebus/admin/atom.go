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
	XMLName        xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect NamespaceInfo"`
	CreatedTime    string
	MessagingSKU   string
	MessagingUnits *int `xml:",omitempty"`
	ModifiedTime   string
	Name           string
	NamespaceType  string
}

// queueDescription is a description as it is written. One that is read may be without the
// namespace.
type queueDescription struct {
	XMLName xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect QueueDescription"`
	Description
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
	isOrdered, isAnonymous, availability := true, false, "Available"
	d.SupportOrdering, d.IsAnonymousAccessible, d.EntityAvailabilityStatus = &isOrdered, &isAnonymous, &availability
	or(&d.EnableExpress, false) // descriptions that were stored by earlier versions have none
	d.CreatedAt, d.UpdatedAt, d.AccessedAt = timeText(q.Created), timeText(q.Updated), timeText(q.Accessed)
	d.CountDetails = &CountDetails{
		Space:                  countSpace,
		ActiveMessageCount:     int32(q.ActiveCount),
		DeadLetterMessageCount: int32(q.DeadCount),
		ScheduledMessageCount:  int32(q.ScheduledCount),
	}
	total := int64(q.ActiveCount + q.DeadCount + q.ScheduledCount)
	d.MessageCount, d.SizeInBytes = &total, &q.Bytes
	self := base + q.Name
	return entry{ID: self, Title: title{"text", q.Name}, Updated: timeText(q.Updated), Author: h.ns.Info().Name,
		Link: link{"self", self}, Content: content{"application/xml", queueDescription{Description: d}}}
}

// maxBody bounds a description; the largest with all its rules is far smaller.
const maxBody = 1 << 20

var (
	errBody = errors.New("The body is not an ATOM entry with the description of a queue.")
	// errTopic refuses what the local Service Bus does not have.
	errTopic = errors.New("Topics, subscriptions and rules are not supported by the local Service Bus.")
)

// readEntry reads the description of a queue. It ignores unknown elements.
func readEntry(r io.Reader) (d Description, err error) {
	var e struct {
		XMLName xml.Name `xml:"entry"`
		Content struct {
			Queue *Description `xml:"QueueDescription"`
			Other []struct {
				XMLName xml.Name
			} `xml:",any"`
		} `xml:"content"`
	}
	if err := xml.NewDecoder(r).Decode(&e); err != nil {
		return d, err
	}
	for _, other := range e.Content.Other {
		switch other.XMLName.Local {
		case "TopicDescription", "SubscriptionDescription", "RuleDescription":
			return d, errTopic
		}
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
	d.IsAnonymousAccessible, d.SupportOrdering, d.EntityAvailabilityStatus = nil, nil, nil
	d.CreatedAt, d.UpdatedAt, d.AccessedAt = "", "", ""
	return d, nil
}
