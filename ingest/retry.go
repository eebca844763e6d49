package ingest

import "time"

// The pauses between commits that fail.
const (
	firstPause    = 10 * time.Millisecond
	longestPause  = time.Second
	degradedPause = time.Second
)

// A failure describes commits that fail, one after another. It is the zero value while
// they succeed.
type failure struct {
	since     time.Time     // when the first of them failed
	pause     time.Duration // before the next one
	nextTry   time.Time     // when a degraded stream may commit again
	lastTried bool          // a degraded stream has tried the last commit
}

// lengthenPause returns the pause before the next commit.
func (f *failure) lengthenPause() time.Duration {
	f.pause = min(max(firstPause, 2*f.pause), longestPause)
	return f.pause
}

// commitFailed reports a write error and plans the next try.
func (r *run) commitFailed(err error) {
	c := &r.committer
	now := time.Now()
	if c.failure.since.IsZero() {
		c.failure.since = now
	}
	r.batch.status.failed(now)
	r.batch.result.failed(now)
	c.report.retriedError(err)
	if r.state.disk == degraded {
		c.failure.nextTry = time.Now().Add(degradedPause)
	}
}

// retry waits a little and commits again, until the write timeout is over.
func (r *run) retry() event {
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

// isWriteTimeOver reports whether commits have failed for WriteTimeout. A
// copying stream has no limit until a stop was requested.
func (r *run) isWriteTimeOver() bool {
	if r.Source != nil && r.state.stops == 0 {
		return false
	}
	limit := orDefault(r.WriteTimeout, DefaultWriteTimeout)
	return time.Since(r.committer.failure.since) >= limit
}

// degrade makes ready to read on although commits fail, and warns about what
// this means.
func (r *run) degrade() {
	c := &r.committer
	r.Dir.Events.LockWait = time.Millisecond // the wait for a lock goes on while the stream reads
	failing := time.Since(c.failure.since).Round(time.Millisecond)
	if failing > time.Second {
		failing = failing.Round(time.Second)
	}
	r.warn("gave up waiting for %s after %v: %s; until it can be written, the last state and the result are kept in memory, and events beyond %d MiB are lost",
		r.dir(), failing, c.report.last, maxBatch>>20)
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
	case !c.failure.lastTried:
		c.failure.lastTried = true
		return r.commit()
	case !r.awaitsStatusOrResult():
		r.commitAs(lastTime)
		return writeTimeout
	}
	e := r.wait(c.failure.lengthenPause(), false)
	if e == stopRequested {
		return e
	}
	return r.commit()
}

// awaitsStatusOrResult reports whether the status or the result is not on disk, and has
// not yet failed for the write timeout.
func (r *run) awaitsStatusOrResult() bool {
	if r.committer.report.silent {
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
