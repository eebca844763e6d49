package main

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A command is the program that run starts, in its own process group.
//
// The fields of the first group are set before run and do not change. pid is 0
// until the program has started. Until the program is reaped, no other process or group
// can have its pid.
type command struct {
	argv       []string
	hidden     bool // the arguments are, in details and messages
	env        []string
	path       string         // the $PATH in which argv[0] is looked up
	stderr     int            // the descriptor that becomes its standard error
	stream     int            // the stream's write end
	streamFD   int            // the descriptor of the stream in the program
	readyFD    int            // the descriptor of --ready in the program; 0 if there is none
	readyWrite int            // the write end of the pipe that becomes readyFD
	ready      readyReceiver  // nil without --ready
	timeout    time.Duration  // none if 0
	killAfter  time.Duration  // from SIGTERM to SIGKILL
	signals    chan os.Signal // that this process receives for the program
	umask      int            // of the program

	cannotStart *startError // why the program cannot be started; nil if nothing is known

	pid      int
	reaped   bool
	children chan os.Signal // receives SIGCHLD
	earlier  map[int]uint64 // the start times of the children from before the start

	terminal     int           // the controlling terminal; -1 if there is none
	gaveTerminal bool          // the program was started as the foreground group
	settings     *unix.Termios // of the terminal, before the program had it; nil if it never had

	interrupted    bool // SIGINT has ended the program
	interruptGroup bool // the terminal sent the SIGINT only to the program's group
}

// An exit is how a command ended.
type exit struct {
	err        *startError // it could not be started
	status     unix.WaitStatus
	timedOut   bool
	forwarded  map[syscall.Signal]bool // the signals that run forwarded to it
	terminated bool                    // a SIGTERM that run received too has ended it
}

// forwardedSignals returns the signals that run forwards to the command's group. The
// second line has those that report a crash. os/signal passes on only the ones that another
// process has sent, as systemd's watchdog does: a fault of this program still ends it.
func forwardedSignals() []syscall.Signal {
	return []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT,
		unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGSYS, unix.SIGTRAP, unix.SIGSTKFLT}
}

// run starts the command, and calls ended when the command has ended or could not be
// started. Signals that arrived before the start are forwarded too.
func (c *command) run(ended func(exit)) {
	if c.cannotStart != nil {
		ended(exit{err: c.cannotStart})
		return
	}
	c.earlier = findEarlier()
	if c.ready != nil {
		startOnThread(c.ready.Receive)
	}
	startThreads()
	err := c.start()
	if c.readyFD > 0 {
		unix.Close(c.readyWrite)
	}
	if err != nil {
		c.restoreTerminal(false)
		ended(exit{err: c.explainStart(err)})
		return
	}
	go func() { ended(c.watch()) }()
}

// start starts the command with the standard streams of this process, the stream,
// and the descriptors below it. The umask is changed meanwhile; nothing else in
// this process creates a file then. If the group of this process has the terminal,
// the command's group gets it: otherwise reading from the terminal would stop the
// command (termios(3), SIGTTIN).
func (c *command) start() error {
	c.terminal = -1
	program, err := lookUp(c.argv[0], c.path)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Env: c.env, Sys: &syscall.SysProcAttr{Setpgid: true}}
	attr.Files = c.files()
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		c.terminal = fd
	}
	if c.hasTerminal(unix.Getpgrp()) {
		c.saveSettings()
		attr.Sys.Foreground, attr.Sys.Ctty, c.gaveTerminal = true, c.terminal, true
	}
	c.children = make(chan os.Signal, 1)
	signal.Notify(c.children, unix.SIGCHLD)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // never fails (Linux 3.4)
	defer unix.Umask(unix.Umask(c.umask))
	c.pid, err = syscall.ForkExec(program, c.argv, attr)
	if err == syscall.ENOEXEC && !isELF(program) && !hasCutInterpreter(program) { // a script without #!, as execvp(3)
		c.pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", program}, c.argv[1:]...), attr)
	}
	// SIGTTOU stops a background process that gives itself the terminal or, with
	// stty tostop, writes to it. The command must not inherit that it is ignored.
	signal.Ignore(unix.SIGTTOU)
	return err
}

// files returns what the descriptors of the command are copies of, from 0 on: the inherited
// ones, standard error, the stream, and that of --ready, which replaces an inherited one.
func (c *command) files() []uintptr {
	files := make([]uintptr, max(c.streamFD, c.readyFD)+1)
	for fd := range files {
		files[fd] = uintptr(fd)
		if fd > 2 && !isInherited(fd) {
			files[fd] = ^uintptr(0) // closed
		}
	}
	files[2], files[c.streamFD] = uintptr(c.stderr), uintptr(c.stream)
	if c.readyFD > 0 {
		files[c.readyFD] = uintptr(c.readyWrite)
	}
	return files
}

// lookUp finds a program as execvp(3) does. If it finds only files that may not be
// executed, it returns the last of them and EACCES.
func lookUp(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var err error = syscall.ENOENT
	denied := ""
	for _, dir := range filepath.SplitList(path) {
		program := "./" + name
		if dir != "" {
			program = dir + "/" + name
		}
		info, statErr := os.Stat(program)
		switch {
		case statErr == nil && !info.IsDir() && unix.Access(program, unix.X_OK) == nil:
			return program, nil
		case (statErr == nil && !info.IsDir()) || errors.Is(statErr, fs.ErrPermission):
			denied, err = program, syscall.EACCES
		}
	}
	return denied, err
}

// watch forwards signals, reaps orphans and enforces the time limit until the command has
// ended and, after a timeout, all its descendants have. The limit does not include the
// time for which job control has stopped the command. Otherwise the command could be over
// its limit when the user continues it with fg.
func (c *command) watch() exit {
	how := exit{forwarded: map[syscall.Signal]bool{}}
	deadline := time.Now().Add(c.timeout)
	timer := time.NewTimer(c.timeout)
	if c.timeout == 0 {
		timer.Stop()
	}
	killPause := minKillPause
	for {
		select {
		case s := <-c.signals:
			c.forward(s.(syscall.Signal))
			how.forwarded[s.(syscall.Signal)] = true
		case <-timer.C:
			if how.timedOut {
				c.kill(unix.SIGKILL)
				c.killAll()
				timer.Reset(killPause)
				killPause = min(2*killPause, maxKillPause)
				continue
			}
			how.timedOut = true
			c.terminate()
			deadline = time.Now().Add(c.killAfter)
			timer.Reset(c.killAfter)
		case <-c.children:
			c.reapOrphans()
			s, ended := c.change()
			if ended {
				c.reap(&how, deadline)
				return how
			}
			if s == 0 {
				continue
			}
			before := time.Now()
			c.followStop(s)
			deadline = deadline.Add(time.Since(before))
			if timer.Stop() {
				timer.Reset(time.Until(deadline))
			}
		}
	}
}

// change returns the signal that has stopped the command since the last call, 0 if it was
// not stopped, and whether it has ended. It does not reap the command: until that is
// done, the kernel gives its process ID to no other process or group.
func (c *command) change() (stopped syscall.Signal, ended bool) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
		child := (*childInfo)(unsafe.Pointer(&info))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && child.pid == 0:
			return 0, false
		case err == nil && info.Code == codeStopped:
			stopped = syscall.Signal(child.status)
			_ = unix.Waitid(unix.P_PID, c.pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
			return stopped, false
		}
		return 0, true
	}
}

// codeStopped is CLD_STOPPED of sigaction(2).
const codeStopped = 5

// reap sets how the command has ended. After a timeout it also ends the descendants, by
// SIGKILL at the deadline. If /proc does not show them, it kills the rest of the group
// while that still has its ID.
func (c *command) reap(how *exit, deadline time.Time) {
	if how.timedOut {
		if _, err := c.descendants(); err != nil {
			c.kill(unix.SIGKILL)
		}
	}
	c.prepareReap()
	for {
		if _, err := unix.Wait4(c.pid, &how.status, 0, nil); err != unix.EINTR {
			break
		}
	}
	c.reaped = true
	hadTerminal := c.restoreTerminal(how.timedOut || how.status.Signaled())
	c.noteInterrupt(*how, hadTerminal)
	if how.timedOut {
		c.endDescendants(deadline)
		c.restoreTerminal(true)
	}
}

// kill sends a signal to the command's group.
func (c *command) kill(s syscall.Signal) { _ = unix.Kill(-c.pid, s) }

// forward sends a received signal to the command's group.
func (c *command) forward(s syscall.Signal) {
	if s == unix.SIGCONT && c.hasTerminal(unix.Getpgrp()) { // a shell's fg
		c.giveTerminal()
	}
	c.kill(s)
}
