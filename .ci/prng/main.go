// Command prng writes the library bcryptprimitives.dll at the path that is its one argument. Programs of
// Go take random numbers from ProcessPrng of that library, and Wine 8 has none. What it writes has no
// code: ProcessPrng is passed on to SystemFunction036 of advapi32 (RtlGenRandom), which takes the same and
// gives the same. It is for tests under Wine alone.
//
// The file is a header for DOS, the headers of a PE32+ library, and one section with the table of
// exports. Source: https://learn.microsoft.com/windows/win32/debug/pe-format.
package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
)

// Texts of the section, each ended by a zero.
const (
	library = "bcryptprimitives.dll\x00"
	export  = "ProcessPrng\x00"
	forward = "advapi32.SystemFunction036\x00"
)

const (
	fileAlign   = 0x200  // each part of the file is as long
	memoryAlign = 0x1000 // each part in memory, the headers first
	section     = memoryAlign
	headersAt   = 0x40 // in the file, behind the header for DOS
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "write the path of the library to write, such as PREFIX/drive_c/windows/system32/bcryptprimitives.dll")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], encodeLibrary(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// encodeLibrary is the whole file.
func encodeLibrary() []byte {
	exports := encodeExports()
	dos := make([]byte, headersAt)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[headersAt-4:], headersAt)
	options := pe.OptionalHeader64{
		Magic:                 0x20b, // PE32+
		SizeOfInitializedData: fileAlign, BaseOfCode: section, ImageBase: 0x180000000,
		SectionAlignment: memoryAlign, FileAlignment: fileAlign, SizeOfImage: 2 * memoryAlign, SizeOfHeaders: fileAlign,
		MajorOperatingSystemVersion: 6, MajorSubsystemVersion: 6, Subsystem: pe.IMAGE_SUBSYSTEM_WINDOWS_CUI,
		DllCharacteristics: pe.IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA | pe.IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE |
			pe.IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
		SizeOfStackReserve: 1 << 20, SizeOfStackCommit: 1 << 12, SizeOfHeapReserve: 1 << 20, SizeOfHeapCommit: 1 << 12,
		NumberOfRvaAndSizes: 16,
	}
	options.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT] = pe.DataDirectory{VirtualAddress: section, Size: uint32(len(exports))}
	header := pe.FileHeader{
		Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(options)),
		Characteristics: pe.IMAGE_FILE_EXECUTABLE_IMAGE | pe.IMAGE_FILE_LARGE_ADDRESS_AWARE | pe.IMAGE_FILE_DLL,
	}
	only := pe.SectionHeader32{
		VirtualSize: uint32(len(exports)), VirtualAddress: section, SizeOfRawData: fileAlign, PointerToRawData: fileAlign,
		Characteristics: pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ,
	}
	copy(only.Name[:], ".rdata")
	file := bytes.NewBuffer(dos)
	file.WriteString("PE\x00\x00")
	for _, part := range []any{header, options, only} {
		write(file, part)
	}
	file.Write(make([]byte, fileAlign-file.Len()))
	file.Write(exports)
	file.Write(make([]byte, 2*fileAlign-file.Len()))
	return file.Bytes()
}

// encodeExports is the section: the directory of exports, its three tables of one entry each, and the texts.
func encodeExports() []byte {
	const (
		functions = section + 40 // behind the directory
		names     = functions + 4
		ordinals  = names + 4
		texts     = ordinals + 4
		exportAt  = texts + len(library)
		forwardAt = exportAt + len(export)
	)
	var b bytes.Buffer
	write(&b, []uint32{0, 0, 0, texts, 1, 1, 1, functions, names, ordinals})
	write(&b, []uint32{uint32(forwardAt), uint32(exportAt)})
	write(&b, []uint16{0, 0})
	b.WriteString(library + export + forward)
	return b.Bytes()
}

// write appends numbers, the lowest byte first.
func write(b *bytes.Buffer, v any) { _ = binary.Write(b, binary.LittleEndian, v) } // of numbers, to memory: it cannot fail
