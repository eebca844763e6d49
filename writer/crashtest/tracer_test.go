//go:build linux && amd64

package crashtest

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An action is what happens at a point.
type action string

// The actions.
const (
	nothing    action = "nothing"
	killBefore action = "kill before"
	killAfter  action = "kill after"
	tear       action = "tear"        // part of a write lands, then the kill
	shorten    action = "shorten"     // part of a write lands, and the program is told
	failBefore action = "fail before" // an error, and no effect
	failAfter  action = "fail after"  // an error, though it took effect
	hooked     action = "hook"        // something happens before the call
)

// A fault is an action at the Nth counted call.
type fault struct {
	at    int
	act   action
	errno unix.Errno
	stays bool   // later calls of the same kind fail as well
	part  uint64 // bytes of a write that land
	hook  func(pid int)
	label string // of the hook
}

func (f fault) String() string {
	text := fmt.Sprintf("%s call %d", f.act, f.at)
	if f.errno != 0 {
		text += " with " + unix.ErrnoName(f.errno)
	}
	if f.stays {
		text += ", from there on"
	}
	if f.part > 0 {
		text += fmt.Sprintf(", %d bytes land", f.part)
	}
	return text + f.label
}

// A tracer runs one program and carries out one fault. It must be used from a
// goroutine that is locked to its thread, for the kernel takes ptrace
// requests from the tracing thread only.
type tracer struct {
	watch      string // the watched directory, its real path
	fault      fault
	limit      time.Duration // a program that runs longer is killed, and was blocked
	fired      chan struct{} // closed when the fault has been carried out
	signatures map[uint64]signature

	pid     int
	count   int
	done    bool // fired is closed
	known   map[int]bool
	flying  map[int]*call // between entry and exit, by thread
	faulted *call         // the call that the fault met
	calls   []*call       // those that have ended, and marks, in order
}

// An exit is how a traced program ended.
type exit struct {
	code    int // -1 if it was killed
	blocked bool
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// run starts the program stopped, and traces it to its end. It has a process
// group of its own and only children of this thread are waited for, so that
// several tracers, and everybody else's children, keep apart.
func (tr *tracer) run(argv []string, attr *os.ProcAttr) (exit, error) {
	attr.Sys = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	process, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		return exit{}, err
	}
	defer process.Release()
	tr.pid = process.Pid
	tr.known, tr.flying = map[int]bool{tr.pid: true}, map[int]*call{}
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
	e := exit{code: -1, blocked: !timer.Stop()}
	if status.Exited() {
		e.code = status.ExitStatus()
	}
	return e, err
}

func (tr *tracer) kill() { _ = unix.Kill(tr.pid, unix.SIGKILL) }

// wait is wait4 for the children of this thread.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		tid, err := unix.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if err != unix.EINTR {
			return tid, err
		}
	}
}

// loop answers every stop of every thread until the program has ended. The
// kernel reports the first thread last.
func (tr *tracer) loop() (status unix.WaitStatus, _ error) {
	for {
		tid, err := wait(-tr.pid, &status)
		switch {
		case err != nil:
			return status, os.NewSyscallError("wait4", err)
		case status.Stopped():
			signal := tr.stop(tid, status)
			// ESRCH: it was killed meanwhile, and its end will be reported.
			if err := unix.PtraceSyscall(tid, signal); err != nil && err != unix.ESRCH {
				return status, os.NewSyscallError("ptrace", err)
			}
		case tid == tr.pid:
			return status, nil
		}
	}
}

// stop deals with one stop and returns the signal to go on with.
func (tr *tracer) stop(tid int, status unix.WaitStatus) int {
	signal := status.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80:
		tr.syscall(tid)
		return 0
	case signal == unix.SIGTRAP && status.TrapCause() > 0:
		return 0
	case signal == unix.SIGSTOP && !tr.known[tid]:
		tr.known[tid] = true // every new thread begins with one
		return 0
	}
	return int(signal) // SIGURG, with which Go preempts, and the hooks' own
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
	case info.op == atExit && tr.flying[tid] != nil:
		tr.leave(tid, int64(info.nr))
	}
}

// enter counts a call and carries out what comes before it.
func (tr *tracer) enter(tid int, info *syscallInfo) {
	c := tr.decode(tid, info.nr, info.args)
	if c == nil {
		return
	}
	tr.flying[tid] = c
	if c.name == "ack" {
		return
	}
	tr.count++
	c.n = tr.count
	if tr.count == tr.fault.at {
		tr.faulted = c
		tr.begin(tid, c)
	} else if tr.repeats(c) {
		setRegister(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
	}
}

// begin carries out the fault's part at the entry.
func (tr *tracer) begin(tid int, c *call) {
	switch f := &tr.fault; f.act {
	case killBefore:
		// A call number that there is not, in case the kernel goes on with it.
		setRegister(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
		tr.kill()
	case failBefore:
		setRegister(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
	case tear, shorten:
		setRegister(tid, func(r *unix.PtraceRegs) { r.Rdx = f.part })
	case hooked:
		f.hook(tr.pid)
	}
	tr.fire()
}

// fire tells that the fault has happened; what the program does not tell any
// more must not be waited for.
func (tr *tracer) fire() {
	if !tr.done && tr.fired != nil {
		tr.done = true
		close(tr.fired)
	}
}

// repeats reports whether a fault that stays meets c as well: a disk that is
// full is so for every call that needs room.
func (tr *tracer) repeats(c *call) bool {
	return tr.fault.stays && tr.faulted != nil && needsRoom(c)
}

func needsRoom(c *call) bool {
	switch c.name {
	case "write", "pwrite64", "mkdirat", "renameat":
		return true
	case "openat":
		return c.creates
	}
	return false
}

// leave carries out the fault's part at the exit, and notes the call.
func (tr *tracer) leave(tid int, result int64) {
	c := tr.flying[tid]
	delete(tr.flying, tid)
	failsHere := c == tr.faulted && (tr.fault.act == failBefore || tr.fault.act == failAfter)
	switch {
	case c == tr.faulted && (tr.fault.act == killAfter || tr.fault.act == tear):
		tr.kill()
	case failsHere || c != tr.faulted && c.n > 0 && tr.repeats(c) && c.n > tr.faulted.n:
		errno := tr.fault.errno
		setRegister(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(errno) })
		c.failed, c.again = true, errno == unix.EINTR
	}
	c.took = result >= 0
	c.failed = c.failed || !c.took
	tr.calls = append(tr.calls, c)
}

// setRegister changes the registers of a stopped thread. It can fail only if
// the thread was killed.
func setRegister(tid int, change func(*unix.PtraceRegs)) {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return
	}
	change(&regs)
	_ = unix.PtraceSetRegs(tid, &regs)
}
