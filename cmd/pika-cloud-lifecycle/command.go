package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// A command is the program that run starts, in its own process group.
//
// The fields of the first group are set before run and do not change. pid is 0
// until the program has started. Until the program is reaped, no other process or group
// can have its pid.
type command struct {
	argv      []string
	hidden    bool // the arguments are, in details and messages
	env       []string
	path      string         // the $PATH in which argv[0] is looked up
	stderr    int            // the descriptor that becomes its standard error
	stream    int            // the stream's write end
	streamFD  int            // the descriptor of the stream in the program
	timeout   time.Duration  // none if 0
	killAfter time.Duration  // from SIGTERM to SIGKILL
	signals   chan os.Signal // that this process receives for the program
	umask     int            // of the program

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
	startThreads()
	if err := c.start(); err != nil {
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
	for fd := range c.streamFD {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	attr.Files[2] = uintptr(c.stderr)
	attr.Files = append(attr.Files, uintptr(c.stream))
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		c.terminal = fd
	}
	if c.hasTerminal(unix.Getpgrp()) {
		c.saveSettings()
		attr.Sys.Foreground, attr.Sys.Ctty, c.gaveTerminal = true, c.terminal, true
	}
	c.earlier = findEarlier()
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

// A startError reports that the command could not be started.
type startError struct {
	what    string // for stderr
	remedy  string // for stderr
	code    int    // as the exit code of a shell
	message string // for the result, after the name of the command
}

// newStartError returns the error of a command that cannot be started because this process
// lacks something. The text of err ends with a remedy.
func newStartError(err error) *startError {
	what, remedy, _ := strings.Cut(err.Error(), "; ")
	return &startError{what: what, remedy: remedy, code: exitNotStarted, message: "cannot be run: " + what}
}

// explainStart returns why the command could not be started, and what to do.
func (c *command) explainStart(err error) *startError {
	if shown := c.shownArgv(); shown[0] != c.argv[0] {
		return &startError{fmt.Sprintf("%q is not a program", shown[0]+" …"),
			"drop quotes around the command, and set variables with env", exitNotFound, "was not found"}
	}
	c = &command{argv: c.shownArgv(), path: c.path}
	name := c.argv[0]
	program, lookUpErr := lookUp(name, c.path)
	info, statErr := os.Stat(program)
	interpreterFault, interpreterRemedy := explainInterpreter(program)
	e := &startError{code: exitNotStarted, message: fmt.Sprintf("cannot be run: %v", err)}
	if errors.Is(err, syscall.ENOENT) {
		e.code, e.message = exitNotFound, "was not found"
	}
	switch {
	case lookUpErr == syscall.ENOENT, errors.Is(statErr, fs.ErrNotExist):
		e.what, e.remedy = c.explainNotFound()
	case errors.Is(statErr, syscall.ENOTDIR):
		e.what, e.remedy = notDirectory(program)+" is not a directory", "correct the path"
	case statErr != nil:
		e.what, e.remedy = fmt.Sprintf("%s: %v", program, err), "check the modes of the directories in its path"
	case info.IsDir():
		e.what, e.remedy = program+" is a directory", "give the path of a program"
	case err == syscall.EACCES && info.Mode()&0o111 == 0:
		e.what, e.remedy = program+" is not executable", fmt.Sprintf("run chmod +x %s, or pass it to its interpreter: run -- sh %[1]s", program)
	case interpreterFault != "":
		e.what, e.remedy = program+": "+interpreterFault, interpreterRemedy
		e.message = "cannot be run: " + interpreterFault
	case err == syscall.EACCES:
		e.what, e.remedy = program+": "+err.Error(), "check its mode, and that its file system is not mounted noexec"
	case err == syscall.ENOEXEC:
		e.what, e.remedy = program+" is a program for another machine", "build it for this one"
	case err == syscall.EMFILE, err == syscall.ENFILE:
		e.what, e.remedy = err.Error(), ingest.Remedy(err)
	case err == syscall.EAGAIN:
		e.what, e.remedy = program+": the limit of processes is reached", "raise it: ulimit -u, or TasksMax= of the unit"
	case err == syscall.E2BIG:
		e.what, e.remedy = program+": the arguments and the environment are too long", "pass them in a file"
	default:
		e.what, e.remedy = fmt.Sprintf("%s: %v", program, err), "check the program"
	}
	return e
}

// shownArgv returns what details and messages may show of argv. If the arguments are
// hidden, this is the name of the program. If a whole command line is in quotes, or starts with
// an assignment, there is no program of that name, and only its start is shown.
func (c *command) shownArgv() []string {
	if !c.hidden {
		return c.argv
	}
	name := c.argv[0]
	program, _ := lookUp(name, c.path)
	_, err := os.Stat(program)
	end := strings.IndexAny(name, "= \t\n")
	if err != nil && end >= 0 {
		name = name[:end]
	}
	return []string{name}
}

// explainNotFound returns why the command does not exist, and what to do.
func (c *command) explainNotFound() (what, remedy string) {
	name := c.argv[0]
	words := strings.Fields(name)
	isQuoted := len(c.argv) == 1 && len(words) > 1
	switch {
	case len(words) == 0:
		return fmt.Sprintf("%q is not a program", name), "give a command, as in run -- make test"
	case strings.HasPrefix(name, "--"):
		return name + " is not a program", "put the flags of run before --, as in run --timeout 10m -- make test"
	case isAssignment(name) && isQuoted && !strings.ContainsAny(name, shellCharacters):
		return fmt.Sprintf("%q is not a program", name), "drop the quotes and use env: run -- env " + strings.Join(words, " ")
	case isAssignment(name) && len(c.argv) == 1 && !isQuoted:
		return name + " is not a program", fmt.Sprintf("add a command, as in run -- env %s make test", name)
	case isAssignment(name) && !isQuoted:
		return name + " is not a program", "set variables with env: run -- env " + shellWords(c.argv)
	case isShellCommand(words[0]) && (len(words) == 1 || (isQuoted && !strings.ContainsAny(name, shellCharacters))):
		return words[0] + " is a shell command, not a program", fmt.Sprintf("use a shell: run -- sh -c '%s'", shellWords(c.argv))
	case isQuoted && strings.ContainsAny(name, shellCharacters):
		return fmt.Sprintf("%q is not a program", name), "use a shell: run -- sh -c '…'"
	case isQuoted:
		return fmt.Sprintf("%q is not a program", name), "drop the quotes: run -- " + strings.Join(words, " ")
	case strings.HasPrefix(name, "~/"), strings.HasPrefix(name, "$"):
		return name + " does not exist", "drop the quotes, so that the shell replaces " + name[:strings.IndexByte(name+"/", '/')]
	case strings.Contains(name, "/"):
		return name + " does not exist", "correct the path"
	case isFile(name):
		return fmt.Sprintf("%s was not found in PATH, only in the current directory", name), "give its path: run -- ./" + shellWords(c.argv)
	}
	return name + " was not found", fmt.Sprintf("install it, or give its path; PATH is %q", c.path)
}

// shellCharacters are characters with a meaning in a shell.
const shellCharacters = "|&;<>()$`*?\"'~"

// shellWords joins the words of a command, or returns the first one and "…" if one
// of them needs quotes.
func shellWords(argv []string) string {
	for i, word := range argv {
		if word == "" || strings.ContainsAny(word, shellCharacters+"\\") || (i > 0 && strings.Contains(word, " ")) {
			return argv[0] + " …"
		}
	}
	return strings.Join(argv, " ")
}

// isAssignment reports whether word is an assignment, as a shell accepts it before
// a command.
func isAssignment(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// isShellCommand reports whether a shell has a command of this name and the system
// may have no program for it.
func isShellCommand(name string) bool {
	switch name {
	case ".", "alias", "cd", "command", "declare", "eval", "exec", "exit", "export", "for", "function", "if", "local",
		"read", "return", "set", "shift", "source", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while":
		return true
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
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
