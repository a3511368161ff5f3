package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"

	written "dsvmpools/shared/document"
)

// directive begins a line at the head of a script that has flags of the job in it.
const directive = "#DSVM"

// readScript reads the script of a job as it is sent: UTF-8 without a byte order mark, with
// Unix line ends.
func (p *Program) readScript(name string) (string, error) {
	text, err := p.readPart(name)
	if err != nil {
		return "", err
	}
	return cleanScript(name, text)
}

// cleanScript takes off what Windows editors put into a script and no interpreter means. A
// file in which every line ends with CR LF was written there, and loses its CRs. A file in
// which only some do may mean them: it is refused where they break it, which is in a shell
// script and in a first line with #!.
func cleanScript(name string, text []byte) (string, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return "", WrongUse("%s is UTF-16, as some Windows programs write it; save it as UTF-8", name)
	case !utf8.Valid(text):
		return "", WrongUse("%s is not a text in UTF-8, so that it cannot be a script; put a program on the share and name its path", name)
	}
	lines, with := bytes.Count(text, []byte("\n")), bytes.Count(text, []byte("\r\n"))
	if with > 0 && with == lines {
		return strings.ReplaceAll(string(text), "\r\n", "\n"), nil
	}
	script := string(text)
	first, _, _ := strings.Cut(script, "\n")
	if with > 0 && (isShellScript(first) || strings.HasSuffix(first, "\r") && strings.HasPrefix(first, "#!")) {
		at := 1 + strings.Count(script[:strings.Index(script, "\r\n")], "\n")
		return "", WrongUse("%s:%d: the line ends with a carriage return (CR LF, as Windows writes it) and others do not, "+
			"so that the script would fail on the node; write all of them with LF: sed -i 's/\\r$//' %s", name, at, name)
	}
	return script, nil
}

// isShellScript reports whether a shell runs a script with this first line: its #! line
// names one, or it has none.
func isShellScript(first string) bool {
	rest, ok := strings.CutPrefix(first, "#!")
	if !ok {
		return true
	}
	for _, word := range strings.Fields(rest) {
		name := word[strings.LastIndexByte(word, '/')+1:]
		if name != "env" && !strings.HasPrefix(name, "-") {
			return name == "bash" || name == "sh" || name == "dash" || name == "ksh" || name == "zsh"
		}
	}
	return false
}

// setDirectives sets the fields that the #DSVM lines of a script give. They stand at its
// head: before its first line that is neither blank nor a comment.
func setDirectives(d *document, name, script string) error {
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			return nil
		}
		words, ok := strings.CutPrefix(line, directive)
		if !ok || words != "" && words[0] != ' ' && words[0] != '\t' {
			continue
		}
		if err := setDirective(d, words); err != nil {
			return WrongUse("%s:%d: %s", name, i+1, message(err))
		}
	}
	return nil
}

// setDirective sets the fields that one #DSVM line gives.
func setDirective(d *document, text string) error {
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	flags := pflag.NewFlagSet(directive, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	registerFields(flags)
	var unknown *pflag.NotExistError
	switch err := flags.Parse(words); {
	case errors.As(err, &unknown):
		return unknownFlag(unknown.GetSpecifiedName(), flags)
	case errors.Is(err, pflag.ErrHelp):
		return fmt.Errorf("--help is no flag of a %s line; `dsvm job submit --help` shows all", directive)
	case err != nil:
		return valueError(err)
	case flags.NArg() > 0:
		return fmt.Errorf("a %s line has flags alone, and %q is none; write --FLAG VALUE, for example %s --gpus 1 --timeout 2h",
			directive, flags.Arg(0), directive)
	}
	return setFields(d, flags)
}

// unknownFlag says which flag may be meant.
func unknownFlag(name string, flags *pflag.FlagSet) error {
	if len(name) == 1 {
		return fmt.Errorf("a %s line has no flags of one letter such as -%s; `dsvm job submit --help` shows the flags of a job", directive, name)
	}
	if near := nearestFlag(name, flags); near != "" {
		return fmt.Errorf("there is no flag --%s of a %s line; did you mean --%s?", name, directive, near)
	}
	return fmt.Errorf("there is no flag --%s of a %s line; `dsvm job submit --help` shows the flags of a job", name, directive)
}

// nearestFlag is the flag that a misspelled one is most like; "" = none is near.
func nearestFlag(name string, flags *pflag.FlagSet) string {
	var known []string
	flags.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return written.Nearest(name, known)
}

// splitWords splits a line into words as a shell does: quotes keep blanks together, and a
// backslash takes the next character as it is. Nothing is expanded. A # that begins a word
// begins a comment.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			inWord, quote = true, r
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case r == '#' && !inWord:
			return words, nil
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	switch {
	case quote != 0:
		return nil, fmt.Errorf("the quote %c is not closed; close it", quote)
	case escaped:
		return nil, errors.New("the line ends with a backslash, and is not continued; write another " + directive + " line")
	case inWord:
		words = append(words, word.String())
	}
	return words, nil
}
