//go:build linux && amd64

package powerloss

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer runs a program and stops all that is going on at the Nth call that
// changes what is on the disk. Such calls are counted over all threads. It must
// be used from a goroutine that is locked to its thread, for the kernel takes
// ptrace requests from the tracing thread only.
type tracer struct {
	root string // of the disk
	at   int
	lose func() error

	pid   int
	known map[int]bool // threads
	count int
	err   error // of lose
}

// killed is the exit code of a program that was killed.
const killed = -1

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// run runs the program to its end, or to the Nth call, and returns its exit
// code. It has a process group of its own and only this thread's children are
// waited for, so that several tracers keep apart.
func (tr *tracer) run(argv []string, files []*os.File) (code int, err error) {
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: "/", Env: quiet(), Files: files,
		Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true}})
	if err != nil {
		return 0, err
	}
	defer process.Release()
	tr.pid, tr.known = process.Pid, map[int]bool{process.Pid: true}
	var status unix.WaitStatus
	if _, err := wait(tr.pid, &status); err != nil {
		return 0, err
	}
	if err := unix.PtraceSetOptions(tr.pid, traceOptions); err != nil {
		return 0, os.NewSyscallError("ptrace", err)
	}
	if err := unix.PtraceSyscall(tr.pid, 0); err != nil {
		return 0, os.NewSyscallError("ptrace", err)
	}
	status, err = tr.loop()
	if status.Exited() {
		return status.ExitStatus(), err
	}
	return killed, err
}

// quiet keeps Go's runtime from doing anything by itself, so that a run makes
// the same calls each time.
func quiet() []string { return []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off"} }

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
			return status, tr.err
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
	return int(signal)
}

// syscallInfo is struct ptrace_syscall_info (ptrace(2)).
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
}

const atEntry = 1

// syscall counts a call that is about to be made. At the Nth the power goes and
// the program with it: SIGKILL comes before the call is made.
func (tr *tracer) syscall(tid int) {
	var info syscallInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != atEntry {
		return
	}
	if !changes(&info) || !tr.onDisk(&info) {
		return
	}
	if tr.count++; tr.count == tr.at {
		tr.err = tr.lose()
		_ = unix.Kill(tr.pid, unix.SIGKILL)
	}
}

// changes reports whether a call changes a file or a directory, or makes a
// change durable.
func changes(info *syscallInfo) bool {
	switch info.nr {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FCHMOD,
		unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT:
		return true
	case unix.SYS_OPENAT:
		return info.args[2]&unix.O_CREAT != 0
	}
	return false
}

// onDisk reports whether the call's descriptor is of a file on the disk. A
// directory is made by its path, and the program makes none elsewhere.
func (tr *tracer) onDisk(info *syscallInfo) bool {
	if info.nr == unix.SYS_MKDIRAT {
		return true
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, int32(info.args[0])))
	return err == nil && strings.HasPrefix(link+"/", tr.root+"/")
}
