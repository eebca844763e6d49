package verify

import (
	"errors"
	"io"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// logs checks the files of lines: the log before the last rotation first, so that
// what follows can be held against it.
func (c *check) logs() error {
	run := &run{check: c, boots: make(map[string]uint64)}
	for _, name := range []string{writer.OldEventsName, writer.EventsName} {
		run.begin(name)
		if err := c.lines(name, run.line); err != nil {
			return err
		}
	}
	c.Boots = len(run.boots)
	return c.lines(writer.RejectedName, func(ln *history.Line) error { return c.reader.Reject(ln.Text) })
}

// lines checks each line of a file.
func (c *check) lines(name string, line func(ln *history.Line) error) error {
	f := c.files[name]
	if f == nil {
		return nil
	}
	lines := history.Lines{From: io.LimitReader(f, f.info.Size())}
	err := each(&lines, func(ln *history.Line) error {
		if ln.Long {
			c.bad(name, ln.Number, errLong)
		} else if err := line(ln); err != nil {
			c.bad(name, ln.Number, err)
		}
		return nil
	})
	if torn, ok := lines.Rest(); ok {
		c.find(name, torn.Number, name != writer.OldEventsName, "the file ends within the line: its newline is missing")
	}
	f.own = f.own || name == writer.RejectedName
	return err
}

// each calls line with each line that has its newline.
func each(lines *history.Lines, line func(ln *history.Line) error) error {
	for {
		ln, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = line(&ln)
		}
		if err != nil {
			return err
		}
	}
}

var errLong = errors.New("longer than any line that can be read")

// bad notes a line that is none, or not in every reader's eyes.
func (c *check) bad(name string, line uint64, err error) {
	mendable := name != writer.OldEventsName
	c.find(name, line, mendable, "%v", err)
	c.unsound[name] = c.unsound[name] || mendable
}

// A run goes through the events, one log after the other.
type run struct {
	*check
	name  string
	last  uint64            // seq of the last event
	first bool              // no event of this log was seen
	boot  string            // of the last event
	boots map[string]uint64 // the line at which each was seen first
}

func (r *run) begin(name string) {
	r.name, r.first, r.oldLast = name, true, r.last
}

// line checks one line of a log.
func (r *run) line(ln *history.Line) error {
	e, err := r.reader.Event(ln.Text)
	if e == nil {
		return err
	}
	r.Events++
	r.files[r.name].own = r.reader.UTC()
	r.seq(ln.Number, e.Seq)
	r.bootID(ln.Number, e.BootID)
	r.remember(e)
	return err
}

// seq checks that a seq rises by one. Between two logs it may skip: a crash at the
// rotation leaves a number unused.
func (r *run) seq(line, seq uint64) {
	switch {
	case r.last == 0 || seq == r.last+1 || r.first && seq > r.last:
	case seq == r.last:
		r.unsorted(line, "seq %d stands twice", seq)
	case seq < r.last:
		r.unsorted(line, "seq falls from %d to %d", r.last, seq)
	case seq == r.last+2:
		r.find(r.name, line, false, "seq %d is missing before %d", r.last+1, seq)
	default:
		r.find(r.name, line, false, "seq %d to %d are missing before %d", r.last+1, seq-1, seq)
	}
	if r.FirstSeq == 0 {
		r.FirstSeq = seq
	}
	r.first, r.last, r.LastSeq = false, seq, seq
}

func (r *run) unsorted(line uint64, format string, args ...any) {
	mendable := r.name != writer.OldEventsName
	r.find(r.name, line, mendable, format, args...)
	r.unsound[r.name] = r.unsound[r.name] || mendable
}

// maxBoots is how many boots are told apart: a hostile log could have one a line.
const maxBoots = 10_000

// bootID checks that no boot comes back once another has begun.
func (r *run) bootID(line uint64, id string) {
	if id == "" || id == r.boot {
		return
	}
	if first, ok := r.boots[id]; ok {
		r.find(r.name, line, false, "boot %.40q comes back: it began at line %d, and another one since", id, first)
	} else if len(r.boots) < maxBoots {
		r.boots[id] = line
	}
	r.boot = id
}

// remember keeps the event that the status or the result tells of.
func (r *run) remember(e *artifact.Event) {
	for i := range r.told {
		t := &r.told[i]
		if t.seq == e.Seq {
			t.found, t.event = true, artifact.Event{Kind: e.Kind, BootID: e.BootID}
		}
		if t.seq > 0 && t.says(e) && (t.likely != t.seq || e.Seq == t.seq) {
			t.likely = e.Seq
		}
	}
}
