package history

import (
	"bytes"
	"io"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// chunk is the size of a read in bytes: enough for hundreds of lines.
const chunk = 64 << 10

// A Line is one line of a file.
type Line struct {
	Text   []byte // without its newline, and only a part if Long; valid until the next call of Next or Drop
	Number uint64 // counted from 1
	Offset int64  // of the first byte of Text in the file
	Torn   bool   // the file ends before the newline
	Long   bool   // longer than artifact.MaxSize, and most of it was dropped
}

// Lines splits a file into lines. When the file has grown, Next continues after
// its former end. Not for concurrent use.
//
// Invariants:
//   - buf[start:end] was read and not yet returned. It begins with line number+1, and
//     its first byte is at offset in the file.
//   - buf[start:scanned] contains no newline.
//   - If long is true, the line is longer than artifact.MaxSize, and its start was
//     dropped.
//   - 0 <= start <= scanned <= end <= len(buf), and end-start is at most
//     artifact.MaxSize plus the size of one read.
type Lines struct {
	From io.Reader // required

	buf     []byte
	start   int
	scanned int
	end     int
	offset  int64
	number  uint64 // of the last line that was returned
	long    bool
}

// Next returns the next line that ends in a newline. At the end of the file it
// returns io.EOF, and may be called again; Rest then returns the text after the last
// newline. Any other error is from the reader.
func (l *Lines) Next() (Line, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n'); i >= 0 {
			return l.advance(l.scanned + i), nil
		}
		l.scanned = l.end
		if err := l.read(); err != nil {
			return Line{}, err
		}
	}
}

// Rest returns the text after the last newline, as a torn line; ok is false if there
// is none. If the file grows, Next returns the whole line.
func (l *Lines) Rest() (ln Line, ok bool) {
	if l.start == l.end && !l.long {
		return Line{}, false
	}
	return Line{Text: l.buf[l.start:l.end], Number: l.number + 1, Offset: l.offset, Torn: true, Long: l.long}, true
}

// Drop discards the text after the last newline, and returns its offset, from which the
// caller must read again. A caller that follows a growing file does this because a
// writer may have replaced an incomplete line.
func (l *Lines) Drop() (offset int64) {
	l.start, l.scanned, l.end = 0, 0, 0
	return l.offset
}

// advance returns the current line, whose newline is at buf[newline], and continues
// with the next.
func (l *Lines) advance(newline int) Line {
	l.number++
	ln := Line{Text: l.buf[l.start:newline], Number: l.number, Offset: l.offset, Long: l.long}
	next := newline + 1
	l.offset += int64(next - l.start)
	l.start, l.scanned, l.long = next, next, false
	return ln
}

// read makes space in the buffer, and reads once. If the line is too long, read drops the
// part of it that is in the buffer.
func (l *Lines) read() error {
	if l.end-l.start > artifact.MaxSize {
		l.offset += int64(l.end - l.start)
		l.start, l.scanned, l.end, l.long = 0, 0, 0, true
	}
	if l.start > 0 {
		copy(l.buf, l.buf[l.start:l.end])
		l.scanned, l.end, l.start = l.scanned-l.start, l.end-l.start, 0
	}
	if len(l.buf)-l.end < chunk {
		grown := make([]byte, min(max(2*len(l.buf), 4*chunk), artifact.MaxSize+2*chunk))
		copy(grown, l.buf[:l.end])
		l.buf = grown
	}
	n, err := l.From.Read(l.buf[l.end:])
	l.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
