package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/notify"
)

// notifiers report each status of a stream to the service managers that --notify
// names. systemd is true if systemd is one of them; only then does the stream keep the
// watchdog of the unit alive.
type notifiers struct {
	all      []*notify.Notifier
	systemd  bool
	watchdog ingest.Watchdog

	forwarder    *notify.Forwarder // for the notifications of the command; nil if they are not forwarded
	watchdogUsec string            // for the command: $WATCHDOG_USEC; empty if it has no watchdog
}

// newNotifiers returns the notifiers for the value of --notify. auto means all
// service managers that are present: systemd sets $NOTIFY_SOCKET if a unit expects
// notifications, and Incus provides a socket if the host allows it. forward reports whether
// notifications of the command are forwarded to systemd, and its watchdog with them.
func (a *app) newNotifiers(f *flagSet, words string, forward bool) (n notifiers, err error) {
	if words == "never" {
		return n, nil
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
			return n, f.badUsage("--notify is %q; expected auto, never, or one or both of systemd,incus", words)
		}
	}
	socket := a.getenv("NOTIFY_SOCKET")
	for _, word := range asked {
		switch {
		case word == "systemd" && systemd && !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@"):
			a.warn(fmt.Sprintf("%s: $NOTIFY_SOCKET is %q, so systemd is not notified; expected a path such as /run/systemd/notify", f.Name(), socket))
		case word == "systemd" && systemd:
			a.addSystemd(&n, f.Name(), socket, forward)
		case word == "systemd":
			a.warn(f.Name() + ": --notify systemd: $NOTIFY_SOCKET is not set or empty, so systemd is not notified; start it in a unit with Type=notify or NotifyAccess=")
		case word == "incus" && incus != "":
			n.all = append(n.all, notify.Incus(incus))
		case word == "incus":
			a.warn(f.Name() + ": --notify incus: /dev/incus/sock does not exist, so Incus is not notified; set security.guestapi=true on the instance")
		}
	}
	return n, nil
}

// addSystemd adds the notifier for systemd, which listens on socket, and the watchdog. name is
// that of the subcommand.
func (a *app) addSystemd(n *notifiers, name, socket string, forward bool) {
	var err error
	usec := a.getenv("WATCHDOG_USEC")
	n.systemd = true
	n.watchdog, err = notify.Watchdog(socket, usec, a.getenv("WATCHDOG_PID"))
	if err != nil {
		a.warn(fmt.Sprintf("%s: the watchdog is not notified: %v", name, err))
	}
	if forward {
		err := n.forward(socket, usec)
		if err != nil {
			a.warn(fmt.Sprintf("%s: the notifications of the command are not forwarded to systemd: %v", name, err))
		}
	}
	n.all = append(n.all, notify.Systemd(socket, n.forwarder))
}

// forward makes it possible to forward notifications of the command. While the command
// runs, it notifies the watchdog instead of the stream.
func (n *notifiers) forward(socket, usec string) (err error) {
	n.forwarder, err = notify.NewForwarder(socket)
	if err == nil && n.watchdog.Interval > 0 {
		n.watchdogUsec = usec
	}
	return err
}

// follow adds the notifiers to a stream.
func (n *notifiers) follow(s *ingest.Stream) {
	for _, follower := range n.all {
		s.Followers = append(s.Followers, follower)
	}
	s.Watchdog = n.watchdog
}

// commandEnv returns the environment of the command of run, if run has env: without the
// variables of systemd that are not for the command.
//
//   - $LISTEN_PID is never the PID of the command, so the command would ignore the
//     others (sd_listen_fds(3)).
//   - The notifications are for run or for the command, but not for both: each would
//     replace the status of the other.
//   - If they are for the command, so is a watchdog of run. $WATCHDOG_PID is then
//     removed, because the command would ignore a watchdog with another PID
//     (sd_watchdog_enabled(3)). A watchdog of a third process stays as it is.
func (n *notifiers) commandEnv(env []string) []string {
	env = without(env, "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")
	if n.systemd {
		return without(env, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
	}
	if os.Getenv("WATCHDOG_PID") == strconv.Itoa(os.Getpid()) {
		return without(env, "WATCHDOG_PID")
	}
	return env
}

// closeNotifiers reports the end of the stream, and warns about failed
// notifications.
func (a *app) closeNotifiers(n notifiers) {
	for _, err := range notify.Close(n.all...) {
		a.warn(err.Error())
	}
}
