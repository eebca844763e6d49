package ingest

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A committer writes batches, and notifies the followers.
//
// written is what is durable and was not passed to the followers yet. noSpace is set if
// the last commit failed because there was no space. mounted is the error of a file that
// is a mount point and could therefore not be replaced or renamed; reportUnmovable resets
// it. failure and report are for commits that fail, see retry.go and writeerror.go.
type committer struct {
	store      store
	writerLock writerLock
	followers  []Follower
	alive      *aliveReporter
	written    Commit
	lastSeq    uint64         // of the last event that this stream wrote
	result     writer.Version // of result.json, as the stream found or left it

	noSpace bool
	mounted error
	failure failure
	report  reporter
}

// reserve is how many bytes must stay free on a nearly full disk after events are
// written: enough to replace the status and the result, which are more important than
// events. After the last commit nothing needs the reserve.
const reserve = 16 << 10

// commit tries once to write the batch. After an error, the rest stays in it.
func (r *runner) commit() event {
	mode := stopAtError
	if r.state.disk == degraded {
		mode = tryEach
	}
	return r.commitAs(mode)
}

// commitAs tries once to write the batch, acknowledges its lines and notifies the
// followers. After an error it plans the next try.
func (r *runner) commitAs(mode commitMode) event {
	c := &r.committer
	lines := r.lines.number
	startsOrEndsRun := r.batch.startsRun || r.batch.result.due()
	err := c.write(&r.batch, mode)
	defer r.batch.trim(r.Reports != nil || (r.Supervisor != nil && r.decider.state.IsStopped()))
	defer c.notify() // after the acknowledgement, which a follower must not delay, and before trim
	c.noSpace = writer.IsFull(err)
	c.reportUnmovable()
	if err != nil {
		r.commitFailed(err)
		if r.state.disk == degraded {
			r.answer() // nobody waits for a disk that fails
		}
		return writeFailed
	}
	if c.store.wasReplaced() {
		r.warnLimited("%s was removed or replaced, and now has only what was reported since; remove it only when nothing writes to it", r.dir())
	}
	if !c.failure.since.IsZero() {
		r.warn("writing works again")
	}
	c.failure = failure{}
	c.report.succeeded()
	c.writerLock.committed(startsOrEndsRun)
	r.committed = lines
	if r.Dropped == 0 && !r.batch.hasMounted() {
		r.acker.advance(lines, c.lastSeq)
	}
	r.acker.send(r.Rejected)
	r.answer()
	return written
}

// A commitMode is what a commit does about errors and about a nearly full disk.
type commitMode uint8

const (
	stopAtError commitMode = iota // skip the files after one that failed
	tryEach                       // try each file, even if another one failed
	tryEachLast                   // tryEach, and without a reserve, because the stream then ends
)

// A step writes a part of a batch, and removes it from the batch.
type step func(*batch) error

// write writes a batch in this order; docs/format.md explains why:
//
//	events, rejected lines      under the lock
//	previous result (copied), result of another writer (copied), result, status,
//	previous result (moved)
//
// If a step fails, write skips the steps after it if mode is stopAtError. Without the lock
// it does not write the logs.
//
// In two cases the files come before the logs: if a degraded stream had no space for its
// last commit, and if the events could leave no space for a result. When the events have
// seqs, the result and the status are written again with theirs. In the first case, write
// appends only as many events and rejected lines as fit.
func (c *committer) write(b *batch, mode commitMode) error {
	if b.empty() && !b.hasMounted() {
		return nil
	}
	logs := []step{c.writeNumbered, c.writeEvents, c.writeRejects}
	files := []step{
		c.copyPrevious,
		c.copyOtherResult,
		c.writeResult, //fault:result-before-status
		c.writeStatus,
		c.movePrevious,
	}
	unlock, first := c.store.lock()
	if first == nil {
		defer unlock()
	} else {
		logs = nil
	}
	c.writerLock.acquire() //fault:lock-writer
	steps := append(logs, files...)
	switch {
	case first != nil:
	case mode != stopAtError && c.noSpace:
		steps = append(files, c.writeNumbered, c.writeLeadingEvents(mode), c.writeResult, c.writeStatus, c.writeLeadingRejects(mode))
	case c.isTight(b):
		steps = append(files, c.writeNumbered, c.writeEvents, c.writeResult, c.writeStatus, c.writeRejects)
	}
	for _, write := range steps {
		if first != nil && mode == stopAtError {
			return first
		}
		c.alive.report() // each step may be slow
		err := write(b)
		if first == nil {
			first = err
		}
	}
	return first
}

// isTight reports whether the batch contains a result for which there may be no space
// once its events are written.
func (c *committer) isTight(b *batch) bool {
	if !b.result.due() || b.events.Len() == 0 {
		return false
	}
	free, err := c.store.free()
	return err == nil && free < int64(b.events.Size())+reserve
}

// noteMounted notes err for reportUnmovable if it means that a file could not be replaced or
// renamed because it is a mount point, for example because a container engine has mounted
// it. It reports whether it did. Waiting does not help then, so the caller goes on with the
// rest of the commit.
func (c *committer) noteMounted(err error) bool {
	if !errors.Is(err, unix.EBUSY) {
		return false
	}
	c.mounted = err
	return true
}

// reserveFor returns how many bytes a commit leaves free.
func reserveFor(mode commitMode) int64 {
	if mode == tryEachLast {
		return 0
	}
	return reserve
}

// writeNumbered appends the events of a copying stream. It first records the end of
// the previous boot and begins a new log, if the batch requires that.
func (c *committer) writeNumbered(b *batch) error {
	if b.endedBoot != "" {
		if err := c.store.endBoot(b.endedBoot); err != nil {
			return err
		}
		b.endedBoot = ""
	}
	if b.newLog {
		if err := c.store.rotate(); err != nil {
			return err
		}
		b.newLog = false
	}
	if b.numbered.Len() == 0 {
		return nil
	}
	if err := c.store.appendNumbered(&b.numbered); err != nil {
		return err
	}
	c.lastSeq = b.numbered.Last()
	c.written.Events = b.numbered.Text()
	b.numbered.Reset()
	return nil
}

func (c *committer) writeEvents(b *batch) error {
	if b.events.Len() == 0 {
		return nil
	}
	if err := c.store.appendEvents(&b.events); err != nil {
		return err
	}
	c.eventsWritten(b, &b.events)
	b.clearEvents()
	return nil
}

// eventsWritten notes that the first events of the batch are in the log.
func (c *committer) eventsWritten(b *batch, written *writer.Batch) {
	c.lastSeq = written.Seq(written.Len() - 1)
	b.setSeqs(written)
	if len(c.followers) > 0 {
		c.written.Events = written.Text() // valid until an event is added
	}
}

// writeLeadingEvents returns the step that appends as many of the first events as fit.
func (c *committer) writeLeadingEvents(mode commitMode) step {
	return func(b *batch) error {
		if b.events.Len() == 0 {
			return nil
		}
		written, err := c.store.appendLeadingEvents(&b.events, reserveFor(mode))
		if written.Len() > 0 {
			c.eventsWritten(b, written)
		}
		if b.events.Len() == 0 {
			b.clearEvents()
		}
		return err
	}
}

// writeLeadingRejects returns the step that appends as many of the first rejected lines
// as fit.
func (c *committer) writeLeadingRejects(mode commitMode) step {
	return func(b *batch) error {
		if len(b.rejects) == 0 {
			return nil
		}
		rest, err := c.store.appendLeadingRejects(b.rejects, reserveFor(mode))
		c.rejectsWritten(b, len(b.rejects)-len(rest))
		return err
	}
}

// rejectsWritten removes the first rejected lines, which have size bytes, from the batch.
func (c *committer) rejectsWritten(b *batch, size int) {
	written := b.rejects[:size]
	if len(c.followers) > 0 {
		c.written.Rejects = append(c.written.Rejects, written...)
	}
	b.lines -= uint64(bytes.Count(written, []byte{'\n'}))
	b.rejects = append(b.rejects[:0], b.rejects[size:]...)
}

func (c *committer) writeRejects(b *batch) error {
	if len(b.rejects) == 0 {
		return nil
	}
	if err := c.store.appendRejects(b.rejects); err != nil {
		return err
	}
	c.rejectsWritten(b, len(b.rejects))
	return nil
}

// copyPrevious copies the result of the previous run if this commit contains both
// the start and the result of a run, so that a result exists at any moment.
func (c *committer) copyPrevious(b *batch) error {
	if !b.startsRun || !b.result.set {
		return nil
	}
	err := c.store.copyPrevious()
	if err != nil && !c.noteMounted(err) {
		return err
	}
	b.startsRun = false
	c.result = c.store.resultVersion()
	return nil
}

// copyOtherResult copies a result that another writer has recorded since the stream began, and
// that writeResult is about to replace, to result.json.prev.
func (c *committer) copyOtherResult(b *batch) error {
	if !b.result.due() || b.startsRun {
		return nil
	}
	version := c.store.resultVersion()
	if version == c.result || version == (writer.Version{}) {
		return nil
	}
	other, _ := c.store.result() // nil if it is invalid
	err := c.store.copyPrevious()
	if err != nil && !c.noteMounted(err) {
		return err
	}
	if err == nil {
		c.result = version
		c.warnReplaced(other)
	}
	return nil
}

// warnReplaced warns about a result of another writer that is now the previous result.
func (c *committer) warnReplaced(other *artifact.Result) {
	outcome := ""
	if other != nil {
		outcome = " " + string(other.Outcome)
	}
	if other != nil && other.ExitCode != nil {
		outcome += fmt.Sprintf(" (exit code %d)", *other.ExitCode)
	}
	c.report.warn("another program has recorded the result%s; it is now in %s; let only one program report the result of a run", outcome, writer.PrevResultName)
}

func (c *committer) writeResult(b *batch) error {
	if !b.result.set {
		return nil
	}
	err := c.store.replaceResult(&b.result.value)
	c.result = c.store.resultVersion() // also after an error: the file may have been renamed
	if err != nil {
		b.result.mounted = c.noteMounted(err)
		if b.result.mounted {
			return nil
		}
		return err
	}
	again := b.result.noteWritten()
	if !again {
		b.startsRun = false
		c.written.Result = &b.result.value
	}
	return nil
}

func (c *committer) writeStatus(b *batch) error {
	if !b.status.set {
		return nil
	}
	err := c.store.replaceStatus(&b.status.value)
	if err != nil {
		b.status.mounted = c.noteMounted(err)
		if b.status.mounted {
			return nil
		}
		return err
	}
	c.writerLock.statusWritten = true
	again := b.status.noteWritten()
	if !again {
		c.written.Status, c.written.Ready = &b.status.value, b.ready
		b.ready = false
	}
	return nil
}

// movePrevious renames the result of the previous run. It comes after the status,
// even if each step is tried separately, so that a reader that sees completed
// finds the result.
func (c *committer) movePrevious(b *batch) error {
	if !b.startsRun || b.status.lost() {
		return nil
	}
	err := c.store.movePrevious()
	if err != nil && !c.noteMounted(err) {
		return err
	}
	b.startsRun = false
	c.result = c.store.resultVersion()
	return nil
}

// notify passes to the followers everything that was written since its last call.
func (c *committer) notify() {
	w := &c.written
	if len(w.Events) == 0 && len(w.Rejects) == 0 && w.Result == nil && w.Status == nil {
		return
	}
	for _, f := range c.followers {
		f.Committed(w)
	}
	*w = Commit{Rejects: w.Rejects[:0]}
}
