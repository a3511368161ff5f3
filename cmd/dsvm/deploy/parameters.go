package deploy

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/shared/document"
)

// Parameters of the template that this program sets or reads itself.
const (
	paramName        = "name"
	paramLocation    = "location"
	paramKey         = "sshPublicKey"
	paramImage       = "image"
	paramAgent       = "agentSha256"
	paramDeployers   = "deployers"
	paramRecover     = "recoverVault"
	paramKeys        = "recoverKeys"
	paramTime        = "deployedAt"
	paramInteractive = "interactive"
	paramBudget      = "budgetPerMonth"
	paramStart       = "budgetStart"
	paramReady       = "alwaysReady"
	paramExtra       = "extraSettings"
)

// firstSize is the name under which a parameter file, or NAME=VALUE, says which VM size the
// first pool will have. It is for the checks alone and does not go to the template.
const firstSize = "firstPoolSize"

// defaultFirstSize is the smallest size that the documentation's first pool takes.
const defaultFirstSize = "Standard_D2s_v5"

// onlyOnce are parameters whose values are of one run and not of the next.
var onlyOnce = []string{paramTime, paramRecover, paramKeys}

// declared is a parameter as the template declares it.
type declared struct {
	Type          string
	DefaultValue  json.RawMessage
	AllowedValues []json.RawMessage
	MinLength     int
	MaxLength     int
	MinValue      *int
	MaxValue      *int
	Metadata      struct{ Description string }
}

// parameters are values for the template, as JSON, by the names that the template declares.
type parameters struct {
	declared map[string]declared
	values   map[string]json.RawMessage
	size     string // firstPoolSize
}

func newParameters(template []byte) (*parameters, error) {
	var file struct{ Parameters map[string]declared }
	if err := json.Unmarshal(template, &file); err != nil || len(file.Parameters) == 0 {
		return nil, fmt.Errorf("the template cannot be read: %w", err)
	}
	return &parameters{declared: file.Parameters, values: map[string]json.RawMessage{}, size: defaultFirstSize}, nil
}

// set gives a parameter a value.
func (p *parameters) set(name string, value json.RawMessage) error {
	if name == firstSize {
		if json.Unmarshal(value, &p.size) != nil || p.size == "" {
			return cli.WrongUse("the parameter %s is %s; it is the name of a VM size, such as %s", name, value, defaultFirstSize)
		}
		return nil
	}
	d, ok := p.declared[name]
	if !ok {
		return cli.WrongUse("the template has no parameter %q; it has %s and %s", name,
			strings.Join(slices.Sorted(maps.Keys(p.declared)), ", "), firstSize)
	}
	if err := d.check(value); err != nil && d.isSecret() {
		return cli.WrongUse("the parameter %s, which may be secret and is not shown: %s", name, err)
	} else if err != nil {
		return cli.WrongUse("the parameter %s is %s; %s", name, value, err)
	}
	p.values[name] = value
	return nil
}

// typeForms say how a value of a type is written.
var typeForms = map[string]string{
	"string": "a text, which has quotes in a file",
	"bool":   "true or false",
	"int":    "a whole number",
	"array":  `a list, such as ["a","b"]`,
	"object": `an object of JSON, such as {"key":"value"}`,
}

// isSecret reports whether Azure shows the parameter to nobody: neither does this program.
func (d declared) isSecret() bool { return strings.HasPrefix(strings.ToLower(d.Type), "secure") }

// kind is the type of the value.
func (d declared) kind() string { return strings.TrimPrefix(strings.ToLower(d.Type), "secure") }

// check refuses a value that the template would refuse after minutes.
func (d declared) check(value json.RawMessage) error {
	var parsed any
	if err := json.Unmarshal(value, &parsed); err != nil {
		return fmt.Errorf("write %s", typeForms[d.Type])
	}
	size, fits := 0, false
	switch v := parsed.(type) {
	case string:
		size, fits = len(v), d.kind() == "string"
	case bool:
		fits = d.Type == "bool"
	case float64:
		fits = d.Type == "int" && v == float64(int(v))
		if fits && (d.MinValue != nil && int(v) < *d.MinValue || d.MaxValue != nil && int(v) > *d.MaxValue) {
			return fmt.Errorf("it has to be %s", bounds(d.MinValue, d.MaxValue))
		}
	case []any:
		fits = d.Type == "array"
	case map[string]any:
		fits = d.kind() == "object"
	}
	switch {
	case !fits:
		return fmt.Errorf("write %s", typeForms[d.kind()])
	case d.MaxLength > 0 && size > d.MaxLength, size < d.MinLength:
		return fmt.Errorf("it has to have between %d and %d characters", d.MinLength, cmp.Or(d.MaxLength, 1<<16))
	case len(d.AllowedValues) > 0 && !slices.ContainsFunc(d.AllowedValues, func(a json.RawMessage) bool { return sameJSON(a, value) }):
		var all []string
		for _, a := range d.AllowedValues {
			all = append(all, string(a))
		}
		return fmt.Errorf("it has to be one of %s", strings.Join(all, ", "))
	}
	return nil
}

func bounds(least, most *int) string {
	var text []string
	if least != nil {
		text = append(text, fmt.Sprintf("at least %d", *least))
	}
	if most != nil {
		text = append(text, fmt.Sprintf("at most %d", *most))
	}
	return strings.Join(text, " and ")
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// readFile takes the values of a file in the form that az takes, and of a plain object of
// names and values.
func (p *parameters) readFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return cli.WrongUse("the file of parameters cannot be read: %v", err)
	}
	var classic struct {
		Schema     string `json:"$schema"`
		Parameters map[string]struct {
			Value     json.RawMessage
			Reference json.RawMessage
		}
	}
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &classic); err != nil {
		return cli.WrongUse("%s is not a file of parameters: %v", name, err)
	}
	if classic.Schema == "" && classic.Parameters == nil {
		if err := json.Unmarshal(text, &values); err != nil {
			return cli.WrongUse("%s is not a file of parameters: %v", name, err)
		}
	}
	for key, each := range classic.Parameters {
		if each.Reference != nil {
			return cli.WrongUse("%s: the parameter %s is a reference to a vault, which this program does not read; write the value, "+
				"and in %s a setting such as @Microsoft.KeyVault(SecretUri=...)", name, key, paramExtra)
		}
		values[key] = each.Value
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == paramKey && string(values[key]) == `""` {
			continue // the file that comes with the template leaves it open
		}
		if err := p.set(key, values[key]); err != nil {
			return err
		}
	}
	return nil
}

// setText takes NAME=VALUE as a person types it: texts without quotes, lists as JSON or with
// commas.
func (p *parameters) setText(pair string) error {
	name, text, ok := strings.Cut(pair, "=")
	if !ok {
		return cli.WrongUse("%q is neither a parameter as NAME=VALUE nor the name of a deployment", pair)
	}
	value := json.RawMessage(text)
	if p.declared[name].isSecret() {
		return cli.WrongUse("the parameter %s may hold secrets, and everybody on this machine may read a command line: "+
			"write it into a file that only you can read, and name that with -p", name)
	}
	switch p.declared[name].Type {
	case "string", "":
		value = quote(text)
	case "bool":
		value = json.RawMessage(strings.ToLower(text))
	case "array":
		if !strings.HasPrefix(strings.TrimSpace(text), "[") {
			parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
			value = list(name, parts)
		}
	}
	return p.set(name, value)
}

// list writes words as a list, of the form that the parameter has.
func list(name string, words []string) json.RawMessage {
	items := make([]any, len(words))
	for i, word := range words {
		items[i] = word
		if name == paramReady {
			items[i] = map[string]any{"name": "function:" + strings.TrimPrefix(word, "function:"), "instanceCount": 1}
		}
	}
	b, err := json.Marshal(items)
	if err != nil {
		panic(err) // strings and numbers always have a form in JSON
	}
	return b
}

func quote(text string) json.RawMessage {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always has a form in JSON
	}
	return b
}

// text is a parameter's text, or its default; "" = it has neither.
func (p *parameters) text(name string) (text string) {
	for _, value := range []json.RawMessage{p.values[name], p.declared[name].DefaultValue} {
		if json.Unmarshal(value, &text) == nil && !strings.HasPrefix(text, "[") {
			return text
		}
	}
	return ""
}

// inherit takes the values of the last deployment for what nobody has named now, so that a
// second run needs no more than the name.
func (p *parameters) inherit(last map[string]struct{ Value json.RawMessage }) {
	for name, each := range last {
		d, known := p.declared[name]
		if isSettingOf(name) && string(each.Value) == `""` {
			continue // the app may have the setting by hand since
		}
		if _, set := p.values[name]; set || !known || len(each.Value) == 0 || slices.Contains(onlyOnce, name) ||
			d.check(each.Value) != nil {
			continue
		}
		p.values[name] = each.Value
	}
}

// add puts a text into a list, unless it is there.
func (p *parameters) add(name, text string) {
	var list []string
	_ = json.Unmarshal(p.values[name], &list) // none, or checked when it was set
	if !slices.Contains(list, text) {
		list = append(list, text)
	}
	p.values[name], _ = json.Marshal(list)
}

// write writes the values for az into a file that only this user can read. Whoever only
// looks at what would change gets no secret, since az prints that.
func (p *parameters) write(dir string, looks bool) (string, error) {
	type value struct {
		Value json.RawMessage `json:"value"`
	}
	file := struct {
		Schema         string           `json:"$schema"`
		ContentVersion string           `json:"contentVersion"`
		Parameters     map[string]value `json:"parameters"`
	}{"https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#", "1.0.0.0", map[string]value{}}
	for name, each := range p.values {
		if looks && p.declared[name].isSecret() {
			each = masked(each)
		}
		file.Parameters[name] = value{each}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "parameters.json")
	return path, os.WriteFile(path, text, 0o600)
}

var deploymentName = regexp.MustCompile(`^[a-z][a-z0-9]{2,10}$`)

func checkName(name string) error {
	if !deploymentName.MatchString(name) {
		return cli.WrongUse("the name is %q; it has 3 to 11 of a-z and 0-9 and begins with a letter, such as dsvmpools", name)
	}
	return nil
}

// throwAwayKey is the public half of a new key pair whose private half is forgotten here:
// Azure wants a key on every machine, and nobody logs in.
func throwAwayKey(deployment string) (string, error) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	const kind = "ssh-ed25519"
	var blob []byte
	for _, part := range [][]byte{[]byte(kind), public} {
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(part)))
		blob = append(blob, part...)
	}
	return strings.Join([]string{kind, base64.StdEncoding.EncodeToString(blob), "nobody@" + deployment}, " "), nil
}

// shorten makes a value short enough for a line.
func shorten(value json.RawMessage) string {
	text := string(value)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	return document.Clip(text)
}
