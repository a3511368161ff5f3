package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// What commands of other packages, which are added to the root, share with those here.

// Answer prints a thing as JSON if that was asked for, or else the lines that describe it.
func (p *Program) Answer(v any, lines ...string) error { return p.answer(v, lines...) }

// Say writes a line on standard error, where it does not get into a script's way. A line
// that is renewed makes room for it.
func (p *Program) Say(format string, args ...any) {
	if p.renewing != nil && p.renewing.Load() {
		fmt.Fprint(p.Err, "\r"+eraseLine)
	}
	fmt.Fprintln(p.Err, "dsvm: "+plain(fmt.Sprintf(format, args...)))
}

// maxAnswers is more than anybody types in answers to one command.
const maxAnswers = 64 << 10

// Ask asks a question on the terminal and returns the line that somebody types, without
// the blanks around it. It must only be called if p.Asks.
func (p *Program) Ask(question string) (string, error) {
	fmt.Fprint(p.Err, plain(question)+" ")
	if p.answers == nil {
		p.answers = bufio.NewReader(io.LimitReader(p.In, maxAnswers))
	}
	line, err := p.answers.ReadString('\n')
	if err == io.EOF && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}
