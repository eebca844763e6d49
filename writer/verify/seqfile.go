package verify

import (
	"bytes"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// checkSeqFile checks that the seq file has the seq of the last event. It need not
// exist: the next writer creates it, and a copy of a directory often lacks it.
func (c *checker) checkSeqFile() error {
	f := c.files[writer.SeqName]
	unused := c.Events == 0 && len(c.seqText) == 0 // created, but no event was written yet
	if f == nil || unused {
		return nil
	}
	if log := c.files[writer.EventsName]; log != nil {
		f.native = log.native
	}
	const most = 32 // more than the longest seq and its newline
	seq, err := strconv.ParseUint(string(bytes.TrimSuffix(c.seqText, []byte("\n"))), 10, 64)
	switch {
	case err != nil:
		c.add(writer.SeqName, 0, c.Events > 0, "content is %+.40q; expected a number and a newline", c.seqText[:min(len(c.seqText), most)])
	case c.Events > 0 && seq != c.LastSeq:
		c.add(writer.SeqName, 0, true, "content is %d, but the last event has seq %d", seq, c.LastSeq)
	}
	return nil
}
