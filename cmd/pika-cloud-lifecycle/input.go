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
	keepOpen int    // a descriptor that keeps a FIFO from ending; 0 if there is none
	path     string // of a FIFO that was made here and is to be removed
	manyRuns bool   // it is a FIFO, to which writers come and go
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
	switch {
	case f.isGiven("fifo") && f.isGiven("fd"):
		return input{}, f.badUsage("--fd beside --fifo; give one or the other")
	case f.isGiven("fifo") && f.fifo == "":
		return input{}, f.badUsage("--fifo is empty")
	case f.isGiven("fifo"):
		return openFIFO(f.fifo)
	case f.isGiven("fd"):
		return input{fd: f.fd}, f.checkFD()
	}
	in, ok, err := a.activated(f)
	if ok || err != nil {
		return in, err
	}
	return input{}, f.checkFD()
}

// firstPassed is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstPassed = 3

// activated returns the FIFO that systemd has passed to this process; ok is false
// if there is none.
func (a *app) activated(f *ingestFlags) (in input, ok bool, err error) {
	n := a.getenv("LISTEN_FDS")
	if a.getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || n == "" {
		return input{}, false, nil
	}
	if n != "1" {
		return input{}, false, f.badUsage("systemd passes %s descriptors (%s); expected one, or --fd N from %d on",
			n, a.getenv("LISTEN_FDNAMES"), firstPassed)
	}
	if !isPipe(firstPassed) {
		return input{}, false, f.badUsage("what systemd passes is no FIFO; expected ListenFIFO=, or --fd 0 for StandardInput=")
	}
	return input{fd: firstPassed, manyRuns: true}, true, nil
}

// errNotFIFO reports that the path of --fifo is something else.
var errNotFIFO = errors.New("no FIFO stands there; name another path, or see who put it there")

// openFIFO opens the FIFO at path, and makes it if it is missing. It is also
// opened for writing, so that it does not end while writers come and go.
func openFIFO(path string) (input, error) {
	in := input{manyRuns: true}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return in, err
	}
	err := unix.Mkfifo(path, 0o600)
	switch {
	case err == nil:
		in.path = path
	case err != unix.EEXIST:
		return in, &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if err := in.openEnds(path); err != nil {
		return in, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return in, nil
}

// openEnds opens both ends of a FIFO and locks it.
func (in *input) openEnds(path string) (err error) {
	in.fd, err = openOnlyFIFO(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	in.keepOpen, err = openOnlyFIFO(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	if unix.Flock(in.fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return errors.New("another ingest reads it")
	}
	return nil
}

// openOnlyFIFO opens a FIFO, but nothing else, and follows no symlink.
func openOnlyFIFO(path string, mode int) (int, error) {
	fd, err := unix.Open(path, mode|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || (err == nil && !isPipe(fd)) {
		return 0, errNotFIFO
	}
	return fd, err
}

// isPipe reports whether fd is a pipe or a FIFO.
func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// close removes a FIFO that was made here, if its path still leads to it.
func (in *input) close() {
	if in.path == "" {
		return
	}
	var opened, current unix.Stat_t
	if unix.Fstat(in.fd, &opened) != nil || unix.Lstat(in.path, &current) != nil {
		return
	}
	if opened.Dev == current.Dev && opened.Ino == current.Ino {
		_ = unix.Unlink(in.path)
	}
}
