package process

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Job holds the processes of one attempt together: a job object, which they cannot leave. The
// agent has its only handle, so that the system kills them all when the agent ends, however it
// does.
type Job struct {
	handle windows.Handle
	port   windows.Handle // completion port, to which the system says what happens in the job
}

// Limits of what the processes of a job may use.
type Limits struct {
	Memory    int64 // bytes that they have committed; 0 = no bound
	CPUs      int   // processors; 0 = no bound
	Of        int   // processors of the machine
	Processes int   // at once
}

// ErrJobLeft says that processes of an earlier job of the name are still there.
var ErrJobLeft = errors.New("processes of an earlier attempt are left")

// NewJob makes a job of a name, which nobody else has. What an earlier one of the name has left is
// killed, which the system is about to do by itself.
func NewJob(name string, l Limits) (*Job, error) {
	path, err := windows.UTF16PtrFromString(jobPath(name))
	if err != nil {
		return nil, err
	}
	if !EndJob(name) {
		return nil, ErrJobLeft
	}
	handle, err := windows.CreateJobObject(nil, path)
	if err != nil {
		return nil, fmt.Errorf("a job object cannot be made: %w", err)
	}
	j := &Job{handle: handle}
	if err = j.setLimits(l); err == nil {
		err = j.listen()
	}
	if err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// jobPath is the name of a job object. Those of services and of people's sessions are the same.
func jobPath(name string) string { return `Global\dsvmpools-` + name }

func (j *Job) setLimits(l Limits) error {
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
	if l.Memory > 0 {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_JOB_MEMORY
		info.JobMemoryLimit = uintptr(l.Memory)
	}
	if l.Processes > 0 {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS
		info.BasicLimitInformation.ActiveProcessLimit = uint32(l.Processes)
	}
	_, err := windows.SetInformationJobObject(j.handle, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err != nil {
		return fmt.Errorf("a job object cannot be bounded: %w", err)
	}
	if l.CPUs <= 0 || l.CPUs >= l.Of {
		return nil
	}
	rate := cpuRate{flags: cpuRateEnable | cpuRateHardCap, rate: uint32(wholeRate * l.CPUs / l.Of)}
	_, err = windows.SetInformationJobObject(j.handle, windows.JobObjectCpuRateControlInformation,
		uintptr(unsafe.Pointer(&rate)), uint32(unsafe.Sizeof(rate)))
	if err != nil && !errors.Is(err, windows.ERROR_INVALID_PARAMETER) && !errors.Is(err, windows.ERROR_NOT_SUPPORTED) &&
		!errors.Is(err, windows.ERROR_CALL_NOT_IMPLEMENTED) { // a system without such bounds has none
		return fmt.Errorf("the processors of a job object cannot be bounded: %w", err)
	}
	return nil
}

// cpuRate is JOBOBJECT_CPU_RATE_CONTROL_INFORMATION; its rate is in hundredths of a percent of all
// processors. Source: https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-jobobject_cpu_rate_control_information.
type cpuRate struct{ flags, rate uint32 }

const (
	cpuRateEnable  = 1
	cpuRateHardCap = 4
	wholeRate      = 10000
)

// jobPort is JOBOBJECT_ASSOCIATE_COMPLETION_PORT.
type jobPort struct {
	key  uintptr
	port windows.Handle
}

func (j *Job) listen() (err error) {
	if j.port, err = windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, 1); err != nil {
		return fmt.Errorf("the job object cannot be watched: %w", err)
	}
	to := jobPort{key: uintptr(j.handle), port: j.port}
	_, err = windows.SetInformationJobObject(j.handle, windows.JobObjectAssociateCompletionPortInformation,
		uintptr(unsafe.Pointer(&to)), uint32(unsafe.Sizeof(to)))
	if err != nil {
		return fmt.Errorf("the job object cannot be watched: %w", err)
	}
	return nil
}

// messages of a job. Source: winnt.h.
const (
	jobMemoryLimit     = 10
	processMemoryLimit = 9
)

// HadMemoryLimit reports whether a process was refused memory since the last call, for the bound of
// the job. Such a process mostly ends by itself.
func (j *Job) HadMemoryLimit() (had bool) {
	for {
		var message uint32
		var key uintptr
		var pid *windows.Overlapped
		if windows.GetQueuedCompletionStatus(j.port, &message, &key, &pid, 0) != nil {
			return had
		}
		had = had || message == jobMemoryLimit || message == processMemoryLimit
	}
}

// killedCode is the exit code of what Kill ends: that of a process that was killed on Linux.
const killedCode = 128 + 9

// Kill kills all processes of the job.
func (j *Job) Kill() error { return windows.TerminateJobObject(j.handle, killedCode) }

// accounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type accounting struct {
	user, kernel, periodUser, periodKernel uint64
	faults, total, active, terminated      uint32
}

// active is how many processes of a job live.
func active(job windows.Handle) (int, error) {
	var info accounting
	err := windows.QueryInformationJobObject(job, windows.JobObjectBasicAccountingInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), nil)
	return int(info.active), err
}

// IsEmpty reports whether no process of the job lives.
func (j *Job) IsEmpty() bool {
	n, err := active(j.handle)
	return err == nil && n == 0
}

// KillAll kills until the job is empty, and reports whether it is.
func (j *Job) KillAll() bool { return killHandle(j.handle) }

func killHandle(job windows.Handle) bool {
	for range killRounds {
		if n, err := active(job); err == nil && n == 0 {
			return true
		}
		_ = windows.TerminateJobObject(job, killedCode)
		time.Sleep(killPause)
	}
	return false
}

// Close ends the job, with what still runs in it.
func (j *Job) Close() {
	for _, h := range []*windows.Handle{&j.handle, &j.port} {
		if *h != 0 {
			windows.CloseHandle(*h)
			*h = 0
		}
	}
}

// Killing looks again until nothing is left. The rounds are bounded, since a process can hang in
// the system.
const (
	killRounds = 200
	killPause  = 5 * time.Millisecond
)

// EndJob kills what is left in the job of a name, and reports whether that is gone. Somebody else
// may have it open.
func EndJob(name string) bool {
	path, err := windows.UTF16PtrFromString(jobPath(name))
	if err != nil {
		return false
	}
	const terminateAndQuery = 0x0008 | 0x0004 // JOB_OBJECT_TERMINATE, JOB_OBJECT_QUERY
	for range killRounds {
		job, err := openJobObject(terminateAndQuery, path)
		if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return true
		}
		if err == nil {
			killHandle(job)
			windows.CloseHandle(job)
		}
		time.Sleep(killPause)
	}
	return false
}

func openJobObject(access uint32, name *uint16) (windows.Handle, error) {
	h, _, err := procOpenJobObject.Call(uintptr(access), 0, uintptr(unsafe.Pointer(name)))
	if h == 0 {
		return 0, err
	}
	return windows.Handle(h), nil
}
