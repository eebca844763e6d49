package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// A committer writes batches, and notifies the followers.
//
// failingSince is when commits began to fail, zero while they succeed; pause is
// then the pause before the next one, and lastError the last error that was
// logged; lastIsLock if that was a held lock. isFull is set if the last commit failed
// because there was no space. nextTry is when a degraded stream may commit again.
// While silent, no error is logged: Stream.Unusable has reported it. warned contains
// the warnings of warnOnce.
type committer struct {
	store     store
	followers []Follower
	written   Commit // since the followers were notified
	lastSeq   uint64 // written by this stream

	failingSince  time.Time
	pause         time.Duration
	lastError     string
	lastIsLock    bool
	isFull        bool
	nextTry       time.Time
	silent        bool
	warned        map[string]bool
	triedToFinish bool  // a degraded stream has tried the last commit
	mounted       error // why the last commit could not replace the status or the result; nil if it could
}

// The pauses between commits that fail.
const (
	firstPause    = 10 * time.Millisecond
	longestPause  = time.Second
	degradedPause = time.Second
)

// reserve is how many bytes a degraded stream leaves free when it writes the first
// events of a batch for which there is no space: enough to replace the status and the
// result, which are more important than events. The last commit needs no reserve.
const reserve = 16 << 10

// commit tries once to write the batch. After an error, the rest stays in it.
func (r *run) commit() event {
	how := together
	if r.state.disk == degraded {
		how = separately
	}
	return r.commitAs(how)
}

func (r *run) commitAs(how manner) event {
	c := &r.committer
	lines := r.lines.number
	err := c.write(&r.batch, how)
	defer r.batch.trim(r.Supervisor != nil && isRecordedAgain(r.decider.state))
	defer c.notify() // last but one: a follower must not delay an acknowledgement
	c.isFull = writer.IsFull(err)
	r.warnUnmovable()
	if err != nil {
		r.commitFailed(err)
		return writeFailed
	}
	if !c.failingSince.IsZero() {
		r.warn("writing works again")
	}
	c.failingSince, c.pause, c.lastError, c.lastIsLock, c.silent = time.Time{}, 0, "", false, false
	r.committed = lines
	if r.Dropped == 0 && !r.batch.hasMounted() {
		r.acker.advance(lines, c.lastSeq)
	}
	r.acker.send(r.Rejected)
	return written
}

// commitFailed logs a write error and plans the next try.
func (r *run) commitFailed(err error) {
	c := &r.committer
	now := time.Now()
	if c.failingSince.IsZero() {
		c.failingSince = now
	}
	r.batch.status.failed(now)
	r.batch.result.failed(now)
	r.warnWriteError(err)
	if r.state.disk == degraded {
		c.nextTry = time.Now().Add(degradedPause)
	}
}

// warnUnmovable logs once for each file that it could not be renamed or replaced,
// although the rest of the commit was not affected.
func (r *run) warnUnmovable() {
	c := &r.committer
	if c.mounted != nil {
		r.warnOnce("%v; %s; everything else is written", c.mounted, Remedy(c.mounted))
		c.mounted = nil
	}
	err := c.store.rotateError()
	if err != nil {
		r.warnOnce("%v; the log is not rotated and continues to grow", err)
	}
}

// warnOnce logs a warning, unless it has logged the same one before.
func (r *run) warnOnce(format string, args ...any) {
	c := &r.committer
	text := fmt.Sprintf(format, args...)
	if c.warned[text] {
		return
	}
	if c.warned == nil {
		c.warned = map[string]bool{}
	}
	c.warned[text] = true
	r.warn("%s", text)
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
		{unix.EBUSY, "it is a mount point; mount the state directory instead of this file"},
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

// finish makes the last commit. If a degraded stream cannot write the status or the
// result, finish tries again until that has failed for the write timeout, because only
// they tell the host how the run ended. Then it writes as many events as fit.
func (r *run) finish() event {
	c := &r.committer
	switch {
	case r.state.disk != degraded:
		return r.commit()
	case r.state.stops >= 2:
		return r.commitAs(lastTime)
	case !c.triedToFinish:
		c.triedToFinish = true
		return r.commit()
	case !r.awaitsStatusOrResult():
		r.commitAs(lastTime)
		return writeTimeout
	}
	c.pause = min(max(firstPause, 2*c.pause), longestPause)
	e := r.wait(c.pause, false)
	if e == stopRequested {
		return e
	}
	return r.commit()
}

// awaitsStatusOrResult reports whether the status or the result is not on disk, and has
// not yet failed for the write timeout.
func (r *run) awaitsStatusOrResult() bool {
	if r.committer.silent {
		return false // waiting does not help
	}
	limit := orDefault(r.WriteTimeout, DefaultWriteTimeout)
	s, result := &r.batch.status, &r.batch.result
	return (s.lost() && s.due() && time.Since(s.failing) < limit) ||
		(result.lost() && result.due() && time.Since(result.failing) < limit)
}

// giveUp reports what is lost when a stream ends.
func (r *run) giveUp() {
	b := &r.batch
	r.Dropped += uint64(b.events.Len()+b.numbered.Len()) + b.lines
	r.DroppedRejects += b.lines
	if !r.committer.silent {
		if b.status.lost() {
			r.warn("status %s could not be written", b.status.value.State)
		}
		if b.result.lost() {
			r.warn("result %s could not be written", b.result.value.Outcome)
		}
	}
	r.Degraded = true
	r.batch = batch{}
}

// A manner is how a commit writes a batch.
type manner uint8

const (
	together   manner = iota // stop at the first error
	separately               // try each file, whatever happens to the others
	lastTime                 // separately, and the stream writes nothing after it
)

// A step writes a part of a batch, and removes it from the batch.
type step func(*batch) error

// write writes a batch in this order; docs/format.md explains why:
//
//	events, rejected lines      under the lock
//	previous result (copied), result, status, previous result (moved)
//
// If a step fails, the steps after it are not tried, unless how is separately or
// lastTime. The logs are not written without the lock.
//
// If a degraded stream had no space for its last commit, the result and the status come
// first, and then as many events and rejected lines as fit. They also come first if the
// events could leave no space for a result. Once their events have seqs, they are
// written again.
func (c *committer) write(b *batch, how manner) error {
	if b.empty() && !b.hasMounted() {
		return nil
	}
	logs := []step{c.writeNumbered, c.writeEvents, c.writeRejects}
	files := []step{
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
	steps := append(logs, files...)
	switch {
	case first != nil:
	case how != together && c.isFull:
		steps = append(files, c.writeNumbered, c.writeLeadingEvents(how), c.writeResult, c.writeStatus, c.writeLeadingRejects(how))
	case c.isTight(b):
		steps = append(files, c.writeNumbered, c.writeEvents, c.writeResult, c.writeStatus, c.writeRejects)
	}
	for _, write := range steps {
		if first != nil && how == together {
			return first
		}
		err := write(b)
		if first == nil {
			first = err
		}
	}
	return first
}

// isTight reports whether the batch contains a result for which there may be no space
// after its events are written.
func (c *committer) isTight(b *batch) bool {
	if !b.result.due() || b.events.Len() == 0 {
		return false
	}
	free, err := c.store.free()
	return err == nil && free < int64(b.events.Size())+reserve
}

// isMounted notes whether a file could not be replaced or renamed because it is a mount
// point, for example a file that a container engine has mounted. Waiting does not help
// then, so the rest of the commit does not wait either.
func (c *committer) isMounted(err error) bool {
	if !errors.Is(err, unix.EBUSY) {
		return false
	}
	c.mounted = err
	return true
}

// reserveFor returns how many bytes a commit leaves free.
func reserveFor(how manner) int64 {
	if how == lastTime {
		return 0
	}
	return reserve
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
	c.eventsWritten(b, &b.events)
	b.eventsWritten()
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
func (c *committer) writeLeadingEvents(how manner) step {
	return func(b *batch) error {
		if b.events.Len() == 0 {
			return nil
		}
		written, err := c.store.appendLeadingEvents(&b.events, reserveFor(how))
		if written.Len() > 0 {
			c.eventsWritten(b, written)
		}
		if b.events.Len() == 0 {
			b.eventsWritten()
		}
		return err
	}
}

// writeLeadingRejects returns the step that appends as many of the first rejected lines
// as fit.
func (c *committer) writeLeadingRejects(how manner) step {
	return func(b *batch) error {
		if len(b.rejects) == 0 {
			return nil
		}
		rest, err := c.store.appendLeadingRejects(b.rejects, reserveFor(how))
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
	if err != nil && !c.isMounted(err) {
		return err
	}
	b.startsRun = false
	return nil
}

func (c *committer) writeResult(b *batch) error {
	if !b.result.set {
		return nil
	}
	err := c.store.replaceResult(&b.result.value)
	if err != nil {
		b.result.mounted = c.isMounted(err)
		if b.result.mounted {
			return nil
		}
		return err
	}
	again := b.result.written()
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
		b.status.mounted = c.isMounted(err)
		if b.status.mounted {
			return nil
		}
		return err
	}
	again := b.status.written()
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
	if err != nil && !c.isMounted(err) {
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
