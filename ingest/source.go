package ingest

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Source reads lines that record the events and results of another state
// directory, instead of directives. The artifacts of its stream are a copy:
// events keep their seqs, and the status is that of the last event. The lines
// can be read again later, so such a stream waits for a failing disk until it is
// stopped. Not for concurrent use.
type Source interface {
	// Add decodes one line, which it must not keep, and orders what it records.
	// now is the time at which the line was read. An error rejects the line.
	Add(line []byte, now time.Time) error
	// Next returns the next record to commit, which the caller keeps; nil if
	// there is none. A record that arrived before an earlier one is buffered: it
	// is returned after the earlier one, when it has been buffered for too long,
	// or if flush is set.
	Next(now time.Time, flush bool) *Record
	// Buffered reports whether a record is buffered.
	Buffered() bool
}

// A Record is an event or a result that a Source has read, and what to do to
// the copy before it is written. All fields may be zero but one.
type Record struct {
	Event  *artifact.Event  // nil if none
	Known  bool             // the log already has Event, but the status may be of an earlier one
	Result *artifact.Result // nil if none

	StaleResult bool // the current result belongs to an earlier run or boot: set it aside

	// Event is the first of another boot than the events before it, which were
	// all of the boot EndedBoot; empty otherwise.
	EndedBoot string
	// Event begins a new log, because the guest lost its directory with EndedBoot.
	NewLog bool
}

// waitForRecords is how long a stream waits for input while a source buffers
// records, before it asks again: short beside the seconds that a source buffers
// them for, and long enough to cost nothing.
const waitForRecords = 100 * time.Millisecond

// takeFrom adds a line to the source and commits what is then ready.
func (r *run) takeFrom(ln *line) {
	if err := r.From.Add(ln.text, r.now.Time); err != nil {
		r.refuse(ln, refuseFor(err))
	}
	r.release(false)
}

// release adds the records that are ready to the next commit.
func (r *run) release(flush bool) {
	for rec := r.From.Next(r.now.Time, flush); rec != nil; rec = r.From.Next(r.now.Time, flush) {
		r.copy(rec)
	}
}

// copy adds a record to the commit. After one is dropped, so are all that
// follow it: otherwise the copy had a gap that its source does not have.
func (r *run) copy(rec *Record) {
	p := &r.pending
	startsRun := rec.Event != nil && rec.Event.Kind.StartsRun()
	apart := rec.EndedBoot != "" || rec.NewLog || (p.hasResult && startsRun)
	if apart {
		r.commit()
	}
	if r.Dropped > 0 || (apart && !p.empty()) || (r.Degraded && p.full()) {
		r.drop()
		return
	}
	if apart {
		p.over, p.anew = rec.EndedBoot, rec.NewLog
	}
	if rec.Event != nil {
		p.copyEvent(rec, r.Refused)
	}
	p.startsRun = p.startsRun || rec.StaleResult
	if rec.Result != nil {
		p.result, p.hasResult, p.resultEvent = *rec.Result, true, -1
	}
}

func (p *pending) copyEvent(rec *Record, refused uint64) {
	e := rec.Event
	p.startsRun = p.startsRun || rec.NewLog || e.Kind.StartsRun()
	p.status = artifact.Status{State: e.Kind, Time: e.Time, Message: e.Message, BootID: e.BootID,
		Details: e.Details, Seq: e.Seq, Rejected: refused}
	p.hasStatus, p.statusEvent = true, -1
	if !rec.Known {
		p.copies.Add(e) // from here on the values of e are part of copies
	}
}

// writeCopies appends the events of a source. An ended boot is durable in the
// list of boots before the log is rotated and before an event of the next boot
// is written: after a crash between any two of them, the next stream does the
// rest.
func (r *run) writeCopies() error {
	p := &r.pending
	if p.over != "" {
		if err := r.Dir.Boots.Append(p.over); err != nil {
			return err
		}
		p.over = ""
	}
	if p.anew {
		if err := r.Dir.Events.Rotate(); err != nil {
			return err
		}
		p.anew = false
	}
	if p.copies.Len() == 0 {
		return nil
	}
	if err := r.Dir.Events.AppendNumbered(&p.copies); err != nil {
		return err
	}
	r.lastSeq = p.copies.Last()
	if len(r.Followers) > 0 {
		r.committed.Events = p.copies.Text()
	}
	p.copies.Reset()
	return nil
}
