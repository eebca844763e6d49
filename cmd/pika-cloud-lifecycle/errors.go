package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// The exit codes, which the man page lists.
const (
	exitOK       = 0
	exitFailed   = 1 // a file could not be written, or is invalid
	exitUsage    = 2 // the command line is wrong
	exitRejected = 3 // lines were rejected, or verify or wait could not read the directory
	exitDied     = 4 // wait: the writer has died

	// Exit codes of run and wait, as a shell and timeout(1) use them.
	exitTimeout    = 124 // the command, or the wait, took too long
	exitHeld       = 125 // another run writes to the state directory; the command was not started
	exitNotStarted = 126 // the command cannot be run
	exitNotFound   = 127 // the command was not found
)

// A usageError reports a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// badUsage returns a usageError with the text that fmt.Errorf makes.
func badUsage(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// A commandExit is the exit code of the command that run started.
type commandExit int

func (e commandExit) Error() string { return "exit code " + strconv.Itoa(int(e)) }

// An unreadableError reports that a state directory could not be read.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// A heldError reports that run did not start its command, because another run writes to
// the state directory.
type heldError struct{ text string }

func (e *heldError) Error() string { return e.text }

var (
	// errRejected reports that lines were rejected, after each was logged.
	errRejected = errors.New("lines were rejected")
	// errInvalid reports that a state directory is invalid, after its findings
	// were printed.
	errInvalid = errors.New("invalid")
	// errTimeout reports that wait has reached its time limit.
	errTimeout = errors.New("timed out")
)

// isReported reports whether an error was already printed.
func isReported(err error) bool {
	var command commandExit
	return errors.As(err, &command) || errors.Is(err, flag.ErrHelp) || errors.Is(err, errInvalid) || errors.Is(err, errRejected)
}

// outputRemedy returns what the user can do if standard output could not be written.
func outputRemedy(err error) string {
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Path != os.Stdout.Name() {
		return ""
	}
	if remedy := ingest.Remedy(err); remedy != "" {
		return "; " + remedy
	}
	return ""
}

// exitCode returns the exit code for the error of a subcommand.
func exitCode(err error) int {
	var (
		command    commandExit
		usage      *usageError
		unreadable *unreadableError
		died       *writerDiedError
		held       *heldError
	)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &command):
		return int(command)
	case errors.As(err, &held):
		return exitHeld
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errRejected), errors.As(err, &unreadable):
		return exitRejected
	case errors.As(err, &died):
		return exitDied
	case errors.Is(err, errTimeout):
		return exitTimeout
	}
	return exitFailed
}
