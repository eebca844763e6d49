package writer

import (
	"bytes"
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Batch holds new events, encoded as lines of the log. The zero Batch is
// empty.
//
// EventLog.Append gives the events their seqs, under the lock. But as long as no
// other process writes, they can be predicted, so the lines are numbered when
// they are added: another copy of them all would cost a tenth of the time of a
// large commit.
type Batch struct {
	enc       artifact.EventEncoder
	text      []byte // lines, numbered from predicted
	ends      []int  // where in text the seq member of each event begins
	predicted uint64 // seq of the first event

	// Set by Append. The first kept events were in the log already.
	kept     int
	lastKept uint64 // seq of the last of them
	next     uint64 // seq of the event after them
}

// Add adds e. The message and details of e are then those in the batch, which
// stay valid until Reset.
func (b *Batch) Add(e *artifact.Event) {
	b.text = b.enc.Append(b.text, e)
	b.ends = append(b.ends, len(b.text))
	b.text = artifact.AppendSeq(b.text, b.predicted+uint64(len(b.ends)-1))
}

// Grow makes room for size bytes of events, so that a large batch leaves no
// smaller ones behind as it grows.
func (b *Batch) Grow(size int) { b.text = slices.Grow(b.text, max(0, size-len(b.text))) }

// Predict sets the seq that the first event of an empty batch will probably get.
func (b *Batch) Predict(seq uint64) { b.predicted = seq }

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.ends) }

// Size returns approximately how many bytes the events take: their seqs may have
// another number of digits in the log.
func (b *Batch) Size() int { return len(b.text) }

// Reset empties the batch, keeps its memory, and predicts that the next event
// follows the last one.
func (b *Batch) Reset() {
	*b = Batch{enc: b.enc, text: b.text[:0], ends: b.ends[:0], predicted: b.Seq(len(b.ends))}
}

// Seq returns the seq of event i, after Append has succeeded.
func (b *Batch) Seq(i int) uint64 {
	if i < b.kept {
		return b.lastKept - uint64(b.kept-1-i)
	}
	return b.next + uint64(i-b.kept)
}

// Number gives the events seqs from first on, as Append would.
func (b *Batch) Number(first uint64) { b.kept, b.next = 0, first }

// Text returns the lines as they are in the log, after Append has succeeded. It
// is valid until the next Add.
func (b *Batch) Text() []byte {
	if b.isPredicted() {
		return b.text
	}
	return b.number(nil, 0)
}

// lines returns the lines that Append has to write: those after the kept ones.
// It uses buf if they have to be numbered again.
func (b *Batch) lines(buf *[]byte) []byte {
	if b.isPredicted() {
		return b.text
	}
	*buf = b.number((*buf)[:0], b.kept)
	return *buf
}

// isPredicted reports whether all events have the predicted seqs.
func (b *Batch) isPredicted() bool { return b.kept == 0 && b.next == b.predicted }

// number appends the lines from event first on with their seqs.
func (b *Batch) number(dst []byte, first int) []byte {
	dst = slices.Grow(dst, len(b.text)+len(b.ends)) // nearly always enough
	start := 0
	for i, end := range b.ends {
		if i >= first {
			dst = append(dst, b.text[start:end]...)
			dst = artifact.AppendSeq(dst, b.Seq(i))
		}
		start = end + bytes.IndexByte(b.text[end:], '\n') + 1
	}
	return dst
}

// A NumberedBatch holds events of another log, with the seqs that they have
// there. The zero NumberedBatch is empty.
type NumberedBatch struct {
	enc  artifact.EventEncoder
	text []byte
	seqs []uint64
	kept int // how many of the events are in the log already
}

// Add adds e as Batch.Add does. Its seq must be higher than that of the event
// before.
func (b *NumberedBatch) Add(e *artifact.Event) {
	b.text = artifact.AppendSeq(b.enc.Append(b.text, e), e.Seq)
	b.seqs = append(b.seqs, e.Seq)
}

// Len returns the number of events.
func (b *NumberedBatch) Len() int { return len(b.seqs) }

// Size returns the bytes that the events take.
func (b *NumberedBatch) Size() int { return len(b.text) }

// Last returns the seq of the last event; there must be one.
func (b *NumberedBatch) Last() uint64 { return b.seqs[len(b.seqs)-1] }

// Text returns the lines. It is valid until the next Add.
func (b *NumberedBatch) Text() []byte { return b.text }

// Reset empties the batch and keeps its memory.
func (b *NumberedBatch) Reset() {
	*b = NumberedBatch{enc: b.enc, text: b.text[:0], seqs: b.seqs[:0]}
}

// lines returns the lines that are not in the log yet.
func (b *NumberedBatch) lines() []byte {
	text := b.text
	for range b.kept {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return text
}
