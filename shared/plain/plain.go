// Package plain makes texts of others fit for a line: of a terminal, a log, a row or an answer. It is
// for all programs.
//
// It never says what a text means, and quotes nothing.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line makes one line of a text. What moves a terminal's cursor, turns the direction of text, or is no
// character becomes a blank.
func Line(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}, text)
}

// Clip cuts a text to so many bytes, between two characters, and leaves out what is no character.
func Clip(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
