package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rivo/uniseg"
)

// table is text in columns. On a terminal that is too narrow for it, it shortens cells
// that have a short form, then leaves out columns, the least important first, and cuts
// the last column, which may be long, and at the very end the widest others. No line is
// ever longer than the terminal.
type table struct {
	columns []column
	rows    [][]cell
}

// column is a heading and how the cells below it are shown.
type column struct {
	name  string
	right bool // numbers, at the right edge
	state bool // states: as people write them, with a colour
	rank  int  // the largest is left out first where there is no room; 0 = it stays
}

// cell is a text and its short form.
type cell struct{ long, short string }

// newTable makes a table from its headings. A sign before a heading says what its
// column is: < numbers, * states, ? optional, with the rank in which it is left out: "NAME
// ?2<JOBS ?1*STATE" has a column of numbers that is left out before that of the states.
// An underscore stands for a blank.
func newTable(headings string) *table {
	t := &table{}
	for _, name := range strings.Fields(headings) {
		bare := strings.TrimLeft(name, "<*?123456789")
		signs := strings.TrimSuffix(name, bare)
		c := column{name: strings.ReplaceAll(bare, "_", " "), right: strings.Contains(signs, "<"), state: strings.Contains(signs, "*")}
		if _, rank, optional := strings.Cut(signs, "?"); optional {
			c.rank = 1
			if rank != "" && rank[0] >= '1' && rank[0] <= '9' {
				c.rank = int(rank[0] - '0')
			}
		}
		t.columns = append(t.columns, c)
	}
	return t
}

// add adds a row. Control characters are removed, since names and reasons come from
// other people and must not move the terminal's cursor.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, value := range values {
		c, ok := value.(cell)
		if !ok {
			text := fmt.Sprint(value)
			if t.columns[i].state {
				text = people(text)
			}
			c = cell{text, text}
		}
		if row[i] = (cell{plain(c.long), plain(c.short)}); row[i].long == "" {
			row[i] = cell{"-", "-"}
		}
	}
	t.rows = append(t.rows, row)
}

// gap stands between two columns.
const gap = "  "

// leastLast is the width that the last column keeps on a terminal that is too narrow.
const leastLast = 12

// write writes the table. An empty one is only a heading.
func (t *table) write(p *Program, indent string) error {
	columns, rows := t.columns, t.texts(p, false)
	room := p.Width - uniseg.StringWidth(indent)
	widths := widthsOf(columns, rows)
	if p.Width > 0 && leastWidth(widths) > room {
		rows = t.texts(p, true)
		widths = widthsOf(columns, rows)
		for leastWidth(widths) > room {
			i := leastImportant(columns)
			if i < 0 {
				break
			}
			columns, widths = without(columns, i), without(widths, i)
			for r := range rows {
				rows[r] = without(rows[r], i)
			}
		}
	}
	if p.Width > 0 {
		narrow(widths, room)
	}
	var out strings.Builder
	writeRow(&out, indent, columns, widths, headings(columns), false)
	for _, row := range rows {
		writeRow(&out, indent, columns, widths, row, p.Color)
	}
	_, err := io.WriteString(p.Out, out.String())
	return err
}

// leastImportant is the column that is left out next, of equal ones the last; -1 = none.
func leastImportant(columns []column) int {
	least := -1
	for i, c := range columns {
		if c.rank > 0 && (least < 0 || c.rank >= columns[least].rank) {
			least = i
		}
	}
	return least
}

// leastColumn is the width that every column keeps, so that something can be read.
const leastColumn = 4

// narrow makes widths smaller until they fit: that of the last column first, then that of
// the widest one, again and again.
func narrow(widths []int, room int) {
	last := len(widths) - 1
	over := last*len(gap) - room
	for _, w := range widths {
		over += w
	}
	if cut := min(over, widths[last]-leastLast); cut > 0 {
		widths[last] -= cut
		over -= cut
	}
	for ; over > 0; over-- {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastColumn {
			return
		}
		widths[widest]--
	}
}

// texts are the rows in their long or their short form.
func (t *table) texts(p *Program, short bool) [][]string {
	rows := make([][]string, len(t.rows))
	for r, row := range t.rows {
		for _, c := range row {
			text := c.long
			if short {
				text = c.short
			}
			rows[r] = append(rows[r], p.localTimes(text))
		}
	}
	return rows
}

func headings(columns []column) []string {
	return words(columns, func(c column) string { return c.name })
}

// widthsOf are the widths that the columns need.
func widthsOf(columns []column, rows [][]string) []int {
	widths := make([]int, len(columns))
	for _, row := range append([][]string{headings(columns)}, rows...) {
		for i, text := range row {
			widths[i] = max(widths[i], uniseg.StringWidth(text))
		}
	}
	return widths
}

// leastWidth is the width of a table whose last column is cut as far as it may be.
func leastWidth(widths []int) int {
	last := len(widths) - 1
	least := last*len(gap) + min(widths[last], leastLast)
	for _, w := range widths[:last] {
		least += w
	}
	return least
}

// without copies a list without one item.
func without[T any](items []T, i int) []T {
	return slices.Delete(slices.Clone(items), i, i+1)
}

func writeRow(out *strings.Builder, indent string, columns []column, widths []int, row []string, color bool) {
	var line strings.Builder
	line.WriteString(indent)
	for i, text := range row {
		text = cut(text, widths[i])
		pad := strings.Repeat(" ", widths[i]-uniseg.StringWidth(text))
		if color && columns[i].state {
			text = paint(text)
		}
		if columns[i].right {
			line.WriteString(pad + text)
		} else {
			line.WriteString(text + pad)
		}
		if i < len(row)-1 {
			line.WriteString(gap)
		}
	}
	out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	var begin strings.Builder
	used := 0
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if used+g.Width() > width-len("...") {
			break
		}
		used += g.Width()
		begin.WriteString(g.Str())
	}
	return begin.String() + "..."
}

// plain makes one line of a text, without control characters.
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
	case "ok", "succeeded", "ready", "busy", "running":
		color = colorGreen
	case "failed", "timed out", "rejected", "lost", "blocked", "quarantined", "node lost", "start failed", "agent restarted":
		color = colorRed
	case "queued", "held", "submitted", "assigned", "creating", "booting", "draining", "deleting", "cancelled", "evicted", "unknown", "down",
		"waiting", "starting", "ending":
		color = colorYellow
	}
	if color == "" {
		return state
	}
	return color + state + colorReset
}

// json writes an answer as JSON.
func (p *Program) json(v any) error {
	e := json.NewEncoder(p.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// age is how long ago something was, as a cell of a table.
func (p *Program) age(t *time.Time) cell {
	long := p.ago(t)
	return cell{long, strings.TrimSuffix(long, " ago")}
}

// skew is how far clocks of machines may differ without anybody's fault.
const skew = time.Minute

// ago writes how long ago something was, or in how long it will be.
func (p *Program) ago(t *time.Time) string {
	if t == nil {
		return ""
	}
	if ahead := t.Sub(p.Now()); ahead > skew {
		return "in " + span(ahead)
	}
	return span(p.Now().Sub(*t)) + " ago"
}

// at writes a time as the clock on the wall shows it, and how long ago it was or in how long it will be.
func (p *Program) at(t *time.Time) string {
	if t == nil {
		return ""
	}
	return p.clock(*t) + " (" + p.ago(t) + ")"
}

// clock writes a time as the clock on the wall shows it, with its offset from UTC: the
// short names of zones are not the same everywhere.
func (p *Program) clock(t time.Time) string {
	if p.zone() == time.UTC {
		return t.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return t.In(p.zone()).Format("2006-01-02 15:04:05 -07:00")
}

// zone is the zone of the times that are written.
func (p *Program) zone() *time.Location {
	if p.utc || p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

// stamps are times as the instance writes them into sentences.
var stamps = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// localTimes writes the times in a sentence of the instance as the clock here shows them.
func (p *Program) localTimes(text string) string {
	return stamps.ReplaceAllStringFunc(text, func(stamp string) string {
		t, err := time.Parse(time.RFC3339, stamp)
		if err != nil {
			return stamp
		}
		return p.clock(t)
	})
}

// people writes a state as people do: "timed out" for timedOut.
func people(state string) string {
	var out strings.Builder
	for _, r := range state {
		if unicode.IsUpper(r) && out.Len() > 0 {
			out.WriteByte(' ')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
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
