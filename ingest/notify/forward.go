package notify

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Forwarder sends to systemd what the command of run has sent as a service
// (sd_notify(3)), from the process that systemd expects it from. Its methods never block.
//
// The notifications about the status come from a Notifier. A reload of the command is not a
// state of the guest, so the Forwarder knows of it: until the command is ready again, a
// READY=1 with a status would end the reload too early.
//
// Invariants:
//   - unsent has what was not sent yet because systemd's queue is full, or because of
//     sending, in order. It has at most one datagram with the same names.
//   - reloading is set only after READY=1 was sent for the status, or while it is sent.
type Forwarder struct {
	socket string
	fd     int // stays open: at the limit of open files no other could be opened

	mu        sync.Mutex // guards the following
	ready     bool       // READY=1 was sent with a status
	reloading bool
	sending   bool // sendStatus sends READY=1 now
	unsent    []string
}

// NewForwarder returns a Forwarder to the service manager that listens on socket.
func NewForwarder(socket string) (*Forwarder, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create a socket: %w", err)
	}
	return &Forwarder{socket: socket, fd: fd}, nil
}

// Forward sends the assignments of one datagram. READY=1 is sent only at the end of a
// reload, and a reload only if systemd knows that the guest is ready: before that,
// READY=1 comes with the status, after its commit.
func (f *Forwarder) Forward(assignments string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Split(assignments, "\n")
	switch {
	case slices.Contains(all, "RELOADING=1") && (f.ready || f.sending):
		f.reloading = true
	case slices.Contains(all, "READY=1") && f.reloading:
		f.reloading = false
	default:
		all = slices.DeleteFunc(all, func(a string) bool {
			return a == "RELOADING=1" || a == "READY=1" || strings.HasPrefix(a, "MONOTONIC_USEC=")
		})
	}
	if len(all) > 0 {
		f.enqueue(strings.Join(all, "\n"))
	}
	f.flush()
}

// enqueue appends a datagram to unsent. An earlier one with the same assignments is
// superfluous.
func (f *Forwarder) enqueue(text string) {
	kind := kindOf(text)
	f.unsent = slices.DeleteFunc(f.unsent, func(earlier string) bool { return kindOf(earlier) == kind })
	f.unsent = append(f.unsent, text)
}

// kindOf returns the names of the assignments of a datagram.
func kindOf(text string) string {
	var names []string
	for assignment := range strings.SplitSeq(text, "\n") {
		name, _, _ := strings.Cut(assignment, "=")
		names = append(names, name)
	}
	return strings.Join(names, "\n")
}

// Retry sends what could not be sent before. It reports whether something is left.
func (f *Forwarder) Retry() (left bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flush()
	return len(f.unsent) > 0
}

// flush sends what is unsent until the queue of systemd is full. Other errors would occur
// again; the Notifier reports them.
func (f *Forwarder) flush() {
	for len(f.unsent) > 0 && !f.sending {
		err := unix.Sendto(f.fd, []byte(f.unsent[0]), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: f.socket})
		switch err {
		case unix.EAGAIN:
			return
		case unix.EINTR:
			continue
		}
		f.unsent = f.unsent[1:]
	}
}

// sendStatus calls send, which sends a status and, if its argument is true, READY=1. ready
// reports whether the guest is ready. A reload that begins meanwhile is forwarded later.
func (f *Forwarder) sendStatus(ready bool, send func(ready bool) error) error {
	if f == nil {
		return send(ready)
	}
	f.mu.Lock()
	withReady := ready && !f.reloading
	f.sending = withReady
	f.mu.Unlock()
	err := send(withReady) // may block
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sending = false
	f.ready = f.ready || (ready && err == nil)
	f.flush()
	return err
}
