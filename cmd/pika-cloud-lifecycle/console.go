package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A console is a standard stream that must not hold the program up: where its
// reader is stuck, what is written is dropped.
type console struct {
	fd    int
	stuck bool
}

// stuckAfter is how many milliseconds a console is waited for. Once it was not
// ready in this time it is waited for no more until it is.
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
	if c.stuck = n == 0; c.stuck || err != nil {
		return len(p), err
	}
	return unix.Write(c.fd, p)
}

// printable returns line with everything escaped that a terminal obeys or that
// changes how the rest reads: control characters and those of C1, the
// bidirectional overrides, and bytes that are not UTF-8.
func printable(line string) string {
	var b strings.Builder
	for i, r := range line {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, line[i])
		case r < 0x20 || 0x7f <= r && r < 0xa0 ||
			0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
