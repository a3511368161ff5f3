package tables

import (
	"net/http"
	"strings"
)

// operation is the kind of a request.
type operation string

// The operations, with the names that injections use.
const (
	createTable operation = "createTable"
	deleteTable operation = "deleteTable"
	listTables  operation = "listTables"
	insert      operation = "insert"
	get         operation = "get"
	query       operation = "query"
	replace     operation = "replace"
	merge       operation = "merge"
	upsert      operation = "upsert" // insert or replace, insert or merge
	remove      operation = "delete"
	transaction operation = "transaction"

	getProperties operation = "getProperties"
	setProperties operation = "setProperties"
	getStats      operation = "getStats"
	getPolicies   operation = "getPolicies"
	setPolicies   operation = "setPolicies"
	unknown       operation = ""
)

// reads reports whether the secondary endpoint knows the operation.
func (o operation) reads() bool {
	switch o {
	case listTables, get, query, getProperties, getStats, getPolicies:
		return true
	}
	return false
}

// classify sets the operation and the table of the request.
func (r *request) classify() {
	name, keys, _ := strings.Cut(r.path, "(")
	pick := func(read, write operation) operation {
		switch r.method {
		case http.MethodGet:
			return read
		case http.MethodPut:
			return write
		}
		return unknown
	}
	switch comp := r.query.Get("comp"); {
	case comp == "properties" && name == "":
		r.operation = pick(getProperties, setProperties)
	case comp == "stats" && name == "":
		r.operation = pick(getStats, unknown)
	case comp == "acl" && name != "" && keys == "":
		r.operation, r.table = pick(getPolicies, setPolicies), name
	case comp != "":
	case name == "$batch":
		if r.method == http.MethodPost {
			r.operation = transaction
		}
	case name == "Tables":
		r.classifyTables(keys)
	case r.method == http.MethodGet && (keys == "" || keys == ")"):
		r.operation, r.table = query, name
	case r.method == http.MethodGet:
		r.operation, r.table = get, name
	default:
		r.operation, r.table = r.change(), name
	}
}

func (r *request) classifyTables(keys string) {
	name, _, _ := cutQuoted(keys)
	switch r.method {
	case http.MethodGet:
		r.operation, r.table = listTables, name
	case http.MethodDelete:
		r.operation, r.table = deleteTable, name
	case http.MethodPost:
		r.operation, r.table = createTable, tableNameIn(r.body)
	}
}

// change is the operation of a request that changes an entity.
func (r *request) change() operation {
	conditional := r.header.match != ""
	switch {
	case r.method == http.MethodPost && r.header.method != "MERGE":
		return insert
	case r.method == http.MethodDelete:
		return remove
	case !conditional && (r.method == http.MethodPut || r.merges()):
		return upsert
	case r.method == http.MethodPut:
		return replace
	case r.merges():
		return merge
	}
	return unknown
}

// merges reports whether the write keeps the other properties of the entity.
func (r *request) merges() bool {
	switch r.method {
	case http.MethodPatch, "MERGE":
		return true
	case http.MethodPost:
		return r.header.method == "MERGE"
	}
	return false
}
