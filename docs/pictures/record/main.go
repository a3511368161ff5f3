// Command record runs a program and draws what it prints, as it prints it, into a moving
// picture (SVG with CSS) for the pages. It changes nothing of what is printed, but cuts
// wide lines; lines that come at once are drawn one after another, so that they can be read.
//
//	go run ./docs/pictures/record -out docs/pictures/demo.svg -- dsvm demo
package main

import (
	"bufio"
	"flag"
	"fmt"
	"html"
	"os"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	columns, rows = 132, 30
	lineHeight    = 18.0
	charWidth     = 7.83 // of a monospaced font of 13 px
	top           = 46.0 // of the first line; the title bar is above it
	leastGap      = 90 * time.Millisecond
	longestGap    = 1500 * time.Millisecond
	stillFor      = 8 * time.Second // how long the last picture stays
)

// line is one line of output, and when it came.
type line struct {
	at   time.Duration
	text string
}

func main() {
	out := flag.String("out", "", "file of the picture")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: record -out FILE.svg -- PROGRAM ARGUMENTS...")
		os.Exit(2)
	}
	lines, err := run(flag.Args())
	if err == nil {
		err = os.WriteFile(*out, []byte(draw(lines)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// run runs a program and returns what it prints on both outputs. The first line is the command.
func run(words []string) ([]line, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = w, w
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w.Close()
	lines := []line{{text: "$ go run ./cmd/dsvm " + strings.Join(words[1:], " ")}}
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		lines = append(lines, line{time.Since(start), scan.Text()})
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return lines, cmd.Wait()
}

// pace moves lines apart that came at once, and shortens long pauses.
func pace(lines []line) {
	var at, before time.Duration
	for i := range lines {
		gap := lines[i].at - before
		before = lines[i].at
		at += min(max(gap, leastGap), longestGap)
		lines[i].at = at
	}
}

// draw is the picture. Each line appears at its time; when the window is full, all move up.
func draw(lines []line) string {
	pace(lines)
	whole := lines[len(lines)-1].at + stillFor
	percent := func(at time.Duration) string { return fmt.Sprintf("%.2f%%", 100*at.Seconds()/whole.Seconds()) }
	height := top + rows*lineHeight + 14
	width := columns*charWidth + 32

	var style, scroll, body strings.Builder
	up := 0
	scroll.WriteString("0% { transform: translateY(0) }\n")
	for i, l := range lines {
		fmt.Fprintf(&style, "@keyframes l%d { 0%% { opacity: 0 } %s { opacity: 1 } }\n", i, percent(l.at))
		fmt.Fprintf(&style, ".l%d { animation-name: l%d }\n", i, i)
		if i+1 > rows {
			up = i + 1 - rows
			fmt.Fprintf(&scroll, "%s { transform: translateY(%.0fpx) }\n", percent(l.at), -float64(up)*lineHeight)
		}
		text := l.text
		if utf8.RuneCountInString(text) > columns {
			text = string([]rune(text)[:columns-1]) + "…"
		}
		class := "t"
		switch {
		case i == 0:
			class = "t c"
		case strings.HasPrefix(text, "dsvm: "):
			class = "t n"
		case isHead(text):
			class = "t h"
		}
		fmt.Fprintf(&body, "<text class=\"%s l%d\" x=\"16\" y=\"%.0f\" xml:space=\"preserve\">%s</text>\n",
			class, i, top+float64(i)*lineHeight+13, html.EscapeString(text))
	}
	end := fmt.Sprintf("translateY(%.0fpx)", -float64(up)*lineHeight)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f"
 role="img" aria-label="A recording of dsvm demo">
<style>
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d6dde6 }
.h { fill: #8fa3b8; font-weight: 600 }
.n { fill: #7fb7e8 }
.c { fill: #ffffff; font-weight: 600 }
.t { animation-duration: %.2fs; animation-timing-function: step-end; animation-iteration-count: infinite }
.s { animation: s %.2fs step-end infinite }
@keyframes s {
%s100%% { transform: %s }
}
@media (prefers-reduced-motion: reduce) { .t { animation: none } .s { animation: none; transform: %s } }
%s</style>
<defs><clipPath id="w"><rect x="0" y="%.0f" width="%.0f" height="%.0f"/></clipPath></defs>
<rect width="%.0f" height="%.0f" rx="10" fill="#10161d" stroke="#3a444f"/>
<circle cx="20" cy="18" r="5" fill="#f0655b"/><circle cx="38" cy="18" r="5" fill="#f5bf4f"/><circle cx="56" cy="18" r="5" fill="#57c353"/>
<g clip-path="url(#w)"><g class="s">
%s</g></g>
</svg>
`, width, height, width, height, whole.Seconds(), whole.Seconds(), scroll.String(), end, end, style.String(),
		top-6, width, height-top, width, height, body.String())
}

// isHead reports whether a line is the head of a table: capitals, blanks and hyphens.
func isHead(text string) bool {
	return text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ -") == "" && text[0] != '-'
}
