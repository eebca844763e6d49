package ingest

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Source decodes lines that describe the events and results of another
// directory. A stream with a source writes a copy: events keep their seqs, and
// the status is that of the last event.
type Source interface {
	// Add decodes one line, which is valid until it returns. If Add returns an error,
	// the stream rejects the line.
	Add(line []byte, now time.Time) error
	// Next returns the next record to commit, which the caller may keep; nil if
	// there is none. A record that is buffered until earlier ones arrive is returned
	// after its time limit, or if flush is set.
	Next(now time.Time, flush bool) *Record
	// Buffered reports whether a record is buffered.
	Buffered() bool
}

// A Record is what a Source has decoded.
type Record struct {
	Event       *artifact.Event  // nil if none
	Known       bool             // the log already contains Event; the status may be older
	Result      *artifact.Result // nil if none
	StaleResult bool             // the result in the copy belongs to another run or boot
	EndedBoot   string           // the boot ID of the events before Event, if it is another one
	NewLog      bool             // Event begins a new log: its directory was lost with the boot
}

// pollSource is the interval at which a copier checks for buffered records.
const pollSource = 100 * time.Millisecond

// A copier is the handler of a stream with a source.
type copier struct {
	*runner
	source Source
}

func (c *copier) handle(ln *line) *directive.Error {
	err := c.source.Add(ln.text, c.now.Time)
	if err != nil {
		return directive.Errorf(0, "%v", err)
	}
	c.release(false)
	return nil
}

func (c *copier) idle() { c.release(false) }
func (c *copier) end()  { c.release(true) }

func (c *copier) inputTimeout() time.Duration {
	if c.source.Buffered() {
		return pollSource
	}
	return -1
}

// release adds the records that are ready to the batch.
func (c *copier) release(flush bool) {
	for rec := c.source.Next(c.now.Time, flush); rec != nil; rec = c.source.Next(c.now.Time, flush) {
		c.add(rec)
	}
}

// add adds a record to the batch. After it has dropped one, it drops all later ones:
// otherwise the copy would have a gap that its source does not have.
//
// A record begins a commit of its own if it starts a new boot or log, because writeNumbered
// does that before all events of the batch, or if it starts a run while the batch contains
// the result of the previous one.
func (c *copier) add(rec *Record) {
	b := &c.batch
	startsRun := rec.Event != nil && rec.Event.Kind.StartsRun()
	ownCommit := rec.EndedBoot != "" || rec.NewLog || (b.result.set && startsRun)
	if ownCommit {
		c.commitNow()
	}
	isFull := c.state.disk == degraded && b.full()
	if c.Dropped > 0 || isFull || (ownCommit && !b.empty()) {
		c.Dropped++
		return
	}
	if ownCommit {
		b.endedBoot, b.newLog = rec.EndedBoot, rec.NewLog
	}
	if rec.Event != nil {
		e := rec.Event
		b.startsRun = b.startsRun || rec.NewLog || startsRun
		b.status = staged[artifact.Status]{set: true, value: artifact.Status{State: e.Kind, Time: e.Time,
			Message: e.Message, BootID: e.BootID, Details: e.Details, Seq: e.Seq, Rejected: c.Rejected}}
		if !rec.Known {
			b.numbered.Add(e)
		}
	}
	b.startsRun = b.startsRun || rec.StaleResult
	if rec.Result != nil {
		b.result = staged[artifact.Result]{set: true, value: *rec.Result}
	}
}

// commitNow commits the batch before a record that begins the next commit. It retries
// as the state machine does. In a degraded stream, which pauses between commits and does
// not wait for a disk, the batch may still not be empty afterwards.
func (c *copier) commitNow() {
	if c.batch.empty() || !c.mayCommit() {
		return
	}
	c.state = c.state.next(c.commit())
	for c.state.disk == retrying {
		c.state = c.state.next(c.retry())
	}
}
