package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/rivo/uniseg"
)

// table is text in columns. The last column may be long: on a terminal it is
// cut to what fits.
type table struct {
	head []string
	rows [][]string
	// right holds the columns whose cells are numbers.
	right map[int]bool
	// colored holds the columns whose cells are states.
	colored map[int]bool
}

// newTable makes a table of a heading: "NAME <JOBS *STATE" has a column to the
// right and one with states.
func newTable(head string) *table {
	t := &table{right: map[int]bool{}, colored: map[int]bool{}}
	for i, name := range strings.Fields(head) {
		t.right[i] = strings.HasPrefix(name, "<")
		t.colored[i] = strings.HasPrefix(name, "*")
		t.head = append(t.head, strings.TrimLeft(name, "<*"))
	}
	return t
}

// add adds a row. Nothing in it can move the terminal's cursor: names and
// reasons are other people's words.
func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		if row[i] = plain(fmt.Sprint(cell)); row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// gap stands between two columns.
const gap = "  "

// leastLast is what the last column keeps on a terminal that is too narrow.
const leastLast = 12

// write writes the table. An empty one is only a heading.
func (t *table) write(p *Program, indent string) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	last := len(t.head) - 1
	if p.Width > 0 {
		used := uniseg.StringWidth(indent) + last*len(gap)
		for _, w := range widths[:last] {
			used += w
		}
		widths[last] = min(widths[last], max(p.Width-used, leastLast))
	}
	var out strings.Builder
	for n, row := range append([][]string{t.head}, t.rows...) {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			cell = cut(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
			if n > 0 && p.Color && t.colored[i] {
				cell = paint(cell)
			}
			if t.right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
			if i < last {
				line.WriteString(gap)
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(p.Out, out.String())
	return err
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	var kept strings.Builder
	used := 0
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if used+g.Width() > width-len("...") {
			break
		}
		used += g.Width()
		kept.WriteString(g.Str())
	}
	return kept.String() + "..."
}

// plain makes one line without control characters of a text.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
}

// paint colours a state: green is well, red is not, yellow is on its way.
func paint(state string) string {
	color := ""
	switch state {
	case "succeeded", "ready", "busy", "running":
		color = "\x1b[32m"
	case "failed", "timedOut", "rejected", "lost", "blocked", "quarantined", "nodeLost", "startFailed":
		color = "\x1b[31m"
	case "queued", "held", "submitted", "assigned", "creating", "booting", "draining", "deleting", "cancelled", "evicted":
		color = "\x1b[33m"
	}
	if color == "" {
		return state
	}
	return color + state + "\x1b[0m"
}

// json writes an answer as JSON.
func (p *Program) json(v any) error {
	e := json.NewEncoder(p.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// ago writes how long ago something was.
func (p *Program) ago(t *time.Time) string {
	if t == nil {
		return ""
	}
	return span(p.Now().Sub(*t)) + " ago"
}

// at writes a time as the clock on the wall shows it, and how long ago it was.
func (p *Program) at(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.In(p.Zone).Format("2006-01-02 15:04:05 MST") + " (" + p.ago(t) + ")"
}

// span writes a length of time roughly: 45s, 12m, 5h, 3d.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
