package writer

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
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

	// Wait is how long Lock waits; DefaultWait if 0.
	Wait time.Duration

	lines  jsonl
	seq    seqLock
	locked bool
	last   uint64 // seq of the last event; true while lines is unchanged
	tried  uint64 // first seq of the last append, which may have failed
	text   []byte // of lines that had to be numbered anew; kept for its capacity
}

// A Batch holds events in the form of the log. The zero Batch is empty.
//
// Seqs are given by Append, under the lock. But as long as no other process
// writes they are foreseen, and the events are numbered as they are added: to
// copy them all once more would cost a tenth of a flood's time.
type Batch struct {
	text  []byte // lines, numbered from first
	ends  []int  // where each event's seq member begins in text
	first uint64
	same  same

	// Append fills these in. Events before kept were in the log already.
	kept int
	last uint64 // seq of the event before kept
	next uint64 // seq of the event kept
}

// Add adds e to the batch. The message and details of e are then those in the
// batch, which stay until Reset.
func (b *Batch) Add(e *Event) {
	b.text = b.same.appendEvent(b.text, e)
	b.ends = append(b.ends, len(b.text))
	b.text = appendSeq(b.text, b.first+uint64(len(b.ends)-1))
}

// Grow makes room for size bytes of events, so that a large batch does not leave
// smaller ones behind as it grows.
func (b *Batch) Grow(size int) { b.text = slices.Grow(b.text, max(0, size-len(b.text))) }

// Foresee says which seq the first event of an empty batch is likely to get.
func (b *Batch) Foresee(seq uint64) { b.first = seq }

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.ends) }

// Size returns about how many bytes the events take: seqs may have other digits
// in the log.
func (b *Batch) Size() int { return len(b.text) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	*b = Batch{text: b.text[:0], ends: b.ends[:0], first: b.Seq(len(b.ends)), same: b.same}
}

// Seq returns the seq of the i-th event, once Append has returned without
// error.
func (b *Batch) Seq(i int) uint64 {
	if i < b.kept {
		return b.last - uint64(b.kept-1-i)
	}
	return b.next + uint64(i-b.kept)
}

// Number gives the events seqs from first on, as if Append had done it.
func (b *Batch) Number(first uint64) { b.kept, b.next = 0, first }

// Text returns the events as they stand in the log, once Append has returned
// without error. It is valid until the next Add.
func (b *Batch) Text() []byte {
	if b.foreseen() {
		return b.text
	}
	return b.number(nil, 0)
}

// lines returns what Append is to write: the events from kept on, in buf if they
// have to be numbered anew.
func (b *Batch) lines(buf *[]byte) []byte {
	if b.foreseen() {
		return b.text
	}
	*buf = b.number((*buf)[:0], b.kept)
	return *buf
}

// foreseen reports whether text has the right seqs.
func (b *Batch) foreseen() bool { return b.kept == 0 && b.next == b.first }

// number appends the lines from the event i on with the seqs that they have.
func (b *Batch) number(dst []byte, i int) []byte {
	dst = slices.Grow(dst, len(b.text)+len(b.ends)) // nearly always enough
	start := 0
	for n, end := range b.ends {
		if n >= i {
			dst = append(dst, b.text[start:end]...)
			dst = appendSeq(dst, b.Seq(n))
		}
		start = end + bytes.IndexByte(b.text[end:], '\n') + 1
	}
	return dst
}

// seqMode keeps the seq file to its owner: a flock needs no more than
// permission to read, so a lock that anybody may open anybody may hold.
const seqMode = 0o600

// Lock takes the log's lock. If it is not free within Wait, it returns a
// *LockError; the next call takes the wait up where this one left it. The
// caller calls unlock when it is done with all that is to be committed together.
func (l *EventLog) Lock() (unlock func(), err error) {
	path := l.SeqPath
	if path == "" {
		path = l.Path + ".seq"
	}
	if l.lines.folder == nil {
		l.lines.folder = &folder{}
	}
	if l.seq.folder == nil {
		l.seq.folder = l.lines.folder
	}
	if err := l.seq.lock(path, cmp.Or(l.Wait, DefaultWait)); err != nil {
		return nil, err
	}
	l.locked, l.seq.fixed = true, true
	return func() {
		l.locked, l.seq.fixed = false, false
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
	text := b.lines(&l.text)
	if err := l.writeSeq(l.last + n); err != nil {
		return err
	}
	l.tried = b.next
	if err := l.lines.append(text); err != nil {
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
		// As if its last line had an end, which only a hand can have taken.
		if seq, err = lastSeq(old, st.Size+1); err != errNoLines {
			return seq, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return l.readSeq()
}

// maxUnnumbered is how many lines without a seq are looked through for one that
// has it. Writers older than seq left a few; more are somebody's mischief.
const maxUnnumbered = 1000

// lastSeq returns the seq of the last line of f, which ends at end, that has
// one; errNoLines if none in reach has.
func lastSeq(f *file, end int64) (uint64, error) {
	for range maxUnnumbered {
		start, stop, err := lineBefore(f, end)
		if err == errFar {
			break
		}
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
	return 0, errNoLines
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

// readSeq returns what the seq file says; 0 if it is empty or garbage. NULs are
// what a power loss leaves of a file that grew: its size was durable before its
// last byte was.
func (l *EventLog) readSeq() (uint64, error) {
	text, err := l.seqText()
	if err != nil {
		return 0, err
	}
	seq, err := strconv.ParseUint(string(bytes.Trim(text, "\x00 \t\r\n")), 10, 64)
	if err != nil || seq > math.MaxInt64 {
		return 0, nil
	}
	return seq, nil
}

// seqText returns the text of the seq file, at most maxSeqFile bytes of it.
func (l *EventLog) seqText() ([]byte, error) {
	st, err := l.seq.file.stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(st.Size, maxSeqFile))
	return text, l.seq.file.readAt(text, 0)
}

// writeSeq makes seq durable in the seq file. The file is written in place and
// never cut first: at no moment, and however short a write is cut, does it name
// a number lower than one in use. A number of as many digits that is no higher
// can be overwritten as it stands; any other is raised first.
func (l *EventLog) writeSeq(seq uint64) error {
	old, err := l.seqText()
	if err != nil {
		return err
	}
	if len(old) == 0 { // then a seq file that says something has a durable name
		if err := l.seq.sync(); err != nil {
			return err
		}
	}
	var buf [maxSeqFile]byte
	text := append(strconv.AppendUint(buf[:0], seq, 10), '\n')
	if len(old) > 0 && (len(old) != len(text) || bytes.Compare(old, text) > 0) {
		if err := l.raiseSeq(old, len(text)); err != nil {
			return err
		}
	}
	if err := l.seq.file.writeAt(text, 0); err != nil {
		return err
	}
	return l.syncSeq()
}

// syncSeq makes the content of the seq file durable. Its descriptor is of no
// use after a failed sync.
func (l *EventLog) syncSeq() error {
	err := l.seq.file.sync()
	l.seq.spent = err != nil
	return err
}

// raiseSeq makes every digit of the seq file a nine, adds nines or cuts off
// digits until it has as many as a text of size bytes, and so leaves a number
// that the text makes lower byte by byte, down to its own. Digits are cut off
// once the nines are durable: of 20 cut to one digit a power loss leaves 2.
func (l *EventLog) raiseSeq(old []byte, size int) error {
	digits := len(old) - len(bytes.TrimLeft(old, "0123456789"))
	nines := append(bytes.Repeat([]byte{'9'}, max(digits, size-1)), '\n')
	if err := l.seq.file.writeAt(nines, 0); err != nil {
		return err
	}
	if digits > size-1 {
		if err := l.syncSeq(); err != nil {
			return err
		}
	}
	return l.seq.file.truncate(int64(size - 1))
}

// isEvent reports whether line is an event that lacks only its newline: whole
// by the strictest reading, so that what a crash or somebody else left there
// is never made part of the history by mistake. A pair of escaped surrogates,
// which we never write, is not looked into.
func isEvent(line []byte) bool {
	normal, ok := parse(line)
	if !ok || !utf8.Valid(line) || bytes.Contains(bytes.ToLower(line), []byte(`\ud`)) {
		return false
	}
	event := gjson.ParseBytes(line)
	if members(event) != members(normal) {
		return false // a repeated name, which the normal form has once
	}
	var e eventFields
	event.ForEach(e.check)
	return e.required == 5 && e.bad == 0
}

// members counts the members and elements of v, at every depth.
func members(v gjson.Result) (n int) {
	if v.IsObject() || v.IsArray() {
		v.ForEach(func(_, member gjson.Result) bool {
			n += 1 + members(member)
			return true
		})
	}
	return n
}

// eventFields counts the fields that an event must have, and those of any
// that cannot be read.
type eventFields struct{ required, bad int }

func (e *eventFields) check(key, value gjson.Result) bool {
	ok := true
	e.required++
	switch key.String() {
	case "schema_version":
		ok = value.Raw == strconv.Itoa(SchemaVersion)
	case "kind":
		_, ok = ParseState(value.Str)
	case "timestamp":
		ok = isTime(value.Str)
	case "message":
		ok = value.Type == gjson.String
	case "seq":
		_, err := strconv.ParseUint(value.Raw, 10, 64)
		ok = err == nil
	case "uptime_ms":
		e.required--
		_, err := strconv.ParseUint(value.Raw, 10, 64)
		ok = err == nil
	case "boot_id":
		e.required--
		ok = value.Type == gjson.String
	default:
		e.required--
	}
	if !ok {
		e.bad++
	}
	return true
}

// isTime reports whether text is RFC 3339. time.Parse also takes an hour of one
// digit and a comma (go.dev/issue/54580).
func isTime(text string) bool {
	_, err := time.Parse(time.RFC3339, text)
	return err == nil && text[13] == ':' && !strings.Contains(text, ",")
}
