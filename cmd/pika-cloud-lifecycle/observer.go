package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

const (
	// writersInterval is how often wait looks at the writers: inotify does not report
	// that one has died.
	writersInterval = 500 * time.Millisecond
	// statusDelay is how long wait gives a writer to replace the status after the event.
	statusDelay = 100 * time.Millisecond
	// passTime is how long wait reads the log before it looks at everything else again.
	passTime = 100 * time.Millisecond
	// catchUp is how long wait reads the log at most before it ends with an error.
	catchUp = 2 * time.Second
)

// An observer looks at a state directory again and again.
type observer struct {
	*waiter
	observation
	changes *watch.Dir
	events  history.Tail
	skipped bool  // events is at the start position
	logErr  error // of the last attempt to read events

	writersAt time.Time           // when the writers were read last
	deadFirst []writerlock.Writer // those that were dead at the first look
	deadAt    time.Time           // when dead was first seen
	idleAt    time.Time           // when no writer was first seen alive; zero if one is, or if it is unknown

	endAt time.Time // when unread events no longer delay the end; zero if they do not yet

	polls  bool // it was reported that wait polls
	noLog  bool // it was reported that the log cannot be read
	hinted bool // the hint was printed, or there was a status at the first look
}

func (w *waiter) newObserver() *observer {
	return &observer{waiter: w, skipped: w.hasAfter, events: history.Tail{Path: filepath.Join(w.dir, writer.EventsName)}}
}

// mayEnd reports whether wait may end with err. Events that were not read yet may show that
// the guest has reached a state, so with an error wait first reads them, for at most
// catchUp: another process may write them without a pause.
func (o *observer) mayEnd(err error, more bool, now time.Time) bool {
	if err == nil || !more {
		return true
	}
	if o.endAt.IsZero() {
		o.endAt = now.Add(catchUp)
	}
	return !now.Before(o.endAt)
}

// look reads everything again. It reads the events for at most passTime; more reports
// whether there are others. The error is of a file that cannot be read.
func (o *observer) look() (more bool, err error) {
	logErr := o.skip()
	o.files = nil // they may be large
	o.files, err = history.Read(o.dir)
	if err != nil {
		return false, err
	}
	if logErr == nil {
		more, logErr = o.readEvents()
	}
	o.logErr = logErr
	if now := time.Now(); o.untilWriters(now) == 0 {
		o.readWriters(now)
	}
	return more, nil
}

// untilWriters returns how long wait may pause until it has to look at the writers. A change
// of a file ends a pause early, and must not delay that look.
func (o *observer) untilWriters(now time.Time) time.Duration {
	return max(0, writersInterval-now.Sub(o.writersAt))
}

// skip moves to the start position in the log, once.
func (o *observer) skip() error {
	if o.skipped {
		return nil
	}
	err := o.events.Skip()
	o.skipped = err == nil
	return err
}

// readEvents adds new events to the passage.
func (o *observer) readEvents() (more bool, err error) {
	for start := time.Now(); time.Since(start) < passTime; {
		line, err := o.events.Next()
		switch {
		case err == io.EOF:
			return false, nil
		case err == history.ErrMore:
		case err != nil:
			return false, err
		case line.Event != nil:
			o.add(&o.log, line.Event)
		}
	}
	return true, nil
}

// readWriters finds out which writers are alive.
func (o *observer) readWriters(now time.Time) {
	writers, err := writerlock.Read(o.dir, o.thisBoot)
	if o.writersAt.IsZero() {
		o.deadFirst = writers
	}
	o.writersAt = now
	o.setWriters(writers, err != nil, now)
}

// isEarlier reports whether a writer died before the start position that --after gives: it
// was dead at the first look, and nothing that counts was written.
func (o *observer) isEarlier(dead writerlock.Writer) bool {
	if !o.hasAfter || o.log.any || !slices.Contains(o.deadFirst, dead) {
		return false
	}
	s := o.files.Status
	return s == nil || !o.counts(s.BootID, s.Seq)
}

// setWriters records which writers are alive. unreadable is true if that is unknown.
func (o *observer) setWriters(writers []writerlock.Writer, unreadable bool, now time.Time) {
	var dead *writerlock.Writer
	runs, alive, unknown := false, false, unreadable
	for i := range writers {
		switch w := &writers[i]; w.State {
		case writerlock.Alive:
			alive, runs = true, runs || w.Kind == writerlock.Run
		case writerlock.Unknown:
			unknown = true
		case writerlock.Dead:
			if dead == nil && !o.isEarlier(*w) {
				dead = w
			}
		}
	}
	if runs {
		dead = nil // run records the result
	}
	if dead != nil && (o.dead == nil || *o.dead != *dead) {
		o.deadAt = now
	}
	if alive || unknown {
		o.idleAt = time.Time{}
	} else if o.idleAt.IsZero() {
		o.idleAt = now
	}
	o.dead, o.deadFor, o.idleFor, o.unknown = dead, 0, 0, unknown
	if dead != nil {
		o.deadFor = now.Sub(o.deadAt)
	}
	if !o.idleAt.IsZero() {
		o.idleFor = now.Sub(o.idleAt)
	}
}

// settle returns the files. If the status is older than the event or the result that has
// decided, it first gives the writer a moment to replace it.
func (o *observer) settle() *history.Snapshot {
	end := time.Now().Add(statusDelay)
	for {
		left := time.Until(end)
		if left <= 0 || !o.isStatusBehind() {
			return o.files
		}
		if _, err := o.changes.Wait(left); err != nil {
			return o.files
		}
		files, err := history.Read(o.dir)
		if err != nil {
			return o.files
		}
		o.files = files
	}
}

// isStatusBehind reports whether the status is missing or older than something that decide
// may have used. A status without a seq cannot be compared.
func (o *observer) isStatusBehind() bool {
	last := o.log.lastEvent()
	if o.files.Result != nil {
		last = max(last, o.files.Result.Seq)
	}
	s := o.files.Status
	if s == nil {
		return last > 0
	}
	return s.Seq > 0 && s.Seq < last
}

// reportWaiting warns if wait has to poll or cannot read the log, and prints the hint, each
// once.
func (o *observer) reportWaiting() {
	if o.logErr != nil && !o.noLog {
		o.noLog = true
		o.warn(fmt.Sprintf("wait: a state that passes quickly may be missed, because the log cannot be read: %v", openError(o.logErr)))
	}
	if text := limitWarning(o.changes); text != "" && !o.polls {
		o.polls = true
		o.warn("wait: " + text)
	}
	if o.files.Status == nil && o.note != nil && !o.hinted {
		o.note(fmt.Sprintf("wait: there is no status in %s yet; waiting for one, Ctrl-C to stop", o.dir))
	}
	o.hinted = true
}

// limitWarning returns the warning about a limit of inotify that is reached; "" if none is.
func limitWarning(changes *watch.Dir) string {
	limit := changes.Limit()
	if limit == "" {
		return ""
	}
	return fmt.Sprintf("the limit %s is reached, so changes are noticed only once a second; raise it, as in sysctl -w %s=100000", limit, limit)
}
