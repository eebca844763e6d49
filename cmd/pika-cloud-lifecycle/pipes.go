package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How many free descriptors run needs. Only a low limit of open files leaves fewer.
const (
	// forResult is enough to record why the command is not started: the files of a commit,
	// and the empty input of the stream.
	forResult = 9
	// forCommand is enough for a commit, the pipes, the terminal, the descriptors of --ready,
	// and those that are open while a process is started.
	forCommand = 20
)

// makePipes creates the stream and the stop pipe. If there are too few descriptors for the
// command, or the FIFO cannot be used, the command is not started, and the input of the
// stream is empty. makePipes returns an error if nothing can be recorded either.
func (s *supervisor) makePipes(a *app) error {
	free := freeDescriptors(forCommand)
	tooFew := fmt.Errorf("%d descriptors are needed, but only %d can be opened; raise the limit of open files (ulimit -n)", forCommand, free)
	if free < forResult {
		return tooFew
	}
	if free < forCommand {
		s.cannotStart = newStartError(tooFew)
		if err := s.makeStream(); err != nil {
			return err
		}
		unix.Close(s.streamWrite)
		s.streamWrite, s.stopWrite = -1, -1
		return nil
	}
	var stop [2]int
	if err := makePipe(&stop); err != nil {
		return err
	}
	s.stopRead, s.stopWrite = stop[0], stop[1]
	if s.fifoPath == "" {
		return s.makeStream()
	}
	err := s.openStream(a)
	if err != nil {
		s.cannotStart = &startError{"--fifo" + err.what, err.remedy, exitNotStarted, "cannot be run: --fifo" + err.what}
		return s.makeStream()
	}
	return nil
}

// makeStream creates the pipe of the stream.
func (s *supervisor) makeStream() error {
	var stream [2]int
	if err := makePipe(&stream); err != nil {
		return err
	}
	s.streamRead, s.streamWrite = stream[0], stream[1]
	s.stream = s.streamWrite
	return nil
}

// openStream opens the FIFO of --fifo as the stream, and makes its path absolute, because
// the command may have another working directory.
func (s *supervisor) openStream(a *app) *fifoError {
	if !strings.HasPrefix(s.fifoPath, "/") {
		dir, err := os.Getwd()
		if err != nil {
			return &fifoError{fmt.Sprintf(" %s: %v", s.fifoPath, err), "give an absolute path"}
		}
		s.fifoPath = dir + "/" + s.fifoPath // not cleaned: link/.. is the parent of the link's target
	}
	in, err := a.openFIFO("run", s.fifoPath)
	if err != nil {
		return err
	}
	write, dupErr := unix.FcntlInt(uintptr(in.watch.first), unix.F_DUPFD_CLOEXEC, 3)
	if dupErr == nil {
		dupErr = unix.SetNonblock(write, false) // for programs that do not expect EAGAIN
	}
	if dupErr != nil {
		in.close()
		return newFIFOError(dupErr)
	}
	s.fifo, s.streamRead, s.streamWrite, s.stream = in, in.fd, write, write
	return nil
}

// freeDescriptors returns how many descriptors this process can open, at most limit.
func freeDescriptors(limit int) int {
	var free []int
	for range limit {
		fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			break
		}
		free = append(free, fd)
	}
	for _, fd := range free {
		unix.Close(fd)
	}
	return len(free)
}

// freeDescriptor returns the first descriptor from 3 on, other than reserved, that this
// process did not inherit.
func freeDescriptor(reserved int) int {
	fd := 3
	for fd == reserved || isInherited(fd) {
		fd++
	}
	return fd
}

// isInherited reports whether this process has inherited a descriptor. Those that it has
// opened have FD_CLOEXEC.
func isInherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// poll waits until fd is ready for event or has an error, the limit is over (negative: no
// limit), or a signal arrives. It reports whether fd is ready.
func poll(fd int, event int16, limit time.Duration) bool {
	var ts *unix.Timespec // nil means no limit
	if limit >= 0 {
		t := unix.NsecToTimespec(int64(limit))
		ts = &t
	}
	n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: event}}, ts, nil)
	return n > 0
}
