package history

import (
	"bytes"
	"io"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// chunk is how much is asked for at once: hundreds of lines.
const chunk = 64 << 10

// A Line is one line of a file.
type Line struct {
	Text   []byte // its newline taken off; valid until the next call; its start only if Long
	Number uint64 // counted from 1
	Offset int64  // of the first byte in the file
	Torn   bool   // the file ended before the newline
	Long   bool   // longer than artifact.MaxSize
}

// Lines cuts what it reads into lines. It may go on after the end of a file, when
// that has grown.
type Lines struct {
	From io.Reader // required

	buf     []byte
	start   int    // of the line that is being read
	scanned int    // no newline between start and here
	end     int    // of what was read
	offset  int64  // of buf[start] in the file
	number  uint64 // of the last line returned
	long    bool   // what stands at start is the rest of a line over artifact.MaxSize
}

// Next returns the next line that has its newline. It returns io.EOF where the
// file ends: then Rest tells whether it is torn, and Next may be asked again.
func (l *Lines) Next() (Line, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n'); i >= 0 {
			return l.take(l.scanned+i, 1), nil
		}
		l.scanned = l.end
		if err := l.read(); err != nil {
			return Line{}, err
		}
	}
}

// Rest returns what stands behind the last newline. It is taken only by the Next
// that finds its newline, so that a file may be followed.
func (l *Lines) Rest() (Line, bool) {
	if l.start == l.end && !l.long {
		return Line{}, false
	}
	return Line{Text: l.buf[l.start:l.end], Number: l.number + 1, Offset: l.offset, Torn: true, Long: l.long}, true
}

// Drop forgets what was read behind the last newline, and returns where that began,
// or where a line over artifact.MaxSize goes on. Where a file is followed, a writer may have
// cut it back there meanwhile.
func (l *Lines) Drop() (offset int64) {
	l.start, l.scanned, l.end = 0, 0, 0
	return l.offset
}

// take ends the current line at stop, newline bytes before the next one.
func (l *Lines) take(stop, newline int) Line {
	l.number++
	ln := Line{Text: l.buf[l.start:stop], Number: l.number, Offset: l.offset, Long: l.long}
	l.offset += int64(stop + newline - l.start)
	l.start, l.scanned, l.long = stop+newline, stop+newline, false
	return ln
}

// read reads once, and makes room before it. A line that is too long is dropped
// as it comes, all but its number.
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
		grown := make([]byte, max(2*len(l.buf), 4*chunk))
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
