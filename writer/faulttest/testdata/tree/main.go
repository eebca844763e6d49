// Command tree is a process of a random process tree. Its argument is its plan, a JSON
// object (see planNode in ../../trees_test.go). It starts the processes below it, and
// prints nothing.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type node struct {
	ID        int
	Place     string
	Ignore    []syscall.Signal
	Handle    []syscall.Signal
	Note      []syscall.Signal
	Code      int
	OnSignal  *node
	Close     bool
	StopFirst bool
	Children  []*node
	Reports   []string
	Gone      []int
	End       string
	Signal    syscall.Signal
	Reap      bool
}

const (
	planVar   = "PIKA_TREE"            // MARK.ID of the process
	dirVar    = "PIKA_TREE_DIR"        // each process writes its ID there
	upFD      = 10                     // a process writes a byte when everything below it is in place
	hangLimit = 5 * time.Minute        // if the test is killed
	poll      = 500 * time.Microsecond // between two looks at another process
)

func main() {
	debug.SetGCPercent(-1)
	var n node
	must(json.Unmarshal([]byte(os.Args[1]), &n))
	unix.CloseOnExec(upFD)
	must(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	n.setSignals()
	if n.Place == "setsid" {
		_, err := unix.Setsid()
		must(err)
	}
	n.writeFile(strconv.Itoa(n.ID), strconv.Itoa(os.Getpid()))
	if n.Close {
		for fd := range upFD {
			if isInherited(fd) {
				unix.Close(fd)
			}
		}
	}
	if n.StopFirst {
		stop()
	}
	parent := os.Getppid()
	for _, child := range n.Children {
		n.start(child)
	}
	for _, line := range n.Reports {
		report(line + "\n")
	}
	for _, id := range n.Gone {
		awaitGone(id)
	}
	n.writeFile("up."+strconv.Itoa(n.ID), "")
	unix.Write(upFD, []byte{0}) // the first process has none
	n.end(parent)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// setSignals sets the default action of each signal that the plan does not name: the Go
// runtime would print a stack at some signals.
func (n *node) setSignals() {
	caught := slices.Concat(n.Handle, n.Note)
	if len(caught) > 0 {
		received := make(chan os.Signal, 64)
		for _, s := range caught {
			signal.Notify(received, s)
		}
		go func() {
			for s := <-received; slices.Contains(n.Note, s.(syscall.Signal)); s = <-received {
				must(os.WriteFile(filepath.Join(dir(), "noted"), nil, 0o600))
			}
			if n.OnSignal != nil {
				n.start(n.OnSignal)
			}
			os.Exit(n.Code)
		}()
	}
	for s := syscall.Signal(1); s <= 64; s++ {
		if slices.Contains(caught, s) {
			continue
		}
		var action [4]uintptr // the struct of rt_sigaction(2); 0 is the default, 1 ignores
		if slices.Contains(n.Ignore, s) {
			action[0] = 1
		}
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

func dir() string { return os.Getenv(dirVar) }

// writeFile creates the file with its content in one step.
func (n *node) writeFile(name, content string) {
	temporary := filepath.Join(dir(), "new."+strconv.Itoa(n.ID))
	must(os.WriteFile(temporary, []byte(content), 0o600))
	must(os.Rename(temporary, filepath.Join(dir(), name)))
}

// streamFD returns the descriptor of the stream; -1 if this process did not inherit it.
func streamFD() int {
	fd, err := strconv.Atoi(os.Getenv("PIKA_LIFECYCLE_FD"))
	must(err)
	if !isInherited(fd) {
		return -1
	}
	return fd
}

// isInherited reports whether a descriptor is open and is not one of the Go runtime, which
// have FD_CLOEXEC.
func isInherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// report writes one line to the stream.
func report(line string) {
	if fd := streamFD(); fd >= 0 {
		_, err := unix.Write(fd, []byte(line))
		must(err)
	}
}

// start starts a process, and returns when everything below it is in place or it has
// ended.
func (n *node) start(child *node) {
	pid, up := n.fork(child)
	if child.StopFirst {
		resume(pid)
	}
	for {
		_, err := unix.Read(up, make([]byte, 1))
		if err != unix.EINTR {
			break
		}
	}
	unix.Close(up)
	child.awaitEnd(pid)
}

// fork starts a process. It returns its process ID, and the read end of its descriptor upFD.
func (n *node) fork(child *node) (pid, up int) {
	plan, err := json.Marshal(child)
	must(err)
	var pipe [2]int
	must(unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	const closed = ^uintptr(0)
	files := slices.Repeat([]uintptr{closed}, upFD+1)
	for fd := range 3 {
		if !n.Close {
			files[fd] = uintptr(fd)
		}
	}
	if fd := streamFD(); fd >= 0 {
		files[fd] = uintptr(fd)
	}
	files[upFD] = uintptr(pipe[1])
	mark, _, _ := bytes.Cut([]byte(os.Getenv(planVar)), []byte("."))
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return len(v) > len(planVar) && v[:len(planVar)+1] == planVar+"=" })
	env = append(env, planVar+"="+string(mark)+"."+strconv.Itoa(child.ID))
	attr := &syscall.SysProcAttr{Setpgid: child.Place == "setpgid", Setsid: child.Place == "new session"}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{os.Args[0], string(plan)}, &syscall.ProcAttr{Env: env, Files: files, Sys: attr})
	must(err)
	unix.Close(pipe[1])
	return pid, pipe[0]
}

// resume waits until a child has stopped, and continues it.
func resume(pid int) {
	var status unix.WaitStatus
	_, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil)
	for err == unix.EINTR {
		_, err = unix.Wait4(pid, &status, unix.WUNTRACED, nil)
	}
	must(err)
	if status.Stopped() { // otherwise another process has ended it
		must(unix.Kill(pid, unix.SIGCONT))
	}
}

// awaitEnd waits until a child that ends or stops by itself has done so.
func (n *node) awaitEnd(pid int) {
	options := unix.WEXITED | unix.WNOWAIT // an ended child stays a zombie
	switch {
	case n.End == "stop":
		options |= unix.WSTOPPED
	case n.End != "exit" && n.End != "kill":
		return
	case n.Reap:
		options = unix.WEXITED
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, options, nil)
		if err != unix.EINTR {
			must(err)
			return
		}
	}
}

// awaitGone waits until a process has ended; a zombie has.
func awaitGone(id int) {
	pid, err := os.ReadFile(filepath.Join(dir(), strconv.Itoa(id)))
	must(err)
	for {
		stat, err := os.ReadFile("/proc/" + string(pid) + "/stat")
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		fields := strings.Fields(string(rest))
		if err != nil || len(fields) < 18 || ((fields[0] == "Z" || fields[0] == "X") && fields[17] <= "1") { // and no thread is left (proc_pid_stat(5))
			return
		}
		time.Sleep(poll)
	}
}

// stop stops this process. A signal to the process could stop another thread first, while
// this one continues.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must(unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP))
}

// end ends the process as planned, or continues until it is killed.
func (n *node) end(parent int) {
	switch n.End {
	case "exit":
		os.Exit(n.Code)
	case "kill":
		unix.Kill(os.Getpid(), n.Signal)
	case "kill group":
		unix.Kill(0, n.Signal)
	case "stop":
		stop()
	case "orphan":
		for os.Getppid() == parent {
			time.Sleep(poll)
		}
		os.Exit(n.Code)
	case "eat memory":
		var all [][]byte
		for {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
	}
	time.Sleep(hangLimit)
}
