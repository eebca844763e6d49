package ingest

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// owesAck reports whether there is something to acknowledge.
func (r *run) owesAck() bool { return r.Ack > 0 && !r.ackGone && r.settled > r.acked }

// ack writes one line LINE SEQ REJECTED if its reader has room for it. As each
// covers all before it, one that finds no room is simply not sent: the next
// one says the same and more. A pipe that poll(2) calls writable takes PIPE_BUF
// bytes without blocking (pipe(7)).
func (r *run) ack() {
	if !r.owesAck() {
		return
	}
	fds := []unix.PollFd{{Fd: int32(r.Ack), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); n <= 0 || err != nil {
		return
	}
	b := strconv.AppendUint(r.ackBuf[:0], r.settled, 10)
	b = strconv.AppendUint(append(b, ' '), r.lastSeq, 10)
	b = strconv.AppendUint(append(b, ' '), r.Refused, 10)
	r.ackBuf = append(b, '\n')
	n, err := unix.Write(r.Ack, r.ackBuf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || n < len(r.ackBuf):
		r.ackGone = true
		r.say("acknowledgements end: writing to descriptor %d: %v", r.Ack, err)
	default:
		r.acked = r.settled
	}
}

// lastAck waits for room for the last acknowledgement, for as long as a stream
// that ends may take.
func (r *run) lastAck() {
	until := time.Now().Add(orDefault(r.Grace, DefaultGrace))
	for r.ack(); r.owesAck() && !r.hurried && time.Now().Before(until); r.ack() {
		r.poll(-1, time.Until(until))
	}
}
