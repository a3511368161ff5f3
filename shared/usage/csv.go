package usage

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
)

// csvAmounts are the columns of a report after those of its keys.
var csvAmounts = []string{"jobs", "seconds", "nodeSeconds", "cost", "waste", "boot", "idle", "draining", "currency", "open"}

// WriteCSV writes lines of a report as CSV (RFC 4180) with a line of names: the parts of the key, then what JSON has,
// too. What is unknown is the word unknown, and what is not of a line is empty. The totals are not in it.
func WriteCSV(w io.Writer, by Grouping, groups []Group) error {
	out := NewCSV(w)
	var names []string
	for _, part := range by.Parts() {
		names = append(names, part.Property())
	}
	if err := out.Write(append(names, csvAmounts...)); err != nil {
		return err
	}
	for i := range groups {
		g := &groups[i]
		keys := strings.SplitN(g.Key, keySeparator, len(names))
		for i := range keys {
			keys[i] = PlainCell(keys[i])
		}
		record := append(keys, strconv.Itoa(g.Jobs), g.Seconds.String(), g.NodeSeconds.String(), g.Cost, g.Waste,
			g.Boot, g.Idle, g.Draining, g.Currency, strconv.Itoa(g.Open))
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// NewCSV begins a file with the ends of lines of RFC 4180.
func NewCSV(w io.Writer) *csv.Writer {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	return out
}

// PlainCell is a text from outside as a cell that no spreadsheet takes for a formula: one that begins like a formula
// gets an apostrophe before it (OWASP, CSV injection).
func PlainCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n", rune(text[0])) {
		return "'" + text
	}
	return text
}
