package verify

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A reference connects the status or the result with its event, which was written at the
// same time: it has the same seq, state, time and boot.
//
// checkStatusAndResult sets the first four fields, from the file. If the file has no seq
// or cannot be read, seq is 0, and nothing is compared. checkLogs sets found, foundState,
// foundBoot and match. newSeq is 0 unless a repair changes the seq.
type reference struct {
	seq    uint64
	state  artifact.State
	time   time.Time
	bootID string

	found      bool // there is an event with this seq
	foundState artifact.State
	foundBoot  string

	// match is the seq of an event with the same state, time and boot; 0 if there is
	// none. If there are several, it is seq if one of them has it, otherwise the last.
	match  uint64
	newSeq uint64
}

// matches reports whether e has the same state, time and boot.
func (r *reference) matches(e *artifact.Event) bool {
	return r.state == e.Kind && r.time.Equal(e.Time) && r.bootID == e.BootID
}

// compare compares the reference with an event of the logs.
func (r *reference) compare(e *artifact.Event) {
	if r.seq == 0 {
		return
	}
	if e.Seq == r.seq {
		r.found, r.foundState, r.foundBoot = true, e.Kind, e.BootID
	}
	better := e.Seq == r.seq || r.match != r.seq
	if better && r.matches(e) {
		r.match = e.Seq
	}
}

// checkConsistency compares the status and the result with the events that they
// refer to and, if both refer to the right ones, with each other. It does not if a newer
// version wrote one of them, because their events are then not all known.
func (c *checker) checkConsistency() error {
	if c.hasNewer {
		return nil
	}
	statusOK := c.checkReference(writer.StatusName, &c.statusRef)
	resultOK := c.checkReference(writer.ResultName, &c.resultRef)
	if statusOK && resultOK && c.status != nil && c.status.Seq > 0 {
		c.compareStatusAndResult(c.status, c.result)
	}
	return nil
}

// checkReference compares a status or result with the event that has its seq. If only
// another event matches, a repair changes the seq of the file. If the seq is lower than
// those in the logs, the event was in a log that no longer exists.
func (c *checker) checkReference(name string, r *reference) (ok bool) {
	if r.seq == 0 || c.files[writer.EventsName] == nil {
		return true
	}
	repairable := r.match > 0 && r.match != r.seq
	switch {
	case c.Events == 0:
		c.add(name, 0, false, "seq is %d, but the log has no valid events", r.seq)
		return false
	case !r.found && r.seq > c.LastSeq:
		c.add(name, 0, repairable, "seq is %d, but the last event has seq %d", r.seq, c.LastSeq)
	case !r.found && r.seq >= c.FirstSeq:
		c.add(name, 0, repairable, "seq is %d, but the log has no event %d", r.seq, r.seq)
	case r.found && r.foundState != r.state:
		c.add(name, 0, repairable, "seq is %d, but event %d is %s, not %s", r.seq, r.seq, r.foundState, r.state)
	case r.found && r.foundBoot != r.bootID:
		c.add(name, 0, repairable, "seq is %d, but event %d has another boot_id", r.seq, r.seq)
	default:
		return true
	}
	if repairable {
		r.newSeq = r.match
	}
	return false
}

// compareStatusAndResult compares a status that has a seq with the result, which is
// nil if there is none that can be read.
func (c *checker) compareStatusAndResult(s *artifact.Status, r *artifact.Result) {
	outcome, isOutcome := s.State.Outcome()
	if r == nil {
		if isOutcome && c.files[writer.ResultName] == nil && !c.isUnchecked(writer.ResultName) {
			c.add(writer.ResultName, 0, false, "the file is missing, but the state in %s is %s; in the same boot, recreate it with ingest --require-result </dev/null", writer.StatusName, s.State)
		}
		return
	}
	endedAfter := s.State.Ended() && !isOutcome // stopped or destroyed after the result
	switch {
	case r.Seq == 0:
	case r.Seq > s.Seq:
		c.add(writer.StatusName, 0, false, "the state %s is from event %d, but %s is from the later event %d", s.State, s.Seq, writer.ResultName, r.Seq)
	case isOutcome && r.Outcome != outcome:
		c.add(writer.ResultName, 0, false, "status is %s, but the state in %s is %s", r.Outcome, writer.StatusName, s.State)
	case r.Seq < s.Seq && !endedAfter:
		c.add(writer.ResultName, 0, false, "the result is from event %d, but %s has the state %s from the later event %d", r.Seq, writer.StatusName, s.State, s.Seq)
	}
}
