package httpapi

import (
	"bytes"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
)

// Forms of a report.
const (
	formJSON = "json"
	formCSV  = "csv"
)

// usageForm is the form that a request asks for, by its parameter or by what it accepts.
func usageForm(r *http.Request) (string, error) {
	switch form := r.URL.Query().Get("format"); form {
	case formJSON, formCSV:
		return form, nil
	case "":
	default:
		return "", fault.New(fault.Invalid, "format", "a report has no form %.20q; use json or csv", form)
	}
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	if kind, _, err := mime.ParseMediaType(first); err == nil && kind == "text/csv" {
		return formCSV, nil
	}
	return formJSON, nil
}

// writeUsageCSV answers with all lines of a report in one file.
func (s *server) writeUsageCSV(w http.ResponseWriter, r *http.Request, query usage.Query) error {
	if q := r.URL.Query(); q.Has("limit") || q.Has("continue") {
		return fault.New(fault.Invalid, "limit", "a report as CSV has all lines at once; leave limit and continue out")
	}
	query.Lines = linesAtOnce
	report, err := s.Usage.Report(r.Context(), query)
	if err != nil {
		return err
	}
	if report.More != nil {
		return fault.New(fault.Invalid, "by",
			"the report has %d lines, and an answer as CSV %d at most; ask for less, or use dsvm usage -o csv, which takes page by page",
			report.Lines, linesAtOnce)
	}
	var body bytes.Buffer
	if err := usage.WriteCSV(&body, query.By, report.Groups); err != nil {
		return err
	}
	writeCSV(w, "usage.csv", body.Bytes())
	return nil
}

// writeCSV answers with a file that a browser stores.
func writeCSV(w http.ResponseWriter, name string, body []byte) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // the caller is gone if this fails
}
