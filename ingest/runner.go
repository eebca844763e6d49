package ingest

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A runner runs a stream: it has the state of the stream, and its parts.
//
// line is the line that is being handled; its memory belongs to lines. committed is
// the number of lines that successful commits have covered. While lines.number is
// higher, there are lines to commit or to acknowledge. drain is set by the first request
// to stop. readError is why the input could not be read to its end.
type runner struct {
	*Stream
	Summary
	state state

	waiter    waiter
	alive     *aliveReporter
	lines     lines
	handler   handler
	decider   decider
	batch     batch
	committer committer
	acker     acker

	line      line
	now       Moment // when the last input was read
	drain     drain
	committed uint64
	readError error
	warnings  int      // of warnLimited
	answers   []func() // called after the next commit, see Reports.AfterCommit
	closed    bool     // the last reports were taken
	lost      bool     // the last status or result could not be written
}

// A handler turns lines into parts of the next commit.
type handler interface {
	// handle processes one line, or returns why the line is rejected.
	handle(ln *line) *directive.Error
	// idle is called when a wait has ended without input.
	idle()
	// end is called when the input has ended.
	end()
	// inputTimeout returns how long to wait for input; negative means no limit.
	inputTimeout() time.Duration
}

func newRunner(s *Stream) *runner {
	r := &runner{Stream: s, now: s.Clock()}
	r.lines = lines{fd: s.In, max: orDefault(s.MaxLine, DefaultMaxLine)}
	r.waiter = waiter{in: s.In, stop: s.Stop, reports: -1}
	if s.Reports != nil {
		r.waiter.reports = s.Reports.fd
	}
	r.decider = decider{policy: s.Transitions, manyRuns: s.ManyRuns}
	r.alive = newAliveReporter(s.Watchdog)
	s.Dir.Events.LockWait = r.alive.lockWait(orDefault(s.Dir.Events.LockWait, writer.DefaultLockWait))
	r.acker = acker{fd: s.Ack, warn: r.warn}
	r.committer = committer{store: newStore(s), followers: s.Followers, alive: r.alive, report: reporter{warn: r.warn}}
	r.committer.writerLock = writerLock{store: r.committer.store, warn: r.warn}
	r.handler = &directives{runner: r}
	if s.Source != nil {
		r.handler = &copier{runner: r, source: s.Source}
	}
	if s.Supervisor == nil {
		r.state.phase = reading
	}
	return r
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// begin opens the state directory, enlarges the pipe, reads the current status, and
// warns if other users may forge the files. Under a supervisor, it returns an error if
// another run writes to the directory.
func (r *runner) begin() error {
	if err := r.openStore(); err != nil {
		return err
	}
	if r.Supervisor != nil {
		r.committer.writerLock.acquire()
		if err := r.committer.writerLock.heldByRun(); err != nil {
			return err
		}
	}
	r.committer.result = r.committer.store.resultVersion()
	// Best effort: it fails for anything but a pipe.
	_, _ = unix.FcntlInt(uintptr(r.In), unix.F_SETPIPE_SZ, pipeSize)
	status, err := r.committer.store.status()
	if err != nil {
		status = new(artifact.Status)
	}
	if r.BootID != "" && status.BootID == r.BootID {
		r.decider.state = status.State
	}
	r.batch.events.Predict(status.Seq + 1)
	others := r.committer.store.otherWriters()
	if others != "" {
		r.warn("%s may write to %s, and can delete or forge its files; correct its owner and mode with chown and chmod", others, r.dir())
	}
	return nil
}

// openStore opens the state directory before anything is read, so that the caller of
// Run can still act on an error that waiting does not solve. It warns about any other
// error, and the first commit tries again.
func (r *runner) openStore() error {
	c := &r.committer
	err := c.store.open()
	switch {
	case err == nil:
	case !isLasting(err):
		c.report.retriedError(err)
	case r.Stream.Unusable == nil:
		return err
	default:
		r.Stream.Unusable(err)
		c.report.silent = true
		r.state.disk = degraded // the input does not wait for a commit
	}
	return nil
}

// dir returns the path of the state directory.
func (r *runner) dir() string { return filepath.Dir(r.Dir.Status.Path) }

// step does the work of the current state, and returns the event that results.
func (r *runner) step() event {
	if r.state.disk == retrying {
		return r.retry()
	}
	switch r.state.phase {
	case opening:
		return r.open()
	case reading, draining:
		return r.read()
	case closing:
		return r.close()
	case concluding:
		r.conclude()
		return concluded
	case finishing:
		return r.finish()
	}
	return r.acknowledge()
}

// open commits the supervisor's first transition. The supervised program starts even
// if that fails: it must not wait for a disk.
func (r *runner) open() event {
	r.record(r.Supervisor.Opening().directive(), r.now)
	e := r.commit()
	r.Supervisor.Start()
	return e
}

// read handles the lines in the buffer, commits when the next read would block or
// the batch is full, and reads on.
func (r *runner) read() event {
	for r.lines.next(&r.line) {
		r.handle(&r.line)
		if r.batch.full() && r.mayCommit() {
			return r.commit()
		}
	}
	r.takeReports(false)
	if r.isOver() {
		if r.state.phase == draining {
			return graceOver
		}
		return inputEnded
	}
	if r.hasUncommitted() && r.mayCommit() {
		if r.state.disk == degraded {
			return r.commit() // at most once a second, so waiting for more input gains nothing
		}
		e := r.waitForInput(0)
		if e == nothing {
			return r.commit()
		}
		return e
	}
	e := r.waitForInput(r.inputTimeout())
	if e == nothing || e == reported { // there was no input
		r.drain.unread = 0 // another process may have read the rest
	}
	if e == nothing {
		r.now = r.Clock()
		r.handler.idle()
		if !r.batch.empty() && r.mayCommit() {
			return r.commit()
		}
	}
	return e
}

// pipeSize is the size of the largest pipe that an unprivileged process can create, in bytes
// (pipe(7), pipe-max-size). A busy caller then continues while a commit is synced, and its
// input needs few large commits instead of many small ones.
const pipeSize = 1 << 20

// flood is how much one read(2) returns if the caller writes without pause.
const flood = 64 << 10

// waitForInput waits for input, at most for limit, and reads it.
func (r *runner) waitForInput(limit time.Duration) event {
	e := r.wait(limit, true)
	if e != input {
		return e
	}
	n, err := r.lines.read()
	if err == unix.EAGAIN {
		return nothing // another process has set O_NONBLOCK on the pipe
	}
	if n >= flood {
		r.batch.events.Grow(maxBatch + usualLine)
	}
	r.drain.unread -= n
	r.now = r.Clock()
	if err != nil {
		r.readError = &fs.PathError{Op: "read", Path: "input", Err: err}
	}
	if n == 0 || err != nil {
		r.lines.ended = true
	}
	return input
}

// wait returns when a stop is requested, when there is input (if forInput), or after
// limit (negative: no limit). If an acknowledgement is pending and the pipe has space,
// wait sends it and returns nothing before the limit. It also returns when there are
// reports, unless the limit is 0: the caller has then taken reports and is about to commit,
// which a flood of reports must not prevent.
func (r *runner) wait(limit time.Duration, forInput bool) event {
	got := r.waitAlive(limit, forInput, forInput && limit != 0)
	if got.ack {
		r.acker.send(r.Summary.Rejected)
	}
	switch {
	case got.stop:
		if r.state.stops == 0 {
			r.drain = newDrain(r.In, orDefault(r.Grace, DefaultGrace))
		}
		return stopRequested
	case got.input:
		return input
	case got.reports:
		return reported
	}
	return nothing
}

// waitAlive calls waiter.wait, and calls Watchdog.Alive whenever it is due until then.
func (r *runner) waitAlive(limit time.Duration, forInput, forReports bool) readiness {
	for {
		r.alive.report()
		begun, until := time.Now(), r.alive.untilNext(limit)
		got := r.waiter.wait(until, forInput, r.state.stops < 2, forReports, r.acker.pendingFD())
		if got != (readiness{}) || until == limit {
			return got
		}
		if limit > 0 {
			limit = max(0, limit-time.Since(begun))
		}
	}
}

// inputTimeout returns how long to wait for input before something else is due.
func (r *runner) inputTimeout() time.Duration {
	limit := r.handler.inputTimeout()
	if r.state.disk == degraded && !r.batch.empty() {
		limit = shorter(limit, degradedPause)
	}
	if r.state.phase == draining {
		limit = shorter(limit, max(0, time.Until(r.drain.deadline)))
	}
	if r.Reports != nil {
		if due := r.Reports.untilDue(); due >= 0 {
			limit = shorter(limit, due)
		}
	}
	return limit
}

// shorter returns the shorter limit. A negative a means no limit; b is never
// negative.
func shorter(a, b time.Duration) time.Duration {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// isOver reports whether a reading or draining stream reads no more.
func (r *runner) isOver() bool {
	switch {
	case r.lines.ended:
		return true
	case r.ExitOnResult && r.decider.hasResult:
		return true
	}
	return r.state.phase == draining && r.drain.isOver()
}

// hasUncommitted reports whether there is something to write, or lines to acknowledge.
func (r *runner) hasUncommitted() bool { return !r.batch.empty() || r.committed < r.lines.number }

// mayCommit reports whether a commit may be tried now: a degraded stream pauses
// for degradedPause between two commits.
func (r *runner) mayCommit() bool {
	return r.state.disk != degraded || !time.Now().Before(r.committer.failure.nextTry)
}

// close handles the lines that were read and not handled yet, and commits them.
func (r *runner) close() event {
	for r.lines.next(&r.line) {
		r.handle(&r.line)
		if r.batch.full() && r.mayCommit() {
			return r.commit()
		}
	}
	if r.lines.rest(&r.line) {
		r.handle(&r.line)
	}
	r.handler.end()
	if !r.closed { // a process that outlives the command may report without pause
		r.closed = true
		r.takeReports(true)
	}
	if r.hasUncommitted() && r.mayCommit() {
		return r.commit()
	}
	return closed
}

// conclude adds the supervisor's result, or the fallback result.
func (r *runner) conclude() {
	switch {
	case r.Supervisor != nil:
		r.addSupervised()
	case r.RequireResult:
		r.now = r.Clock()
		r.addFallback()
	}
}

// acknowledge warns about what could not be written, and waits for at most the grace
// period until the last acknowledgement is written.
func (r *runner) acknowledge() event {
	if !r.batch.empty() || r.batch.hasMounted() {
		r.giveUp()
	}
	if r.acker.deadline.IsZero() {
		r.acker.deadline = time.Now().Add(orDefault(r.Grace, DefaultGrace))
		r.acker.send(r.Summary.Rejected)
	}
	left := time.Until(r.acker.deadline)
	if r.acker.pendingFD() < 0 || r.state.stops >= 2 || left <= 0 {
		return acknowledged
	}
	return r.wait(left, false)
}

// maxWarnings is how many warnings about rejected lines, and how many of warnLimited, are
// logged. More come from a loop or an attacker, and do not help an operator.
const maxWarnings = 100

// handle skips a line, rejects it, or makes it part of the next commit.
func (r *runner) handle(ln *line) {
	var rejected *directive.Error
	if ln.long {
		rejected = directive.Errorf(r.lines.max, "the line has %d bytes; expected at most %d (--max-line)", ln.length, r.lines.max)
	} else {
		rejected = r.handler.handle(ln)
	}
	if rejected != nil {
		r.reject(ln, rejected)
	}
}

// reject counts a rejected line, warns about it, and adds it to the batch.
func (r *runner) reject(ln *line, why *directive.Error) {
	r.Rejected++
	switch {
	case r.Rejected <= maxWarnings:
		r.warn("line %d, %v", ln.number, why)
		if r.ShowRejected != nil {
			r.ShowRejected(ln.text, why.Offset)
		}
	case r.Rejected == maxWarnings+1:
		r.warn("more lines are rejected; see %s", r.Dir.Rejects.Path)
	}
	kept := r.batch.addReject(&artifact.Reject{Line: ln.number, Offset: ln.offset, Time: r.now.Time,
		Error: why.Error(), Raw: ln.text, Length: ln.length}, r.state.disk == degraded)
	if !kept {
		r.Dropped++ // from here on nothing is acknowledged
		r.DroppedRejects++
	}
}

// warnLimited warns about an accepted line or a report that is unusual or ignored, or about
// a state directory that was replaced.
func (r *runner) warnLimited(format string, args ...any) {
	r.warnings++
	if r.warnings <= maxWarnings {
		r.warn(format, args...)
	}
}

func (r *runner) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}
