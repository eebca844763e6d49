package writer

import (
	"bytes"
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Batch holds new events, encoded as lines of the log. The zero Batch is
// empty. A Batch is not safe for concurrent use.
//
// EventLog.Append determines the seqs under the lock. As long as no other process
// writes, they can be predicted, so Add already writes predicted seqs into the lines. If
// the prediction is wrong, Append has to copy all lines to number them again, which takes
// a tenth of the time of a large commit.
type Batch struct {
	enc       artifact.EventEncoder
	text      []byte // lines, numbered from predicted
	ends      []int  // for each event, the offset in text at which `,"seq":` begins
	predicted uint64 // seq of the first event

	// Set by Append.
	kept     int    // how many events at the start were in the log already, see EventLog.resolve
	lastKept uint64 // seq of the last of those
	next     uint64 // seq of the first event after those
}

// Add adds e. It sets the message and details of e to their copies in the batch,
// which are valid until Reset.
func (b *Batch) Add(e *artifact.Event) {
	if size := len(e.Message) + len(e.Details); size > page {
		b.text = slices.Grow(b.text, size+page) // once, and not again for each part of the line
	}
	b.text = b.enc.Append(b.text, e)
	b.ends = append(b.ends, len(b.text))
	b.text = b.enc.AppendSeq(b.text, b.predicted+uint64(len(b.ends)-1))
}

// Grow allocates memory for size bytes of events at once. A batch that grows
// step by step would allocate several smaller buffers first.
func (b *Batch) Grow(size int) {
	if size > cap(b.text) { // slices.Grow would clear, and so touch, all of the memory
		b.text = append(make([]byte, 0, size), b.text...)
	}
}

// Predict sets the seq that the first event will probably get. The batch must be
// empty.
func (b *Batch) Predict(seq uint64) { b.predicted = seq }

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.ends) }

// Size returns the size of the lines in bytes. It is approximate, because the
// seqs in the log may have more or fewer digits than the predicted ones.
func (b *Batch) Size() int { return len(b.text) }

// Reset empties the batch and keeps its memory. It predicts that the seq of the
// next event follows that of the last one.
func (b *Batch) Reset() {
	*b = Batch{enc: b.enc, text: b.text[:0], ends: b.ends[:0], predicted: b.Seq(len(b.ends))}
}

// Drop empties the batch as Reset does, but does not keep its memory.
func (b *Batch) Drop() {
	b.text = nil
	b.Reset()
}

// Seq returns the seq of event i, after Append has succeeded.
func (b *Batch) Seq(i int) uint64 {
	if i < b.kept {
		return b.lastKept - uint64(b.kept-1-i)
	}
	return b.next + uint64(i-b.kept)
}

// Number gives the events consecutive seqs that start at first. A dry run calls
// it instead of Append.
func (b *Batch) Number(first uint64) { b.kept, b.next = 0, first }

// Text returns the lines as Append has written them, after Append has succeeded.
// The text is valid until the next Add.
func (b *Batch) Text() []byte {
	if b.isPredicted() {
		return b.text
	}
	return b.number(nil, 0)
}

// lines returns the lines that Append has to write: all but the first b.kept
// lines. It writes them to buf if their predicted seqs are wrong.
func (b *Batch) lines(buf *[]byte) []byte {
	if b.isPredicted() {
		return b.text
	}
	*buf = b.number((*buf)[:0], b.kept)
	return *buf
}

// isPredicted reports whether all events have the predicted seqs.
func (b *Batch) isPredicted() bool { return b.kept == 0 && b.next == b.predicted }

// number appends the lines of all events from index first on, with their final
// seqs.
func (b *Batch) number(dst []byte, first int) []byte {
	dst = slices.Grow(dst, len(b.text)+len(b.ends)) // enough unless a seq gets two more digits
	start := 0
	for i, end := range b.ends {
		if i >= first {
			dst = append(dst, b.text[start:end]...)
			dst = b.enc.AppendSeq(dst, b.Seq(i))
		}
		start = end + bytes.IndexByte(b.text[end:], '\n') + 1
	}
	return dst
}

// head returns a batch of the first n events of b, which shares the memory of b. n must
// not be less than b.kept.
func (b *Batch) head(n int) *Batch {
	h := *b
	h.enc = artifact.EventEncoder{} // b still needs the memory of its own
	h.ends = b.ends[:n:n]
	h.text = b.text[:b.start(n):b.start(n)]
	return &h
}

// drop removes the first n events. It does not move the others: the memory of what Add
// has returned stays valid. n must not be less than b.kept.
func (b *Batch) drop(n int) {
	start := b.start(n)
	b.text, b.ends = b.text[start:], b.ends[n:]
	for i := range b.ends {
		b.ends[i] -= start
	}
	b.predicted += uint64(n)
	b.kept = 0
}

// start returns the offset in text at which event n begins.
func (b *Batch) start(n int) int {
	if n == 0 {
		return 0
	}
	end := b.ends[n-1]
	return end + bytes.IndexByte(b.text[end:], '\n') + 1
}

// countLines returns how many complete lines the first size bytes of text contain.
func countLines(text []byte, size int64) int {
	return bytes.Count(text[:min(max(size, 0), int64(len(text)))], []byte{'\n'})
}

// A NumberedBatch holds events of another log, which keep the seqs that they
// have there. The zero NumberedBatch is empty. It is not safe for concurrent use.
type NumberedBatch struct {
	enc  artifact.EventEncoder
	text []byte
	seqs []uint64
	kept int // how many of the events are in the log already
}

// Add adds e as Batch.Add does. The seq of e must be higher than the seq of the
// previous event.
func (b *NumberedBatch) Add(e *artifact.Event) {
	b.text = b.enc.AppendSeq(b.enc.Append(b.text, e), e.Seq)
	b.seqs = append(b.seqs, e.Seq)
}

// Len returns the number of events.
func (b *NumberedBatch) Len() int { return len(b.seqs) }

// Size returns the size of the lines in bytes.
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
