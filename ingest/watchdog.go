package ingest

import "time"

// A Watchdog kills the process of a stream that does not report that it works. The
// zero Watchdog does nothing.
type Watchdog struct {
	// Interval is how often the stream calls Alive. It is half of the time after which
	// the watchdog kills the process. Intervals below a millisecond count as one.
	Interval time.Duration
	// Alive reports to the watchdog, and must not block. The stream calls it again soon
	// if it returns false. Required unless Interval is 0.
	Alive func() bool
}

// An aliveReporter calls Watchdog.Alive between the steps of a stream and while it waits
// for input, but from no other goroutine: if the stream hangs, Alive is not called.
type aliveReporter struct {
	Watchdog
	next time.Time // when Alive is called next
}

func newAliveReporter(w Watchdog) *aliveReporter {
	if w.Interval > 0 {
		w.Interval = max(w.Interval, time.Millisecond) // poll(2) cannot wait for less
	}
	return &aliveReporter{Watchdog: w}
}

// report calls Alive if it is due.
func (a *aliveReporter) report() {
	if a.Interval <= 0 {
		return
	}
	now := time.Now()
	if now.Before(a.next) {
		return
	}
	interval := a.Interval
	if !a.Alive() {
		interval /= 8
	}
	a.next = now.Add(interval)
}

// untilNext returns how long a wait of at most limit (negative: no limit) may take
// until Alive is due.
func (a *aliveReporter) untilNext(limit time.Duration) time.Duration {
	if a.Interval <= 0 {
		return limit
	}
	return shorter(limit, max(0, time.Until(a.next)))
}

// lockWait returns how long a commit may wait for the lock, if it otherwise waits for
// limit. It leaves time to call Alive after that, although Interval may be nearly over
// when the commit begins.
func (a *aliveReporter) lockWait(limit time.Duration) time.Duration {
	if a.Interval <= 0 {
		return limit
	}
	return min(limit, a.Interval/2)
}
