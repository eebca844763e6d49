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

	"golang.org/x/sys/unix"
)

// A child is the command of run, in a process group of its own.
type child struct {
	argv      []string
	env       []string
	path      string        // where argv[0] is looked for
	stream    int           // descriptor of ours that it is to have
	number    int           // as this one
	timeout   time.Duration // none if 0
	killAfter time.Duration

	pid      int
	terminal int  // the controlling one; -1 if there is none
	given    bool // the child's group was to have it
}

// An ending is how a child ended.
type ending struct {
	err      error // it could not be started
	status   unix.WaitStatus
	timedOut bool
}

// passed are the signals that reach the child's group through us.
func passed() []os.Signal {
	return []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT}
}

// run starts the child and calls ended when it has ended. Signals that came
// before it was started are the child's too.
func (c *child) run(signals <-chan os.Signal, ended func(ending)) {
	if err := c.start(); err != nil {
		c.takeTerminal()
		ended(ending{err: err})
		return
	}
	go func() {
		how := c.watch(signals)
		c.takeTerminal()
		ended(how)
	}()
}

// start starts the child with our standard streams, what descriptors there are
// below the stream's, and the stream. If we have the terminal, the child's
// group gets it: else it would be stopped when it reads (termios(3), SIGTTIN).
func (c *child) start() error {
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
		attr.Sys.Foreground, attr.Sys.Ctty, c.given = true, c.terminal, true
	}
	c.pid, err = syscall.ForkExec(program, c.argv, attr)
	if err == syscall.ENOEXEC { // a script without #!, as execvp(3)
		c.pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", program}, c.argv[1:]...), attr)
	}
	// It stops who has not the terminal and takes it, or, with stty tostop, says
	// something. The child must not inherit this.
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
		case statErr == nil && !info.IsDir() || errors.Is(statErr, fs.ErrPermission):
			err = syscall.EACCES
		}
	}
	return "", err
}

// watch passes signals on and keeps the time until the child has ended.
func (c *child) watch(signals <-chan os.Signal) (how ending) {
	var late <-chan time.Time
	if c.timeout > 0 {
		late = time.After(c.timeout)
	}
	changed := make(chan bool)
	go c.await(changed)
	for {
		select {
		case s := <-signals:
			c.pass(s.(syscall.Signal))
		case <-late:
			if late = nil; how.timedOut {
				c.kill(unix.SIGKILL)
				continue
			}
			how.timedOut = true
			c.kill(unix.SIGTERM)
			c.kill(unix.SIGCONT) // one that is stopped takes no other
			late = time.After(c.killAfter)
		case stopped := <-changed:
			if stopped {
				c.suspend()
				continue
			}
			return c.reap(how)
		}
	}
}

// await tells when the child was stopped (true) and when it has ended (false).
// It does not reap: until then no other group can have the child's number.
func (c *child) await(changed chan<- bool) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && info.Code == codeStopped:
			unix.Waitid(unix.P_PID, c.pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
			changed <- true
		default:
			changed <- false
			return
		}
	}
}

// codeStopped is CLD_STOPPED of sigaction(2).
const codeStopped = 5

// reap ends what is left of a group whose time was over, and learns how the
// child ended.
func (c *child) reap(how ending) ending {
	if how.timedOut {
		c.kill(unix.SIGKILL)
	}
	for {
		if _, err := unix.Wait4(c.pid, &how.status, 0, nil); err != unix.EINTR {
			return how
		}
	}
}

// kill sends a signal to the child's group.
func (c *child) kill(s syscall.Signal) { _ = unix.Kill(-c.pid, s) }

// pass sends a signal of ours to the child's group.
func (c *child) pass(s syscall.Signal) {
	if s == unix.SIGCONT && c.hasTerminal(unix.Getpgrp()) { // a shell's fg
		_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, c.pid)
	}
	c.kill(s)
}

// suspend stops us with the child, so that the shell that waits for us takes
// the terminal back. SIGCONT of its fg goes on to the child.
func (c *child) suspend() {
	if c.terminal >= 0 {
		_ = unix.Kill(0, unix.SIGSTOP)
	}
}

// hasTerminal reports whether a group has the terminal.
func (c *child) hasTerminal(group int) bool {
	if c.terminal < 0 {
		return false
	}
	has, err := unix.IoctlGetInt(c.terminal, unix.TIOCGPGRP)
	return err == nil && has == group
}

// takeTerminal takes the terminal back from the child's group, for whoever
// comes after us in our own. A child that could not be started had it too.
func (c *child) takeTerminal() {
	if c.hasTerminal(c.pid) || c.given && c.pid == 0 {
		_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, unix.Getpgrp())
	}
}
