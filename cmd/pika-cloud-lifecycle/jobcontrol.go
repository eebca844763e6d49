package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// followStop stops the group of this process when job control has stopped the
// command's group. Then the shell knows that its whole job is stopped, and fg continues
// the whole job. SIGSTOP, and a SIGTSTP that does not come from the terminal, stop only
// the command.
func (c *command) followStop(s syscall.Signal) {
	if c.terminal < 0 || (s != unix.SIGTSTP && s != unix.SIGTTIN && s != unix.SIGTTOU) {
		return
	}
	us := unix.Getpgrp()
	switch {
	case c.hasTerminal(c.pid), s == unix.SIGTSTP && c.hasTerminal(us): // Ctrl-Z
		c.stopGroup(s)
		c.forward(unix.SIGCONT) // also if stopGroup has stopped nothing
	case s == unix.SIGTSTP:
	case c.hasTerminal(us): // the shell's fg gave the terminal to this group, which had not been stopped
		c.forward(unix.SIGCONT)
	default: // the command uses the terminal, but the job is in the background
		c.stopGroup(s)
	}
}

// stopLimit is how long stopGroup waits for its signal to stop this process, which
// takes microseconds.
const stopLimit = 100 * time.Millisecond

// stopGroup stops the group of this process until it is continued. Unlike SIGSTOP,
// the signals of job control do not stop a process that ignores them, or a group
// that no shell could continue (setpgid(2), "orphaned"). A single kill stops all of
// the group: if this process stopped after its parent, the shell could continue it
// too early.
func (c *command) stopGroup(s syscall.Signal) {
	if s != unix.SIGTSTP || !isIgnored(s) {
		var old sigaction
		changeAction(s, new(sigaction), &old)
		defer changeAction(s, &old, nil)
	}
	_ = unix.Kill(0, s)
	for limit := time.After(stopLimit); ; {
		select {
		case got := <-c.signals:
			c.forward(got.(syscall.Signal))
			if got == unix.SIGCONT {
				return
			}
		case <-limit:
			return
		}
	}
}

// A sigaction has space for the struct of rt_sigaction(2), which may be shorter. The zero
// sigaction is the default action.
type sigaction struct {
	handler uintptr
	_       [7]uintptr
}

func changeAction(s syscall.Signal, to, from *sigaction) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), 8, 0, 0)
}

// isIgnored reports whether this process ignores a signal, as nohup(1) and a
// shell's & arrange. signal.Ignored reports only SIGHUP and SIGINT.
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

// giveTerminal gives the terminal to the command's group.
func (c *command) giveTerminal() {
	c.saveSettings()
	_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, c.pid)
}

// saveSettings saves the settings of the terminal if the command has not had it yet.
func (c *command) saveSettings() {
	if c.settings == nil {
		c.settings, _ = unix.IoctlGetTermios(c.terminal, unix.TCGETS)
	}
}

// restoreTerminal gives the terminal back to the group of this process, because the next
// program of a script may read from it. If the command was killed, perhaps while the
// terminal was in raw mode, it also restores the settings. It reports whether the
// command's group had the terminal, or a group of a descendant that has ended since.
//
// If the command could not be started, pid is 0, but the terminal may belong to the child
// process that failed.
func (c *command) restoreTerminal(killed bool) (had bool) {
	if !c.hasTerminal(c.pid) && !(c.gaveTerminal && (c.pid == 0 || c.foregroundEnded())) {
		return false
	}
	_ = unix.IoctlSetPointerInt(c.terminal, unix.TIOCSPGRP, unix.Getpgrp())
	if killed && c.settings != nil {
		_ = unix.IoctlSetTermios(c.terminal, unix.TCSETS, c.settings)
	}
	return true
}

// foregroundEnded reports whether all processes of the terminal's foreground group have
// ended.
func (c *command) foregroundEnded() bool {
	group, err := unix.IoctlGetInt(c.terminal, unix.TIOCGPGRP)
	return err == nil && group > 1 && unix.Kill(-group, 0) == unix.ESRCH
}

// noteInterrupt notes whether Ctrl-C, or a SIGINT to this process, has ended the command.
// Only the command's group gets the SIGINT of a Ctrl-C if it has the terminal.
func (c *command) noteInterrupt(how exit, hadTerminal bool) {
	isInterrupt := how.status.Signaled() && how.status.Signal() == unix.SIGINT && !how.timedOut
	c.interrupted = isInterrupt && (hadTerminal || how.forwarded[unix.SIGINT])
	c.interruptGroup = c.interrupted && !how.forwarded[unix.SIGINT]
}

// endByInterrupt ends this process by SIGINT if that has ended the command. A shell ends
// a loop or a script only if the program in it was ended by SIGINT, and, in a script, if
// the shell has got the SIGINT too. Without the command, Ctrl-C would send it to the whole
// group of this process. endByInterrupt returns if the signal cannot end this process:
// it is PID 1 (pid_namespaces(7)), or ignores SIGINT.
func (c *command) endByInterrupt() {
	if !c.interrupted || isIgnored(unix.SIGINT) {
		return
	}
	changeAction(unix.SIGINT, new(sigaction), nil)
	target := os.Getpid()
	if c.interruptGroup {
		target = 0
	}
	_ = unix.Kill(target, unix.SIGINT)
}
