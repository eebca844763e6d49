package notify

import (
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Systemd returns a Notifier of the service manager at $NOTIFY_SOCKET. It
// sends the status as text, READY=1 when the guest is ready, and STOPPING=1 if
// the guest has ended when the stream ends. A stream that ends while the guest
// runs may be one part of a service that continues.
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
		// In its own datagram: systemd acts on only one of READY and STOPPING.
		return sendDatagram(status + "\n" + daemon.SdNotifyStopping)
	}
	return nil
}

func sendDatagram(text string) error {
	_, err := daemon.SdNotify(false, text)
	return err
}

// maxText is how many bytes of the status are sent: as much as fits on a screen,
// and far less than the 4,096 bytes that systemd reads.
const maxText = 1000

// statusLine returns the state and message as one line of valid UTF-8, cut to
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
