package tables

import (
	"encoding/xml"
	"net/http"

	"go.etcd.io/bbolt"
)

// serviceProperties are kept for clients that set and read them; they change
// nothing here.
type serviceProperties struct {
	XMLName       xml.Name `xml:"StorageServiceProperties"`
	Logging       *section
	HourMetrics   *section
	MinuteMetrics *section
	Cors          *section
}

// section is kept as it came.
type section struct {
	Inner string `xml:",innerxml"`
}

const (
	noRetention = "<RetentionPolicy><Enabled>false</Enabled></RetentionPolicy>"
	noMetrics   = "<Version>1.0</Version><Enabled>false</Enabled>" + noRetention
)

// maxPropertiesBytes bounds what a client can have kept; the service allows
// five CORS rules.
const maxPropertiesBytes = 64 << 10

func defaultProperties() serviceProperties {
	return serviceProperties{
		Logging:       &section{"<Version>1.0</Version><Delete>false</Delete><Read>false</Read><Write>false</Write>" + noRetention},
		HourMetrics:   &section{noMetrics},
		MinuteMetrics: &section{noMetrics},
		Cors:          &section{},
	}
}

// properties reads and sets the properties of the service. What a client leaves
// out stays as it is.
func (s *Server) properties(r request) (reply, *failure) {
	switch r.method {
	case http.MethodGet:
		var body []byte
		err := s.db.View(func(tx *bbolt.Tx) error {
			p, err := storedProperties(tx)
			if err == nil {
				body, err = xml.Marshal(p)
			}
			return err
		})
		if err != nil {
			return reply{}, internal(err)
		}
		return reply{status: http.StatusOK, format: "application/xml", body: append([]byte(xml.Header), body...)}, nil
	case http.MethodPut:
		var set serviceProperties
		if len(r.body) > maxPropertiesBytes || xml.Unmarshal(r.body, &set) != nil {
			return reply{}, fail(http.StatusBadRequest, "InvalidXmlDocument", "XML specified is not syntactically valid.")
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
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
			return reply{}, internal(err)
		}
		return reply{status: http.StatusAccepted}, nil
	}
	return reply{}, errVerb
}

func storedProperties(tx *bbolt.Tx) (serviceProperties, error) {
	p := defaultProperties()
	stored := tx.Bucket(metaBucket).Get(propertiesKey)
	if stored == nil {
		return p, nil
	}
	err := xml.Unmarshal(stored, &p)
	return p, err
}

// take lays the sections that are set over the own ones.
func (p *serviceProperties) take(set serviceProperties) {
	for _, s := range []struct{ to, from **section }{
		{&p.Logging, &set.Logging}, {&p.HourMetrics, &set.HourMetrics}, {&p.MinuteMetrics, &set.MinuteMetrics}, {&p.Cors, &set.Cors},
	} {
		if *s.from != nil {
			*s.to = *s.from
		}
	}
}
