package notify

import (
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Systemd returns a Notifier of the service manager that listens at
// $NOTIFY_SOCKET. It learns the status as text, when the guest is ready, and
// that the service stops: where the stream ends and the guest with it.
func Systemd() *Notifier { return start("systemd", tellSystemd) }

func tellSystemd(n news) error {
	var messages []string
	if !n.ended || n.ready {
		messages = append(messages, "STATUS="+line(n))
	}
	if n.ready {
		messages[0] += "\n" + daemon.SdNotifyReady
	}
	// A datagram of its own: of READY and STOPPING in one the last counts.
	if n.ended && n.state.Ended() {
		messages = append(messages, "STATUS="+line(n)+"\n"+daemon.SdNotifyStopping)
	}
	for _, m := range messages {
		if _, err := daemon.SdNotify(false, m); err != nil {
			return err
		}
	}
	return nil
}

// maxText is how much of a message is told: a screen of it, and far less than
// the 4,096 bytes beyond which systemd does not read.
const maxText = 1000

// line returns the status as one line.
func line(n news) string {
	text := string(n.state) + ": " + n.text
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
