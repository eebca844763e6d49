package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// An input is where a stream comes from.
type input struct {
	fd       int
	keep     int    // the end that keeps a FIFO of ours open; 0 if there is none
	path     string // of a FIFO that was made here, to be removed
	manyRuns bool   // it is a FIFO, to which writers come and go
}

// openInput finds the input that the flags, or systemd, name.
func (w *world) openInput(f *ingestFlags) (input, error) {
	in, err := w.findInput(f)
	if err == nil && (f.ack == 0 || f.ack == in.fd) {
		err = badUsage("ingest: --ack-fd is %d, which is for input; expected a descriptor of its own", f.ack)
	}
	return in, err
}

func (w *world) findInput(f *ingestFlags) (input, error) {
	switch {
	case given(f.FlagSet, "fifo") && given(f.FlagSet, "fd"):
		return input{}, badUsage("ingest: --fd beside --fifo; give one or the other")
	case given(f.FlagSet, "fifo") && f.fifo == "":
		return input{}, badUsage("ingest: --fifo is empty")
	case given(f.FlagSet, "fifo"):
		return openFIFO(f.fifo)
	case given(f.FlagSet, "fd"):
		return input{fd: f.fd}, checkDescriptor("--fd", f.fd, unix.O_WRONLY, "reading")
	}
	in, ok, err := w.activated()
	if ok || err != nil {
		return in, err
	}
	return input{}, checkDescriptor("--fd", 0, unix.O_WRONLY, "reading")
}

// firstPassed is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstPassed = 3

// activated returns the FIFO that systemd has passed to this process.
func (w *world) activated() (in input, ok bool, err error) {
	if w.getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || w.getenv("LISTEN_FDS") == "" {
		return input{}, false, nil
	}
	if n := w.getenv("LISTEN_FDS"); n != "1" {
		return input{}, false, badUsage("ingest: systemd passes %s descriptors (%s); expected one, or --fd N from %d on",
			n, w.getenv("LISTEN_FDNAMES"), firstPassed)
	}
	if !isPipe(firstPassed) {
		return input{}, false, badUsage("ingest: what systemd passes is no FIFO; expected ListenFIFO=, or --fd 0 for StandardInput=")
	}
	return input{fd: firstPassed, manyRuns: true}, true, nil
}

// errNoFIFO is what a path is refused for where something else stands.
var errNoFIFO = errors.New("no FIFO stands there; name another path, or see who put it there")

// openFIFO opens the FIFO at path, which is made if it is missing. It is opened
// for writing too, so that it has no end while writers come and go.
func openFIFO(path string) (in input, err error) {
	in.manyRuns = true
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return in, err
	}
	switch err := unix.Mkfifo(path, 0o600); {
	case err == nil:
		in.path = path
	case err != unix.EEXIST:
		return in, &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if in.fd, err = openPlain(path, unix.O_RDONLY); err == nil {
		in.keep, err = openPlain(path, unix.O_WRONLY)
	}
	if err == nil && unix.Flock(in.fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		err = errors.New("another ingest reads it")
	}
	if err != nil {
		return in, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return in, nil
}

// openPlain opens a FIFO and nothing else, and follows no link.
func openPlain(path string, mode int) (int, error) {
	fd, err := unix.Open(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ELOOP, err == nil && !isPipe(fd):
		return 0, errNoFIFO
	}
	return fd, err
}

// close removes a FIFO that was made here, if it still bears its name.
func (in *input) close() {
	if in.path == "" {
		return
	}
	var ours, there unix.Stat_t
	if unix.Fstat(in.fd, &ours) == nil && unix.Lstat(in.path, &there) == nil && ours.Dev == there.Dev && ours.Ino == there.Ino {
		_ = unix.Unlink(in.path)
	}
}
