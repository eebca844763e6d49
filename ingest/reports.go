package ingest

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// messageInterval is the shortest time between two statuses that only have a new message. A
// program may report its progress thousands of times in a second, and each status is
// synced.
const messageInterval = 50 * time.Millisecond

// Reports passes to a stream what a program reports without writing a line: that it is
// ready, and new messages for the current status. Several goroutines may call its methods.
// They never block. If the stream is slow, Reports keeps only the newest message.
//
// Invariants:
//   - reports has at most three elements: a message, ready, and a newer message.
//   - fd is readable if signalled. It is signalled after something was added that the
//     stream must know of, until take is called.
//   - while reports is not empty, answers waits for the commit of it.
type Reports struct {
	fd int // an eventfd(2)

	mu        sync.Mutex // guards the following
	signalled bool
	reports   []report
	answers   []func()
	next      time.Time // when the next message may be written
}

// A report says that the guest is ready, or has a new message for the current status, or
// both.
type report struct {
	ready      bool
	message    string
	hasMessage bool
}

// NewReports returns Reports that use one descriptor.
func NewReports() (*Reports, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create an eventfd: %w", err)
	}
	return &Reports{fd: fd}, nil
}

// Ready reports that the guest is ready. If it is ready already, only the message counts.
// The event has the message; nil means the default.
func (r *Reports) Ready(message *string) { r.add(true, message) }

// Message reports a new message of the current status. There is no event for it.
func (r *Reports) Message(message string) { r.add(false, &message) }

func (r *Reports) add(ready bool, message *string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := report{ready: ready}
	if message != nil {
		rep.message, rep.hasMessage = *message, true
	}
	if len(r.reports) == 0 || ready {
		r.signal()
	}
	r.reports = appendReport(r.reports, rep)
}

// appendReport appends a report. It replaces what the new one makes superfluous.
func appendReport(list []report, rep report) []report {
	for _, earlier := range list {
		if earlier.ready && rep.ready { // no second event
			rep.ready = false
		}
	}
	if !rep.ready && !rep.hasMessage {
		return list
	}
	if last := len(list) - 1; last >= 0 && !rep.ready && !list[last].ready {
		list[last] = rep
		return list
	}
	return append(list, rep)
}

// AfterCommit calls f once everything that was reported before is committed, or the stream
// has stopped waiting for the disk. f must not block. The caller limits how many calls are
// pending. If the stream has already stopped reading, f is never called.
func (r *Reports) AfterCommit(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, f)
	r.signal()
}

// signal makes fd readable. The caller holds mu.
func (r *Reports) signal() {
	if r.signalled {
		return
	}
	r.signalled = true
	_, _ = unix.Write(r.fd, []byte{7: 1}[:8]) // a number that is not 0, in either byte order
}

// take removes and returns what is due. If all is false, a message that is not due stays,
// and so do the answers, which must come after it. isReady reports whether the guest is
// ready: then there is no event for ready.
func (r *Reports) take(isReady, all bool) (reports []report, answers []func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.signalled {
		r.signalled = false
		var count [8]byte
		_, _ = dirfs.RetryInt(func() (int, error) { return unix.Read(r.fd, count[:]) })
	}
	if isReady {
		r.dropReady()
	}
	now := time.Now()
	if !all && len(r.reports) > 0 && !r.hasReady() && now.Before(r.next) {
		return nil, nil
	}
	if len(r.reports) > 0 {
		r.next = now.Add(messageInterval)
	}
	reports, answers = r.reports, r.answers
	r.reports, r.answers = nil, nil
	return reports, answers
}

// dropReady removes ready from the reports, but not its message.
func (r *Reports) dropReady() {
	var list []report
	for _, rep := range r.reports {
		rep.ready = false
		list = appendReport(list, rep)
	}
	r.reports = list
}

func (r *Reports) hasReady() bool {
	for _, rep := range r.reports {
		if rep.ready {
			return true
		}
	}
	return false
}

// untilDue returns how long it takes until the message that take has left is due; negative
// if there is none.
func (r *Reports) untilDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		return -1
	}
	return max(0, time.Until(r.next))
}

// takeReports adds what was reported to the next commit, if it is due or all is true.
func (r *runner) takeReports(all bool) {
	if r.Reports == nil {
		return
	}
	reports, answers := r.Reports.take(r.decider.state == artifact.Ready, all)
	for i := range reports {
		r.now = r.Clock()
		r.addReport(&reports[i])
	}
	r.answers = append(r.answers, answers...)
	if !r.hasUncommitted() {
		r.answer()
	}
}

// answer calls the functions that wait for a commit.
func (r *runner) answer() {
	for _, f := range r.answers {
		f()
	}
	r.answers = nil
}

// addReport adds a report to the batch. ready is a transition like that of a line. A new
// message changes nothing else of the status.
func (r *runner) addReport(rep *report) {
	ready := rep.ready && r.decider.state != artifact.Ready
	d := directive.Directive{Type: directive.Status, State: r.decider.state}
	if ready {
		d.Type, d.State = directive.Transition, artifact.Ready
	}
	message := rep.message
	if message == "" {
		message = string(d.State)
	}
	warning, rejected := r.decider.check(&d)
	switch {
	case rejected != nil && ready:
		warning = "ready is ignored, because the run already has a result"
	case rejected != nil:
	case ready:
		d.Message = strictjson.AppendText(nil, message)
		r.record(&d, r.now)
	case rep.hasMessage:
		r.batch.setMessage(message)
		r.batch.status.value.Rejected = r.Rejected
	}
	if warning != "" {
		r.warnLimited("the command reported ready: %s", warning)
	}
}
