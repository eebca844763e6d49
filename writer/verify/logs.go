package verify

import (
	"io"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// checkLogs checks the files of lines. The log before the last rotation comes
// first, because the events of the current log follow it.
func (c *checker) checkLogs() error {
	events := &eventsCheck{checker: c, boots: make(map[string]uint64)}
	for _, name := range []string{writer.OldEventsName, writer.EventsName} {
		c.oldLast = events.last
		events.name, events.first = name, true
		if err := c.checkLines(name, events.line); err != nil {
			return err
		}
	}
	c.Boots = len(events.boots)
	return c.checkLines(writer.RejectedName, func(ln *history.Line) error {
		err := c.decoder.Reject(ln.Text)
		if err == nil {
			c.Rejected++
		}
		return err
	})
}

// checkLines checks each line of a file, if it exists, with line.
func (c *checker) checkLines(name string, line func(ln *history.Line) error) error {
	f := c.files[name]
	if f == nil {
		return nil
	}
	f.native = name == writer.RejectedName // the Python command does not write this file
	lines := history.Lines{From: io.LimitReader(f, f.info.Size())}
	err := eachLine(&lines, func(ln *history.Line) error {
		if ln.Long {
			c.addLine(name, ln.Number, "the line is longer than %d MiB", artifact.MaxSize>>20)
		} else if err := line(ln); err == artifact.ErrNewer {
			c.hasNewer = true
			c.add(name, ln.Number, false, "%v", err)
		} else if err != nil {
			c.addLine(name, ln.Number, "%v", err)
		}
		return nil
	})
	if torn, ok := lines.Rest(); ok {
		c.add(name, torn.Number, canRepair(name), "the line is incomplete: the file ends before its newline")
	}
	return err
}

// canRepair reports whether a repair changes the lines of a file. It leaves the log
// before the last rotation unchanged, because no writer uses it any longer.
func canRepair(name string) bool { return name != writer.OldEventsName }

// addLine adds a finding about a line that a rewrite of the file repairs.
func (c *checker) addLine(name string, line uint64, format string, args ...any) {
	c.add(name, line, canRepair(name), format, args...)
	if canRepair(name) {
		c.needsRewrite[name] = true
	}
}

// eachLine calls line with each line that ends in a newline.
func eachLine(lines *history.Lines, line func(ln *history.Line) error) error {
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

// An eventsCheck checks the events of both logs, one log after the other.
type eventsCheck struct {
	*checker
	name  string            // the current log
	first bool              // the next event is the first of this log
	last  uint64            // seq of the last event; 0 before the first
	boot  string            // boot ID of the last event that has one
	boots map[string]uint64 // the line on which each boot ID occurs first
}

// line checks one line of the current log. Like the decoder, it returns an error
// for an event that not every reader can read.
func (c *eventsCheck) line(ln *history.Line) error {
	e, err := c.decoder.Event(ln.Text)
	if err == artifact.ErrNewer {
		seq, ok := c.decoder.LineSeq(ln.Text)
		if ok {
			c.checkSeq(ln.Number, seq)
		}
	}
	if e == nil {
		return err
	}
	c.Events++
	c.files[c.name].native = c.decoder.UTC()
	c.checkSeq(ln.Number, e.Seq)
	c.checkBoot(ln.Number, e.BootID)
	c.statusRef.compare(e)
	c.resultRef.compare(e)
	return err
}

// checkSeq checks that seq rises by one from event to event. Between two logs it
// may skip numbers, because a crash during the rotation leaves one unused.
func (c *eventsCheck) checkSeq(line, seq uint64) {
	isNext := seq == c.last+1 || (c.first && seq > c.last)
	switch {
	case c.last == 0 || isNext:
	case seq == c.last:
		c.addLine(c.name, line, "seq %d occurs twice", seq)
	case seq < c.last:
		c.addLine(c.name, line, "seq goes down from %d to %d", c.last, seq)
	case seq == c.last+2:
		c.add(c.name, line, false, "seq %d is missing before %d", c.last+1, seq)
	default:
		c.add(c.name, line, false, "seq %d to %d are missing before %d", c.last+1, seq-1, seq)
	}
	if c.FirstSeq == 0 {
		c.FirstSeq = seq
	}
	c.first, c.last, c.LastSeq = false, seq, seq
}

// maxBoots is how many boot IDs are remembered. A guest does not boot that often,
// but a hostile log could have a boot ID on each line.
const maxBoots = 10_000

// checkBoot checks that the events of a boot are not interrupted by another boot.
func (c *eventsCheck) checkBoot(line uint64, id string) {
	if id == "" || id == c.boot {
		return
	}
	if first, ok := c.boots[id]; ok {
		c.add(c.name, line, false, "boot %.40q, which began on line %d, continues after another boot", id, first)
	} else if len(c.boots) < maxBoots {
		c.boots[id] = line
	}
	c.boot = id
}
