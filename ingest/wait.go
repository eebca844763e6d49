package ingest

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A waiter waits for the descriptors of a stream.
type waiter struct {
	in      int
	stop    int // 0 if there is none, or its other end is closed
	reports int // the descriptor of Reports; -1 if there are none
}

// A readiness is what a wait returns: what is ready. All fields are false after the time
// limit.
type readiness struct{ input, stop, reports, ack bool }

// wait waits, for at most limit (negative: no limit), for input (if forInput), a
// request to stop (if forStop), reports (if forReports), or space in the pipe ackFD (if it
// is not negative). It consumes a request to stop.
func (w *waiter) wait(limit time.Duration, forInput, forStop, forReports bool, ackFD int) (got readiness) {
	fds := [4]unix.PollFd{{Fd: -1}, {Fd: -1}, {Fd: -1}, {Fd: -1}}
	if forInput {
		fds[0] = unix.PollFd{Fd: int32(w.in), Events: unix.POLLIN}
	}
	if forStop && w.stop > 0 {
		fds[1] = unix.PollFd{Fd: int32(w.stop), Events: unix.POLLIN}
	}
	if ackFD >= 0 {
		fds[2] = unix.PollFd{Fd: int32(ackFD), Events: unix.POLLOUT}
	}
	if forReports {
		fds[3] = unix.PollFd{Fd: int32(w.reports), Events: unix.POLLIN}
	}
	n, err := unix.Poll(fds[:], milliseconds(limit))
	if n <= 0 || err != nil {
		return readiness{}
	}
	return readiness{input: fds[0].Revents != 0, stop: fds[1].Revents != 0 && w.readStop(), ack: fds[2].Revents != 0, reports: fds[3].Revents != 0}
}

// milliseconds returns a timeout for poll(2). It rounds up: with a timeout of 0, a loop
// would spin until the limit.
func milliseconds(limit time.Duration) int {
	if limit < 0 {
		return -1
	}
	return int((limit + time.Millisecond - 1) / time.Millisecond)
}

// readStop consumes one request to stop.
func (w *waiter) readStop() bool {
	var b [1]byte
	n, _ := dirfs.RetryInt(func() (int, error) { return unix.Read(w.stop, b[:]) })
	if n <= 0 {
		w.stop = 0 // the other end is closed
		return false
	}
	return true
}

// A drain is how far a stream reads on after a request to stop: until deadline, and
// at least all input that arrived before the request. The zero drain is over.
type drain struct {
	deadline time.Time
	unread   int // bytes that arrived before the request and were not read yet
}

func newDrain(fd int, grace time.Duration) drain {
	// Best effort: it is 0 for a file and the like, which do not report it.
	arrived, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return drain{deadline: time.Now().Add(grace), unread: arrived}
}

func (d *drain) isOver() bool { return d.unread <= 0 && !time.Now().Before(d.deadline) }
