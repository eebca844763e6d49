package main

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// followStop stops our group when job control has stopped the command's. If the
// command were in our group, the terminal would have stopped us too: this way the
// shell sees its whole job stopped, and its fg continues all of it. SIGSTOP, and a
// SIGTSTP that does not come from the terminal, are for the command alone.
func (c *command) followStop(s syscall.Signal) {
	if c.terminal < 0 || (s != unix.SIGTSTP && s != unix.SIGTTIN && s != unix.SIGTTOU) {
		return
	}
	us := unix.Getpgrp()
	switch {
	case c.hasTerminal(c.pid), s == unix.SIGTSTP && c.hasTerminal(us): // Ctrl-Z
		c.stopGroup(s)
		c.forward(unix.SIGCONT) // also if nothing could stop us
	case s == unix.SIGTSTP:
	case c.hasTerminal(us): // a fg gave it to us, but did not continue us: we were not stopped
		c.forward(unix.SIGCONT)
	default: // the command wants the terminal, and the job is in the background
		c.stopGroup(s)
	}
}

// stopLimit is how long stopGroup waits for its own signal to stop us: that takes
// microseconds.
const stopLimit = 100 * time.Millisecond

// stopGroup stops our group until it is continued. Unlike SIGSTOP, the signals of
// job control do not stop a process that ignores them, or a group that no shell
// could continue (setpgid(2), "orphaned"). One kill stops all: if we stopped after
// our parent, the shell could continue us too early.
func (c *command) stopGroup(s syscall.Signal) {
	if s != unix.SIGTSTP || !isIgnored(s) {
		var ours sigaction
		changeAction(s, new(sigaction), &ours)
		defer changeAction(s, &ours, nil)
	}
	_ = unix.Kill(0, s)
	for late := time.After(stopLimit); ; {
		select {
		case got := <-c.signals:
			c.forward(got.(syscall.Signal))
			if got == unix.SIGCONT {
				return
			}
		case <-late:
			return
		}
	}
}

// A sigaction is the struct of rt_sigaction(2), with space to spare; the zero one
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
func (c *command) hasTerminal(group int) bool {
	if c.terminal < 0 {
		return false
	}
	has, err := unix.IoctlGetInt(c.terminal, unix.TIOCGPGRP)
	return err == nil && has == group
}

// takeTerminalBack gives the terminal back to our group: the program that runs next
// in it may need it. A command that could not be started had it too.
func (c *command) takeTerminalBack() {
	if c.hasTerminal(c.pid) || (c.gaveTerminal && c.pid == 0) {
		_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, unix.Getpgrp())
	}
}
