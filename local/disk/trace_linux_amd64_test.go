package disk

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// A process of its own records which calls of the system another one makes on files, with
// all that it writes. It is its own because it waits for any process below it.

// event is one call on a file that has ended.
type event struct {
	Kind   eventKind
	File   int    // a file or directory, whatever its name
	Name   string // in the directory, for those that change it
	Offset int64  // of a write; the length of a truncate
	Data   []byte // of a write, or a line that the process said
	Before int    // of a sync: it covers the events before this one
}

type eventKind int

const (
	created eventKind = iota // File under Name
	linked                   // File under Name
	removed                  // Name
	written_
	truncated
	synced
	syncedDir
	said
)

// Calls that are recorded.
const (
	sysWrite     = 1
	sysClose     = 3
	sysPwrite    = 18
	sysFsync     = 74
	sysFdatasync = 75
	sysFtruncate = 77
	sysOpenat    = 257
	sysUnlinkat  = 263
	sysRenameat  = 264
	sysLinkat    = 265
)

// tracer follows the threads of a process.
type tracer struct {
	dir     string
	memory  *os.File
	inCall  map[int]*call_ // by thread
	files   map[string]int // by name
	open    map[uint64]int // by descriptor
	nextID  int
	events  []event
	dirOpen map[uint64]bool
}

// call_ is a call that has begun.
type call_ struct {
	regs   syscall.PtraceRegs
	before int
}

// trace runs a command, and writes what it does with the files of a directory to a file.
func trace(dir, output string, command ...string) error {
	runtime.LockOSThread()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Stdout, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	const sysGood, clone, exitKill = 1, 8, 1 << 20
	if err := syscall.PtraceSetOptions(pid, sysGood|clone|exitKill); err != nil {
		return err
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer memory.Close()
	t := &tracer{dir: dir, memory: memory, inCall: map[int]*call_{}, files: map[string]int{}, open: map[uint64]int{},
		dirOpen: map[uint64]bool{}}
	seen := map[int]bool{pid: true}
	for thread, signal := pid, 0; ; {
		_ = syscall.PtraceSyscall(thread, signal) // it may have ended meanwhile
		const wall = 0x40000000
		if thread, err = syscall.Wait4(-1, &status, wall, nil); err != nil {
			return err
		}
		signal = 0
		switch {
		case status.Exited() || status.Signaled():
			if thread == pid {
				if status.ExitStatus() != 0 {
					return fmt.Errorf("the traced process ended with %v", status)
				}
				return t.save(output)
			}
		case status.StopSignal() == syscall.SIGTRAP|0x80:
			if err := t.stop(thread); err != nil {
				return err
			}
		case status.StopSignal() == syscall.SIGTRAP:
		case status.StopSignal() == syscall.SIGSTOP && !seen[thread]:
			seen[thread] = true
		default:
			signal = int(status.StopSignal())
		}
	}
}

func (t *tracer) save(output string) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(t.events); err != nil {
		return err
	}
	return os.WriteFile(output, b.Bytes(), 0o600)
}

// stop is called when a call of a thread begins and when it ends.
func (t *tracer) stop(thread int) error {
	if c := t.inCall[thread]; c != nil {
		delete(t.inCall, thread)
		var after syscall.PtraceRegs
		if err := syscall.PtraceGetRegs(thread, &after); err != nil {
			return nil // the thread has ended
		}
		return t.end(c, int64(after.Rax))
	}
	c := &call_{before: len(t.events)}
	if err := syscall.PtraceGetRegs(thread, &c.regs); err != nil {
		return nil
	}
	t.inCall[thread] = c
	if c.regs.Orig_rax == sysClose { // once it has ended, another thread may have the number
		delete(t.open, c.regs.Rdi)
		delete(t.dirOpen, c.regs.Rdi)
	}
	if c.regs.Orig_rax == sysWrite && c.regs.Rdi == 1 { // what is said may be heard from now on
		b, err := t.read(c.regs.Rsi, c.regs.Rdx)
		t.events = append(t.events, event{Kind: said, Data: b})
		return err
	}
	return nil
}

func (t *tracer) read(address, n uint64) ([]byte, error) {
	b := make([]byte, n)
	_, err := t.memory.ReadAt(b, int64(address))
	return b, err
}

// name reads a path, and returns the name of a file in the directory.
func (t *tracer) name(address uint64) (name string, in bool) {
	b := make([]byte, 4096)
	n, _ := t.memory.ReadAt(b, int64(address)) // fewer at the end of what is mapped
	path, _, _ := bytes.Cut(b[:n], []byte{0})
	name, in = strings.CutPrefix(string(path), t.dir+"/")
	return name, in && filepath.Base(name) == name
}

func (t *tracer) add(e event) { t.events = append(t.events, e) }

// end records a call that has ended with a result.
func (t *tracer) end(c *call_, result int64) error {
	r := c.regs
	if result < 0 {
		return nil
	}
	file, isOpen := t.open[r.Rdi]
	switch r.Orig_rax {
	case sysOpenat:
		t.opened(uint64(result), r.Rsi, int(r.Rdx))
	case sysPwrite:
		if isOpen {
			b, err := t.read(r.Rsi, uint64(result))
			t.add(event{Kind: written_, File: file, Offset: int64(r.R10), Data: b})
			return err
		}
	case sysFtruncate:
		if isOpen {
			t.add(event{Kind: truncated, File: file, Offset: int64(r.Rsi)})
		}
	case sysFsync, sysFdatasync:
		switch {
		case isOpen:
			t.add(event{Kind: synced, File: file, Before: c.before})
		case t.dirOpen[r.Rdi]:
			t.add(event{Kind: syncedDir, Before: c.before})
		}
	case sysUnlinkat:
		if name, in := t.name(r.Rsi); in {
			t.add(event{Kind: removed, Name: name})
			delete(t.files, name)
		}
	case sysLinkat, sysRenameat:
		from, _ := t.name(r.Rsi)
		if to, in := t.name(r.R10); in {
			t.files[to] = t.files[from]
			t.add(event{Kind: linked, File: t.files[from], Name: to})
			if r.Orig_rax == sysRenameat {
				delete(t.files, from)
				t.add(event{Kind: removed, Name: from})
			}
		}
	case sysWrite:
		if isOpen {
			return fmt.Errorf("a write at no place to file %d: the recorder does not follow those", file)
		}
	}
	return nil
}

func (t *tracer) opened(descriptor, address uint64, flags int) {
	name, in := t.name(address)
	if !in {
		b := make([]byte, len(t.dir)+1)
		_, _ = t.memory.ReadAt(b, int64(address))
		t.dirOpen[descriptor] = string(b) == t.dir+"\x00"
		return
	}
	file, there := t.files[name]
	if !there {
		t.nextID++
		file = t.nextID
		t.files[name] = file
		t.add(event{Kind: created, File: file, Name: name})
	} else if flags&os.O_TRUNC != 0 {
		t.add(event{Kind: truncated, File: file})
	}
	t.open[descriptor] = file
}
