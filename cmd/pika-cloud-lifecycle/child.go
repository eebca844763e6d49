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

// A child is the command of run, in a process group of its own.
type child struct {
	argv      []string
	env       []string
	path      string        // where argv[0] is looked for
	stream    int           // descriptor of ours that it is to have
	number    int           // as this one
	timeout   time.Duration // none if 0
	killAfter time.Duration
	signals   chan os.Signal // of ours, to pass to its group
	umask     int            // it starts with this one

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
func passed() []syscall.Signal {
	return []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT}
}

// run starts the child and calls ended when it has ended. Signals that came
// before it was started are the child's too.
func (c *child) run(ended func(ending)) {
	if err := c.start(); err != nil {
		c.takeTerminal()
		ended(ending{err: err})
		return
	}
	go func() {
		how := c.watch()
		c.takeTerminal()
		ended(how)
	}()
}

// start starts the child with our standard streams, what descriptors there are
// below the stream's, and the stream, and with its umask: nothing else in this
// process creates a file meanwhile. If we have the terminal, the child's
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
	defer unix.Umask(unix.Umask(c.umask))
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

// watch passes signals on and keeps the time until the child has ended. Time in
// which we are stopped with the child does not count, so a shell's fg never ends
// a command.
func (c *child) watch() (how ending) {
	due := time.Now().Add(c.timeout)
	late := time.NewTimer(c.timeout)
	if c.timeout == 0 {
		late.Stop()
	}
	changed := make(chan syscall.Signal)
	go c.await(changed)
	for {
		select {
		case s := <-c.signals:
			c.pass(s.(syscall.Signal))
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
			c.follow(s)
			due = due.Add(time.Since(before))
			if late.Stop() {
				late.Reset(time.Until(due))
			}
		}
	}
}

// await sends the signal that stopped the child each time it is stopped, and 0
// when it has ended. It does not reap: until then no other group can have the
// child's number.
func (c *child) await(changed chan<- syscall.Signal) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && info.Code == codeStopped:
			s := (*childInfo)(unsafe.Pointer(&info)).status
			unix.Waitid(unix.P_PID, c.pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
			changed <- syscall.Signal(s)
		default:
			changed <- 0
			return
		}
	}
}

// A childInfo is what waitid(2) writes to a siginfo_t.
type childInfo struct {
	_        [3]int32   // si_signo, si_errno, si_code
	_        [0]uintptr // the rest is aligned as a pointer is
	pid, uid int32
	status   int32 // the signal that stopped the child
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

// follow stops our group when job control has stopped the child's. Had the child
// no group of its own, the terminal would have stopped us all: now the shell sees
// its whole job stopped, and its fg continues all of it. SIGSTOP, and a SIGTSTP
// that does not come from the terminal, are for the child alone.
func (c *child) follow(s syscall.Signal) {
	if c.terminal < 0 || (s != unix.SIGTSTP && s != unix.SIGTTIN && s != unix.SIGTTOU) {
		return
	}
	us := unix.Getpgrp()
	switch {
	case c.hasTerminal(c.pid), s == unix.SIGTSTP && c.hasTerminal(us): // Ctrl-Z
		c.stopGroup(s)
		c.pass(unix.SIGCONT) // also if nothing could stop us
	case s == unix.SIGTSTP:
	case c.hasTerminal(us): // a fg gave it to us, but did not continue us: we were not stopped
		c.pass(unix.SIGCONT)
	default: // the child wants the terminal, and the job is in the background
		c.stopGroup(s)
	}
}

// toStop is how long stopGroup waits for its own signal to stop us: that takes
// microseconds.
const toStop = 100 * time.Millisecond

// stopGroup stops our group until it is continued. Unlike SIGSTOP, the signals of
// job control do not stop a process that ignores them, or a group that no shell
// could continue (setpgid(2), "orphaned"). One kill stops all: if we stopped after
// our parent, the shell could continue us too early.
func (c *child) stopGroup(s syscall.Signal) {
	if s != unix.SIGTSTP || !isIgnored(s) {
		var ours sigaction
		changeAction(s, new(sigaction), &ours)
		defer changeAction(s, &ours, nil)
	}
	_ = unix.Kill(0, s)
	for late := time.After(toStop); ; {
		select {
		case got := <-c.signals:
			c.pass(got.(syscall.Signal))
			if got == unix.SIGCONT {
				return
			}
		case <-late:
			return
		}
	}
}

// A sigaction is the struct of rt_sigaction(2), with room to spare; the zero one
// is the default action.
type sigaction struct {
	handler uintptr
	_       [7]uintptr
}

func changeAction(s syscall.Signal, to, from *sigaction) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), 8, 0, 0)
}

// isIgnored reports whether we ignore a signal, as nohup(1) and a shell's & ask
// for. signal.Ignored knows of SIGHUP and SIGINT only.
func isIgnored(s syscall.Signal) bool {
	const ignore = 1 // SIG_IGN
	var now sigaction
	changeAction(s, nil, &now)
	return now.handler == ignore
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
