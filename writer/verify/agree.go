package verify

import (
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// agreement holds status and result against the events that they tell of, and
// against each other.
func (c *check) agreement() error {
	status, result := c.agrees(writer.StatusName, &c.told[0]), c.agrees(writer.ResultName, &c.told[1])
	if status && result && c.status != nil && c.status.Seq > 0 {
		c.together(c.status, c.result)
	}
	return nil
}

// agrees holds a status or result against the event whose seq it gives. Where another
// event is what it says, in kind, time and boot, its seq can be mended.
func (c *check) agrees(name string, t *named) bool {
	if t.seq == 0 || c.files[writer.EventsName] == nil {
		return true
	}
	mendable := t.likely > 0 && t.likely != t.seq
	switch e := &t.event; {
	case !t.found && t.seq > c.LastSeq:
		c.find(name, 0, mendable, "tells of event %d; the log ends with %d", t.seq, c.LastSeq)
	case !t.found && t.seq >= c.FirstSeq:
		c.find(name, 0, mendable, "tells of event %d, which is not in the log", t.seq)
	case t.found && e.Kind != t.kind:
		c.find(name, 0, mendable, "says %s; event %d, of which it tells, is %s", t.kind, t.seq, e.Kind)
	case t.found && e.BootID != t.boot:
		c.find(name, 0, mendable, "has another boot_id than event %d, of which it tells", t.seq)
	default: // or in a log that was rotated away
		return true
	}
	if mendable {
		t.now = t.likely
	}
	return false
}

// together holds the status of a commit against the result.
func (c *check) together(s *artifact.Status, r *artifact.Result) {
	outcome, verdict := s.State.Outcome()
	switch {
	case verdict && r == nil && c.files[writer.ResultName] == nil:
		c.find(writer.ResultName, 0, false, "missing; the status says %s", s.State)
	case r == nil || r.Seq == 0:
	case r.Seq > s.Seq:
		c.find(writer.StatusName, 0, false, "says %s, of event %d; the verdict is of event %d, after it", s.State, s.Seq, r.Seq)
	case verdict && r.Outcome != outcome:
		c.find(writer.ResultName, 0, false, "says %s; the status says %s", r.Outcome, s.State)
	case r.Seq < s.Seq && s.State != artifact.Stopped && s.State != artifact.Destroyed:
		c.find(writer.ResultName, 0, false, "is the verdict of event %d; the status says %s, of event %d, after it", r.Seq, s.State, s.Seq)
	}
}
