// Command prng writes the library bcryptprimitives.dll at a path. Programs of Go take random numbers
// from it, and Wine 8 has none. It has no code: its one function is passed on to SystemFunction036 of
// advapi32, which takes the same and gives the same.
// Source: https://learn.microsoft.com/windows/win32/debug/pe-format.
package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
)

func main() {
	const align, base, rva = 0x200, 0x180000000, 0x1000
	name, export, forward := "bcryptprimitives.dll\x00", "ProcessPrng\x00", "advapi32.SystemFunction036\x00"
	const dir = 40
	funcs, names, ords := uint32(rva+dir), uint32(rva+dir+4), uint32(rva+dir+8)
	text := uint32(rva + dir + 12)
	var s bytes.Buffer
	w := func(b *bytes.Buffer, v any) { binary.Write(b, binary.LittleEndian, v) }
	atExport := text + uint32(len(name))
	atForward := atExport + uint32(len(export))
	w(&s, []uint32{0, 0, 0, text, 1, 1, 1, funcs, names, ords})
	w(&s, []uint32{atForward, atExport})
	w(&s, []uint16{0, 0})
	s.WriteString(name + export + forward)
	size := uint32(s.Len())
	section := make([]byte, align)
	copy(section, s.Bytes())
	var f bytes.Buffer
	dos := make([]byte, 0x40)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[0x3c:], 0x40)
	f.Write(dos)
	f.WriteString("PE\x00\x00")
	opt := pe.OptionalHeader64{Magic: 0x20b, SizeOfInitializedData: align, BaseOfCode: rva, ImageBase: base, SectionAlignment: 0x1000,
		FileAlignment: align, MajorOperatingSystemVersion: 6, MajorSubsystemVersion: 6, SizeOfImage: 0x2000, SizeOfHeaders: align,
		Subsystem: 3, DllCharacteristics: 0x160, SizeOfStackReserve: 1 << 20, SizeOfStackCommit: 1 << 12, SizeOfHeapReserve: 1 << 20,
		SizeOfHeapCommit: 1 << 12, NumberOfRvaAndSizes: 16}
	opt.DataDirectory[0] = pe.DataDirectory{VirtualAddress: rva, Size: size}
	w(&f, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(opt)), Characteristics: 0x2022})
	w(&f, opt)
	h := pe.SectionHeader32{VirtualSize: size, VirtualAddress: rva, SizeOfRawData: align, PointerToRawData: align, Characteristics: 0x40000040}
	copy(h.Name[:], ".rdata")
	w(&f, h)
	f.Write(make([]byte, align-f.Len()))
	f.Write(section)
	if err := os.WriteFile(os.Args[1], f.Bytes(), 0o644); err != nil {
		panic(err)
	}
}
