package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/ready"
)

// maxReadyFD is the highest descriptor of --ready fd:N: select(2) has no higher ones.
const maxReadyFD = 1023

// aboveReady is how many descriptors above the highest one of the command
// syscall.ForkExec needs at most: those that it gives to the command, and its own pipe.
const aboveReady = 4

// A readyWay is how the command of run reports that it is ready, beside the stream.
type readyWay struct {
	notify bool // it notifies $NOTIFY_SOCKET
	fd     int  // it writes a line to this descriptor; 0 if not
}

// A readyReceiver receives from the command that it is ready.
type readyReceiver interface {
	// Start receives on a goroutine.
	Start()
	// Drain handles what has arrived. It is called before a child is reaped.
	Drain()
}

// parseReady parses the value of --ready.
func parseReady(f *flagSet, text string) (way readyWay, err error) {
	if !f.isGiven("ready") {
		return way, nil
	}
	if text == "notify" {
		return readyWay{notify: true}, nil
	}
	digits, isFD := strings.CutPrefix(text, "fd:")
	last := maxReadyFD
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur <= maxReadyFD+aboveReady {
		last = int(limit.Cur) - 1 - aboveReady
	}
	fd, err := strconv.Atoi(digits)
	switch {
	case !isFD:
		return way, f.badUsage("--ready is %q; expected notify, or fd:N with a descriptor from 3 to %d", text, last)
	case err != nil || fd < 3 || fd > last:
		return way, f.badUsage("--ready is %q; expected fd:N with a descriptor from 3 to %d", text, last)
	}
	return readyWay{fd: fd}, nil
}

// expectReady makes it possible for the command to report that it is ready in another way
// than on the stream. If that fails, the command is started anyway.
func (s *supervisor) expectReady(stream *ingest.Stream, way readyWay, n *notifiers) {
	if way == (readyWay{}) {
		return
	}
	reports, err := ingest.NewReports()
	if err == nil {
		stream.Reports = reports
		if way.notify {
			err = s.expectNotify(reports, n)
		} else {
			err = s.expectLine(reports, way.fd)
		}
	}
	if err != nil {
		s.warn(fmt.Sprintf("run: --ready: %v; the command cannot report that it is ready in this way", err))
	}
}

// expectNotify gives the command a socket to notify.
func (s *supervisor) expectNotify(reports *ingest.Reports, n *notifiers) error {
	s.env = without(s.env, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
	var forwarder ready.Forwarder
	if n.forwarder != nil {
		forwarder = n.forwarder
	}
	socket, err := ready.NewSocket(reports, s.isSender, forwarder)
	if err != nil {
		return err
	}
	s.env = append(s.env, "NOTIFY_SOCKET="+socket.Name)
	if n.watchdogUsec != "" {
		s.env = append(s.env, "WATCHDOG_USEC="+n.watchdogUsec)
	}
	s.ready = socket
	return nil
}

// expectLine gives the command a descriptor to write a line to.
func (s *supervisor) expectLine(reports *ingest.Reports, fd int) error {
	line, err := ready.NewLine(reports, func(text string) {
		s.warn(fmt.Sprintf("run: --ready fd:%d: %s", fd, text))
	})
	if err != nil {
		return err
	}
	s.readyFD, s.readyWrite = fd, line.Write
	s.ready = line
	return nil
}

// isSender reports whether the notifications of a process are accepted: it is a descendant
// or, if that is unknown because it has been reaped or /proc does not show it, has the user
// ID of this process or is root.
func (c *command) isSender(pid, uid int) bool {
	is, err := c.isDescendantNow(pid)
	if err != nil {
		return uid == 0 || uid == os.Geteuid()
	}
	return is
}

// isDescendantNow reports whether a process, or a zombie, is a descendant. The error means
// that this is unknown.
func (c *command) isDescendantNow(pid int) (bool, error) {
	us := os.Getpid()
	if self, _ := os.Readlink("/proc/self"); self != strconv.Itoa(us) {
		return false, errProcHidden
	}
	if pid == us { // of root's systemd-notify(1), which sends the ID of its parent (unix(7))
		return true, nil
	}
	for range scanAttempts {
		is, err := c.walkUp(pid, us)
		if err == nil {
			return is, nil
		}
		if _, err := readStat(fmt.Sprintf("/proc/%d/stat", pid)); err != nil {
			return false, err
		}
		// A parent has ended. The process now has another one.
	}
	return false, errProcHidden
}

// maxAncestors limits how long walkUp takes. No service starts processes so deep.
const maxAncestors = 100

// walkUp looks for this process among the ancestors of another one.
func (c *command) walkUp(pid, us int) (bool, error) {
	for range maxAncestors {
		if pid <= 0 || pid == us {
			return false, nil
		}
		s, err := readStat(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false, err
		}
		if c.earlier[pid] == s.start && s.start != 0 {
			return false, nil
		}
		if s.parent == us {
			return true, nil
		}
		pid = s.parent
	}
	return false, nil
}
