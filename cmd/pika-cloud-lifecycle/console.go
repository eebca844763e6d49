package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A console is a standard stream that must not block the program: while its
// reader is stuck, Write drops the text.
type console struct {
	fd    int
	stuck bool
}

// stuckAfter is how many milliseconds a write waits for the reader. If the reader has
// not read by then, later writes do not wait, until one of them succeeds.
const stuckAfter = 1000

func (c *console) Write(p []byte) (int, error) {
	wait := stuckAfter
	if c.stuck {
		wait = 0
	}
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, wait)
	for err == unix.EINTR {
		n, err = unix.Poll(fds, wait)
	}
	c.stuck = n == 0
	if c.stuck || err != nil {
		return len(p), err
	}
	return unix.Write(c.fd, p)
}

// columnsOf returns the width of the terminal that f writes to, and whether f does.
func columnsOf(f io.Writer) (columns int, terminal bool) {
	var fd int
	switch f := f.(type) {
	case *os.File:
		fd = int(f.Fd())
	case *console:
		fd = f.fd
	default:
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
