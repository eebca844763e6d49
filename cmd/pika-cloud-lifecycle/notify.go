package main

import (
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/notify"
)

// notifiers send what a stream commits to those that --notify names.
type notifiers []*notify.Notifier

// newNotifiers returns the notifiers that the value of --notify asks for. auto
// means all that can be reached: systemd sets $NOTIFY_SOCKET if a unit asks for
// notifications, and Incus provides a socket if the host offers it.
func (a *app) newNotifiers(f *flagSet, words string) (all notifiers, err error) {
	if words == "never" {
		return nil, nil
	}
	systemd, incus := a.getenv("NOTIFY_SOCKET") != "", notify.IncusSocket()
	asked := strings.Split(words, ",")
	if words == "auto" {
		asked = nil
		if systemd {
			asked = append(asked, "systemd")
		}
		if incus != "" {
			asked = append(asked, "incus")
		}
	}
	for _, word := range asked {
		switch {
		case word == "systemd" && systemd:
			all = append(all, notify.Systemd())
		case word == "systemd":
			a.warn(f.Name() + ": --notify systemd: $NOTIFY_SOCKET is not set, so nobody is told; see NotifyAccess= of the unit")
		case word == "incus" && incus != "":
			all = append(all, notify.Incus(incus))
		case word == "incus":
			a.warn(f.Name() + ": --notify incus: there is no /dev/incus/sock, so nobody is told; see security.guestapi of the instance")
		default:
			return nil, f.badUsage("--notify is %q; expected auto, never, or one or both of systemd,incus", words)
		}
	}
	return all, nil
}

// followers returns the notifiers as followers of a stream.
func (all notifiers) followers() (followers []ingest.Follower) {
	for _, n := range all {
		followers = append(followers, n)
	}
	return followers
}

// closeNotifiers sends that the stream has ended, and warns about who could not
// be reached.
func (a *app) closeNotifiers(all notifiers) {
	for _, n := range all {
		if err := n.Close(); err != nil {
			a.warn(err.Error())
		}
	}
}
