package ingest

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// A committer writes batches, and notifies the followers.
//
// failingSince is when commits began to fail, zero while they succeed; pause is
// then the pause before the next one, and lastError the last error that was
// logged; lastIsLock if that was a held lock. nextTry is when a degraded stream may commit again. While silent, no
// error is logged: Stream.Unusable has reported it.
type committer struct {
	store     store
	followers []Follower
	written   Commit // since the followers were notified
	lastSeq   uint64 // written by this stream

	failingSince time.Time
	pause        time.Duration
	lastError    string
	lastIsLock   bool
	nextTry      time.Time
	silent       bool
}

// The pauses between commits that fail.
const (
	firstPause    = 10 * time.Millisecond
	longestPause  = time.Second
	degradedPause = time.Second
)

// commit tries once to write the batch. After an error, the rest stays in it.
func (r *run) commit() event {
	c := &r.committer
	lines := r.lines.number
	err := c.write(&r.batch, r.state.disk == degraded)
	defer r.batch.trim(r.Supervisor != nil && isRecordedAgain(r.decider.state))
	defer c.notify() // last but one: a follower must not delay an acknowledgement
	if err != nil {
		r.commitFailed(err)
		return writeFailed
	}
	if !c.failingSince.IsZero() {
		r.warn("writing works again")
	}
	c.failingSince, c.pause, c.lastError, c.lastIsLock, c.silent = time.Time{}, 0, "", false, false
	r.committed = lines
	if r.Dropped == 0 {
		r.acker.advance(lines, c.lastSeq)
	}
	r.acker.send(r.Rejected)
	return written
}

// commitFailed logs a write error and plans the next try.
func (r *run) commitFailed(err error) {
	c := &r.committer
	if c.failingSince.IsZero() {
		c.failingSince = time.Now()
	}
	r.warnWriteError(err)
	if r.state.disk == degraded {
		c.nextTry = time.Now().Add(degradedPause)
	}
}

// warnWriteError logs an error that will be retried, unless it was the last one
// logged.
func (r *run) warnWriteError(err error) {
	c := &r.committer
	text := err.Error()
	if todo := Remedy(err); todo != "" {
		text += "; " + todo
	}
	var held *writer.LockError
	isLock := errors.As(err, &held)
	again := text == c.lastError || (isLock && c.lastIsLock) // of a lock only the times differ
	if !again && !c.silent {
		c.lastError, c.lastIsLock = text, isLock
		r.warn("%s; trying again", text)
	}
}

// Remedy returns what an operator can do about a write error of package writer; "" if
// the text of the error contains that, or if it is not known.
func Remedy(err error) string {
	for _, r := range [...]struct {
		cause error
		text  string
	}{
		{unix.ENOSPC, "free disk space or inodes"},
		{unix.EDQUOT, "raise the disk quota or free disk space"},
		{unix.EFBIG, "raise the limit of file sizes (ulimit -f)"},
		{unix.EROFS, "mount the file system read-write"},
		{unix.EIO, "check the disk"},
		{unix.EMFILE, "raise the limit of open files (ulimit -n)"},
		{unix.ENFILE, "raise fs.file-max"},
		{unix.EPERM, "check its owner, mode and attributes (lsattr)"},
		{fs.ErrPermission, "check its owner and mode, or use another directory"},
		{unix.ENOENT, "the directory was removed; start again in one that exists"},
		{unix.ENOTDIR, "remove the file that is in the way"},
	} {
		if errors.Is(err, r.cause) {
			return r.text
		}
	}
	return ""
}

// retry waits a little and commits again, until the write timeout is over.
func (r *run) retry() event {
	c := &r.committer
	if r.isWriteTimeOver() {
		r.degrade()
		return writeTimeout
	}
	c.pause = min(max(firstPause, 2*c.pause), longestPause)
	e := r.wait(c.pause, false)
	if e == stopRequested {
		if r.state.stops > 0 {
			r.degrade()
		}
		return e
	}
	return r.commit()
}

// isWriteTimeOver reports whether commits have failed for WriteTimeout. A
// copying stream has no limit until a stop was requested.
func (r *run) isWriteTimeOver() bool {
	if r.Source != nil && r.state.stops == 0 {
		return false
	}
	limit := orDefault(r.WriteTimeout, DefaultWriteTimeout)
	return time.Since(r.committer.failingSince) >= limit
}

// degrade makes ready to read on although commits fail, and warns about what
// this means.
func (r *run) degrade() {
	c := &r.committer
	r.Dir.Events.LockWait = time.Millisecond // the wait for a lock goes on while the stream reads
	failing := time.Since(c.failingSince).Round(time.Millisecond)
	if failing > time.Second {
		failing = failing.Round(time.Second)
	}
	r.warn("gave up waiting for %s after %v: %s; until it can be written, the last state and the result are kept in memory, and events beyond %d MiB are lost",
		r.dir(), failing, c.lastError, maxBatch>>20)
}

// giveUp reports what is lost when a degraded stream ends.
func (r *run) giveUp() {
	b := &r.batch
	r.Dropped += uint64(b.events.Len()+b.numbered.Len()) + b.lines
	r.DroppedRejects += b.lines
	if r.committer.silent {
		r.batch = batch{}
		return
	}
	if b.status.set {
		r.warn("status %s could not be written", b.status.value.State)
	}
	if b.result.set {
		r.warn("result %s could not be written", b.result.value.Outcome)
	}
	r.batch = batch{}
}

// write writes a batch in this order; docs/format.md explains why:
//
//	events, rejected lines      under the lock
//	previous result (copied), result, status, previous result (moved)
//
// If a step fails, the steps after it are not tried, unless separately is set. The
// logs are not written without the lock.
func (c *committer) write(b *batch, separately bool) error {
	if b.empty() {
		return nil
	}
	logs := []func(*batch) error{c.writeNumbered, c.writeEvents, c.writeRejects}
	files := []func(*batch) error{
		c.copyPrevious,
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
	for _, write := range append(logs, files...) {
		if first != nil && !separately {
			return first
		}
		err := write(b)
		if first == nil {
			first = err
		}
	}
	return first
}

// writeNumbered appends the events of a copying stream. It records the end of a
// boot before it writes the events of the next boot.
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
	c.lastSeq = b.events.Seq(b.events.Len() - 1)
	b.setSeqs()
	if len(c.followers) > 0 {
		c.written.Events = b.events.Text() // valid until an event is added
	}
	b.eventsWritten()
	return nil
}

func (c *committer) writeRejects(b *batch) error {
	if len(b.rejects) == 0 {
		return nil
	}
	if err := c.store.appendRejects(b.rejects); err != nil {
		return err
	}
	if len(c.followers) > 0 {
		c.written.Rejects = append(c.written.Rejects, b.rejects...)
	}
	b.rejects, b.lines = b.rejects[:0], 0
	return nil
}

// copyPrevious copies the result of the previous run if this commit contains both
// the start and the result of a run, so that a result exists at any moment.
func (c *committer) copyPrevious(b *batch) error {
	if !b.startsRun || !b.result.set {
		return nil
	}
	if err := c.store.copyPrevious(); err != nil {
		return err
	}
	b.startsRun = false
	return nil
}

func (c *committer) writeResult(b *batch) error {
	if !b.result.set {
		return nil
	}
	if err := c.store.replaceResult(&b.result.value); err != nil {
		return err
	}
	b.result.set, b.startsRun = false, false
	c.written.Result = &b.result.value
	return nil
}

func (c *committer) writeStatus(b *batch) error {
	if !b.status.set {
		return nil
	}
	if err := c.store.replaceStatus(&b.status.value); err != nil {
		return err
	}
	c.written.Status, c.written.Ready = &b.status.value, b.ready
	b.status.set, b.ready = false, false
	return nil
}

// movePrevious renames the result of the previous run. It comes after the status,
// even if each step is tried separately, so that a reader that sees completed
// finds the result.
func (c *committer) movePrevious(b *batch) error {
	if !b.startsRun || b.status.set {
		return nil
	}
	if err := c.store.movePrevious(); err != nil {
		return err
	}
	b.startsRun = false
	return nil
}

// notify passes everything written since its last call to the followers.
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
