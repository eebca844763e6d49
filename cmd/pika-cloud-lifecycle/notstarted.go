package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

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
		e.message = "cannot be run: it is a directory"
	case !info.Mode().IsRegular():
		e.what, e.remedy = program+" is not a regular file", "give the path of a program"
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
