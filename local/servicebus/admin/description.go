// Package admin answers the HTTP requests with which azservicebus/admin and other clients
// manage queues: ATOM entries that describe a queue. It stores nothing and handles no
// messages; a Namespace has the queues. It does not support topics, subscriptions and
// rules.
package admin

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names and values on the wire.
const (
	atomSpace   = "http://www.w3.org/2005/Atom"
	countSpace  = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
	schemaSpace = "http://www.w3.org/2001/XMLSchema-instance"

	// Forever is the duration that the service writes for no limit.
	Forever = "P10675199DT2H48M5.4775807S"
)

// States of a queue.
const (
	Active          = "Active"
	Disabled        = "Disabled"
	SendDisabled    = "SendDisabled"
	ReceiveDisabled = "ReceiveDisabled"
)

// Description holds the properties of a queue, in the order of the service. A nil field is
// not set. Durations are in the form of ISO 8601.
type Description struct {
	XMLName                             xml.Name            `xml:"QueueDescription" json:"-"`
	LockDuration                        *string             `xml:",omitempty"`
	MaxSizeInMegabytes                  *int32              `xml:",omitempty"`
	RequiresDuplicateDetection          *bool               `xml:",omitempty"`
	RequiresSession                     *bool               `xml:",omitempty"`
	DefaultMessageTimeToLive            *string             `xml:",omitempty"`
	DeadLetteringOnMessageExpiration    *bool               `xml:",omitempty"`
	DuplicateDetectionHistoryTimeWindow *string             `xml:",omitempty"`
	MaxDeliveryCount                    *int32              `xml:",omitempty"`
	EnableBatchedOperations             *bool               `xml:",omitempty"`
	SizeInBytes                         *int64              `xml:",omitempty" json:"-"`
	MessageCount                        *int64              `xml:",omitempty" json:"-"`
	IsAnonymousAccessible               *bool               `xml:",omitempty" json:"-"`
	AuthorizationRules                  []AuthorizationRule `xml:"AuthorizationRules>AuthorizationRule,omitempty"`
	Status                              *string             `xml:",omitempty"`
	ForwardTo                           *string             `xml:",omitempty"`
	UserMetadata                        *string             `xml:",omitempty"`
	CreatedAt                           string              `xml:",omitempty" json:"-"`
	UpdatedAt                           string              `xml:",omitempty" json:"-"`
	AccessedAt                          string              `xml:",omitempty" json:"-"`
	SupportOrdering                     *bool               `xml:",omitempty" json:"-"`
	CountDetails                        *CountDetails       `xml:",omitempty" json:"-"`
	AutoDeleteOnIdle                    *string             `xml:",omitempty"`
	EnablePartitioning                  *bool               `xml:",omitempty"`
	EntityAvailabilityStatus            *string             `xml:",omitempty" json:"-"`
	EnableExpress                       *bool               `xml:",omitempty"`
	ForwardDeadLetteredMessagesTo       *string             `xml:",omitempty"`
	MaxMessageSizeInKilobytes           *int64              `xml:",omitempty"`
}

// AuthorizationRule is a key of one queue with its rights.
type AuthorizationRule struct {
	Type         string   `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
	ClaimType    string   `xml:",omitempty"`
	ClaimValue   string   `xml:",omitempty"`
	Rights       []string `xml:"Rights>AccessRights"`
	CreatedTime  string   `xml:",omitempty"`
	ModifiedTime string   `xml:",omitempty"`
	KeyName      string
	PrimaryKey   string `xml:",omitempty"`
	SecondaryKey string `xml:",omitempty"`
}

// CountDetails holds the number of messages in each part of a queue. Its elements are of
// another XML namespace than the rest, and clients look for the prefix on CountDetails.
type CountDetails struct {
	Space                          string `xml:"xmlns:d2p1,attr"`
	ActiveMessageCount             int32  `xml:"d2p1:ActiveMessageCount"`
	DeadLetterMessageCount         int32  `xml:"d2p1:DeadLetterMessageCount"`
	ScheduledMessageCount          int32  `xml:"d2p1:ScheduledMessageCount"`
	TransferMessageCount           int32  `xml:"d2p1:TransferMessageCount"`
	TransferDeadLetterMessageCount int32  `xml:"d2p1:TransferDeadLetterMessageCount"`
}

// Limits of a description.
const (
	maxLock         = 5 * time.Minute
	minWindow       = 20 * time.Second
	maxWindow       = 7 * 24 * time.Hour
	minIdle         = 5 * time.Minute
	maxDeliveries   = 2000
	maxMetadata     = 1024 // characters
	maxRules        = 12
	partitions      = 16
	standardMessage = 256        // kilobytes
	premiumMessage  = 1024       // the default, kilobytes
	maxPremium      = 100 * 1024 // kilobytes
	standardSizes   = 5          // gigabytes; each one is a valid size
	premiumSizes    = 80
)

func or[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// Complete sets the defaults of a new queue, and checks all fields.
func (d *Description) Complete(premium bool) error {
	or(&d.LockDuration, "PT1M")
	or(&d.RequiresDuplicateDetection, false)
	or(&d.RequiresSession, false)
	or(&d.DefaultMessageTimeToLive, Forever)
	or(&d.DeadLetteringOnMessageExpiration, false)
	or(&d.DuplicateDetectionHistoryTimeWindow, "PT10M")
	or(&d.MaxDeliveryCount, 10)
	or(&d.EnableBatchedOperations, true)
	or(&d.Status, Active)
	or(&d.AutoDeleteOnIdle, Forever)
	or(&d.EnablePartitioning, false)
	or(&d.EnableExpress, false)
	or(&d.MaxSizeInMegabytes, 1024)
	size := int64(standardMessage)
	if premium {
		size = premiumMessage
	}
	or(&d.MaxMessageSizeInKilobytes, size)
	if err := d.check(premium); err != nil {
		return err
	}
	if *d.EnablePartitioning {
		*d.MaxSizeInMegabytes *= partitions
	}
	return nil
}

func (d *Description) check(premium bool) error {
	gigabytes := int32(standardSizes)
	if premium {
		gigabytes = premiumSizes
	}
	times := map[string]struct {
		value      string
		least, top time.Duration
	}{
		"LockDuration":                        {*d.LockDuration, 0, maxLock},
		"DefaultMessageTimeToLive":            {*d.DefaultMessageTimeToLive, time.Second, 0},
		"DuplicateDetectionHistoryTimeWindow": {*d.DuplicateDetectionHistoryTimeWindow, minWindow, maxWindow},
		"AutoDeleteOnIdle":                    {*d.AutoDeleteOnIdle, minIdle, 0},
	}
	for name, t := range times {
		v, err := Duration(t.value)
		if err != nil || v < t.least || t.top > 0 && v > t.top || v <= 0 {
			return fmt.Errorf("The value '%s' of %s is not a time that it can have.", t.value, name)
		}
	}
	switch size, kilobytes := *d.MaxSizeInMegabytes, *d.MaxMessageSizeInKilobytes; {
	case *d.MaxDeliveryCount < 1 || *d.MaxDeliveryCount > maxDeliveries:
		return fmt.Errorf("MaxDeliveryCount is between 1 and %d.", maxDeliveries)
	case size < 1024 || size > gigabytes*1024 || size%1024 != 0:
		return fmt.Errorf("MaxSizeInMegabytes is a multiple of 1024 up to %d.", gigabytes*1024)
	case premium && *d.EnableExpress:
		return fmt.Errorf("A Premium namespace has no express queues.")
	case premium && *d.EnablePartitioning:
		return fmt.Errorf("A Premium namespace has no partitioned queues.")
	case !premium && kilobytes != standardMessage:
		return fmt.Errorf("MaxMessageSizeInKilobytes can be set in a Premium namespace only.")
	case premium && (kilobytes < premiumMessage || kilobytes > maxPremium):
		return fmt.Errorf("MaxMessageSizeInKilobytes is between %d and %d.", premiumMessage, maxPremium)
	case *d.RequiresSession && d.ForwardTo != nil:
		return fmt.Errorf("A queue that requires sessions cannot forward its messages.")
	case d.UserMetadata != nil && len([]rune(*d.UserMetadata)) > maxMetadata:
		return fmt.Errorf("UserMetadata has up to %d characters.", maxMetadata)
	case len(d.AuthorizationRules) > maxRules:
		return fmt.Errorf("A queue has up to %d authorization rules.", maxRules)
	}
	switch *d.Status {
	case Active, Disabled, SendDisabled, ReceiveDisabled:
		return nil
	}
	return fmt.Errorf("Status cannot be '%s'.", *d.Status)
}

// Update returns the description of an existing queue after a change. It returns an error
// for a change of a property that is fixed at the creation.
func (d Description) Update(change Description, premium bool) (Description, error) {
	fixed := []struct {
		name      string
		have, say *bool
	}{
		{"RequiresSession", d.RequiresSession, change.RequiresSession},
		{"RequiresDuplicateDetection", d.RequiresDuplicateDetection, change.RequiresDuplicateDetection},
		{"EnablePartitioning", d.EnablePartitioning, change.EnablePartitioning},
	}
	for _, f := range fixed {
		if f.say != nil && *f.say != *f.have {
			return d, fmt.Errorf("The value for the %s property of an existing Queue cannot be changed.", f.name)
		}
	}
	change.RequiresSession = d.RequiresSession
	change.RequiresDuplicateDetection = d.RequiresDuplicateDetection
	change.EnablePartitioning = d.EnablePartitioning
	if *d.EnablePartitioning { // a client sends the size of all partitions together
		size := *d.MaxSizeInMegabytes
		if change.MaxSizeInMegabytes != nil {
			size = *change.MaxSizeInMegabytes
		}
		size /= partitions
		change.MaxSizeInMegabytes = &size
	}
	return change, change.Complete(premium)
}

// Duration reads a duration of ISO 8601 with days, hours, minutes and seconds. One that is
// too long for a time.Duration becomes the longest one.
func Duration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration like PT1M30S or P1DT2H", s)
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" || len(s) > 64 {
		return 0, wrong
	}
	days, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" {
		return 0, wrong
	}
	total := 0.0
	units := "D"
	for _, part := range []string{days, clock} {
		for part != "" {
			end := strings.IndexFunc(part, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
			if end <= 0 {
				return 0, wrong
			}
			n, err := strconv.ParseFloat(part[:end], 64)
			if err != nil {
				return 0, wrong
			}
			at := strings.IndexByte(units, part[end])
			if at < 0 {
				return 0, wrong
			}
			total += n * float64(map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}[part[end]])
			units, part = units[at+1:], part[end+1:]
		}
		units = "HMS"
	}
	if total >= float64(1<<63-1) {
		return 1<<63 - 1, nil
	}
	return time.Duration(total), nil
}

// Text writes a duration in the form of ISO 8601. 0 is Forever.
func Text(d time.Duration) string {
	if d <= 0 {
		return Forever
	}
	return "PT" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S" // no exponent, which nobody reads
}
