package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// outcome is what a server answered, without what may differ between two: the
// addresses, and the digits of times, versions and ids, of which only the form stays.
type outcome struct {
	summary string   // status, code, what came with it
	lines   []string // the body, value by value
	etags   []string // of the answer, or of each answer within it
}

// appliedMark begins the line that says which preference was applied.
const appliedMark = "preference applied: "

// read takes an answer apart.
func read(target *target, r *http.Response, err error) outcome {
	if r == nil {
		return outcome{summary: fmt.Sprintf("no answer: %v", err)}
	}
	body, err := runtime.Payload(r)
	if err != nil {
		return outcome{summary: fmt.Sprintf("%d, then no body", r.StatusCode)}
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "multipart/mixed" {
		return readMultipart(target, r, body, params["boundary"])
	}
	o := readOne(target, r, body)
	for _, name := range []string{"NextPartitionKey", "NextRowKey", "NextTableName"} {
		if r.Header.Get("x-ms-continuation-"+name) != "" {
			o.summary += " " + name
		}
	}
	return o
}

func readOne(target *target, r *http.Response, body []byte) outcome {
	o := outcome{summary: fmt.Sprint(r.StatusCode), etags: []string{r.Header.Get("ETag")}}
	var failure struct {
		Error struct {
			Code    string
			Message struct{ Value string }
		} `json:"odata.error"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var document any
	switch {
	case json.Unmarshal(body, &failure) == nil && failure.Error.Code != "":
		o.summary += " " + failure.Error.Code
	case r.StatusCode >= 400:
		o.summary += " " + r.Header.Get("x-ms-error-code")
	case len(bytes.TrimSpace(body)) == 0:
	case decoder.Decode(&document) == nil:
		o.lines = flatten(nil, "", document, target)
	default:
		o.summary += " unreadable body"
	}
	if tag := r.Header.Get("ETag"); tag != "" {
		o.summary += " ETag"
		o.lines = append(o.lines, "ETag: "+form(tag))
	}
	if id := r.Header.Get("x-ms-request-id"); id != "" {
		o.lines = append(o.lines, "request id: "+form(hexadecimal.ReplaceAllString(id, "0")))
	}
	if tail := messageTail.FindStringSubmatch(failure.Error.Message.Value); tail != nil {
		o.lines = append(o.lines, fmt.Sprintf("message ends with: id %s, time %s", form(hexadecimal.ReplaceAllString(tail[1], "0")), form(tail[2])))
	}
	o.lines = append(o.lines, appliedMark+r.Header.Get("Preference-Applied"))
	return o
}

// Where digits are, and the escapes whose digits are no numbers.
var (
	digitOrEscape = regexp.MustCompile(`%[0-9A-Fa-f]{2}|[0-9]`)
	hexadecimal   = regexp.MustCompile(`[0-9a-f]`)
	messageTail   = regexp.MustCompile(`\nRequestId:(.*)\nTime:(.*?)\.[0-9]*Z$`) // Azurite's fractions are shorter
)

// ofAnswer finds the lines about an answer as such.
var ofAnswer = regexp.MustCompile(`^(ETag|request id|message ends with): `)

// form is a text with a 0 for each digit. Escapes stay: %3A is a colon at any time.
func form(text string) string {
	return digitOrEscape.ReplaceAllStringFunc(text, func(found string) string {
		if found[0] == '%' {
			return found
		}
		return "0"
	})
}

var failedIndex = regexp.MustCompile(`"value":"(\d+):`)

// readMultipart reads the answer to a transaction.
func readMultipart(target *target, r *http.Response, body []byte, boundary string) outcome {
	o := outcome{summary: fmt.Sprintf("%d [", r.StatusCode)}
	outer, err := multipart.NewReader(bytes.NewReader(body), boundary).NextPart()
	if err != nil {
		return outcome{summary: fmt.Sprintf("%d malformed", r.StatusCode)}
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	if kind, params, _ := mime.ParseMediaType(outer.Header.Get("Content-Type")); kind == "multipart/mixed" {
		parts = multipart.NewReader(outer, params["boundary"])
	}
	var replies []string
	for {
		p, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		var inner *http.Response
		if err == nil {
			inner, err = http.ReadResponse(bufio.NewReader(p), nil)
		}
		if err != nil {
			return outcome{summary: fmt.Sprintf("%d malformed", r.StatusCode)}
		}
		content, _ := io.ReadAll(inner.Body)
		one := readOne(target, inner, content)
		if index := failedIndex.FindSubmatch(content); index != nil {
			one.summary += " at " + string(index[1])
		}
		replies = append(replies, one.summary)
		o.lines = append(o.lines, one.lines...)
		o.etags = append(o.etags, one.etags...)
	}
	o.summary += collapse(replies) + "]"
	return o
}

// collapse writes equal neighbours once, with their number.
func collapse(replies []string) string {
	var out []string
	for i := 0; i < len(replies); {
		n := 1
		for i+n < len(replies) && replies[i+n] == replies[i] {
			n++
		}
		one := replies[i]
		if n > 1 {
			one = fmt.Sprintf("%d x %s", n, one)
		}
		out = append(out, one)
		i += n
	}
	return strings.Join(out, "; ")
}

// flatten writes a document as lines of path and value, sorted where it has no
// order of its own.
func flatten(lines []string, path string, v any, target *target) []string {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			lines = flatten(lines, path+"."+name, v[name], target)
		}
		return lines
	case []any:
		for i, e := range v {
			lines = flatten(lines, fmt.Sprintf("%s[%d]", path, i), e, target)
		}
		return lines
	case string:
		v = strings.ReplaceAll(v, target.url, "URL")
		if strings.HasSuffix(path, ".Timestamp") || strings.HasSuffix(path, ".odata.etag") {
			v = form(v)
		}
		return append(lines, fmt.Sprintf("%s = %q", path, v))
	}
	if n, ok := v.(json.Number); ok {
		return append(lines, path+" = "+number(n.String()))
	}
	return append(lines, fmt.Sprintf("%s = %v", path, v))
}

// number is a number with no regard to how it is written, only to whether it
// is whole by its form.
func number(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !strings.ContainsAny(text, ".eE") {
		return text
	}
	return "double " + strconv.FormatFloat(f, 'g', -1, 64)
}

func sortedKeys(m map[string]any) []string {
	names := sorted(m)
	slices.Sort(names)
	return names
}

// differ says in what two outcomes differ; "" = nothing.
func differ(ours, theirs outcome) (a, b string) {
	if ours.summary != theirs.summary {
		return ours.summary, theirs.summary
	}
	// What kind of answer it is comes last, so that it hides nothing else.
	isKind := func(line string) bool {
		return strings.HasPrefix(line, appliedMark) || ofAnswer.MatchString(line) || strings.Contains(line, "odata.metadata = ") ||
			strings.Contains(line, "odata.editLink = ") || strings.Contains(line, "odata.id = ")
	}
	kinds := func(lines []string) (out []string) {
		out = slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !isKind(l) })
		slices.Sort(out)
		return slices.Compact(out) // each page of a query says it again
	}
	rest := func(lines []string) []string { return slices.DeleteFunc(slices.Clone(lines), isKind) }
	if a, b = firstOther(rest(ours.lines), rest(theirs.lines)); a != b {
		return a, b
	}
	return firstOther(kinds(ours.lines), kinds(theirs.lines))
}

func firstOther(ours, theirs []string) (a, b string) {
	for i := range max(len(ours), len(theirs)) {
		a, b = "nothing", "nothing"
		if i < len(ours) {
			a = ours[i]
		}
		if i < len(theirs) {
			b = theirs[i]
		}
		if a != b {
			return a, b
		}
	}
	return "", ""
}
