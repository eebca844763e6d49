package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// The default limits of the files that a stream leaves on a tmpfs.
const (
	// maxEvents is some 400,000 events; two logs of it fit the /run of any guest.
	maxEvents = 64 << 20
	// maxRejected shows what went wrong many times over.
	maxRejected = 8 << 20
)

// maxMaxLine keeps the memory of a stream, which grows with its longest line,
// from being set beyond what any guest has.
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
	dir := writer.In(*f.dir)
	dir.Events.RotateAt, dir.Rejects.MaxBytes = f.maxEvents, f.maxRejected
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
	return s
}

// summarize warns about what a stream has rejected, and returns the error of the
// subcommand, given what Run has returned.
func (a *app) summarize(sum ingest.Summary, err error) error {
	if sum.Rejected > 0 {
		a.warn(fmt.Sprintf("%d of %d lines rejected", sum.Rejected, sum.Lines))
	}
	switch {
	case sum.Dropped > 0:
		return errors.Join(err, fmt.Errorf("%d events and rejected lines were lost", sum.Dropped))
	case sum.Degraded:
		return errors.Join(err, errors.New("the artifacts could not be written in time"))
	case err != nil:
		return err
	case sum.Rejected > 0:
		return errRejected
	}
	return nil
}
