package ingest

import "time"

// The pauses between commits that fail.
const (
	firstPause    = 10 * time.Millisecond
	longestPause  = time.Second
	degradedPause = time.Second
)

// A failure describes a series of commits that fail. It is the zero value if the last
// commit succeeded.
type failure struct {
	since     time.Time     // when the first of them failed
	pause     time.Duration // the last pause between two of them
	nextTry   time.Time     // when a degraded stream may commit again
	lastTried bool          // finish of a degraded stream has tried once
}

// lengthenPause doubles the pause, from firstPause to longestPause, and returns it.
func (f *failure) lengthenPause() time.Duration {
	f.pause = min(max(firstPause, 2*f.pause), longestPause)
	return f.pause
}

// commitFailed warns about a write error and plans the next try.
func (r *runner) commitFailed(err error) {
	c := &r.committer
	now := time.Now()
	if c.failure.since.IsZero() {
		c.failure.since = now
	}
	r.batch.status.noteFailed(now)
	r.batch.result.noteFailed(now)
	c.report.retriedError(err)
	if r.state.disk == degraded {
		c.failure.nextTry = time.Now().Add(degradedPause)
	}
}

// retry pauses and commits again or, when the write timeout is over, gives up waiting.
func (r *runner) retry() event {
	c := &r.committer
	if r.isWriteTimeOver() {
		r.degrade()
		return writeTimeout
	}
	e := r.wait(c.failure.lengthenPause(), false)
	if e == stopRequested {
		if r.state.stops > 0 {
			r.degrade()
		}
		return e
	}
	return r.commit()
}

// isWriteTimeOver reports whether commits have failed for WriteTimeout. A copying
// stream has no time limit until a stop is requested.
func (r *runner) isWriteTimeOver() bool {
	if r.Source != nil && r.state.stops == 0 {
		return false
	}
	limit := orDefault(r.WriteTimeout, DefaultWriteTimeout)
	return time.Since(r.committer.failure.since) >= limit
}

// degrade prepares the stream to read on although commits fail, and warns about what may
// be lost.
func (r *runner) degrade() {
	c := &r.committer
	r.Dir.Events.LockWait = time.Millisecond // the writer stays in the queue for the lock while the stream reads
	failing := time.Since(c.failure.since).Round(time.Millisecond)
	if failing > time.Second {
		failing = failing.Round(time.Second)
	}
	r.warn("gave up waiting for %s after %v: %s; until it can be written, the last state and the result are kept in memory, and events beyond %d MiB are lost",
		r.dir(), failing, c.report.last, maxBatch>>20)
}

// finish makes the last commit. If a degraded stream cannot write the status or the
// result, finish tries again until the write timeout has passed since the first failure,
// because the host needs them to know how the run ended. Then it writes as many events as
// fit.
func (r *runner) finish() event {
	c := &r.committer
	switch {
	case r.state.disk != degraded:
		return r.commit()
	case r.state.stops >= 2:
		return r.commitAs(tryEachLast)
	case !c.failure.lastTried:
		c.failure.lastTried = true
		return r.commit()
	case !r.awaitsStatusOrResult():
		r.commitAs(tryEachLast)
		return writeTimeout
	}
	e := r.wait(c.failure.lengthenPause(), false)
	if e == stopRequested {
		return e
	}
	return r.commit()
}

// awaitsStatusOrResult reports whether the status or the result is not on disk, and the
// write timeout has not passed since it first could not be written.
func (r *runner) awaitsStatusOrResult() bool {
	if r.committer.report.silent {
		return false // waiting does not help
	}
	limit := orDefault(r.WriteTimeout, DefaultWriteTimeout)
	s, result := &r.batch.status, &r.batch.result
	return (s.lost() && s.due() && time.Since(s.failing) < limit) ||
		(result.lost() && result.due() && time.Since(result.failing) < limit)
}

// giveUp counts what is left in the batch as lost when a stream ends, and warns about a
// lost status or result.
func (r *runner) giveUp() {
	b := &r.batch
	r.Dropped += uint64(b.events.Len()+b.numbered.Len()) + b.lines
	r.DroppedRejects += b.lines
	r.lost = b.status.lost() || b.result.lost()
	if !r.committer.report.silent {
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
