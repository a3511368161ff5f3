package tables

import (
	"encoding/xml"
	"net/http"
	"strings"
	"time"

	"dsvmpools/local/disk"
)

// Limits of the properties of the service.
const (
	maxPropertiesBytes = 64 << 10
	maxRetentionDays   = 365
	maxRules           = 5
	maxOrigins         = 64 // of a rule; as many headers
	maxPrefixed        = 2  // headers of a rule that end in *
	maxRuleEntry       = 256
	analyticsVersion   = "1.0"
	ruleMethods        = " DELETE GET HEAD MERGE PATCH POST OPTIONS PUT "
)

// serviceProperties are stored for clients that set and read them. They have no
// effect on this server.
type serviceProperties struct {
	XMLName       xml.Name `xml:"StorageServiceProperties"`
	Logging       *logging
	HourMetrics   *metrics
	MinuteMetrics *metrics
	Cors          *cors
}

type logging struct {
	Version             string
	Delete, Read, Write *bool
	RetentionPolicy     *retention
}

type metrics struct {
	Version         string
	Enabled         *bool
	IncludeAPIs     *bool `xml:",omitempty"`
	RetentionPolicy *retention
}

type retention struct {
	Enabled *bool
	Days    *int `xml:",omitempty"`
}

type cors struct {
	Rules []corsRule `xml:"CorsRule"`
}

type corsRule struct {
	AllowedOrigins, AllowedMethods, AllowedHeaders, ExposedHeaders *string
	MaxAgeInSeconds                                                *int
}

func defaultProperties() serviceProperties {
	no := false
	none := &retention{Enabled: &no}
	off := &metrics{Version: analyticsVersion, Enabled: &no, RetentionPolicy: none}
	return serviceProperties{
		Logging:     &logging{Version: analyticsVersion, Delete: &no, Read: &no, Write: &no, RetentionPolicy: none},
		HourMetrics: off, MinuteMetrics: off, Cors: &cors{},
	}
}

// check reports whether the service would accept these properties.
func (p *serviceProperties) check() bool {
	if l := p.Logging; l != nil && (l.Version == "" || l.Delete == nil || l.Read == nil || l.Write == nil || !l.RetentionPolicy.check()) {
		return false
	}
	for _, m := range []*metrics{p.HourMetrics, p.MinuteMetrics} {
		if m == nil {
			continue
		}
		if m.Version == "" || m.Enabled == nil || *m.Enabled && m.IncludeAPIs == nil || !m.RetentionPolicy.check() {
			return false
		}
	}
	if p.Cors == nil {
		return true
	}
	for i := range p.Cors.Rules {
		if !p.Cors.Rules[i].check() {
			return false
		}
	}
	return len(p.Cors.Rules) <= maxRules
}

func (r *retention) check() bool {
	if r == nil || r.Enabled == nil {
		return false
	}
	return !*r.Enabled || r.Days != nil && *r.Days >= 1 && *r.Days <= maxRetentionDays
}

func (r *corsRule) check() bool {
	if r.AllowedOrigins == nil || r.AllowedMethods == nil || r.AllowedHeaders == nil || r.ExposedHeaders == nil ||
		r.MaxAgeInSeconds == nil {
		return false
	}
	for m := range strings.SplitSeq(*r.AllowedMethods, ",") {
		if m = strings.TrimSpace(m); m == "" || !strings.Contains(ruleMethods, " "+m+" ") {
			return false
		}
	}
	return *r.AllowedOrigins != "" && *r.MaxAgeInSeconds >= 0 && entries(*r.AllowedOrigins, maxOrigins) &&
		entries(*r.AllowedHeaders, maxPrefixed) && entries(*r.ExposedHeaders, maxPrefixed)
}

// entries reports whether a list keeps the limits on its length, on the length of
// each entry, and on the number of entries that are patterns.
func entries(list string, patterns int) bool {
	all := strings.Split(list, ",")
	found := 0
	for _, e := range all {
		if strings.HasSuffix(e, "*") {
			found++
		}
		if len(e) > maxRuleEntry {
			return false
		}
	}
	return found <= patterns && len(all) <= maxOrigins+patterns
}

// properties reads and sets the properties of the service. What a client leaves
// out stays as it is.
func (s *Server) properties(r *request) (reply, *failure) {
	if r.operation == getProperties {
		var p serviceProperties
		err := s.db.View(func(tx *disk.Tx) (err error) {
			p, err = storedProperties(tx)
			return err
		})
		if err != nil {
			return reply{}, internalFailure(err)
		}
		return xmlReply(p)
	}
	var set serviceProperties
	if len(r.body) > maxPropertiesBytes || xml.Unmarshal([]byte(r.body), &set) != nil || !set.check() {
		return reply{}, errXML
	}
	err := s.db.Update(func(tx *disk.Tx) error {
		p, err := storedProperties(tx)
		if err != nil {
			return err
		}
		p.take(set)
		body, err := xml.Marshal(p)
		if err != nil {
			return err
		}
		return tx.Bucket(metaBucket).Put(propertiesKey, body)
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	return reply{status: http.StatusAccepted}, nil
}

func storedProperties(tx *disk.Tx) (serviceProperties, error) {
	p := defaultProperties()
	stored := tx.Bucket(metaBucket).Get(propertiesKey)
	if stored == nil {
		return p, nil
	}
	p = serviceProperties{}
	err := xml.Unmarshal(stored, &p)
	return p, err
}

// take replaces the sections that are set.
func (p *serviceProperties) take(set serviceProperties) {
	if set.Logging != nil {
		p.Logging = set.Logging
	}
	if set.HourMetrics != nil {
		p.HourMetrics = set.HourMetrics
	}
	if set.MinuteMetrics != nil {
		p.MinuteMetrics = set.MinuteMetrics
	}
	if set.Cors != nil {
		p.Cors = set.Cors
	}
}

// serviceStats is how far the secondary endpoint is behind: here, never.
type serviceStats struct {
	XMLName      xml.Name `xml:"StorageServiceStats"`
	Status       string   `xml:"GeoReplication>Status"`
	LastSyncTime string   `xml:"GeoReplication>LastSyncTime"`
}

// stats answers at the secondary endpoint only, as the service does.
func (s *Server) stats(r *request) (reply, *failure) {
	if !r.site.secondary {
		return reply{}, errNotSecondary
	}
	return xmlReply(serviceStats{Status: "live", LastSyncTime: time.Now().UTC().Format(http.TimeFormat)})
}
