package writer

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// An EventLog is events.jsonl and its seq file, which bears the lock that
// orders all writers. Several processes may append to one log; one EventLog is
// not for concurrent use.
//
// The log is the truth about seq, the seq file a hint: the next seq is that of
// the log's last event plus one. The seq file decides only where there is no
// log. It is written before the event, so that a writer that trusts it alone
// may skip a number after a crash but never uses one twice.
type EventLog struct {
	Path    string // required
	SeqPath string // Path + ".seq" if empty

	// MaxBytes is the size beyond which the log is moved to Path + ".1" and
	// begun anew; 0 means never.
	MaxBytes int64

	lines  jsonl
	seq    seqLock
	locked bool
	last   uint64 // seq of the last event; true while lines is unchanged
	tried  uint64 // first seq of the last append, which may have failed
	text   []byte // what is appended; kept for its capacity
}

// A Batch holds events in the form of the log, all but their seqs. The zero
// Batch is empty.
type Batch struct {
	text []byte
	ends []int // where each event ends in text

	// Append fills these in. Events before kept were in the log already.
	kept int
	last uint64 // seq of the event before kept
	next uint64 // seq of the event kept
}

// Add adds e to the batch.
func (b *Batch) Add(e *Event) {
	b.text = appendEvent(b.text, e)
	b.ends = append(b.ends, len(b.text))
}

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.ends) }

// Size returns the bytes that the events take, their seqs not counted.
func (b *Batch) Size() int { return len(b.text) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { *b = Batch{text: b.text[:0], ends: b.ends[:0]} }

// Seq returns the seq of the i-th event, once Append has returned without
// error.
func (b *Batch) Seq(i int) uint64 {
	if i < b.kept {
		return b.last - uint64(b.kept-1-i)
	}
	return b.next + uint64(i-b.kept)
}

// number appends the batch's lines from the event skip on, numbered from seq.
func (b *Batch) number(dst []byte, skip int, seq uint64) []byte {
	start := 0
	if skip > 0 {
		start = b.ends[skip-1]
	}
	for _, end := range b.ends[skip:] {
		dst = append(dst, b.text[start:end]...)
		dst = appendSeq(dst, seq)
		start, seq = end, seq+1
	}
	return dst
}

// seqMode keeps the seq file to its owner: a flock needs no more than
// permission to read, so a lock that anybody may open anybody may hold.
const seqMode = 0o600

// Lock takes the log's lock, waiting for it for up to five seconds, after
// which it returns a *LockError. The caller calls unlock when it is done with
// all that is to be committed together.
func (l *EventLog) Lock() (unlock func(), err error) {
	path := l.SeqPath
	if path == "" {
		path = l.Path + ".seq"
	}
	if err := l.seq.lock(path); err != nil {
		return nil, err
	}
	l.locked = true
	return func() {
		l.locked = false
		l.seq.unlock()
	}, nil
}

// Append gives the events of b the next seqs and makes them durable, with
// these system calls where the log is as this EventLog left it:
//
//	fstatat(log) pwrite(seq) fdatasync(seq) write(log) fdatasync(log)
//
// The caller holds the lock, and asks b for the seqs afterwards. On an error
// nothing of b is in the log, or it is not known whether it is; the next call
// finds out, and must be given a batch that begins with the same events.
func (l *EventLog) Append(b *Batch) error {
	if !l.locked {
		return pathError("append", l.Path, errNotLocked)
	}
	kept, err := l.lines.settle(l.Path)
	if err != nil {
		return err
	}
	if kept > 0 {
		b.kept, b.last = b.kept+kept, l.tried+uint64(kept)-1
	}
	if err := l.ready(b.Size()); err != nil {
		return err
	}
	n := uint64(b.Len() - b.kept)
	if l.last > math.MaxUint64-n {
		return pathError("append", l.Path, errSpent)
	}
	b.next = l.last + 1
	if n == 0 {
		return nil
	}
	l.text = b.number(l.text[:0], b.kept, b.next)
	if err := l.writeSeq(l.last + n); err != nil {
		return err
	}
	l.tried = b.next
	if err := l.lines.append(l.text); err != nil {
		return err
	}
	l.last += n
	return nil
}

var errSpent = errors.New("the last seq is the largest there is: move the log away")

// ready opens the log, repairs it, moves it aside if it is full, and finds the
// last seq.
func (l *EventLog) ready(size int) error {
	l.lines.whole = isEvent
	changed, err := l.lines.ready(l.Path)
	if err == nil && changed {
		l.last, err = l.lastSeq()
	}
	if err == nil && l.MaxBytes > 0 && l.lines.end > 0 && l.lines.end+int64(size) > l.MaxBytes {
		err = l.rotate()
	}
	if err != nil {
		l.lines.forget() // last may not be true: look again next time
	}
	return err
}

// rotate moves the log to Path + ".1". Seq goes on in the new one: until that
// has an event, the old one decides.
func (l *EventLog) rotate() error {
	if err := l.lines.rename(l.lines.name, l.lines.name+oldSuffix); err != nil {
		return err
	}
	_, err := l.lines.ready(l.Path)
	return err
}

// oldSuffix names the log before the last rotation.
const oldSuffix = ".1"

// lastSeq finds the seq of the last event: in the log, else in the one before
// it, else in the seq file.
func (l *EventLog) lastSeq() (uint64, error) {
	seq, err := lastSeq(l.lines.file, l.lines.end)
	if err != errNoLines {
		return seq, err
	}
	old, err := l.lines.openFile(l.lines.name+oldSuffix, unix.O_RDONLY, 0)
	if err == nil {
		defer old.close()
		st, err := old.stat()
		if err != nil {
			return 0, err
		}
		if seq, err = lastSeq(old, st.Size); err != errNoLines {
			return seq, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return l.readSeq()
}

// lastSeq returns the seq of the last line of f, which ends at end, that has
// one; errNoLines if none has. Events of writers older than seq have none.
func lastSeq(f *file, end int64) (uint64, error) {
	for {
		start, stop, err := lineBefore(f, end)
		if err != nil {
			return 0, err
		}
		if stop-start <= maxLine {
			line := make([]byte, stop-start)
			if err := f.readAt(line, start); err != nil {
				return 0, err
			}
			if seq, ok := seqOf(line); ok {
				return seq, nil
			}
		}
		end = start
	}
}

// seqOf returns the seq of an event. It is parsed from its digits: gjson's own
// conversion goes through a double and rounds beyond 2^53.
func seqOf(line []byte) (uint64, bool) {
	event, ok := parse(line)
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(event.Get("seq").Raw, 10, 64)
	return seq, err == nil
}

// maxSeqFile is more than the longest seq and its newline take.
const maxSeqFile = 32

// readSeq returns what the seq file says; 0 if it is empty or garbage.
func (l *EventLog) readSeq() (uint64, error) {
	text, err := l.seqText()
	if err != nil {
		return 0, err
	}
	seq, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || seq > math.MaxInt64 {
		return 0, nil
	}
	return seq, nil
}

func (l *EventLog) seqText() ([]byte, error) {
	st, err := l.seq.file.stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(st.Size, maxSeqFile))
	return text, l.seq.file.readAt(text, 0)
}

// writeSeq makes seq durable in the seq file. The file is written in place and
// never cut first, so that at no moment it names a number lower than one in
// use, and what is longer than the new text is first overwritten with newlines,
// which every reader of a number skips.
func (l *EventLog) writeSeq(seq uint64) error {
	st, err := l.seq.file.stat()
	if err != nil {
		return err
	}
	var buf [maxSeqFile]byte
	text := append(strconv.AppendUint(buf[:0], seq, 10), '\n')
	n := int64(len(text))
	if grown := n - st.Size; grown > 0 && st.Size > 1 {
		// 9 becomes 90 before it becomes 10: cut short anywhere, the write
		// below then leaves no number lower than the old one.
		tail := append(bytes.Repeat([]byte{'0'}, int(grown)), '\n')
		if err := l.seq.file.writeAt(tail, st.Size-1); err != nil {
			return err
		}
	}
	if st.Size > n {
		pad := bytes.Repeat([]byte{'\n'}, int(min(st.Size, maxSeqFile)-n))
		text = append(text, pad...)
	}
	if err := l.seq.file.writeAt(text, 0); err != nil {
		return err
	}
	if st.Size > n {
		if err := l.seq.file.truncate(n); err != nil {
			return err
		}
	}
	return l.syncSeq(st.Size == 0)
}

// syncSeq makes the seq file durable, and its name where it is new.
func (l *EventLog) syncSeq(made bool) error {
	if err := l.seq.file.sync(); err != nil {
		l.seq.spent = true
		return err
	}
	if made {
		return l.seq.sync()
	}
	return nil
}

// isEvent reports whether line is an event that lacks only its newline: whole
// by the strictest reading, so that what a crash or somebody else left there
// is never made part of the history by mistake. A pair of escaped surrogates,
// which we never write, is not looked into.
func isEvent(line []byte) bool {
	if _, ok := parse(line); !ok || !utf8.Valid(line) || bytes.Contains(bytes.ToLower(line), []byte(`\ud`)) {
		return false
	}
	var e eventFields
	gjson.ParseBytes(line).ForEach(e.check)
	return e.sound()
}

// eventFields counts an event's fields, for a repeated one is as bad as a
// missing one.
type eventFields struct{ version, kind, time, message, seq, optional, bad int }

func (e *eventFields) sound() bool {
	return e.version == 1 && e.kind == 1 && e.time == 1 && e.message == 1 && e.seq == 1 &&
		e.optional <= 1 && e.bad == 0
}

func (e *eventFields) check(key, value gjson.Result) bool {
	ok := true
	switch key.String() {
	case "schema_version":
		e.version++
		ok = value.Raw == strconv.Itoa(SchemaVersion)
	case "kind":
		e.kind++
		_, ok = ParseState(value.Str)
	case "timestamp":
		e.time++
		_, err := time.Parse(time.RFC3339, value.Str)
		ok = err == nil
	case "message":
		e.message++
		ok = value.Type == gjson.String
	case "boot_id":
		e.optional++
		ok = value.Type == gjson.String
	case "seq":
		e.seq++
		_, err := strconv.ParseUint(value.Raw, 10, 64)
		ok = err == nil
	}
	if !ok {
		e.bad++
	}
	return true
}
