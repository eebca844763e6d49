package ingest

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxPending is how much is committed at once: large enough that a sync is
// paid for by thousands of events, small enough that memory stays flat.
const maxPending = 2 << 20

// pending is what the next commit writes.
type pending struct {
	events  writer.Batch
	rejects []byte
	refused uint64 // lines in rejects

	status      artifact.Status
	hasStatus   bool
	statusEvent int              // in events; -1 if none was committed with it
	ready       bool             // a transition to ready led to status
	message     strictjson.Value // of status, unless it stands in events
	details     strictjson.Value

	result      artifact.Result
	hasResult   bool
	resultEvent int
	exitCode    int32

	startsRun bool // a verdict that stands is another run's

	copies writer.NumberedBatch // of a source
	over   string               // a boot that copies follow
	anew   bool                 // copies begin a log
}

func (p *pending) empty() bool {
	return p.events.Len() == 0 && len(p.rejects) == 0 && !p.hasStatus && !p.hasResult && !p.startsRun &&
		p.copies.Len() == 0 && p.over == "" && !p.anew
}

func (p *pending) full() bool {
	return p.events.Size() >= maxPending || p.copies.Size() >= maxPending || len(p.rejects) >= maxPending
}

// addEvent adds the event of d and returns its number in the commit, or -1 if
// the stream is degraded and there is no room.
func (p *pending) addEvent(r *run, d *directive, when Moment) int {
	if r.Degraded && p.events.Size() >= maxPending {
		return -1
	}
	e := artifact.Event{Kind: d.state, Time: when.Time, Message: d.message,
		Details: d.details, BootID: r.BootID, Uptime: when.Uptime}
	p.events.Add(&e)
	d.message, d.details = e.Message, e.Details
	return p.events.Len() - 1
}

// addReject adds a refused line, or returns false if there is no room.
func (p *pending) addReject(reject *artifact.Reject, degraded bool) bool {
	if degraded && len(p.rejects) >= maxPending {
		return false
	}
	p.rejects = reject.Append(p.rejects)
	p.refused++
	return true
}

// setStatus makes d the status of the commit. Its values stand in the batch, if
// it has an event there: of a million states only the last of each commit is
// written, and only that is worth a copy.
func (p *pending) setStatus(r *run, d *directive, when Moment, event int) {
	p.status = artifact.Status{State: d.state, Time: when.Time, BootID: r.BootID, Rejected: r.Refused,
		Message: d.message, Details: d.details}
	p.hasStatus, p.statusEvent = true, event
	if event < 0 {
		p.ownStatus()
	}
}

// ownStatus copies the values of the status, before what they stand in is used
// again.
func (p *pending) ownStatus() {
	p.message = append(p.message[:0], p.status.Message...)
	p.details = append(p.details[:0], p.status.Details...)
	p.status.Message, p.status.Details = p.message, p.details
}

// setResult makes d the result of the commit.
func (p *pending) setResult(r *run, d *directive, when Moment, event int) {
	res := &p.result
	*res = artifact.Result{Outcome: d.outcome, Time: when.Time, BootID: r.BootID,
		Message: append(res.Message[:0], d.message...), Details: append(res.Details[:0], d.details...)}
	if d.hasExit {
		p.exitCode = d.exitCode
		res.ExitCode = &p.exitCode
	}
	p.hasResult, p.resultEvent = true, event
}

// commit makes all that is pending durable. While that fails it tries again,
// ever more slowly, and the input waits in the pipe; after WriteTimeout the
// stream is degraded, and commit returns with what could not be written still
// pending.
func (r *run) commit() {
	if r.Degraded && time.Now().Before(r.tryAgain) {
		return
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := r.attempt()
		if err == nil {
			r.succeed()
			r.tell()
			return
		}
		r.tell()
		r.complain(err)
		if r.Degraded {
			r.tryAgain = time.Now().Add(time.Second)
			return
		}
		if r.overdue() {
			r.degrade()
		} else {
			r.poll(-1, wait)
			r.ack() // one that is owed: else poll returns at once from here on
		}
	}
}

// succeed notes that nothing is pending any more.
func (r *run) succeed() {
	if !r.failing.IsZero() {
		r.say("writing works again")
	}
	r.failing, r.said = time.Time{}, ""
	if r.Dropped == 0 {
		r.settled = r.input.number
	}
	r.ack()
}

// complain says a write error, once.
func (r *run) complain(err error) {
	if r.failing.IsZero() {
		r.failing = time.Now()
	}
	if text := err.Error(); text != r.said {
		r.said = text
		r.say("%s; trying again", text)
	}
}

// overdue reports whether the input has waited long enough for the disk.
func (r *run) overdue() bool {
	now := time.Now()
	return r.hurried || r.From == nil && now.Sub(r.failing) >= orDefault(r.WriteTimeout, DefaultWriteTimeout) ||
		!r.deadline.IsZero() && now.After(r.deadline)
}

func (r *run) degrade() {
	r.Degraded = true
	r.Dir.Events.LockWait = time.Millisecond // the wait goes on beside the reading
	r.say("gave up waiting for the disk: reading on, keeping the last state and the verdict, "+
		"dropping events beyond %d bytes", maxPending)
}

// giveUp says what is lost at the end of a degraded stream.
func (r *run) giveUp() {
	p := &r.pending
	r.Dropped += uint64(p.events.Len()+p.copies.Len()) + p.refused
	if p.hasStatus {
		r.say("status %s could not be written", p.status.State)
	}
	if p.hasResult {
		r.say("result %s could not be written", p.result.Outcome)
	}
}

// attempt tries each step of the commit that is still to be done, in order. A
// step that fails ends the attempt, unless the stream is degraded: then each
// artifact is tried on its own, and the first error is returned.
func (r *run) attempt() error {
	p := &r.pending
	if p.empty() {
		return nil
	}
	if r.DryRun != nil {
		r.rehearse()
		return nil
	}
	steps := [...]func(*run) error{(*run).writeCopies, (*run).writeEvents, (*run).writeRejects,
		(*run).keepResult,
		(*run).writeResult, //fault:result-before-status
		(*run).writeStatus,
		(*run).setResultAside}
	todo := steps[:]
	unlock, first := r.Dir.Events.Lock()
	if first == nil {
		defer unlock()
	} else {
		todo = steps[3:] // the logs are nobody's without the lock
	}
	for _, step := range todo {
		if first != nil && !r.Degraded {
			return first
		}
		if err := step(r); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// writeEvents appends the events and learns their seqs.
func (r *run) writeEvents() error {
	p := &r.pending
	if p.events.Len() == 0 {
		return nil
	}
	if err := r.Dir.Events.Append(&p.events); err != nil {
		return err
	}
	r.numbered()
	if len(r.Followers) > 0 {
		r.committed.Events = p.events.Text() // told before anything is added
	}
	if p.hasStatus {
		p.ownStatus()
	}
	p.events.Reset()
	return nil
}

// numbered notes the seqs of the events.
func (r *run) numbered() {
	p := &r.pending
	r.lastSeq = p.events.Seq(p.events.Len() - 1)
	if p.hasStatus && p.statusEvent >= 0 {
		p.status.Seq = p.events.Seq(p.statusEvent)
	}
	if p.hasResult && p.resultEvent >= 0 {
		p.result.Seq = p.events.Seq(p.resultEvent)
	}
	p.statusEvent, p.resultEvent = -1, -1
}

func (r *run) writeRejects() error {
	p := &r.pending
	if len(p.rejects) == 0 {
		return nil
	}
	if err := r.Dir.Rejects.Append(p.rejects); err != nil {
		return err
	}
	if len(r.Followers) > 0 {
		r.committed.Rejects = append(r.committed.Rejects, p.rejects...)
	}
	p.rejects, p.refused = p.rejects[:0], 0
	return nil
}

// keepResult keeps the verdict of the run before where this commit holds both
// the start and the verdict of a run, so that a result stands at all times.
func (r *run) keepResult() error {
	p := &r.pending
	if !p.startsRun || !p.hasResult {
		return nil
	}
	if err := r.Dir.Result.CopyToPrevious(); err != nil {
		return err
	}
	p.startsRun = false
	return nil
}

func (r *run) writeResult() error {
	p := &r.pending
	if !p.hasResult {
		return nil
	}
	if err := r.Dir.Result.Replace(&p.result); err != nil {
		return err
	}
	p.hasResult, p.startsRun = false, false
	r.committed.Result = &p.result
	return nil
}

func (r *run) writeStatus() error {
	p := &r.pending
	if !p.hasStatus {
		return nil
	}
	if err := r.Dir.Status.Replace(&p.status); err != nil {
		return err
	}
	r.committed.Status, r.committed.Ready = &p.status, p.ready
	p.hasStatus, p.ready = false, false
	return nil
}

// setResultAside retires the verdict of the run before. It comes after the
// status, and in a degraded stream waits for it, so that a reader that sees
// completed always finds the result.
func (r *run) setResultAside() error {
	if !r.pending.startsRun || r.pending.hasStatus {
		return nil
	}
	if err := r.Dir.Result.MoveToPrevious(); err != nil {
		return err
	}
	r.pending.startsRun = false
	return nil
}
