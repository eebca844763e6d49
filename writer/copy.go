package writer

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// A Copy holds events of another log with the seqs that they have there. The
// zero Copy is empty.
type Copy struct {
	text  []byte
	seqs  []uint64
	ready int // of them, how many are in the log already
	same  same
}

// Add adds e to the copy, as Batch.Add does. Its seq must be higher than that of
// the one before.
func (c *Copy) Add(e *Event, seq uint64) {
	c.text = appendSeq(c.same.appendEvent(c.text, e), seq)
	c.seqs = append(c.seqs, seq)
}

// Len returns the number of events.
func (c *Copy) Len() int { return len(c.seqs) }

// Size returns the bytes that the events take.
func (c *Copy) Size() int { return len(c.text) }

// Last returns the seq of the last event; there must be one.
func (c *Copy) Last() uint64 { return c.seqs[len(c.seqs)-1] }

// Text returns the events as they stand in the log; valid until the next Add.
func (c *Copy) Text() []byte { return c.text }

// Reset empties the copy and keeps its memory.
func (c *Copy) Reset() { *c = Copy{text: c.text[:0], seqs: c.seqs[:0], same: c.same} }

// rest returns the events that are not in the log yet.
func (c *Copy) rest() []byte {
	text := c.text
	for range c.ready {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return text
}

// AppendCopy makes the events of c durable, with their own seqs, by the same
// system calls as Append. They must follow what is in the log; what is in a log
// that was moved aside is not asked. The caller holds the lock. After an error
// the next call must be given a copy that begins with the same events.
func (l *EventLog) AppendCopy(c *Copy) error {
	if !l.locked {
		return pathError("append", l.Path, errNotLocked)
	}
	kept, err := l.lines.settle(l.Path)
	if err != nil {
		return err
	}
	c.ready += kept
	if err := l.ready(c.Size()); err != nil || c.ready == c.Len() {
		return err
	}
	if l.lines.end > 0 && c.seqs[c.ready] <= l.last {
		return pathError("append", l.Path, errNotRising)
	}
	if err := l.writeSeq(c.Last()); err != nil {
		return err
	}
	if err := l.lines.append(c.rest()); err != nil {
		return err
	}
	l.last = c.Last()
	return nil
}

var errNotRising = errors.New("another writer has used that seq: a copy of a log has one writer")

// Last returns the seq and the boot ID of the last event in the log; 0 if there
// is none. The caller holds the lock.
func (l *EventLog) Last() (seq uint64, bootID string, err error) {
	if !l.locked {
		return 0, "", pathError("read", l.Path, errNotLocked)
	}
	if err := l.ready(0); err != nil || l.lines.end == 0 {
		return 0, "", err
	}
	start, stop, err := lineBefore(l.lines.file, l.lines.end)
	if err != nil || stop-start > maxLine {
		return l.last, "", nil // not a line of ours
	}
	line := make([]byte, stop-start)
	if err := l.lines.file.readAt(line, start); err != nil {
		return 0, "", err
	}
	event, _ := parse(line)
	return l.last, event.Get("boot_id").String(), nil
}

// Begin moves the log to Path + ".1", in the place of what stands there: what
// follows is another log, and its seqs are its own. The caller holds the lock.
func (l *EventLog) Begin() error {
	if !l.locked {
		return pathError("rename", l.Path, errNotLocked)
	}
	if err := l.ready(0); err != nil || l.lines.end == 0 {
		return err
	}
	return l.rotate()
}

// A BootList is events.jsonl.boots, which stands beside a log that is a copy:
// the boot IDs, one a line, whose events the log has had and others have
// followed. It is written under the lock of the log, and before what follows.
// Not for concurrent use.
type BootList struct {
	Path string // required

	lines jsonl
}

// Append makes a boot ID durable in the list.
func (l *BootList) Append(bootID string) error {
	if _, err := l.lines.settle(l.Path); err != nil { // one that was kept may stand there twice
		return err
	}
	l.lines.whole = func(line []byte) bool { return len(line) == bootIDLen }
	if _, err := l.lines.ready(l.Path); err != nil {
		return err
	}
	return l.lines.append([]byte(bootID + "\n"))
}

const bootIDLen = len("6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11")

// Read returns the list; none if there is no file.
func (l *BootList) Read() ([]string, error) {
	text, err := readWhole(&l.lines.place, l.Path)
	if cause(err) == unix.ENOENT {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}

// timeOf returns a time as an artifact has it; the zero time if it is none.
func timeOf(v gjson.Result) (t time.Time) {
	_ = t.UnmarshalText([]byte(v.Str))
	return t
}
