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
// until the program was started, and is not reaped before awaitChanges has
// reported its end: until then the pid belongs to no other process.
type command struct {
	argv      []string
	env       []string
	path      string         // the $PATH in which argv[0] is looked up
	stream    int            // our descriptor of the stream's write end
	number    int            // the number that it has in the program
	timeout   time.Duration  // none if 0
	killAfter time.Duration  // from SIGTERM to SIGKILL
	signals   chan os.Signal // that we receive for the program
	umask     int            // of the program

	pid          int
	terminal     int  // the controlling terminal; -1 if there is none
	gaveTerminal bool // the program was started as the foreground group
}

// An exit is how a command ended.
type exit struct {
	err      error // it could not be started
	status   unix.WaitStatus
	timedOut bool
}

// forwardedSignals are the signals that we forward to the command's group.
func forwardedSignals() []syscall.Signal {
	return []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT}
}

// run starts the command and calls ended when it has ended. Signals that came
// before it was started are the command's too.
func (c *command) run(ended func(exit)) {
	if err := c.start(); err != nil {
		c.takeTerminalBack()
		ended(exit{err: err})
		return
	}
	go func() {
		how := c.watch()
		c.takeTerminalBack()
		ended(how)
	}()
}

// start starts the command with our standard streams, the stream, and the
// descriptors below it. The umask is changed meanwhile: nothing else in this
// process creates a file then. If our group has the terminal, the command's group
// gets it: otherwise the command would be stopped when it reads from it
// (termios(3), SIGTTIN).
func (c *command) start() error {
	c.terminal = -1
	program, err := lookUp(c.argv[0], c.path)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Env: c.env, Sys: &syscall.SysProcAttr{Setpgid: true}}
	for fd := range c.number {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	attr.Files = append(attr.Files, uintptr(c.stream))
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		c.terminal = fd
	}
	if c.hasTerminal(unix.Getpgrp()) {
		attr.Sys.Foreground, attr.Sys.Ctty, c.gaveTerminal = true, c.terminal, true
	}
	defer unix.Umask(unix.Umask(c.umask))
	c.pid, err = syscall.ForkExec(program, c.argv, attr)
	if err == syscall.ENOEXEC { // a script without #!, as execvp(3)
		c.pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", program}, c.argv[1:]...), attr)
	}
	// SIGTTOU stops a background process that takes the terminal back, or, with
	// stty tostop, writes to it. The command must not inherit this.
	signal.Ignore(unix.SIGTTOU)
	return err
}

// lookUp finds a program as execvp(3) does.
func lookUp(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var err error = syscall.ENOENT
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
			err = syscall.EACCES
		}
	}
	return "", err
}

// watch forwards signals and enforces the time limit until the command has ended.
// Time in which we are stopped with the command does not count, so a shell's fg
// never ends a command.
func (c *command) watch() (how exit) {
	due := time.Now().Add(c.timeout)
	late := time.NewTimer(c.timeout)
	if c.timeout == 0 {
		late.Stop()
	}
	changed := make(chan syscall.Signal)
	go c.awaitChanges(changed)
	for {
		select {
		case s := <-c.signals:
			c.forward(s.(syscall.Signal))
		case <-late.C:
			if how.timedOut {
				c.kill(unix.SIGKILL)
				continue
			}
			how.timedOut = true
			c.kill(unix.SIGTERM)
			c.kill(unix.SIGCONT) // a stopped process handles no other signal
			due = time.Now().Add(c.killAfter)
			late.Reset(c.killAfter)
		case s := <-changed:
			if s == 0 {
				return c.reap(how)
			}
			before := time.Now()
			c.followStop(s)
			due = due.Add(time.Since(before))
			if late.Stop() {
				late.Reset(time.Until(due))
			}
		}
	}
}

// awaitChanges sends the signal that stopped the command each time it is stopped,
// and 0 when it has ended. It does not reap: until then no other group can have
// the command's number.
func (c *command) awaitChanges(changed chan<- syscall.Signal) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && info.Code == codeStopped:
			s := (*stopInfo)(unsafe.Pointer(&info)).status
			unix.Waitid(unix.P_PID, c.pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
			changed <- syscall.Signal(s)
		default:
			changed <- 0
			return
		}
	}
}

// A stopInfo is the part that is used here of what waitid(2) writes to a siginfo_t.
type stopInfo struct {
	_        [3]int32   // si_signo, si_errno, si_code
	_        [0]uintptr // the rest is aligned like a pointer
	pid, uid int32
	status   int32 // the signal that stopped the command
}

// codeStopped is CLD_STOPPED of sigaction(2).
const codeStopped = 5

// reap kills what is left of a group that took too long, and returns how the
// command has ended.
func (c *command) reap(how exit) exit {
	if how.timedOut {
		c.kill(unix.SIGKILL)
	}
	for {
		if _, err := unix.Wait4(c.pid, &how.status, 0, nil); err != unix.EINTR {
			return how
		}
	}
}

// kill sends a signal to the command's group.
func (c *command) kill(s syscall.Signal) { _ = unix.Kill(-c.pid, s) }

// forward sends a signal that we have received to the command's group.
func (c *command) forward(s syscall.Signal) {
	if s == unix.SIGCONT && c.hasTerminal(unix.Getpgrp()) { // a shell's fg
		_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, c.pid)
	}
	c.kill(s)
}
