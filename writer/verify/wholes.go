package verify

import (
	"bytes"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// wholes checks the artifacts that are replaced as a whole.
func (c *check) wholes() error {
	status := func(text []byte) (err error) {
		c.status, err = c.reader.Status(text)
		return err
	}
	result := func(text []byte) (err error) {
		c.result, err = c.reader.Result(text)
		return err
	}
	prev := func(text []byte) error {
		_, err := c.reader.Result(text)
		return err
	}
	if err := c.whole(writer.StatusName, status); err != nil {
		return err
	}
	if err := c.whole(writer.PrevResultName, prev); err != nil {
		return err
	}
	if err := c.whole(writer.ResultName, result); err != nil {
		return err
	}
	if s := c.status; s != nil {
		c.State, c.told[0] = string(s.State), named{seq: s.Seq, kind: s.State, time: s.Time, boot: s.BootID}
	}
	if r := c.result; r != nil {
		c.Outcome, c.told[1] = string(r.Outcome), named{seq: r.Seq, kind: artifact.State(r.Outcome), time: r.Time, boot: r.BootID}
	}
	return nil
}

// whole reads one of them, if it is there.
func (c *check) whole(name string, read func(text []byte) error) error {
	f := c.files[name]
	if f == nil {
		return nil
	}
	if f.info.Size() > artifact.MaxSize {
		c.find(name, 0, false, "larger than any artifact that can be read")
		return nil
	}
	text, err := history.ReadAll(f)
	if err != nil {
		return err
	}
	if err := read(text); err != nil {
		c.find(name, 0, false, "%v", err)
		return nil
	}
	f.own = c.reader.UTC()
	if !bytes.HasSuffix(text, []byte("\n")) {
		c.find(name, 0, false, "no newline at the end")
	}
	return nil
}

// seqFile checks that the seq file says what the log does. One that is missing, as
// from a copy, says nothing wrong.
func (c *check) seqFile() error {
	f := c.files[writer.SeqName]
	if f == nil || c.Events == 0 && len(c.seq) == 0 {
		return nil
	}
	if log := c.files[writer.EventsName]; log != nil {
		f.own = log.own
	}
	const most = 32 // more than the longest seq and its newline
	seq, err := strconv.ParseUint(string(bytes.TrimSuffix(c.seq, []byte("\n"))), 10, 64)
	switch {
	case err != nil:
		c.find(writer.SeqName, 0, c.Events > 0, "%+.40q; expected a number and a newline", c.seq[:min(len(c.seq), most)])
	case c.Events > 0 && seq != c.LastSeq:
		c.find(writer.SeqName, 0, true, "names %d; the last event has seq %d", seq, c.LastSeq)
	}
	return nil
}
