package document_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"dsvmpools/shared/document"
)

const (
	stringHead = "@\x06string\x08\x33http://schemas.microsoft.com/2003/10/Serialization/"
	bytesHead  = "@\x0cbase64Binary\x08\x33http://schemas.microsoft.com/2003/10/Serialization/"
)

// written is a text as .NET's DataContractSerializer writes it: a short one in one record
// with its end, a longer one in a record and the end of the element after it.
func written(text string) string {
	if len(text) < 256 {
		return stringHead + "\x99" + string([]byte{byte(len(text))}) + text
	}
	return stringHead + "\x9a" + string(binary.LittleEndian.AppendUint16(nil, uint16(len(text)))) + text + "\x01"
}

// asText is what the Functions host makes of bytes that it reads as UTF-8.
func asText(s string) string { return strings.ToValidUTF8(s, string(utf8.RuneError)) }

func TestTextsOfTheDataContractSerializer(t *testing.T) {
	t.Parallel()
	var wide []byte
	for _, unit := range utf16.Encode([]rune(`{"a":"é"}`)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	short, medium := `{"a":"b"}`, `{"a":"b","c":"`+strings.Repeat("x", 107)+`"}`
	if len(medium) != '{' {
		t.Fatalf("the document has %d bytes, and its length is to look like a document's begin", len(medium))
	}
	long := `{"a":"` + strings.Repeat("ü", 4000) + `"}`
	for name, c := range map[string]struct{ body, want string }{
		"another body":                  {short, short},
		"short":                         {written(short), short},
		"short, read by the host":       {asText(written(short)), short},
		"a length that looks like JSON": {written(medium), medium},
		"the same, read by the host":    {asText(written(medium)), medium},
		"long":                          {written(long), long},
		"long, read by the host":        {asText(written(long)), long},
		"a length of 32 bits":           {stringHead + "\x9d\x09\x00\x00\x00" + short, short},
		"two records":                   {stringHead + "\x98\x04" + short[:4] + "\x99\x05" + short[4:], short},
		"UTF-16":                        {stringHead + "\xb7" + string([]byte{byte(len(wide))}) + string(wide), `{"a":"é"}`},
		"bytes":                         {bytesHead + "\x9f\x09" + short, short},
		"no text":                       {stringHead + "\xa9", ""},
	} {
		got, err := document.Unwrap([]byte(c.body))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
	for name, body := range map[string]string{
		"cut off":              written(short)[:len(written(short))-3],
		"more than its length": written(short) + "x",
		"another record":       stringHead + "\x83",
		"nothing":              stringHead,
		"UTF-16 by the host":   asText(stringHead + "\xb7" + string([]byte{byte(len(wide))}) + string(wide)),
	} {
		if got, err := document.Unwrap([]byte(body)); err == nil {
			t.Errorf("%s: got %q, want a refusal", name, got)
		}
	}
	n, err := document.Parse([]byte(written(short)), "application/xml")
	if err != nil || len(n.Fields) != 1 {
		t.Errorf("got %v, %v, want an object of one field", n, err)
	}
}
