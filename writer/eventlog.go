package writer

import (
	"cmp"
	"errors"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// An EventLog is events.jsonl and its seq file. All writers lock the seq file
// with flock(2), and then the log, in case the seq file is removed or replaced
// meanwhile. Several processes may append to one log, but an EventLog is not
// safe for concurrent use by several goroutines.
//
// The next seq is the seq of the last event in the log plus one. The number in
// the seq file is used only if the log has no events. It is written before the
// events. So after a crash a writer that reads only the seq file may skip
// numbers, but it never uses one twice.
//
// locked is true from Lock to unlock. last is the seq of the last event; it is valid
// while lines.prepare reports no change. tried is the first seq of the last append, which
// may have failed. unused is not nil after an append to an empty log has failed. rotateErr
// is why the last rotation failed; nil if it succeeded.
type EventLog struct {
	Path    string // required
	SeqPath string // Path + ".seq" if empty

	// RotateAt is the maximum size of the log in bytes; 0 means no limit. If a
	// batch would make the log larger, the log is first renamed to Path + ".1". A
	// batch that is larger than RotateAt gets a new log for itself. If the log
	// cannot be renamed, it continues to grow, see RotateError.
	RotateAt int64

	// LockWait is how long Lock waits; 0 means DefaultLockWait.
	LockWait time.Duration

	// Warn, if not nil, is called once, when another process holds a lock on the log
	// itself for more than a second. Append then writes without that lock.
	Warn func(text string)

	lines  lineFile
	seq    seqFile
	locked bool
	last   uint64
	tried  uint64
	unused *unusedSeqs
	text   []byte // a buffer for lines whose predicted seqs were wrong

	decoder artifact.Decoder // decodes the last line; as a local variable, it would make the stack grow

	rotateErr error
}

// errNotLocked reports a programming error in the caller.
var errNotLocked = errors.New("the caller does not hold the lock of the log")

// Lock locks the log against all other writers. If another process still holds
// the lock after LockWait, Lock returns a *LockError; the next call continues to
// wait in the same place of the queue. The caller calls unlock once all files of
// a commit are written.
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
	if l.lines.lock == nil {
		l.lines.lock = new(logLock)
	}
	l.lines.warn = l.Warn
	l.seq.Dir.Pin()
	return func() {
		l.locked = false
		l.lines.unlock()
		l.seq.Dir.Unpin()
		l.seq.unlock()
	}, nil
}

// Append gives the events of b the next seqs, appends them to the log and makes
// them durable. The caller holds the lock. If no other process has changed the log since
// the last Append, it makes these system calls:
//
//	flock(log) fstatat(log) pwrite(seq) fdatasync(seq) write(log) fdatasync(log)
//
// The lock on the log itself is released by unlock. After success b.Seq returns the seqs.
// After an error some of the events may be in the log. The next call finds out, so its
// batch must begin with the same events.
func (l *EventLog) Append(b *Batch) error {
	if !l.locked {
		return pathError("append", l.Path, errNotLocked)
	}
	if err := l.resolve(b); err != nil {
		return err
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
	if cap(l.text) > maxKept {
		l.text = nil
	}
	l.tried = b.next
	err := l.seq.write(l.last + n)
	if err == nil {
		err = l.lines.append(text)
	}
	if err != nil {
		l.returnSeqs() //fault:return-seqs
		return err
	}
	l.last += n
	l.unused = nil
	return nil
}

// resolve finds out which events of b are in the log because of an append that has
// failed.
func (l *EventLog) resolve(b *Batch) error {
	kept, err := l.lines.resolve(l.Path)
	if kept > 0 {
		b.kept, b.lastKept = b.kept+kept, l.tried+uint64(kept)-1
	}
	return err
}

// AppendLeading appends as many events from the start of b as fit, and removes them
// from b. It is for a disk on which there may be no space for all of them. It returns
// the events that it has appended, whose text is valid until the next Add. If events are
// left in b, it also returns an error.
//
// If reserve is not 0, AppendLeading leaves at least that many bytes of the file system
// free. It then does not try again with fewer events if the disk is full anyway: the
// reason may be a quota, and AppendLeading could not keep the reserve free in that.
func (l *EventLog) AppendLeading(b *Batch, reserve int64) (*Batch, error) {
	none := new(Batch)
	if !l.locked {
		return none, pathError("append", l.Path, errNotLocked)
	}
	if err := l.resolve(b); err != nil {
		return none, err
	}
	n, err := l.lines.fitting(l.Path, b.text, reserve)
	if err != nil {
		return none, err
	}
	err = pathError("write", l.Path, unix.ENOSPC)
	for n = max(n, b.kept); n > 0; {
		head := b.head(n)
		failed := l.Append(head)
		if failed == nil {
			b.drop(n)
			if b.Len() == 0 {
				err = nil
			}
			return head, err
		}
		err = failed
		if reserve > 0 || !IsFull(err) || n == b.kept || l.lines.unconfirmed != nil {
			break
		}
		n = b.kept + fewer(n-b.kept, l.lines.fitted)
	}
	return none, err
}

// fewer returns how many lines to append next after an append of n lines has failed
// because the disk is full. fitted is how many complete lines that append wrote. fewer
// returns fitted, or half of n if the error came before the first or after the last line.
func fewer(n, fitted int) int {
	if 0 < fitted && fitted < n {
		return fitted
	}
	return n / 2
}

// IsFull reports whether err means that there is no space for the data. A shorter
// write may then succeed.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) ||
		errors.Is(err, io.ErrShortWrite)
}

// maxKept is the size in bytes of the buffers that are kept for the next write. It is
// larger than nearly all commits of a stream that does not write at full speed.
const maxKept = 64 << 10

var errNoSeqLeft = errors.New("the last seq is the largest possible; move the log and its seq file to another directory")

// AppendNumbered appends the events of b with the seqs that they already have,
// with the same system calls as Append. The seqs must be higher than those in the
// log; events in a rotated log (Path + ".1") are not compared. The caller holds
// the lock. After an error, the batch of the next call must begin with the same
// events.
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

var errSeqInUse = errors.New("another process has already written that seq; stop the other writer, because a copy must have only one")

// prepare opens the log, repairs a torn line, finds the last seq, and rotates
// the log if size more bytes would exceed RotateAt.
func (l *EventLog) prepare(size int) error {
	if err := l.open(); err != nil {
		return err
	}
	isFull := l.RotateAt > 0 && l.lines.end > 0 && l.lines.end+int64(size) > l.RotateAt
	if !isFull {
		return nil
	}
	l.rotateErr = l.lines.Rename(l.lines.name, l.lines.name+oldSuffix)
	return l.open() // also if the rename failed: it may have had its effect
}

// open locks the log, repairs it, and finds the last seq, unless nothing has changed
// since the last call. After a rotation, another writer may have appended to the new
// log before it is locked here.
func (l *EventLog) open() error {
	l.lines.isComplete = isValidEvent
	changed, err := l.lines.prepare(l.Path)
	if err == nil && changed {
		var last uint64
		last, err = l.findLastSeq()
		l.decoder = artifact.Decoder{} // it may have the memory of a huge line
		if err == nil {
			l.last = last
		}
	}
	if err != nil {
		l.lines.close() // last may be wrong; the next call determines it again
	}
	return err
}

// RotateError returns why the last append could not rotate the log; nil if it could, or
// if no append had to. The append continues without the rotation: a log that another
// process has mounted cannot be renamed (EBUSY), but can be written to.
func (l *EventLog) RotateError() error { return l.rotateErr }

// isValidEvent reports whether the strictest reader accepts a line as an event. A repair
// adds a missing newline only to such a line: it must not turn the remains of a crash, or
// text that another process wrote, into an event.
func isValidEvent(line []byte) bool {
	_, err := new(artifact.Decoder).Event(line)
	return err == nil
}

// rotate renames the log to Path + ".1", and locks the new log. The numbering continues
// there: while it is empty, findLastSeq reads the last seq from the old one.
func (l *EventLog) rotate() error {
	if err := l.lines.Rename(l.lines.name, l.lines.name+oldSuffix); err != nil {
		return err
	}
	return l.open()
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

// Last returns the seq and the boot ID of the last event in the log; 0 and "" if
// the log is empty. The boot ID is also "" if the last line is not a valid event.
// The caller holds the lock.
func (l *EventLog) Last() (seq uint64, bootID string, err error) {
	if !l.locked {
		return 0, "", pathError("read", l.Path, errNotLocked)
	}
	if err := l.prepare(0); err != nil || l.lines.end == 0 {
		return 0, "", err
	}
	line, _, err := lineBefore(l.lines.file, l.lines.end)
	if err == errTooFar || (err == nil && line == nil) {
		return l.last, "", nil // this program did not write the line
	}
	if err != nil {
		return 0, "", err
	}
	event, _ := new(artifact.Decoder).Event(line)
	if event == nil {
		return l.last, "", nil
	}
	return l.last, event.BootID, nil
}

// Repair makes the repairs that the next Append would make: of a torn line, the
// file modes and the seq file. The caller holds the lock.
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
