package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/sys/unix"
)

// Systemd returns a Notifier of the service manager that listens on socket, which is
// the value of $NOTIFY_SOCKET. It sends the status as text, and READY=1 when the guest
// is ready. At the end of the stream, it sends STOPPING=1 if the guest has ended, but
// not if the guest still runs: the service may continue without this stream.
//
// forwarder, if not nil, sends the notifications of the command to the same socket.
func Systemd(socket string, forwarder *Forwarder) *Notifier {
	s := systemd{socket: socket, forwarder: forwarder}
	return start("systemd", s.send, s.awaitReceipt)
}

// systemd sends notifications to systemd. socket begins with @ if it is in the abstract
// namespace.
type systemd struct {
	socket    string
	forwarder *Forwarder
}

func (s systemd) send(n notification) error {
	status := "STATUS=" + statusLine(n)
	if n.wasReady || !n.streamEnd {
		err := s.forwarder.sendStatus(n.wasReady, func(ready bool) error {
			text := status
			if ready {
				text += "\nREADY=1"
			}
			return s.sendDatagram(text, nil)
		})
		if err != nil {
			return err
		}
	}
	if n.streamEnd && n.state.Ended() {
		// A separate datagram, because systemd acts on only one of READY=1 and
		// STOPPING=1 in a datagram.
		return s.sendDatagram(status+"\nSTOPPING=1", nil)
	}
	return nil
}

// awaitReceipt waits until the service manager has received all earlier datagrams
// (sd_notify_barrier(3)). Otherwise systemd may ignore a datagram whose sender has
// exited before systemd reads it, because it cannot find the unit of that process.
//
// BARRIER=1 passes the write end of a pipe, which the service manager closes once it has
// received the datagrams before. If it does not know BARRIER=1, it closes the descriptor
// too, or the kernel does. awaitReceipt ignores errors, because the notifications
// themselves were sent. Close limits how long it may take.
func (s systemd) awaitReceipt() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	err = s.sendDatagram("BARRIER=1", unix.UnixRights(int(w.Fd())))
	w.Close()
	if err != nil {
		return
	}
	_, _ = r.Read(make([]byte, 1))
}

// sendDatagram sends text and rights, which hold descriptors (unix(7), SCM_RIGHTS) or
// are nil. It waits while the queue of the service manager is full.
func (s systemd) sendDatagram(text string, rights []byte) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		err = writeMessage(conn, text, rights)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("%s: %w; check $NOTIFY_SOCKET", s.socket, errno)
	}
	return err
}

// writeMessage sends a datagram on a connected socket, which UnixConn.WriteMsgUnix
// cannot.
func writeMessage(conn *net.UnixConn, text string, rights []byte) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) (done bool) {
		sent = unix.Sendmsg(int(fd), []byte(text), rights, nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	return errors.Join(err, sent)
}

// maxText limits the status text, in bytes. It fits on a screen, and is well below
// the 4,096 bytes that systemd reads.
const maxText = 1000

// statusLine returns the state and message as one line of valid UTF-8, truncated to
// maxText bytes.
func statusLine(n notification) string {
	text := string(n.state) + ": " + n.message
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}
