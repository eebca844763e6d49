package ingest

import (
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// An acker writes acknowledgements. Each covers all lines before it, so the acker
// skips one that does not fit into the pipe.
//
// decided is the last line that is durable or rejected, acked the last one that
// was acknowledged. While decided is higher, an acknowledgement is pending.
type acker struct {
	fd   int // 0 for none
	warn func(format string, args ...any)

	decided  uint64
	acked    uint64
	seq      uint64    // of the last event that the stream wrote
	gone     bool      // a write failed, usually because the reader is gone; no more are written
	buf      []byte    // memory for one acknowledgement; used again
	deadline time.Time // for the last acknowledgement; zero before the end
}

// advance notes that all lines up to line are durable or rejected.
func (a *acker) advance(line, seq uint64) { a.decided, a.seq = line, seq }

// pendingFD returns the descriptor if an acknowledgement is pending, else -1.
func (a *acker) pendingFD() int {
	if a.fd > 0 && !a.gone && a.decided > a.acked {
		return a.fd
	}
	return -1
}

// send writes one line LINES SEQ REJECTED, if one is pending and the pipe has
// space. A write of up to PIPE_BUF bytes does not block if poll(2) has reported the
// pipe as writable (pipe(7)).
func (a *acker) send(rejected uint64) {
	fd := a.pendingFD()
	if fd < 0 {
		return
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	if n <= 0 || err != nil {
		return
	}
	b := strconv.AppendUint(a.buf[:0], a.decided, 10)
	b = strconv.AppendUint(append(b, ' '), a.seq, 10)
	b = strconv.AppendUint(append(b, ' '), rejected, 10)
	a.buf = append(b, '\n')
	n, err = unix.Write(fd, a.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || n < len(a.buf):
		a.gone = true
		if err == nil {
			err = io.ErrShortWrite
		}
		a.warn("write an acknowledgement to descriptor %d: %v; no more are written", fd, err)
	default:
		a.acked = a.decided
	}
}
