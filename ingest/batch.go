package ingest

import (
	"runtime"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxBatch is how many bytes of events, or of rejected lines, a commit writes:
// thousands of events then share the cost of a sync, and memory stays small.
const maxBatch = 2 << 20

// A batch contains what the next commit writes. The zero batch is empty.
//
// The message and details of status.value may share memory with events until
// eventsWritten, and so do those of result.value if they are huge.
type batch struct {
	events  writer.Batch
	rejects []byte
	lines   uint64 // in rejects

	status    staged[artifact.Status]
	ready     bool // a transition to ready led to status
	result    staged[artifact.Result]
	startsRun bool // a run starts: an existing result becomes the previous one

	// For a copying stream.
	numbered  writer.NumberedBatch
	endedBoot string // the boot ID of the events before numbered, if it is another one
	newLog    bool   // numbered begins a new log

	dropped  bool             // huge memory was dropped since the last trim
	message  strictjson.Value // memory of status.value
	details  strictjson.Value
	exitCode int32 // memory of result.value
}

// A staged status or result is written if set. event is the event of the batch that
// belongs to it, until that event has its seq.
type staged[T any] struct {
	set   bool
	value T
	event eventNumber
}

// An eventNumber is the number of an event in the batch, from 1.
type eventNumber int

const noEvent eventNumber = 0

func (b *batch) empty() bool {
	return b.events.Len() == 0 && len(b.rejects) == 0 && !b.status.set && !b.result.set && !b.startsRun &&
		b.numbered.Len() == 0 && b.endedBoot == "" && !b.newLog
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
	e := artifact.Event{Kind: d.State, Time: when.Time, Message: d.Message,
		Details: d.Details, BootID: bootID, Uptime: when.Uptime}
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
	b.status = staged[artifact.Status]{set: true, event: event, value: artifact.Status{
		State: d.State, Time: when.Time, BootID: bootID, Message: d.Message, Details: d.Details}}
	if event == noEvent {
		b.copyStatus()
	}
}

// copyStatus copies the values of the status before their memory is reused.
func (b *batch) copyStatus() {
	s := &b.status.value
	b.message = append(b.message[:0], s.Message...)
	b.details = append(b.details[:0], s.Details...)
	s.Message, s.Details = b.message, b.details
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
// theirs.
func (b *batch) setSeqs() {
	if b.status.set && b.status.event != noEvent {
		b.status.value.Seq = b.events.Seq(int(b.status.event) - 1)
	}
	if b.result.set && b.result.event != noEvent {
		b.result.value.Seq = b.events.Seq(int(b.result.event) - 1)
	}
	b.status.event, b.result.event = noEvent, noEvent
}

// eventsWritten empties the events after they were written.
func (b *batch) eventsWritten() {
	if b.events.Size() > huge {
		b.events.Drop()
		b.dropped = true
		runtime.GC() // the decoder's copy, before a follower makes another one
		return
	}
	if b.status.set {
		b.copyStatus()
	}
	b.events.Reset()
}

// trim drops huge values that were written, except those of the status if keepStatus. It
// collects the garbage of a huge line: a collection that runs while the next huge line is
// decoded would end too late to make its memory available.
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
