//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An action is the kind of a fault.
type action string

// The actions.
const (
	nothing    action = "nothing"
	killBefore action = "kill before"
	killAfter  action = "kill after"
	killWithin action = "kill within" // a write writes a part, then the program is killed
	shorten    action = "shorten"     // a write writes a part and returns its size
	failBefore action = "fail before" // the call returns an error and has no effect
	failAfter  action = "fail after"  // the call returns an error but has its effect
	hooked     action = "hook"        // only the hook is called
)

// A fault happens at the Nth counted call.
type fault struct {
	at       int
	act      action
	errno    unix.Errno          // of failBefore and failAfter
	persists bool                // later calls that need space on the disk fail as well
	part     uint64              // for killWithin and shorten: how many bytes are written
	hook     func(pid int) error // called before the call, with every action; may be nil
	label    string              // describes the hook
}

func (f fault) String() string {
	text := fmt.Sprintf("%s call %d", f.act, f.at)
	if f.errno != 0 {
		text += " with " + unix.ErrnoName(f.errno)
	}
	if f.persists {
		text += ", from there on"
	}
	if f.part > 0 {
		text += fmt.Sprintf(", %d bytes are written", f.part)
	}
	return text + f.label
}

// A tracer runs one program and injects one fault. It counts the system calls of all
// threads together. strace(1) can inject faults too, but counts the calls of each thread
// separately, and a Go program makes the same call on different threads in each run.
//
// A tracer must be used from a goroutine that is locked to its thread, because the
// kernel accepts ptrace requests only from the tracing thread.
type tracer struct {
	watch  string           // the watched directory, without symbolic links
	counts func(*call) bool // which calls below watch are counted; nil: all
	fault  fault
	denied map[string]unix.Errno // calls that always fail, by name
	limit  time.Duration         // a program that runs longer is killed
	fired  chan struct{}         // closed when the fault has happened; may be nil

	pid     int
	count   int
	known   map[int]bool  // threads that have reported their start
	inCall  map[int]*call // the call that each thread has entered but not left
	faulted *call         // the call at which the fault happened; nil before that
	calls   []*call       // all calls that have returned, in order, including those that are not counted
	isFired bool          // fired is closed
	err     error         // the error of the hook
}

// An exit is how a traced program ended.
type exit struct {
	code    int  // killedCode if a signal ended it
	blocked bool // the program ran longer than the limit
}

// killedCode is the exit code of a program that a signal ended.
const killedCode = -1

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// run starts the program and traces it until it ends. Other tracers and other children of
// this process may run at the same time: the program has its own process group, and run
// waits only for children of this thread.
func (tr *tracer) run(argv []string, attr *os.ProcAttr) (exit, error) {
	attr.Sys = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	process, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return exit{}, err
	}
	defer process.Release()
	tr.pid = process.Pid
	tr.known, tr.inCall = map[int]bool{tr.pid: true}, map[int]*call{}
	var status unix.WaitStatus
	if _, err := wait(tr.pid, &status); err != nil {
		return exit{}, err
	}
	if err := unix.PtraceSetOptions(tr.pid, traceOptions); err != nil {
		return exit{}, err
	}
	if err := unix.PtraceSyscall(tr.pid, 0); err != nil {
		return exit{}, err
	}
	timer := time.AfterFunc(tr.limit, tr.kill)
	status, err = tr.loop()
	e := exit{code: killedCode, blocked: !timer.Stop()}
	if status.Exited() {
		e.code = status.ExitStatus()
	}
	return e, err
}

func (tr *tracer) kill() { _ = unix.Kill(tr.pid, unix.SIGKILL) }

// wait calls wait4 for the children of this thread only.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		tid, err := unix.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if err != unix.EINTR {
			return tid, err
		}
	}
}

// loop handles all stops of all threads until the program has ended. The kernel reports
// the end of the first thread last.
func (tr *tracer) loop() (status unix.WaitStatus, _ error) {
	for {
		tid, err := wait(-tr.pid, &status)
		switch {
		case err != nil:
			return status, os.NewSyscallError("wait4", err)
		case status.Stopped():
			signal := tr.stop(tid, status)
			// ESRCH: the thread has been killed; the kernel has yet to report its end.
			if err := unix.PtraceSyscall(tid, signal); err != nil && err != unix.ESRCH {
				return status, os.NewSyscallError("ptrace", err)
			}
		case tid == tr.pid:
			return status, tr.err
		}
	}
}

// stop handles one stop and returns the signal to continue with.
func (tr *tracer) stop(tid int, status unix.WaitStatus) int {
	signal := status.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80:
		tr.syscall(tid)
		return 0
	case signal == unix.SIGTRAP && status.TrapCause() > 0:
		return 0
	case signal == unix.SIGSTOP && !tr.known[tid]:
		tr.known[tid] = true // a new thread starts with this stop
		return 0
	}
	return int(signal) // a signal of a hook, or SIGURG, which Go uses for preemption
}

// syscallInfo is struct ptrace_syscall_info (ptrace(2)).
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64 // the result, at the exit
	args [6]uint64
}

// The values of syscallInfo.op.
const (
	atEntry = 1
	atExit  = 2
)

func (tr *tracer) syscall(tid int) {
	var info syscallInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	switch {
	case errno != 0:
		return // killed meanwhile
	case info.op == atEntry:
		tr.enter(tid, &info)
	case info.op == atExit && tr.inCall[tid] != nil:
		tr.leave(tid, int64(info.nr))
	}
}

// enter counts a call, and carries out the part of the fault that comes before the call.
func (tr *tracer) enter(tid int, info *syscallInfo) {
	c := tr.decode(tid, info.nr, info.args)
	if c == nil {
		return
	}
	tr.inCall[tid] = c
	if c.name == "ack" || (tr.counts != nil && !tr.counts(c)) {
		return
	}
	tr.count++
	c.n = tr.count
	if tr.count == tr.fault.at {
		tr.faulted = c
		tr.begin(tid)
	} else if tr.repeats(c) || tr.isDenied(c) {
		skip(tid)
	}
}

// isDenied reports whether the file system does not support c.
func (tr *tracer) isDenied(c *call) bool { return tr.denied[c.name] != 0 }

// begin carries out the part of the fault that comes before the call.
func (tr *tracer) begin(tid int) {
	f := &tr.fault
	if f.hook != nil {
		tr.err = f.hook(tr.pid)
	}
	switch f.act {
	case killBefore:
		skip(tid) // otherwise the kernel might still make the call after the kill
		tr.kill()
	case failBefore:
		skip(tid)
	case killWithin, shorten:
		setRegister(tid, func(r *unix.PtraceRegs) { r.Rdx = f.part })
	}
	tr.fire()
}

// skip prevents the call that a thread has entered, by setting an invalid call number.
func skip(tid int) {
	setRegister(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
}

// fire reports that the fault has happened. From then on the guest does not wait for
// acknowledgements, which may never come.
func (tr *tracer) fire() {
	if !tr.isFired && tr.fired != nil {
		tr.isFired = true
		close(tr.fired)
	}
}

// repeats reports whether c fails because of an earlier fault that persists: on a full disk,
// every call that needs space fails.
func (tr *tracer) repeats(c *call) bool {
	return tr.fault.persists && tr.faulted != nil && needsSpace(c)
}

func needsSpace(c *call) bool {
	switch c.name {
	case "write", "pwrite64", "mkdirat", "renameat":
		return true
	case "openat":
		return c.creates
	}
	return false
}

// leave carries out the part of the fault that comes after the call, and records the
// call.
func (tr *tracer) leave(tid int, result int64) {
	c := tr.inCall[tid]
	delete(tr.inCall, tid)
	isFaulted := c == tr.faulted
	failsHere := isFaulted && (tr.fault.act == failBefore || tr.fault.act == failAfter)
	failsAgain := !isFaulted && c.n > 0 && tr.repeats(c) && c.n > tr.faulted.n
	switch {
	case isFaulted && (tr.fault.act == killAfter || tr.fault.act == killWithin):
		tr.kill()
	case failsHere || failsAgain:
		errno := tr.fault.errno
		setRegister(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(errno) })
		c.failed, c.again = true, errno == unix.EINTR
	case !isFaulted && tr.isDenied(c):
		errno := tr.denied[c.name]
		setRegister(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(errno) })
		result = -int64(errno)
	}
	c.done = result >= 0
	c.failed = c.failed || !c.done
	tr.calls = append(tr.calls, c)
}

// setRegister changes the registers of a stopped thread. It ignores errors, which occur
// only if the thread has been killed.
func setRegister(tid int, change func(*unix.PtraceRegs)) {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return
	}
	change(&regs)
	_ = unix.PtraceSetRegs(tid, &regs)
}
