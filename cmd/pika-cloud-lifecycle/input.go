package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// An input is the source of a stream.
type input struct {
	fd       int
	watch    *fifoWatch // of the path of a FIFO; nil if there is none
	manyRuns bool       // it is a FIFO, which one writer after another may open
	standard bool       // it is standard input because the command line names no other
}

// isTerminal reports whether the input is a terminal that the command line does not
// name. The user may not know that the program reads from it.
func (in *input) isTerminal() bool {
	if !in.standard {
		return false
	}
	_, err := unix.IoctlGetTermios(in.fd, unix.TCGETS)
	return err == nil
}

// openInput opens the input that the flags, or systemd, name.
func (a *app) openInput(f *ingestFlags) (input, error) {
	in, err := a.findInput(f)
	if err != nil {
		return in, err
	}
	return in, f.checkAck(in.fd)
}

func (a *app) findInput(f *ingestFlags) (input, error) {
	if err := f.checkFIFO(f.fifo, *f.dir); err != nil {
		return input{}, err
	}
	switch {
	case f.isGiven("fifo") && f.isGiven("fd"):
		return input{}, f.badUsage("--fd and --fifo are both given; give one of them")
	case f.isGiven("fifo"):
		in, err := a.openFIFO(f.Name(), f.fifo)
		if err != nil {
			return in, fmt.Errorf("ingest: %w", err)
		}
		return in, nil
	case f.isGiven("fd"):
		return input{fd: f.fd}, f.checkFD()
	}
	in, ok, err := a.activated(f)
	if ok || err != nil {
		return in, err
	}
	return input{standard: true}, f.checkFD()
}

// firstPassed is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstPassed = 3

// activated returns the FIFO that systemd has passed to this process; ok is false
// if it has passed none.
func (a *app) activated(f *ingestFlags) (in input, ok bool, err error) {
	n, pid := a.getenv("LISTEN_FDS"), a.getenv("LISTEN_PID")
	const ignored = ", so standard input is read; start ingest with exec in the wrapper, or choose the input with --fd 3 or --fd 0"
	switch {
	case n == "":
		return input{}, false, nil
	case pid == "":
		a.warn("ingest: LISTEN_FDS is set, but LISTEN_PID is not" + ignored)
		return input{}, false, nil
	case pid != strconv.Itoa(os.Getpid()):
		a.warn(fmt.Sprintf("ingest: LISTEN_FDS is set for another process (LISTEN_PID is %q, this process is %d)%s", pid, os.Getpid(), ignored))
		return input{}, false, nil
	}
	if n != "1" {
		names := ""
		if a.getenv("LISTEN_FDNAMES") != "" {
			names = " (" + a.getenv("LISTEN_FDNAMES") + ")"
		}
		return input{}, false, f.badUsage("systemd passes %s descriptors%s; pass one, or choose one with --fd, from --fd %d on",
			n, names, firstPassed)
	}
	if !dirfs.IsPipe(firstPassed) {
		return input{}, false, f.badUsage("descriptor %d from systemd is not a FIFO; use ListenFIFO= in the socket unit, or --fd 0 to read StandardInput=", firstPassed)
	}
	in = input{fd: firstPassed, manyRuns: true}
	path, err := pathOf(firstPassed)
	if err == nil { // otherwise /proc is hidden
		in.watch = watchFIFO(f.Name(), path, firstPassed, -1, false, a.warn)
	}
	return in, true, nil
}

// checkFIFO checks --fifo. Readers wait for ever if a file of the state directory is a FIFO.
func (f *flagSet) checkFIFO(path, stateDir string) error {
	if !f.isGiven("fifo") {
		return nil
	}
	if path == "" {
		return f.badUsage("--fifo is empty; expected the path of a FIFO")
	}
	if filepath.Dir(path) == filepath.Clean(stateDir) {
		for _, name := range []string{writer.StatusName, writer.EventsName, writer.ResultName, writer.RejectedName, writerlock.Name} {
			if strings.HasPrefix(filepath.Base(path), name) { // also events.jsonl.seq and others
				return f.badUsage("--fifo is %q, a name of the state files; choose another name, such as %s", path, fifoName)
			}
		}
	}
	return nil
}

// openFIFO opens the FIFO at path for the subcommand of this name, and creates it if it is
// missing. It also opens the FIFO for writing, so that it does not end between two writers.
func (a *app) openFIFO(name, path string) (input, *fifoError) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return input{}, newFIFOError(err)
	}
	err := unix.Mkfifo(path, 0o600)
	created := err == nil
	if !created && err != unix.EEXIST {
		return input{}, newFIFOError(&fs.PathError{Op: "mkfifo", Path: path, Err: err})
	}
	read, write, err := openBothEnds(path)
	switch err {
	case nil:
		return input{fd: read, manyRuns: true, watch: watchFIFO(name, path, read, write, created, a.warn)}, nil
	case errNotFIFO:
		return input{}, &fifoError{" " + path + " is not a FIFO", "name another path, or remove it if a program has created it by mistake"}
	case unix.ELOOP:
		return input{}, &fifoError{" " + path + " is a symbolic link", "name the FIFO itself"}
	case errInUse:
		return input{}, &fifoError{" " + path + ": another run or ingest reads it", "stop that one, or name another path"}
	}
	return input{}, newFIFOError(&fs.PathError{Op: "open", Path: path, Err: err})
}

// The reasons for which an existing file cannot be used as FIFO.
var (
	errNotFIFO = errors.New("not a FIFO")
	errInUse   = errors.New("in use")
)

// A fifoError reports why --fifo cannot be used.
type fifoError struct{ what, remedy string }

func (e *fifoError) Error() string { return "--fifo" + e.what + "; " + e.remedy }

// newFIFOError returns a fifoError for an error of the system.
func newFIFOError(err error) *fifoError {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return &fifoError{fmt.Sprintf(": %v", err), "run it as root, or name another path"}
	}
	return &fifoError{fmt.Sprintf(": %v", err), "name another path"}
}

// openBothEnds opens both ends of a FIFO, and locks it. It does not follow a symbolic link.
// It returns errInUse if another process has locked it.
func openBothEnds(path string) (read, write int, err error) {
	read, err = openIfFIFO(path, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return -1, -1, err
	}
	write, err = openIfFIFO(path, unix.O_WRONLY|unix.O_NOFOLLOW)
	if err != nil {
		unix.Close(read)
		return -1, -1, err
	}
	if unix.Flock(read, unix.LOCK_EX|unix.LOCK_NB) != nil {
		unix.Close(read)
		unix.Close(write)
		return -1, -1, errInUse
	}
	return read, write, nil
}

// openIfFIFO opens a file if it is a FIFO, and otherwise returns errNotFIFO. It does not
// wait for the other end.
func openIfFIFO(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil && !dirfs.IsPipe(fd) {
		unix.Close(fd)
		return -1, errNotFIFO
	}
	return fd, err
}

// settle and closeWriters are called at the first request to stop, before and after the
// stream is notified.

func (in *input) settle() {
	if in.watch != nil {
		in.watch.settle()
	}
}

func (in *input) closeWriters() {
	if in.watch != nil {
		in.watch.closeWriters()
	}
}

// close removes the FIFO if this process created it and it is still at its path.
func (in *input) close() {
	if in.watch != nil {
		in.watch.remove()
	}
}
