package main

import (
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/notify"
)

// audience are those who are told how a stream goes.
type audience []*notify.Notifier

// invite returns the audience that the words of --notify ask for. Auto are all
// that listen: systemd sets $NOTIFY_SOCKET where a unit asks for notifications,
// the socket of Incus is there where the host offers it.
func (w *world) invite(command, words string) (a audience, err error) {
	listens, socket := w.getenv("NOTIFY_SOCKET") != "", notify.IncusSocket()
	if words == "never" {
		return nil, nil
	}
	asked := strings.Split(words, ",")
	if words == "auto" {
		asked = asked[:0]
		if listens {
			asked = append(asked, "systemd")
		}
		if socket != "" {
			asked = append(asked, "incus")
		}
	}
	for _, word := range asked {
		switch {
		case word == "systemd" && listens:
			a = append(a, notify.Systemd())
		case word == "systemd":
			w.say(command + ": --notify systemd: $NOTIFY_SOCKET is not set, so nobody is told; see NotifyAccess= of the unit")
		case word == "incus" && socket != "":
			a = append(a, notify.Incus(socket))
		case word == "incus":
			w.say(command + ": --notify incus: there is no /dev/incus/sock, so nobody is told; see security.guestapi of the instance")
		default:
			return nil, badUsage("%s: --notify is %q; expected auto, never, or one or both of systemd,incus", command, words)
		}
	}
	return a, nil
}

// followers returns the audience as followers of a stream.
func (a audience) followers() (all []ingest.Follower) {
	for _, n := range a {
		all = append(all, n)
	}
	return all
}

// dismiss tells the audience that the stream is over, and says who could not
// be told.
func (w *world) dismiss(a audience) {
	for _, n := range a {
		if err := n.Close(); err != nil {
			w.say(err.Error())
		}
	}
}
