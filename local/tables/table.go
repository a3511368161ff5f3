package tables

import (
	"encoding/json"
	"net/http"
	"strings"

	"dsvmpools/local/disk"
)

// tables creates, deletes and lists tables.
func (s *Server) tables(r *request, keys string) (reply, *failure) {
	switch {
	case r.method == http.MethodPost && keys == "":
		return s.createTable(r)
	case r.method == http.MethodGet && keys == "":
		return s.listTables(r)
	}
	name, rest, ok := cutQuoted(keys)
	switch {
	case !ok || rest != "":
		return reply{}, errInput
	case r.method == http.MethodDelete:
		return s.deleteTable(name)
	case r.method == http.MethodGet:
		return s.showTable(r, name)
	}
	return reply{}, errVerb
}

// tableNameIn is the name in the body of a table's creation.
func tableNameIn(body string) (name string) {
	all, ok := readObject(body, fieldsOf{})
	for _, f := range all.fields {
		if ok && f.name == "TableName" {
			name, _ = unquote(f.raw)
		}
	}
	return name
}

func (s *Server) createTable(r *request) (reply, *failure) {
	name := r.table
	switch {
	case name == "" && !json.Valid([]byte(r.body)):
		return reply{}, errInput
	case !tableName.MatchString(name) || strings.EqualFold(name, "tables"):
		return reply{}, errTableName
	}
	exists := false
	err := s.db.Update(func(tx *disk.Tx) error {
		if exists = tx.Bucket(bucketOf(name)) != nil; exists {
			return nil
		}
		if _, err := tx.CreateBucket(bucketOf(name)); err != nil {
			return err
		}
		return tx.Bucket(namesBucket).Put([]byte(strings.ToLower(name)), []byte(name))
	})
	switch {
	case err != nil:
		return reply{}, internalFailure(err)
	case exists:
		return reply{}, errTableExists
	case r.preference() == withoutContent:
		return reply{status: http.StatusNoContent, applied: withoutContent}, nil
	}
	rep := s.tableReply(r, name)
	rep.applied = r.preference()
	rep.status = http.StatusCreated
	return rep, nil
}

func (s *Server) deleteTable(name string) (reply, *failure) {
	missing := false
	err := s.db.Update(func(tx *disk.Tx) error {
		if missing = tx.Bucket(bucketOf(name)) == nil; missing {
			return nil
		}
		if err := tx.DeleteBucket(bucketOf(name)); err != nil {
			return err
		}
		if err := tx.Bucket(metaBucket).Delete(policiesKey(name)); err != nil {
			return err
		}
		return tx.Bucket(namesBucket).Delete([]byte(strings.ToLower(name)))
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	if missing {
		return reply{}, errNotFound
	}
	s.deleted.add(name)
	return reply{status: http.StatusNoContent}, nil
}

func (s *Server) showTable(r *request, name string) (reply, *failure) {
	found := ""
	err := s.db.View(func(tx *disk.Tx) error {
		found = string(tx.Bucket(namesBucket).Get([]byte(strings.ToLower(name))))
		return nil
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	if found == "" {
		return reply{}, errNotFound
	}
	return s.tableReply(r, found), nil
}

func (s *Server) tableReply(r *request, name string) reply {
	v := s.view(r, "Tables")
	return reply{status: http.StatusOK, body: v.appendTable(nil, name, v.context("/@Element")), format: v.format}
}

func (v *view) appendTable(b []byte, name, context string) []byte {
	o := object{b: append(b, '{')}
	if context != "" && v.format != noMetadata {
		o.text("odata.metadata", context)
	}
	if v.format == fullMetadata {
		link := "Tables('" + name + "')"
		o.text("odata.type", v.account+".Tables")
		o.text("odata.id", v.base+link)
		o.text("odata.editLink", link)
	}
	o.text("TableName", name)
	return append(o.b, '}')
}

// listTables lists tables in order of their names in lower case.
func (s *Server) listTables(r *request) (reply, *failure) {
	match, bad := parseFilter(r.query.Get("$filter"))
	if bad != nil {
		return reply{}, bad
	}
	top, bad := r.top()
	if bad != nil {
		return reply{}, bad
	}
	v := s.view(r, "Tables")
	page := newPage(&v)
	headers := map[string]string{}
	row := looked{entity: entity{stored: make([]byte, ticksBytes)}}
	err := s.db.View(func(tx *disk.Tx) error {
		c := tx.Bucket(namesBucket).Cursor()
		for k, name := c.Seek([]byte(r.query.Get("NextTableName"))); k != nil; k, name = c.Next() {
			row.stored = appendProperty(row.stored[:ticksBytes], &property{[]byte("TableName"), value{kind: edmString, text: name}})
			if holds, _ := match.holds(&row); !holds { // it was just written, so it is not damaged
				continue
			}
			if page.count == top {
				headers["x-ms-continuation-NextTableName"] = string(k)
				return nil
			}
			page.next()
			page.b = v.appendTable(page.b, string(name), "")
		}
		return nil
	})
	if err != nil {
		return reply{}, internalFailure(err)
	}
	return reply{status: http.StatusOK, headers: headers, body: page.end(), format: v.format}, nil
}

// page is a list of objects during its writing.
type page struct {
	b      []byte
	count  int
	format string
}

func newPage(v *view) *page {
	o := object{b: append(make([]byte, 0, 512), '{')}
	if v.format != noMetadata {
		o.text("odata.metadata", v.context(""))
	}
	o.name("value")
	return &page{b: append(o.b, '['), format: v.format}
}

// next begins the next object.
func (p *page) next() {
	if p.count++; p.count > 1 {
		p.b = append(p.b, ',')
	}
}

func (p *page) end() []byte { return append(p.b, "]}"...) }
