package ingest

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// readSize is how much is read at once: what the largest pipe holds that an
// unprivileged process may ask for (pipe(7), pipe-max-size), so that a busy
// writer is met with few large commits instead of many small ones.
const readSize = 1 << 20

// A line is one line of the input, its end taken off.
type line struct {
	text   []byte // its start only if long, writer.MaxRaw bytes at most; valid until the next read
	number uint64 // counted from 1
	offset uint64 // of the first byte in the input
	length uint64 // in bytes, its end not counted
	cut    bool   // the input ended before the newline
	long   bool   // longer than the limit
}

// lines cuts what is read from a descriptor into lines. Its memory is bounded
// by max + readSize, whatever arrives.
type lines struct {
	fd  int
	max int // longest line, in bytes

	buf     []byte // has room for what is kept and one read
	start   int    // of the line that is being read
	scanned int    // no newline between start and here
	end     int    // of what was read
	offset  uint64 // of buf[start] in the input
	number  uint64 // of the last line returned
	skipped line   // a line over max, of which the start is gone
}

// read reads once, blocking until there is something. It returns 0 and no
// error at the end of the input; an error is an errno.
func (l *lines) read() (int, error) {
	kept := l.buf[l.start:l.end]
	if len(kept)+readSize > len(l.buf) {
		l.buf = make([]byte, l.room(len(kept)))
	}
	copy(l.buf, kept)
	l.scanned, l.end, l.start = l.scanned-l.start, l.end-l.start, 0
	for {
		n, err := unix.Read(l.fd, l.buf[l.end:min(len(l.buf), l.end+readSize)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		l.end += n
		return n, nil
	}
}

// usualLine is longer than nearly every line: a stream of such keeps to a buffer
// little larger than a read.
const usualLine = 64 << 10

// room returns how large the buffer is to be where so many bytes are kept.
func (l *lines) room(kept int) int {
	if kept <= usualLine {
		return usualLine + readSize
	}
	return l.max + 1 + readSize // of which one may be the CR of a line's end
}

// next sets ln to the next whole line of what was read, if there is one.
func (l *lines) next(ln *line) bool {
	i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n')
	if i < 0 {
		l.scanned = l.end
		if l.end-l.start > l.max+1 { // of which one may be the CR of its end
			l.skip()
		}
		return false
	}
	l.take(ln, l.scanned+i, 1)
	return true
}

// rest sets ln to what stands behind the last newline when the input has ended.
func (l *lines) rest(ln *line) bool {
	if l.start == l.end { // of a line over max the last byte is kept
		return false
	}
	l.take(ln, l.end, 0)
	ln.cut = true
	return true
}

// take ends the current line at stop, newline bytes before the next one.
func (l *lines) take(ln *line, stop, newline int) {
	text := l.buf[l.start:stop]
	if newline > 0 && len(text) > 0 && text[len(text)-1] == '\r' {
		text = text[:len(text)-1]
	}
	*ln = line{text: text, offset: l.offset, length: uint64(len(text))}
	if l.skipped.long {
		*ln, l.skipped = l.skipped, line{}
		ln.length += uint64(len(text))
	} else if ln.long = len(text) > l.max; ln.long {
		ln.text = text[:l.head()]
	}
	l.number++
	ln.number = l.number
	l.offset += uint64(stop + newline - l.start)
	l.start = stop + newline
	l.scanned = l.start
}

// head is how much is kept of a line that is too long: however it arrived, the
// same.
func (l *lines) head() int { return min(l.max, artifact.MaxRaw) }

// skip drops what was read of a line that is too long, all but its start and
// its last byte, which may be the CR of its end.
func (l *lines) skip() {
	if !l.skipped.long {
		l.skipped = line{text: bytes.Clone(l.buf[l.start : l.start+l.head()]), offset: l.offset, long: true}
	}
	n := l.end - l.start - 1
	l.skipped.length += uint64(n)
	l.offset += uint64(n)
	l.buf[0] = l.buf[l.end-1]
	l.start, l.scanned, l.end = 0, 1, 1
}
