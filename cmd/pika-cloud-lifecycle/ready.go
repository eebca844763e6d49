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

// spareFDs is how many descriptors above fd:N must be within the limit of open files:
// syscall.ForkExec needs at most so many, for those that it gives to the command and for its
// own pipe.
const spareFDs = 4

// lastReadyFD returns the highest descriptor of --ready fd:N that this process can use.
func lastReadyFD() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return maxReadyFD
	}
	return int(min(limit.Cur, maxReadyFD+1+spareFDs)) - 1 - spareFDs
}

// A readyWay is how the command of run reports that it is ready, beside the stream.
type readyWay struct {
	notify bool // it notifies $NOTIFY_SOCKET
	fd     int  // it writes a line to this descriptor; 0 if not
}

// A readyReceiver receives from the command that it is ready.
type readyReceiver interface {
	// Receive handles what arrives, as long as something may arrive.
	Receive()
	// Drain handles what has arrived. It is called before a child is reaped.
	Drain()
	// IsPending reports whether the command has not reported that it is ready, and it could
	// still do so.
	IsPending() bool
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
	last := lastReadyFD()
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
			err = s.expectNotify(stream, n)
		} else {
			err = s.expectLine(reports, way.fd)
		}
	}
	if err != nil {
		s.warn(fmt.Sprintf("run: --ready: %v; the command cannot report that it is ready in this way", err))
	}
}

// expectNotify gives the command a socket to notify.
func (s *supervisor) expectNotify(stream *ingest.Stream, n *notifiers) error {
	s.env = without(s.env, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
	var forwarder ready.Forwarder
	if n.forwarder != nil {
		forwarder = n.forwarder
	}
	socket, err := ready.NewSocket(stream.Reports, s.isSender, forwarder)
	if err != nil {
		return err
	}
	s.env = append(s.env, "NOTIFY_SOCKET="+socket.Name)
	if n.watchdogUsec != "" {
		s.env = append(s.env, "WATCHDOG_USEC="+n.watchdogUsec)
		s.leaveWatchdog(&stream.Watchdog)
	}
	s.ready = socket
	return nil
}

// leaveWatchdog leaves the watchdog of the stream to the command while it runs. The interval
// is half of the usual one, because the last notification of the command may be old when it
// ends.
func (s *supervisor) leaveWatchdog(w *ingest.Watchdog) {
	alive := w.Alive
	w.Interval /= 2
	w.Alive = func() bool { return s.runs.Load() || alive() }
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

// warnUnready warns if the command of --ready has ended without a report that it is ready,
// or has left processes. It is then usually a daemon that forks into the background.
func (s *supervisor) warnUnready(left int) {
	if s.ready == nil {
		return
	}
	how, missing := "notify", "READY=1"
	remedy := "check that it supports systemd (Type=notify)"
	if s.readyFD > 0 {
		how = fmt.Sprintf("fd:%d", s.readyFD)
		missing, remedy = "a line on this descriptor", "check that it writes a line to it"
	}
	if left > 0 {
		remedy = "it has left processes running: start the daemon in the foreground"
	}
	switch {
	case s.ready.IsPending():
		s.warn(fmt.Sprintf("run: --ready %s: %s has ended without %s; %s", how, s.name(), missing, remedy))
	case left > 0:
		s.warn(fmt.Sprintf("run: --ready %s: %s has ended; %s", how, s.name(), remedy))
	}
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

// maxAncestors limits how long isSender takes. No service starts processes so deep.
const maxAncestors = 100

// isDescendantNow reports whether a process, or a zombie, is a descendant. The error means
// that this is unknown.
func (c *command) isDescendantNow(pid int) (bool, error) {
	if !isOurProc() {
		return false, errProcHidden
	}
	if pid == os.Getpid() { // of root's systemd-notify(1), which sends the ID of its parent (unix(7))
		return true, nil
	}
	for range scanAttempts {
		is, err := c.isDescendant(pid, maxAncestors, readProcess)
		if err == nil {
			return is, nil
		}
		if _, err := readProcess(pid); err != nil {
			return false, err
		}
		// A parent has ended. The process now has another one.
	}
	return false, errProcHidden
}
