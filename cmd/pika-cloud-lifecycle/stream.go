package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// The default limits of the files that a stream leaves on a tmpfs.
const (
	// maxEvents is some 400,000 events; two logs of it fit the /run of any guest.
	maxEvents = 64 << 20
	// fewEvents is a size that some 20 events fit. A user who chooses less may
	// mean a number of events.
	fewEvents = 4 << 10
	// maxRejected is enough for some 10,000 rejected lines.
	maxRejected = 8 << 20
)

// maxMaxLine limits the memory of a stream, which grows with its longest line, to
// an amount that a guest can have.
const maxMaxLine = 256 << 20

// streamFlags are the flags that ingest and rebuild have in common.
type streamFlags struct {
	*flagSet
	dir         *string
	fd          int
	ack         int // -1 if there is none
	grace       time.Duration
	maxLine     int64
	maxEvents   int64
	maxRejected int64
}

func (a *app) newStreamFlags(name, usage string, maxLine int64) *streamFlags {
	f := &streamFlags{flagSet: a.newFlags(name, usage)}
	f.dir = a.stateDir(f.flagSet)
	f.IntVar(&f.fd, "fd", 0, "")
	f.IntVar(&f.ack, "ack-fd", -1, "")
	f.DurationVar(&f.grace, "grace", ingest.DefaultGrace, "")
	f.sizeVar(&f.maxLine, "max-line", maxLine, 1, maxMaxLine)
	f.sizeVar(&f.maxEvents, "max-events", maxEvents, 0, 0)
	f.sizeVar(&f.maxRejected, "max-rejected", maxRejected, 0, 0)
	return f
}

// check checks the values that the flag package cannot.
func (f *streamFlags) check() error {
	if err := f.checkStateDir(*f.dir); err != nil {
		return err
	}
	if !f.isGiven("ack-fd") {
		return nil
	}
	return f.checkDescriptor("ack-fd", f.ack, unix.O_RDONLY, "writing")
}

// checkFD checks --fd.
func (f *streamFlags) checkFD() error {
	return f.checkDescriptor("fd", f.fd, unix.O_WRONLY, "reading")
}

// checkAck checks that acknowledgements do not go to the input.
func (f *streamFlags) checkAck(in int) error {
	if f.ack == 0 || f.ack == in {
		return f.badUsage("--ack-fd is %d, which is for input; expected another descriptor", f.ack)
	}
	return nil
}

// newStream returns a stream with the values of the flags. It reads from in.
func (a *app) newStream(f *streamFlags, in int) *ingest.Stream {
	if f.maxEvents > 0 && f.maxEvents < fewEvents {
		a.warn(fmt.Sprintf("%s: --max-events %d is a number of bytes, so only the last events are kept; use K, M or G for a larger size", f.Name(), f.maxEvents))
	}
	dir := writer.In(*f.dir)
	dir.Events.RotateAt, dir.Rejects.MaxBytes = f.maxEvents, f.maxRejected
	dir.Events.Warn = a.warn
	s := &ingest.Stream{
		Dir:     dir,
		Clock:   a.clock,
		BootID:  a.bootID(),
		Warn:    a.warn,
		In:      in,
		Ack:     max(f.ack, 0),
		MaxLine: int(f.maxLine),
		Grace:   max(f.grace, 1), // 0 means the default there
	}
	if _, terminal := columnsOf(a.stderr); terminal {
		s.ShowRejected = a.showCaret
	}
	if a.limitMemory != nil {
		a.limitMemory(streamMemory(f.maxLine))
	}
	return s
}

// streamMemory returns how much memory, in bytes, the Go runtime may use before it collects
// garbage more often. A stream never uses that much at once, except for a moment for a
// line near the maximum whose bytes must all be escaped. Together with the program itself,
// which has 6 MiB, it stays below 32 MiB with the default maximum.
func streamMemory(maxLine int64) int64 {
	const (
		base    = 22 << 20
		perByte = 20 // of the longest line, for its copies
	)
	return base + perByte*max(0, maxLine-ingest.DefaultMaxLine)
}

// runStream runs a stream and returns the error of the subcommand.
func (a *app) runStream(s *ingest.Stream) error {
	sum, err := s.Run()
	return a.summarize(s.Dir, sum, err)
}

// summarize warns about rejected lines, and returns the error of the subcommand
// for a stream in dir whose Run has returned sum and err.
func (a *app) summarize(dir *writer.Dir, sum ingest.Summary, err error) error {
	if sum.Rejected > 0 {
		a.warn(ofText(sum.Rejected, sum.Lines, "line", "lines") + " rejected")
	}
	path := filepath.Dir(dir.Status.Path)
	switch {
	case sum.Unusable:
		return err // which Stream.Unusable has reported
	case sum.Dropped > 0:
		return errors.Join(err, errors.New(lossText(sum.Dropped-sum.DroppedRejects, sum.DroppedRejects)))
	case sum.Degraded:
		return errors.Join(err, fmt.Errorf("%s could not be written in time; see the warnings above", path))
	case errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w; redirect a file or a pipe to it", err)
	case err != nil:
		return dirError(path, err)
	case sum.Rejected > 0:
		return errRejected
	}
	return nil
}

// ofText returns n of all as text, such as "1 of 2 lines".
func ofText(n, all uint64, singular, plural string) string {
	noun := plural
	if all == 1 {
		noun = singular
	}
	return fmt.Sprintf("%d of %d %s", n, all, noun)
}

// lossText returns how many events and rejected lines were lost, at least one in all.
func lossText(events, rejects uint64) string {
	var parts []string
	for _, p := range []struct {
		n    uint64
		noun string
	}{{events, "event"}, {rejects, "rejected line"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.noun)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.noun))
		}
	}
	return strings.Join(parts, " and ") + " lost"
}

// dirError returns err with what to do about it if it reports that the state
// directory at path cannot be used; otherwise err.
func dirError(path string, err error) error {
	what, remedy := dirProblem(path, stateDirOption, err)
	if remedy == "" {
		return err
	}
	return errors.New(what + "; " + remedy)
}

// stateDirOption is how a user sets the state directory.
const stateDirOption = "--state-dir or PIKA_LIFECYCLE_DIR"

// dirProblem returns why the directory at path, which option sets, cannot be used, and
// what to do; the remedy is empty if err is about something else.
func dirProblem(path, option string, err error) (what, remedy string) {
	other := "set " + option
	switch {
	case errors.Is(err, dirfs.ErrDangling):
		return path + " is a symbolic link to a directory that does not exist", "create that directory, or " + other
	case errors.Is(err, unix.ENOTDIR):
		return notDirectory(path) + " is not a directory", other + " to another path"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return err.Error(), "use root, or " + other
	case errors.Is(err, unix.EPERM):
		return err.Error(), "check its attributes with lsattr, or " + other + " to another path"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return err.Error(), other + " to another path"
	}
	return err.Error(), ""
}

// notDirectory returns the element of path that is not a directory.
func notDirectory(path string) string {
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		switch {
		case err == nil && !info.IsDir():
			return p
		case err == nil, p == filepath.Dir(p):
			return path
		}
	}
}
