// Package tolerantest lets tests send what no Go client can send: AMQP messages
// with values of .NET. It is for tests alone: no program imports it.
package tolerantest

import (
	"bytes"
	"net"

	"github.com/Azure/go-amqp"
)

// Values that a test puts into a message. A Conn changes them on the way into
// what the comments say.
var (
	Decimal = amqp.UUID{0x30, 0x3c, 15: 150} // .NET's decimal 1.50
	Char    = uint32(0x1f600)                // .NET's character U+1F600
)

// AMQP's codes of the types that stand for .NET's, which have the same width.
const (
	codeUUID    = 0x98
	codeDecimal = 0x94
	codeUint    = 0x70
	codeChar    = 0x73
)

// Conn changes the codes of Decimal and Char in what is written to it. Each Write
// must hold whole values, as those of a client do.
type Conn struct{ net.Conn }

// Write writes the changed bytes; there are as many of them.
func (c Conn) Write(p []byte) (int, error) {
	p = bytes.ReplaceAll(p, append([]byte{codeUUID}, Decimal[:]...), append([]byte{codeDecimal}, Decimal[:]...))
	p = bytes.ReplaceAll(p, []byte{codeUint, 0, 1, 0xf6, 0}, []byte{codeChar, 0, 1, 0xf6, 0})
	p = unwrapRaw(p)
	return c.Conn.Write(p)
}
