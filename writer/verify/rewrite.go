package verify

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// rewriteEvents replaces the log by a copy that has only events, with rising seqs.
func (r *repairer) rewriteEvents() (kept string, err error) {
	return r.dir.Events.Rewrite(func(from io.Reader, to io.Writer) (last uint64, err error) {
		c := &eventCopier{to: to, last: r.found.oldLast, status: &r.found.statusRef, result: &r.found.resultRef}
		if err := eachLine(&history.Lines{From: from}, c.line); err != nil {
			return 0, err
		}
		if !c.wrote {
			return 0, nil
		}
		return c.last, nil
	})
}

// rewriteRejects replaces the file of rejected lines by a copy of its valid lines, and of
// those of a newer version.
func (r *repairer) rewriteRejects() (kept string, err error) {
	var decoder artifact.Decoder
	return r.dir.Rejects.Rewrite(func(from io.Reader, to io.Writer) error {
		return eachLine(&history.Lines{From: from}, func(ln *history.Line) error {
			if ln.Long {
				return nil
			}
			err := decoder.Reject(ln.Text)
			if err != nil && err != artifact.ErrNewer {
				return nil
			}
			return writeLine(to, ln.Text)
		})
	})
}

// An eventCopier copies the events of a log, and leaves out lines that are not
// events and lines that repeat the previous line. An event whose seq is not higher
// than last gets the next seq. An event that is valid only in its normal form is
// copied in that form. A line of a newer version is copied unchanged.
type eventCopier struct {
	to     io.Writer
	last   uint64 // seq of the last event that was copied; at first, of the last event in the rotated log
	wrote  bool
	status *reference // gets the new seq of its event
	result *reference

	decoder  artifact.Decoder
	previous []byte // the normal form of the previous event
}

var errNoSeqLeft = errors.New("the last seq is the highest possible one, so an event with a repeated seq cannot get a new one")

// line copies a line.
func (c *eventCopier) line(ln *history.Line) error {
	e, altered := c.decoder.Event(ln.Text)
	if altered == artifact.ErrNewer && !ln.Long {
		seq, ok := c.decoder.LineSeq(ln.Text)
		c.last, c.wrote = max(c.last, seq), c.wrote || ok
		return writeLine(c.to, ln.Text)
	}
	if ln.Long || e == nil || bytes.Equal(c.decoder.Normal(), c.previous) {
		return nil
	}
	c.previous = append(c.previous[:0], c.decoder.Normal()...)
	seq := e.Seq
	if seq <= c.last {
		if c.last == math.MaxUint64 {
			return errNoSeqLeft
		}
		seq = c.last + 1
	}
	text := ln.Text
	if seq != e.Seq || altered != nil {
		text = withSeq(&c.decoder, seq)
	}
	for _, r := range []*reference{c.status, c.result} {
		if r.seq > 0 && e.Seq == r.match && r.matches(e) {
			r.newSeq = seq
		}
	}
	c.last, c.wrote = seq, true
	return writeLine(c.to, text)
}

// withSeq returns the normal form of the event decoded last, with another seq.
func withSeq(d *artifact.Decoder, seq uint64) []byte {
	line := d.Normal()
	start, end := d.SeqBounds()
	text := strconv.AppendUint(slices.Clone(line[:start]), seq, 10)
	return append(text, line[end:]...)
}

func writeLine(to io.Writer, text []byte) error {
	_, err := to.Write(text)
	if err != nil {
		return err
	}
	_, err = to.Write([]byte{'\n'})
	return err
}
