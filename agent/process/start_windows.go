package process

import (
	"slices"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Child is a process that was started.
type Child struct {
	PID    int
	handle windows.Handle
}

// bornInJobs is PROC_THREAD_ATTRIBUTE_JOB_LIST. Source: winbase.h.
const bornInJobs = 0x0002000d

// Start starts a process in the job: it is born there, so that no instruction of it runs anywhere
// else, and the system ends it if the agent ends at this moment. It has a group of its own for
// Interrupt, and no open handle of the agent's but those of attr.
func (j *Job) Start(program string, argv []string, attr *StartAttr) (*Child, error) {
	attributes, err := windows.NewProcThreadAttributeList(2)
	if err != nil {
		return nil, err
	}
	defer attributes.Delete()
	jobs := []windows.Handle{j.handle}
	if err := attributes.Update(bornInJobs, unsafe.Pointer(&jobs[0]), unsafe.Sizeof(jobs[0])); err != nil {
		return nil, err
	}
	files, err := inheritable(attr.Files)
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	err = attributes.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&files[0]), uintptr(len(files))*unsafe.Sizeof(files[0]))
	if err != nil {
		return nil, err
	}
	from := windows.StartupInfoEx{ProcThreadAttributeList: attributes.List()}
	from.Cb = uint32(unsafe.Sizeof(from))
	from.Flags = windows.STARTF_USESTDHANDLES
	from.StdInput, from.StdOutput, from.StdErr = files[0], files[1], files[2]
	path, err1 := windows.UTF16PtrFromString(program)
	line, err2 := windows.UTF16PtrFromString(windows.ComposeCommandLine(argv))
	dir, err3 := windows.UTF16PtrFromString(attr.Dir)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	block := environmentBlock(attr.Env)
	const flags = windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT
	var made windows.ProcessInformation
	if as := windows.Token(attr.Sys.Token); as != 0 {
		err = windows.CreateProcessAsUser(as, path, line, nil, nil, true, flags, &block[0], dir, &from.StartupInfo, &made)
	} else {
		err = windows.CreateProcess(path, line, nil, nil, true, flags, &block[0], dir, &from.StartupInfo, &made)
	}
	if err != nil {
		return nil, err
	}
	windows.CloseHandle(made.Thread)
	return &Child{PID: int(made.ProcessId), handle: made.Process}, nil
}

// inheritable duplicates handles for a child, which must not get the agent's own.
func inheritable(handles []uintptr) (all []windows.Handle, err error) {
	self := windows.CurrentProcess()
	for _, h := range handles {
		var copied windows.Handle
		if err := windows.DuplicateHandle(self, windows.Handle(h), self, &copied, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			return all, err
		}
		all = append(all, copied)
	}
	return all, nil
}

func closeAll(handles []windows.Handle) {
	for _, h := range handles {
		windows.CloseHandle(h)
	}
}

// environmentBlock is an environment as the system takes it: sorted, each variable ended by a zero,
// and the whole by another. Of names that differ by case alone, the last one stays.
func environmentBlock(env []string) []uint16 {
	byName := map[string]string{}
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		byName[strings.ToUpper(name)] = entry
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	var block []uint16
	for _, name := range names {
		block = append(append(block, utf16.Encode([]rune(byName[name]))...), 0)
	}
	if len(block) == 0 {
		block = append(block, 0)
	}
	return append(block, 0)
}

// Interrupt asks a process, and those that share its console and its group, to end: as by
// Ctrl+Break. A program that does not handle it ends.
func (c *Child) Interrupt() error {
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(c.PID))
}

// Kill kills the process alone.
func (c *Child) Kill() error { return windows.TerminateProcess(c.handle, killedCode) }

// Wait waits for the end of the process, and returns its exit code, which has 32 bits.
func (c *Child) Wait() (code uint32, err error) {
	if _, err = windows.WaitForSingleObject(c.handle, windows.INFINITE); err == nil {
		err = windows.GetExitCodeProcess(c.handle, &code)
	}
	return code, err
}

// Close gives the process's handle back. Until then its number is not another's.
func (c *Child) Close() {
	if c.handle != 0 {
		windows.CloseHandle(c.handle)
		c.handle = 0
	}
}

// OpenConsole gives the agent a console that nobody sees, unless it has one: Interrupt reaches
// programs by it. A service has none.
func OpenConsole() error {
	var one uint32
	if n, _, _ := procGetConsoleProcessList.Call(uintptr(unsafe.Pointer(&one)), 1); n > 0 {
		return nil
	}
	_, _, _ = procFreeConsole.Call() // one that is none: a program may be told so by who starts it
	if ok, _, err := procAllocConsole.Call(); ok == 0 {
		return err
	}
	return nil
}

var (
	kernel                    = windows.NewLazySystemDLL("kernel32.dll")
	procOpenJobObject         = kernel.NewProc("OpenJobObjectW")
	procGetConsoleProcessList = kernel.NewProc("GetConsoleProcessList")
	procFreeConsole           = kernel.NewProc("FreeConsole")
	procAllocConsole          = kernel.NewProc("AllocConsole")
)
