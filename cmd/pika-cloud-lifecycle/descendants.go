package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A descendant is a process that the command has started, or that such a process has
// started, in any group or session. This process is a subreaper
// (PR_SET_CHILD_SUBREAPER(2const)), so it becomes the parent of every descendant whose
// parent has ended. The start time, in clock ticks, tells it from a later process with
// the same ID.
type descendant struct {
	pid   int
	start uint64
	group int
}

// A processStat is what /proc/PID/stat has about a process (proc_pid_stat(5)).
type processStat struct {
	parent, group, threads int
	isEnding               bool // it is a zombie, or its main thread ends
	start                  uint64
}

var (
	// errProcHidden reports that /proc does not show all descendants: it is not mounted,
	// belongs to another PID namespace, or hides the processes of other users (proc(5),
	// hidepid).
	errProcHidden = errors.New("/proc does not show all processes")
	// errNoProcess reports that a process has ended.
	errNoProcess = errors.New("no such process")
)

// readStat reads a stat file of /proc.
func readStat(path string) (s processStat, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return s, errNoProcess
	}
	if err != nil {
		return s, err
	}
	// The name of the program comes first, in parentheses, and may contain others.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return s, fmt.Errorf("%s: %q", path, text)
	}
	const exiting = 4 // PF_EXITING
	flags, flagsErr := strconv.ParseUint(fields[6], 10, 64)
	s.isEnding = flags&exiting != 0 || fields[0] == "Z" || fields[0] == "X"
	var errs [4]error
	s.parent, errs[0] = strconv.Atoi(fields[1])
	s.group, errs[1] = strconv.Atoi(fields[2])
	s.threads, errs[2] = strconv.Atoi(fields[17])
	s.start, errs[3] = strconv.ParseUint(fields[19], 10, 64)
	return s, errors.Join(append(errs[:], flagsErr)...)
}

func readProcess(pid int) (processStat, error) { return readStat(fmt.Sprintf("/proc/%d/stat", pid)) }

// hasEnded reports whether all threads of a process have ended or are ending. If only the
// main thread has ended, the process is still running.
func hasEnded(pid int, s processStat) bool {
	if !s.isEnding || s.threads <= 1 {
		return s.isEnding
	}
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	names, _ := readNames(tasks)
	for _, name := range names {
		task, err := readStat(tasks + "/" + name + "/stat")
		if err == nil && !task.isEnding {
			return false
		}
	}
	return true
}

// isAncestor reports whether a process has started this one, directly or not, as far as /proc
// shows it.
func isAncestor(pid int) bool {
	for at := os.Getppid(); at > 1; {
		if at == pid {
			return true
		}
		s, err := readProcess(at)
		if err != nil {
			return false
		}
		at = s.parent
	}
	return false
}

// readNames returns the names in a directory.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// scanAttempts is how often readProcesses reads /proc if processes end meanwhile.
const scanAttempts = 10

// readProcesses returns all processes. If a parent of one ended while /proc was read,
// readProcesses reads it again: the process then has another parent.
func readProcesses() (all map[int]processStat, err error) {
	for range scanAttempts {
		names, err := readNames("/proc")
		if err != nil {
			return nil, errProcHidden
		}
		all = make(map[int]processStat, len(names))
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			s, err := readProcess(pid)
			if err == errNoProcess {
				continue
			}
			if err != nil {
				return nil, errProcHidden
			}
			all[pid] = s
		}
		if hasAllParents(all) {
			break
		}
	}
	return all, nil
}

func hasAllParents(all map[int]processStat) bool {
	for _, s := range all {
		if _, ok := all[s.parent]; !ok && s.parent != 0 {
			return false
		}
	}
	return true
}

// descendants returns the descendants that have not ended, in no particular order.
// Children that this process had before it started the command, because a script has
// executed it, do not count, nor do theirs.
//
// One look at /proc may miss a process that is started meanwhile and whose parent ends. But
// then this process is its parent, so descendants looks again while it has children.
func (c *command) descendants() (all []descendant, err error) {
	for range scanAttempts {
		c.reapOrphans()
		if !c.mayHaveDescendants() {
			return nil, nil
		}
		all, err = c.findDescendants()
		if err != nil || len(all) > 0 || len(c.earlier) > 0 {
			break
		}
	}
	return all, err
}

// mayHaveDescendants reports whether this process has a child. A descendant whose parent has
// ended is a child, so without a child there are no descendants.
func (c *command) mayHaveDescendants() bool {
	_, err := endedChild()
	return err != unix.ECHILD
}

// findDescendants looks for descendants in /proc.
func (c *command) findDescendants() (all []descendant, err error) {
	if !isOurProc() {
		return nil, errProcHidden
	}
	if _, err := readProcess(1); err != nil {
		return nil, errProcHidden
	}
	processes, err := readProcesses()
	if err != nil {
		return nil, err
	}
	find := func(pid int) (processStat, error) { return processes[pid], nil }
	for pid, s := range processes {
		is, _ := c.isDescendant(pid, len(processes), find)
		if is && !hasEnded(pid, s) {
			all = append(all, descendant{pid, s.start, s.group})
		}
	}
	return all, nil
}

// isOurProc reports whether /proc is that of the PID namespace of this process.
func isOurProc() bool {
	self, _ := os.Readlink("/proc/self")
	return self == strconv.Itoa(os.Getpid())
}

// isDescendant reports whether a process is a descendant. It looks at up to limit processes,
// because the IDs may be inconsistent, and returns the error of find.
func (c *command) isDescendant(pid, limit int, find func(pid int) (processStat, error)) (bool, error) {
	us := os.Getpid()
	for range limit {
		if pid <= 0 || pid == us {
			break
		}
		s, err := find(pid)
		switch {
		case err != nil:
			return false, err
		case c.earlier[pid] == s.start && s.start != 0:
			return false, nil
		case s.parent == us:
			return true, nil
		}
		pid = s.parent
	}
	return false, nil
}

// findEarlier returns the start times of the children that this process has.
func findEarlier() map[int]uint64 {
	if _, err := endedChild(); err == unix.ECHILD {
		return nil
	}
	processes, _ := readProcesses()
	earlier := map[int]uint64{}
	for pid, s := range processes {
		if s.parent == os.Getpid() {
			earlier[pid] = s.start
		}
	}
	return earlier
}

// signal sends signals to a descendant. The pidfd makes sure that no other process that
// has got its process ID receives them.
func (d descendant) signal(signals ...syscall.Signal) {
	pidfd, err := unix.PidfdOpen(d.pid, 0)
	if err == nil {
		defer unix.Close(pidfd)
	}
	s, statErr := readProcess(d.pid)
	if statErr != nil || s.start != d.start {
		return
	}
	for _, sig := range signals {
		if err == nil {
			_ = unix.PidfdSendSignal(pidfd, sig, nil, 0)
		} else { // Linux before 5.3, or too many open files
			_ = unix.Kill(d.pid, sig)
		}
	}
}

// terminate sends SIGTERM to the command's group and to the descendants that have left
// it. Each process gets one: some programs skip their cleanup at a second one. Processes
// that are started later get none, because they may be part of a cleanup.
func (c *command) terminate() {
	all, _ := c.descendants()
	c.kill(unix.SIGTERM)
	c.kill(unix.SIGCONT) // a stopped process handles no other signal
	for _, d := range all {
		if d.group != c.pid {
			d.signal(unix.SIGTERM, unix.SIGCONT)
		}
	}
}

// killAll sends SIGKILL to the descendants. Those that are started meanwhile may not get
// it, so it must be called until there are none.
func (c *command) killAll() {
	all, _ := c.descendants()
	for _, d := range all {
		d.signal(unix.SIGKILL)
	}
}

// The pauses between two calls of killAll.
const (
	minKillPause = 10 * time.Millisecond
	maxKillPause = time.Second
)

// unkillableLimit is how long run waits for descendants to end after SIGKILL. Those of
// other users may not get the signal, and those that wait for a device may not end.
const unkillableLimit = 5 * time.Second

// endDescendants waits until all descendants have ended, and kills them at the deadline,
// or when the user or a service manager requests a stop. The command has already ended.
func (c *command) endDescendants(deadline time.Time) {
	pause := minKillPause
	for {
		all, err := c.descendants()
		isOver := len(all) == 0 && (len(c.earlier) > 0 || !c.mayHaveDescendants())
		if err != nil || isOver || time.Since(deadline) > unkillableLimit {
			return
		}
		wait := time.Until(deadline)
		if wait <= 0 {
			for _, d := range all {
				d.signal(unix.SIGKILL)
			}
			wait, pause = pause, min(2*pause, maxKillPause)
		}
		select {
		case <-c.children:
		case s := <-c.signals:
			if isStop(s) && time.Now().Before(deadline) {
				deadline = time.Now()
			}
		case <-time.After(wait):
		}
	}
}

// addLeftRunning adds the number of descendants that will be left to the details of the
// result, unless it is 0. It returns the number; 0 if it is unknown.
func (c *command) addLeftRunning(details *strictjson.Object) int {
	if os.Getpid() == 1 {
		return 0 // the kernel kills them when this process ends (pid_namespaces(7))
	}
	left, err := c.descendants()
	switch {
	case err != nil:
		details.Text("left_running", "unknown")
	case len(left) > 0:
		details.Int("left_running", int64(len(left)))
	}
	return len(left)
}

// A childInfo is the part of a siginfo_t that is used here (waitid(2)).
type childInfo struct {
	_        [3]int32   // si_signo, si_errno, si_code
	_        [0]uintptr // the rest is aligned like a pointer
	pid, uid int32
	status   int32 // the signal that stopped the child
}

// endedChild returns the process ID of a child that has ended and was not reaped; 0 if
// there is none. The error is ECHILD if this process has no children, and then there are no
// descendants either.
func endedChild() (pid int, err error) {
	for {
		var info unix.Siginfo
		err = unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return int((*childInfo)(unsafe.Pointer(&info)).pid), err
		}
	}
}

// reapOrphans reaps all children that have ended, but not the command, whose status
// would be lost. If the command has ended too, it may be the only one that waitid(2)
// reports; the others are reaped when reapOrphans is called after the command is reaped.
func (c *command) reapOrphans() {
	for {
		pid, err := endedChild()
		if err != nil || pid == 0 || (pid == c.pid && !c.reaped) {
			return
		}
		c.prepareReap()
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// prepareReap handles what a child has sent, while /proc still shows whose child it is.
func (c *command) prepareReap() {
	if c.ready != nil {
		c.ready.Drain()
	}
}
