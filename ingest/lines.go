package ingest

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// readSize is how much is read at once, in bytes. What is read is decoded while it is in the
// second-level cache, which has 512 KiB or more in most processors. A larger size would only
// need more memory, because a commit gathers several reads.
const readSize = 256 << 10

// A line is one line of the input, without its end.
type line struct {
	text   []byte // only its start if long, at most artifact.MaxRaw bytes; valid until the next read
	number uint64 // counted from 1
	offset uint64 // of the first byte in the input
	length uint64 // in bytes, without the line's end
	cut    bool   // the input ended before the newline
	long   bool   // longer than the limit
}

// lines reads a descriptor and cuts the input into lines. Its memory is bounded by
// max + readSize.
//
// buf[start:end] was read and not returned yet. buf[start:scanned] contains no
// newline. offset is the offset of buf[start] in the input. If skipped.long, the
// current line is longer than max, and its start is in skipped instead of buf.
type lines struct {
	fd    int
	max   int  // longest line, in bytes
	ended bool // the input has ended, or cannot be read

	buf     []byte
	start   int
	scanned int
	end     int
	offset  uint64
	number  uint64 // of the last line returned
	skipped line
}

// read reads once, blocking until there is input. It returns 0 and no error at
// the end of the input; an error is an errno.
func (l *lines) read() (int, error) {
	kept := l.buf[l.start:l.end]
	if len(kept)+readSize > len(l.buf) {
		l.buf = make([]byte, l.bufferSize(len(kept)))
	}
	copy(l.buf, kept)
	l.scanned, l.end, l.start = l.scanned-l.start, l.end-l.start, 0
	n, err := dirfs.RetryInt(func() (int, error) {
		return unix.Read(l.fd, l.buf[l.end:min(len(l.buf), l.end+readSize)])
	})
	if err != nil {
		return 0, err
	}
	l.end += n
	return n, nil
}

// usualLine is longer than nearly every line: a stream of shorter lines needs a
// buffer that is little larger than one read.
const usualLine = 64 << 10

// bufferSize returns the size of a buffer that holds kept bytes and one read.
func (l *lines) bufferSize(kept int) int {
	if kept <= usualLine {
		return usualLine + readSize
	}
	return l.max + 1 + readSize // 1 for the CR of a line that ends in CR LF
}

// next sets ln to the next complete line in the buffer, if there is one.
func (l *lines) next(ln *line) bool {
	i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n')
	if i < 0 {
		l.scanned = l.end
		if l.end-l.start > l.max+1 { // 1 for the CR of a line that ends in CR LF
			l.skip()
		}
		return false
	}
	l.cut(ln, l.scanned+i, 1)
	return true
}

// rest sets ln to the text after the last newline, when the input has ended.
func (l *lines) rest(ln *line) bool {
	if l.start == l.end { // no text is left; of a line that is too long, skip keeps the last byte
		return false
	}
	l.cut(ln, l.end, 0)
	ln.cut = true
	return true
}

// cut sets ln to the current line, whose text is buf[start:stop]. newline is the length
// of the newline after it: 1, or 0 at the end of the input.
func (l *lines) cut(ln *line, stop, newline int) {
	text := l.buf[l.start:stop]
	if newline > 0 && len(text) > 0 && text[len(text)-1] == '\r' {
		text = text[:len(text)-1]
	}
	switch {
	case l.skipped.long:
		*ln = l.skipped
		ln.length += uint64(len(text))
		l.skipped = line{}
	case len(text) > l.max:
		*ln = line{text: text[:l.keptOfLong()], offset: l.offset, length: uint64(len(text)), long: true}
	default:
		*ln = line{text: text, offset: l.offset, length: uint64(len(text))}
	}
	l.number++
	ln.number = l.number
	l.offset += uint64(stop + newline - l.start)
	l.start = stop + newline
	l.scanned = l.start
}

// keptOfLong returns how many bytes of a line that is too long are kept. It does not
// depend on how the line was split by reads.
func (l *lines) keptOfLong() int { return min(l.max, artifact.MaxRaw) }

// skip drops the buffered part of a line that is too long, except its start and its
// last byte, which may be the CR of the line's end.
func (l *lines) skip() {
	if !l.skipped.long {
		l.skipped = line{text: bytes.Clone(l.buf[l.start : l.start+l.keptOfLong()]), offset: l.offset, long: true}
	}
	n := l.end - l.start - 1
	l.skipped.length += uint64(n)
	l.offset += uint64(n)
	l.buf[0] = l.buf[l.end-1]
	l.start, l.scanned, l.end = 0, 1, 1
}
