package main

import (
	"fmt"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/notify"
)

// notifiers report each status of a stream to the service managers that --notify
// names.
type notifiers []*notify.Notifier

// newNotifiers returns the notifiers for the value of --notify. auto means all
// service managers that are present: systemd sets $NOTIFY_SOCKET if a unit expects
// notifications, and Incus provides a socket if the host allows it.
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
		if word != "systemd" && word != "incus" {
			return nil, f.badUsage("--notify is %q; expected auto, never, or one or both of systemd,incus", words)
		}
	}
	socket := a.getenv("NOTIFY_SOCKET")
	for _, word := range asked {
		switch {
		case word == "systemd" && systemd && !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@"):
			a.warn(fmt.Sprintf("%s: $NOTIFY_SOCKET is %q, so systemd is not notified; expected a path such as /run/systemd/notify", f.Name(), socket))
		case word == "systemd" && systemd:
			all = append(all, notify.Systemd())
		case word == "systemd":
			a.warn(f.Name() + ": --notify systemd: $NOTIFY_SOCKET is not set, so systemd is not notified; set NotifyAccess= in the unit")
		case word == "incus" && incus != "":
			all = append(all, notify.Incus(incus))
		case word == "incus":
			a.warn(f.Name() + ": --notify incus: /dev/incus/sock does not exist, so Incus is not notified; set security.guestapi=true on the instance")
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

// closeNotifiers reports the end of the stream, and warns about failed
// notifications.
func (a *app) closeNotifiers(all notifiers) {
	for _, n := range all {
		if err := n.Close(); err != nil {
			a.warn(err.Error())
		}
	}
}
