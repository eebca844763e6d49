package notify

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Systemd returns a Notifier of the service manager at $NOTIFY_SOCKET. It sends the
// status as text, and READY=1 when the guest is ready. At the end of the stream, it
// sends STOPPING=1 if the guest has ended, but not if the guest still runs: the
// service may continue without this stream.
func Systemd() *Notifier { return start("systemd", sendToSystemd) }

func sendToSystemd(n notification) error {
	status := "STATUS=" + statusLine(n)
	if n.wasReady || !n.streamEnd {
		text := status
		if n.wasReady {
			text += "\n" + daemon.SdNotifyReady
		}
		err := sendDatagram(text)
		if err != nil {
			return err
		}
	}
	if n.streamEnd && n.state.Ended() {
		// A separate datagram, because systemd acts on only one of READY=1 and
		// STOPPING=1 in a datagram.
		return sendDatagram(status + "\n" + daemon.SdNotifyStopping)
	}
	return nil
}

func sendDatagram(text string) error {
	_, err := daemon.SdNotify(false, text)
	var (
		op    *net.OpError
		errno syscall.Errno
	)
	if errors.As(err, &op) && errors.As(err, &errno) && op.Addr != nil {
		return fmt.Errorf("%s: %w; check $NOTIFY_SOCKET", op.Addr, errno)
	}
	return err
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
