package ready

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

const (
	// maxDatagram is the longest datagram, in bytes, that systemd reads. It ignores longer
	// ones.
	maxDatagram = 4096
	// maxRights is how many descriptors of a datagram are received. One is enough for
	// BARRIER=1, and a second shows that there are too many. The kernel closes the others
	// (unix(7), MSG_CTRUNC), so a sender cannot use up the descriptors of this process.
	maxRights = 2
	// maxBarriers is how many BARRIER=1 may wait for a commit. At the limit nothing is
	// received, so the senders wait. A service has one thread that uses it.
	maxBarriers = 16
	// otherFiles is enough for a commit, and for what this process opens later. A barrier
	// keeps a descriptor until a commit.
	otherFiles = 20
	// forwardPause is the time between two attempts to forward.
	forwardPause = 50 * time.Millisecond
	// drainTime is how long Drain waits at most. Usually it is a few milliseconds.
	drainTime = 2 * time.Second
)

// A Forwarder sends assignments to the service manager of this process. It must not block,
// and keeps what could not be sent yet.
type Forwarder interface {
	Forward(assignments string)
	// Retry sends what could not be sent before. It reports whether something is left.
	Retry() (left bool)
}

// A Socket receives the notifications of a service, as systemd does (sd_notify(3)), and
// passes them to a stream.
//
// Only one goroutine (Receive) reads the socket and closes what was passed, because
// recvmsg(2) and close(2) may then wait: the last copy of a TCP socket with SO_LINGER is
// closed when its peer has received everything (socket(7)), and any process can send one.
//
// Invariants:
//   - mu is held from the receipt of a datagram until it was handled. The stream never
//     waits for it.
//   - barriers is how many calls of Reports.AfterCommit are pending. If it is less than
//     most after it was not, answered is full.
//   - handled is how many datagrams were handled.
type Socket struct {
	// Name is the value of $NOTIFY_SOCKET for the service.
	Name string

	fd      int
	queue   int   // how many datagrams the kernel keeps for the socket at most
	most    int32 // how many barriers may be pending
	reports *ingest.Reports
	isOurs  func(pid, uid int) bool
	forward Forwarder

	mu       sync.Mutex
	text     [maxDatagram + 1]byte
	control  []byte
	handled  atomic.Int64
	barriers atomic.Int32
	isReady  atomic.Bool // READY=1 was received
	answered chan struct{}

	gaveUp  bool  // Drain has waited for drainTime
	stuckAt int64 // handled at that time
}

// NewSocket creates a socket in the abstract namespace, under a name that the kernel
// chooses (unix(7), "Autobind feature"): a service that cannot see the file system of this
// process can use it too. isOurs decides whether the notifications of a process are
// accepted. forward is nil if there is no service manager. Datagrams that arrive before
// Receive is called wait in the socket.
func NewSocket(reports *ingest.Reports, isOurs func(pid, uid int) bool, forward Forwarder) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("create a socket: %w", err)
	}
	s := &Socket{fd: fd, queue: queueLength(), most: barrierLimit(fd), reports: reports, isOurs: isOurs, forward: forward,
		control:  make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxRights)),
		answered: make(chan struct{}, 1)}
	s.Name, err = s.bind()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// bind makes the kernel bind the socket, and returns its name. Credentials are requested
// first, so that no datagram comes without them.
func (s *Socket) bind() (name string, err error) {
	err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(s.fd, &unix.SockaddrUnix{})
	}
	if err != nil {
		return "", fmt.Errorf("bind a socket: %w", err)
	}
	address, err := unix.Getsockname(s.fd)
	if err != nil {
		return "", fmt.Errorf("get the name of a socket: %w", err)
	}
	own, ok := address.(*unix.SockaddrUnix)
	if !ok || !strings.HasPrefix(own.Name, "@") {
		return "", fmt.Errorf("the kernel bound a socket to %v; expected an abstract name", address)
	}
	return own.Name, nil
}

// queueLength returns how many datagrams the kernel keeps for a socket (unix(7),
// max_dgram_qlen).
func queueLength() int {
	const unknown = 1024 // more than systemd sets
	text, err := os.ReadFile("/proc/sys/net/unix/max_dgram_qlen")
	if err != nil {
		return unknown
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 0 {
		return unknown
	}
	return n + 1 // the kernel lets one more in
}

// barrierLimit returns how many barriers may be pending. next is the lowest descriptor that
// was free.
func barrierLimit(next int) int32 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return maxBarriers
	}
	return int32(max(1, min(maxBarriers, int(limit.Cur)-next-otherFiles)))
}

// Receive handles datagrams as they arrive, until this process ends.
func (s *Socket) Receive() {
	for {
		limit := -1
		if s.forward != nil && s.forward.Retry() {
			limit = int(forwardPause / time.Millisecond)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, limit)
		if !s.next() {
			s.awaitBarriers()
		}
	}
}

// awaitBarriers waits while the limit of barriers is reached.
func (s *Socket) awaitBarriers() {
	for s.isBusy() {
		<-s.answered
	}
}

func (s *Socket) isBusy() bool { return s.barriers.Load() >= s.most }

// Drain waits until the datagrams that have arrived are handled. It must be called before a
// child is reaped: after that, /proc does not show whether its process ID was that of a
// descendant. If it has waited for drainTime, it waits again only after the next datagram was
// handled.
func (s *Socket) Drain() {
	begun := s.handled.Load()
	if s.gaveUp && s.stuckAt == begun {
		return
	}
	s.gaveUp = false
	for end := time.Now().Add(drainTime); !s.isIdle() && s.handled.Load()-begun <= int64(s.queue); {
		if time.Now().After(end) {
			s.gaveUp, s.stuckAt = true, s.handled.Load()
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// IsPending reports whether no READY=1 was received.
func (s *Socket) IsPending() bool { return !s.isReady.Load() }

// isIdle reports whether everything that has arrived was handled.
func (s *Socket) isIdle() bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 0)
	return n == 0 && err == nil
}

// next receives and handles one datagram. It returns false if there is none, or if it may
// not receive one now.
func (s *Socket) next() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isBusy() {
		return false
	}
	var n, nControl, flags int
	_, err := dirfs.RetryInt(func() (_ int, err error) {
		n, nControl, flags, _, err = unix.Recvmsg(s.fd, s.text[:], s.control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return n, err
	})
	if err != nil {
		return false
	}
	sender, rights := parseControl(s.control[:nControl])
	answer := s.handle(s.text[:n], flags, sender, rights)
	for _, fd := range rights {
		if fd != answer {
			unix.Close(fd)
		}
	}
	s.handled.Add(1)
	return true
}

// parseControl returns the sender of a datagram, nil if it is unknown, and the descriptors
// that the datagram has.
func parseControl(control []byte) (sender *unix.Ucred, rights []int) {
	messages, _ := unix.ParseSocketControlMessage(control)
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			sender = cred
		}
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			rights = append(rights, fds...)
		}
	}
	return sender, rights
}

// handle handles a datagram. It returns the descriptor that it will close itself; -1 if
// there is none.
func (s *Socket) handle(text []byte, flags int, sender *unix.Ucred, rights []int) (answer int) {
	if sender == nil || flags&unix.MSG_TRUNC != 0 || len(text) > maxDatagram {
		return -1
	}
	m, ok := parse(text)
	if !ok || !s.isOurs(int(sender.Pid), int(sender.Uid)) {
		return -1
	}
	if m.barrier {
		if len(rights) != 1 || flags&unix.MSG_CTRUNC != 0 || !dirfs.IsPipe(rights[0]) { // the stream can close a pipe without waiting
			return -1
		}
		s.addBarrier(rights[0])
		return rights[0]
	}
	if s.forward != nil && m.forwarded != "" {
		s.forward.Forward(m.forwarded)
	}
	switch {
	case m.ready:
		s.isReady.Store(true)
		s.reports.Ready(m.status)
	case m.status != nil:
		s.reports.Message(*m.status)
	}
	return -1
}

// addBarrier closes fd after the commit of all that was reported before: the sender waits
// for that (sd_notify_barrier(3)). The caller holds mu.
func (s *Socket) addBarrier(fd int) {
	s.barriers.Add(1)
	s.reports.AfterCommit(func() {
		unix.Close(fd)
		s.barriers.Add(-1)
		select {
		case s.answered <- struct{}{}:
		default: // it is full
		}
	})
}

// A message is what a datagram says.
type message struct {
	barrier   bool
	ready     bool
	status    *string // nil if there is none
	forwarded string  // for the service manager
}

// parse parses a datagram as systemd does: it has assignments on lines of their own.
// Unknown ones are ignored. If one occurs again, the first counts. ok is false if systemd
// ignores the whole datagram.
func parse(text []byte) (m message, ok bool) {
	text = bytes.TrimSuffix(text, []byte{0})
	if bytes.IndexByte(text, 0) >= 0 {
		return m, false
	}
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	has := func(assignment string) bool {
		for _, line := range lines {
			if line == assignment {
				return true
			}
		}
		return false
	}
	if has("BARRIER=1") {
		return message{barrier: true}, len(lines) == 1
	}
	var forwarded []string
	stopping := has("STOPPING=1") // counts more than READY=1, which counts more than RELOADING=1
	m.ready = has("READY=1") && !stopping
	switch {
	case m.ready:
		forwarded = append(forwarded, "READY=1")
	case has("RELOADING=1") && !stopping:
		forwarded = append(forwarded, "RELOADING=1")
		if usec, ok := value(lines, "MONOTONIC_USEC"); ok && isNumber(usec) {
			forwarded = append(forwarded, "MONOTONIC_USEC="+usec)
		}
	}
	if usec, ok := value(lines, "EXTEND_TIMEOUT_USEC"); ok && isNumber(usec) {
		forwarded = append(forwarded, "EXTEND_TIMEOUT_USEC="+usec)
	}
	if has("WATCHDOG=1") {
		forwarded = append(forwarded, "WATCHDOG=1")
	}
	if status, ok := value(lines, "STATUS"); ok {
		m.status = &status
	}
	m.forwarded = strings.Join(forwarded, "\n")
	return m, true
}

// value returns the first value of a name.
func value(lines []string, name string) (text string, ok bool) {
	for _, line := range lines {
		if text, ok := strings.CutPrefix(line, name+"="); ok {
			return text, true
		}
	}
	return "", false
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}
