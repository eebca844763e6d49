package writer

import (
	"cmp"
	"errors"
	"math"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// An EventLog is events.jsonl and its seq file, which bears the lock that
// orders all writers. Several processes may append to one log; one EventLog is
// not for concurrent use.
//
// The log decides about seq: the next seq is that of the log's last event plus
// one. The seq file decides only if there is no event. It is written before the
// event, so that a writer that relies on it alone may skip a number after a
// crash but never uses one twice.
//
// last is the seq of the last event; it is valid while lines.prepare reports no
// change. tried is the first seq of the last append, which may have failed.
type EventLog struct {
	Path    string // required
	SeqPath string // Path + ".seq" if empty

	// RotateAt is the size in bytes beyond which the log is renamed to Path +
	// ".1" and a new one is begun; 0 means never.
	RotateAt int64

	// LockWait is how long Lock waits; DefaultLockWait if 0.
	LockWait time.Duration

	lines  lineFile
	seq    seqFile
	locked bool
	last   uint64
	tried  uint64
	text   []byte // of lines that had to be numbered again; kept for its capacity
}

// errNotLocked reports a mistake of the caller.
var errNotLocked = errors.New("the caller does not hold the lock of the log")

// Lock takes the lock of all writers of the log. If it is not free within
// LockWait it returns a *LockError, and the next call continues the wait. The
// caller calls unlock after all that is to be committed together.
func (l *EventLog) Lock() (unlock func(), err error) {
	path := cmp.Or(l.SeqPath, l.Path+seqSuffix)
	if l.lines.Dir == nil {
		l.lines.Dir = new(dirfs.Dir)
	}
	if l.seq.Dir == nil {
		l.seq.Dir = l.lines.Dir
	}
	if err := l.seq.lock(path, cmp.Or(l.LockWait, DefaultLockWait)); err != nil {
		return nil, err
	}
	l.locked = true
	l.seq.Dir.Pin()
	return func() {
		l.locked = false
		l.seq.Dir.Unpin()
		l.seq.unlock()
	}, nil
}

// Append gives the events of b the next seqs and makes them durable, with
// these system calls if the log is as this EventLog left it:
//
//	fstatat(log) pwrite(seq) fdatasync(seq) write(log) fdatasync(log)
//
// The caller holds the lock, and may ask b for the seqs afterwards. After an
// error nothing of b is in the log, or it is unknown whether it is: the next
// call finds out, and must be given a batch that begins with the same events.
func (l *EventLog) Append(b *Batch) error {
	if !l.locked {
		return pathError("append", l.Path, errNotLocked)
	}
	kept, err := l.lines.resolve(l.Path)
	if err != nil {
		return err
	}
	if kept > 0 {
		b.kept, b.lastKept = b.kept+kept, l.tried+uint64(kept)-1
	}
	if err := l.prepare(b.Size()); err != nil {
		return err
	}
	n := uint64(b.Len() - b.kept)
	if l.last > math.MaxUint64-n {
		return pathError("append", l.Path, errNoSeqLeft)
	}
	b.next = l.last + 1
	if n == 0 {
		return nil
	}
	text := b.lines(&l.text)
	if err := l.seq.write(l.last + n); err != nil {
		return err
	}
	l.tried = b.next
	if err := l.lines.append(text); err != nil {
		return err
	}
	l.last += n
	return nil
}

var errNoSeqLeft = errors.New("the last seq is the largest possible; move the log away")

// AppendNumbered makes the events of b durable with their own seqs, by the same
// system calls as Append. They must follow those in the log; a log that was
// rotated away is not considered. The caller holds the lock. After an error the
// next call must be given a batch that begins with the same events.
func (l *EventLog) AppendNumbered(b *NumberedBatch) error {
	if !l.locked {
		return pathError("append", l.Path, errNotLocked)
	}
	kept, err := l.lines.resolve(l.Path)
	if err != nil {
		return err
	}
	b.kept += kept
	if err := l.prepare(b.Size()); err != nil {
		return err
	}
	if b.kept == b.Len() {
		return nil
	}
	if l.lines.end > 0 && b.seqs[b.kept] <= l.last {
		return pathError("append", l.Path, errSeqInUse)
	}
	if err := l.seq.write(b.Last()); err != nil {
		return err
	}
	if err := l.lines.append(b.lines()); err != nil {
		return err
	}
	l.last = b.Last()
	return nil
}

var errSeqInUse = errors.New("another writer has used that seq; a copy of a log must have one writer")

// prepare opens the log, repairs its tail, finds the last seq, and rotates the
// log if size more bytes would not fit.
func (l *EventLog) prepare(size int) error {
	l.lines.isComplete = isValidEvent
	changed, err := l.lines.prepare(l.Path)
	if err == nil && changed {
		l.last, err = l.findLastSeq()
	}
	isFull := l.RotateAt > 0 && l.lines.end > 0 && l.lines.end+int64(size) > l.RotateAt
	if err == nil && isFull {
		err = l.rotate()
	}
	if err != nil {
		l.lines.close() // last may be wrong: the next call finds it again
	}
	return err
}

// isValidEvent reports whether a line is an event to the strictest reader, so
// that nothing a crash or another process left becomes a part of the history by
// mistake.
func isValidEvent(line []byte) bool {
	_, err := new(artifact.Decoder).Event(line)
	return err == nil
}

// rotate renames the log to Path + ".1". Seq continues in the new log: until
// that has an event, the old one decides.
func (l *EventLog) rotate() error {
	if err := l.lines.Rename(l.lines.name, l.lines.name+oldSuffix); err != nil {
		return err
	}
	_, err := l.lines.prepare(l.Path)
	return err
}

// Rotate renames the log to Path + ".1", unless it is empty. The caller holds
// the lock.
func (l *EventLog) Rotate() error {
	if !l.locked {
		return pathError("rename", l.Path, errNotLocked)
	}
	if err := l.prepare(0); err != nil || l.lines.end == 0 {
		return err
	}
	return l.rotate()
}

// Last returns the seq and the boot ID of the last event in the log; 0 if there
// is none. The caller holds the lock.
func (l *EventLog) Last() (seq uint64, bootID string, err error) {
	if !l.locked {
		return 0, "", pathError("read", l.Path, errNotLocked)
	}
	if err := l.prepare(0); err != nil || l.lines.end == 0 {
		return 0, "", err
	}
	start, stop, err := lineBefore(l.lines.file, l.lines.end)
	if err != nil || stop-start > artifact.MaxSize {
		return l.last, "", nil // not a line of this program
	}
	line := make([]byte, stop-start)
	if _, err := l.lines.file.ReadAt(line, start); err != nil {
		return 0, "", err
	}
	event, _ := new(artifact.Decoder).Event(line)
	if event == nil {
		return l.last, "", nil
	}
	return l.last, event.BootID, nil
}

// Repair repairs what the next Append would: a torn tail, the modes and the seq
// file. The caller holds the lock.
func (l *EventLog) Repair() error {
	if err := l.Append(new(Batch)); err != nil {
		return err
	}
	text, err := l.seq.text()
	if err != nil || string(text) == seqText(l.last) {
		return err
	}
	return l.seq.write(l.last)
}
