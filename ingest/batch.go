package ingest

import (
	"runtime"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxBatch is the size in bytes of the events, or of the rejected lines, from which a
// batch is full and is committed. Thousands of events then share the cost of a sync, and
// memory stays small.
const maxBatch = 2 << 20

// A batch contains what the next commit writes. The zero batch is empty.
//
// If statusShares, the message and details of status.value are in the memory of events, at
// most until clearEvents. Those of result.value may be there only if they are huge.
type batch struct {
	events  writer.Batch
	rejects []byte
	lines   uint64 // in rejects

	status       staged[artifact.Status]
	statusShares bool
	ready        bool // ready was reached since the last status was written
	result       staged[artifact.Result]
	startsRun    bool // a run starts: an existing result becomes the previous one

	// For a copying stream.
	numbered  writer.NumberedBatch
	endedBoot string // the boot that ended before numbered; empty if it did not end
	newLog    bool   // numbered begins a new log

	dropped  bool             // huge memory was dropped since the last trim
	message  strictjson.Value // memory for the message of status.value; used again
	details  strictjson.Value // memory for its details
	exitCode int32            // memory for the exit code of result.value
}

// A staged value is a status or a result that the next commit writes if set. event is
// the event of the batch that belongs to it, until that event has its seq.
//
// early is set if the value was written before its event had a seq; the value is then
// written again with the seq. mounted is set if its file could not be replaced because
// it is a mount point: the next commit tries again, but only the last one of a stream is
// made for that alone. failing is when the value first could not be written; zero before.
type staged[T any] struct {
	set     bool
	value   T
	event   eventNumber
	early   bool
	mounted bool
	failing time.Time
}

// due reports whether a commit must write the value.
func (s *staged[T]) due() bool { return s.set && !s.mounted }

// lost reports whether the value is not on disk. A value of which only the seq is missing
// is not lost.
func (s *staged[T]) lost() bool { return s.set && !s.early }

// takeSeq is called after the first events of the batch, written, have got their seqs.
// If the event of the value is one of them, takeSeq forgets the event, and sets the value
// again if it was written early. ok reports whether the value must now be written with seq.
func (s *staged[T]) takeSeq(written *writer.Batch) (seq uint64, ok bool) {
	n := int(s.event)
	switch {
	case s.event == noEvent:
		return 0, false
	case n > written.Len():
		s.event -= eventNumber(written.Len())
		return 0, false
	}
	s.event = noEvent
	s.set = s.set || s.early
	return written.Seq(n - 1), s.set
}

// noteWritten notes that the value is on disk. It reports whether only its seq is new.
func (s *staged[T]) noteWritten() (again bool) {
	again = s.early
	s.set, s.mounted, s.failing = false, false, time.Time{}
	s.early = s.event != noEvent
	return again
}

// noteFailed notes that a commit has failed. The last commit of a stream is tried again until
// the write timeout has passed since the first failure.
func (s *staged[T]) noteFailed(now time.Time) {
	if s.lost() && s.failing.IsZero() {
		s.failing = now
	}
}

// An eventNumber is the number of an event in the batch, from 1.
type eventNumber int

const noEvent eventNumber = 0

func (b *batch) empty() bool {
	return b.events.Len() == 0 && len(b.rejects) == 0 && !b.status.due() && !b.result.due() &&
		(!b.startsRun || b.status.mounted) && // the previous result is moved after the status is written
		b.numbered.Len() == 0 && b.endedBoot == "" && !b.newLog
}

// hasMounted reports whether the status or the result waits for its file to be
// unmounted.
func (b *batch) hasMounted() bool {
	return (b.status.set && b.status.mounted) || (b.result.set && b.result.mounted)
}

func (b *batch) full() bool {
	return b.events.Size() >= maxBatch || b.numbered.Size() >= maxBatch || len(b.rejects) >= maxBatch
}

// addEvent adds the event of d, whose values then share the memory of the batch. If
// limited and the batch is full, it returns noEvent.
func (b *batch) addEvent(d *directive.Directive, when Moment, bootID string, limited bool) eventNumber {
	if limited && b.events.Size() >= maxBatch {
		return noEvent
	}
	var e artifact.Event // a composite literal would be built elsewhere and copied, which is slower
	e.Kind, e.Time, e.Uptime = d.State, when.Time, when.Uptime
	e.Message, e.Details, e.BootID, e.Plain = d.Message, d.Details, bootID, d.Type == directive.Event
	b.events.Add(&e)
	d.Message, d.Details = e.Message, e.Details
	return eventNumber(b.events.Len())
}

// addReject adds a rejected line. If limited and the batch is full, it returns false.
func (b *batch) addReject(reject *artifact.Reject, limited bool) bool {
	if limited && len(b.rejects) >= maxBatch {
		return false
	}
	b.rejects = reject.Append(b.rejects)
	b.lines++
	return true
}

// setStatus sets the status from d. If d has an event in the batch, the values are
// not copied yet: only the last status of a commit is written.
func (b *batch) setStatus(d *directive.Directive, when Moment, bootID string, event eventNumber) {
	b.status = staged[artifact.Status]{}
	b.status.set, b.status.event = true, event
	s := &b.status.value // not a composite literal, as in addEvent
	s.State, s.Time, s.BootID, s.Message, s.Details = d.State, when.Time, bootID, d.Message, d.Details
	b.statusShares = true
	if event == noEvent {
		b.copyStatus()
	}
}

// setMessage replaces the message of the status, which may be on disk already. Its other
// values stay the same, also its seq and its time: the guest does not repeat its state.
func (b *batch) setMessage(message string) {
	b.message = strictjson.AppendText(b.message[:0], message)
	b.status.value.Message = b.message
	b.status.set, b.status.early = true, false
}

// copyStatus copies the values of the status before their memory is reused.
func (b *batch) copyStatus() {
	s := &b.status.value
	b.message = append(b.message[:0], s.Message...)
	b.details = append(b.details[:0], s.Details...)
	s.Message, s.Details = b.message, b.details
	b.statusShares = false
}

// huge is the size in bytes from which the message and details of a status or result are
// not copied out of the memory of the events. The memory is then dropped instead of used
// again. A line of 1 MiB whose bytes are all escaped has 6 MiB, and several copies of that
// would be most of the memory of the process. Events of usual size never reach huge in
// one batch.
const huge = maxBatch + usualLine

// setResult sets the result from d.
func (b *batch) setResult(d *directive.Directive, when Moment, bootID string, event eventNumber) {
	old := &b.result.value
	r := artifact.Result{Outcome: d.Outcome, Time: when.Time, BootID: bootID, Message: d.Message, Details: d.Details}
	if event == noEvent || len(d.Message)+len(d.Details) <= huge {
		r.Message, r.Details = append(old.Message[:0], d.Message...), append(old.Details[:0], d.Details...)
	}
	if d.HasExitCode {
		b.exitCode = d.ExitCode
		r.ExitCode = &b.exitCode
	}
	b.result = staged[artifact.Result]{set: true, value: r, event: event}
}

// setSeqs sets the seqs of the status and the result after their events have got
// theirs. written contains the first events of the batch.
func (b *batch) setSeqs(written *writer.Batch) {
	seq, ok := b.status.takeSeq(written)
	if ok {
		b.status.value.Seq = seq
	}
	seq, ok = b.result.takeSeq(written)
	if ok {
		b.result.value.Seq = seq
	}
}

// clearEvents empties the events after they were written.
func (b *batch) clearEvents() {
	if b.events.Size() > huge {
		b.events.Drop()
		b.dropped, b.statusShares = true, false
		runtime.GC() // free the decoder's copy before a follower makes another one
		return
	}
	if b.statusShares {
		b.copyStatus()
	}
	b.events.Reset()
}

// trim drops huge values that were written, except those of the status if keepStatus,
// because they will be written again. It collects the garbage of a huge line: a collection
// that runs while the next huge line is decoded would end too late to make its memory
// available.
func (b *batch) trim(keepStatus bool) {
	if !b.empty() || b.status.set || b.result.set {
		return
	}
	if b.dropped {
		b.dropped = false
		defer runtime.GC()
	}
	if r := &b.result.value; cap(r.Message)+cap(r.Details) > huge {
		r.Message, r.Details = nil, nil
	}
	if s := &b.status.value; !keepStatus && cap(s.Message)+cap(s.Details) > huge {
		s.Message, s.Details = nil, nil
		b.message, b.details = nil, nil
	}
}
