package agent

import (
	"errors"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openFileAt opens a regular file below a directory, for writing, and makes it when it is not
// there. No other name may lead to it. With os.O_APPEND the first byte goes to its end. The rights
// are those of the directory.
func openFileAt(dir *os.File, name string, flags int, _ uint32) (*os.File, error) {
	const write = windows.FILE_GENERIC_WRITE | windows.FILE_READ_ATTRIBUTES | windows.DELETE
	f, err := openAt(dir, name, write, windows.FILE_OPEN_IF, windows.FILE_NON_DIRECTORY_FILE)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_DIRECTORY_NOT_SUPPORTED) {
		if at, failed := openAt(dir, name, windows.FILE_READ_ATTRIBUTES, windows.FILE_OPEN, 0); failed == nil {
			defer at.Close()
			if kind, failed := at.Stat(); failed == nil && !kind.Mode().IsRegular() {
				return nil, obstacleFault(name, "file")
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := checkPlain(f, name); err != nil {
		f.Close()
		return nil, err
	}
	if flags&os.O_APPEND != 0 {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// checkFileAt checks that a file below a directory, which is made later, is not there or can be
// opened by openFileAt.
func checkFileAt(dir *os.File, name string) error {
	f, err := openAt(dir, name, windows.FILE_READ_ATTRIBUTES, windows.FILE_OPEN, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return checkPlain(f, name)
}

// checkPlain checks that an open file is a regular one with one name.
func checkPlain(f *os.File, name string) error {
	var at windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &at); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if at.FileAttributes&(windows.FILE_ATTRIBUTE_REPARSE_POINT|windows.FILE_ATTRIBUTE_DIRECTORY) != 0 || at.NumberOfLinks > 1 {
		return obstacleFault(name, "file")
	}
	return nil
}

// openDirAt makes a directory below another, when it is not there, and opens it.
func openDirAt(dir *os.File, name string, _ uint32) (*os.File, error) {
	const read = windows.FILE_GENERIC_READ | windows.FILE_TRAVERSE
	f, err := openAt(dir, name, read, windows.FILE_OPEN_IF, windows.FILE_DIRECTORY_FILE)
	if errors.Is(err, windows.ERROR_DIRECTORY) || errors.Is(err, os.ErrExist) {
		return nil, obstacleFault(name, "directory")
	}
	if err != nil {
		return nil, err
	}
	var at windows.ByHandleFileInformation
	err = windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &at)
	if err == nil && at.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 {
		err = obstacleFault(name, "directory")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openAt opens one name below an open directory, and follows no link there. A name with a colon
// would be another stream of a file.
func openAt(dir *os.File, name string, access, how, options uint32) (*os.File, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\:`) {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrInvalid}
	}
	text, err := windows.NewNTUnicodeString(name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	below := windows.OBJECT_ATTRIBUTES{RootDirectory: windows.Handle(dir.Fd()), ObjectName: text, Attributes: windows.OBJ_CASE_INSENSITIVE}
	below.Length = uint32(unsafe.Sizeof(below))
	var h windows.Handle
	var status windows.IO_STATUS_BLOCK
	err = windows.NtCreateFile(&h, access|windows.SYNCHRONIZE, &below, &status, nil, windows.FILE_ATTRIBUTE_NORMAL,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, how,
		windows.FILE_SYNCHRONOUS_IO_NONALERT|windows.FILE_OPEN_REPARSE_POINT|windows.FILE_OPEN_FOR_BACKUP_INTENT|options, 0, 0)
	if said := windows.NTStatus(0); errors.As(err, &said) {
		err = said.Errno()
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

// removeFileAt removes a file below a directory.
func removeFileAt(dir *os.File, name string) error {
	f, err := openAt(dir, name, windows.DELETE, windows.FILE_OPEN, windows.FILE_DELETE_ON_CLOSE|windows.FILE_NON_DIRECTORY_FILE)
	if err != nil {
		return err
	}
	return f.Close()
}

// renameFileAt gives a file below a directory another name, and replaces what has it.
func renameFileAt(dir *os.File, from, to string) error {
	f, err := openAt(dir, from, windows.DELETE, windows.FILE_OPEN, windows.FILE_NON_DIRECTORY_FILE)
	if err != nil {
		return err
	}
	defer f.Close()
	name, err := windows.UTF16FromString(to)
	if err != nil {
		return err
	}
	const most = 256
	var info struct { // FILE_RENAME_INFORMATION
		replace uint32
		root    windows.Handle
		length  uint32 // of the name, in bytes
		name    [most]uint16
	}
	if len(name) > most {
		return &os.PathError{Op: "rename", Path: to, Err: os.ErrInvalid}
	}
	info.replace, info.root, info.length = 1, windows.Handle(dir.Fd()), uint32(2*(len(name)-1))
	copy(info.name[:], name)
	var status windows.IO_STATUS_BLOCK
	const renameInformation = 10
	err = windows.NtSetInformationFile(windows.Handle(f.Fd()), &status, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)),
		renameInformation)
	if said := windows.NTStatus(0); errors.As(err, &said) {
		err = said.Errno()
	}
	if err != nil {
		return &os.PathError{Op: "rename", Path: from, Err: err}
	}
	return nil
}
