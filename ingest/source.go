package ingest

import "github.com/sledtools/pika-cloud-lifecycle/ingest/directive"

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Source reads lines that tell of the events of another log, in the place of
// directives. The artifacts of its stream are a copy: events keep their seqs,
// and the status is that of the last one. As whoever prints the lines can be
// asked for them again, the stream never gives up waiting for a disk before it
// is told to end.
type Source interface {
	// Read takes one line, valid until it returns. An error refuses it.
	Read(line []byte, now time.Time) error
	// Next returns the next record to commit, for the caller to keep; nil if
	// there is none. Those that wait for others are given once their time is
	// over, or if all are asked for.
	Next(now time.Time, all bool) *Record
	// Waits reports whether a record waits for others.
	Waits() bool
}

// A Record is what a Source has read.
type Record struct {
	Event  *artifact.Event  // nil if none
	Seq    uint64           // of Event
	Known  bool             // the log has Event; the status may not
	Result *artifact.Result // nil if none

	Former bool // the result that stands is another run's, or another boot's

	Over string // the boot ID of the events before, if another one follows them
	Anew bool   // Event begins a log of its own: that of a directory that was lost with the boot
}

// waitForRecords is how long a stream waits for input before it asks a source
// for records whose time is over.
const waitForRecords = 100 * time.Millisecond

// takeFrom takes a line of a source.
func (r *run) takeFrom(ln *line) {
	if err := r.From.Read(ln.text, r.now.Time); err != nil {
		r.refuse(ln, directive.refuseFor(err))
	}
	r.release(false)
}

// release makes the records that are ready part of the next commit.
func (r *run) release(all bool) {
	for rec := r.From.Next(r.now.Time, all); rec != nil; rec = r.From.Next(r.now.Time, all) {
		r.copy(rec)
	}
}

// copy adds a record to the commit. Once one was dropped, those behind it are
// too: else the copy had a gap that its source has not.
func (r *run) copy(rec *Record) {
	p := &r.pending
	apart := rec.Over != "" || rec.Anew || p.hasResult && rec.Event != nil && rec.Event.Kind.StartsRun()
	if apart {
		r.commit()
	}
	if r.Dropped > 0 || apart && !p.empty() || r.Degraded && p.full() {
		r.drop()
		return
	}
	if apart {
		p.over, p.anew = rec.Over, rec.Anew
	}
	if rec.Event != nil {
		p.copyEvent(rec, r.Refused)
	}
	p.startsRun = p.startsRun || rec.Former
	if rec.Result != nil {
		p.result, p.hasResult, p.resultEvent = *rec.Result, true, -1
	}
}

func (p *pending) copyEvent(rec *Record, refused uint64) {
	e := rec.Event
	p.startsRun = p.startsRun || rec.Anew || e.Kind.StartsRun()
	p.status = artifact.Status{State: e.Kind, Time: e.Time, Message: e.Message, BootID: e.BootID,
		Details: e.Details, Seq: e.Seq, Rejected: refused}
	p.hasStatus, p.statusEvent = true, -1
	if !rec.Known {
		p.copies.Add(e) // which makes the values of e the copy's
	}
}

// writeCopies appends the events of a source. That a boot is over is durable
// before anything follows it.
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
