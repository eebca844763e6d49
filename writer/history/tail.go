package history

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// ErrMore reports that Tail.Next has ended early because it has done enough work for one
// call. The caller may check its deadline, and calls Next again.
var ErrMore = errors.New("there may be more lines")

// maxWork is how many bytes of lines Tail.Next reads at most.
const maxWork = 1 << 20

// openWork is the work of opening a log, in bytes of lines. It may include a read of
// artifact.MaxSize bytes at the end of a rotated log. It limits how often a process that
// replaces the log all the time makes Next open it in one call.
const openWork = maxWork / 2

// oldSuffix is added to the name of a log when it is rotated.
const oldSuffix = ".1"

// A TailLine is a line of a log that Tail has not returned before.
type TailLine struct {
	Line
	File  string          // the name of the file that has the line, without its directory
	Event *artifact.Event // nil if the line is not an event; valid until the next call of Next
	Err   error           // of artifact.Decoder.Event; nil for a valid event
}

// A Tail returns the lines of a log, and then those that are written to it later. The log,
// and its directory, may be missing and may be created later, renamed (a rotation),
// replaced (verify --repair) or truncated. Lines are returned in the order in which they
// were written, and no event is returned twice.
//
// The zero Tail with a Path returns all lines: first those of the log that was renamed by
// the last rotation (Path + ".1"). Call Skip or SkipOld before the first Next to leave
// lines out. An incomplete line is not returned until its writer has completed it.
//
// Memory is bounded by artifact.MaxSize, and the work of a call by maxWork and openWork. A
// caller of Next in a loop must check its deadline in each round, because another process
// may append as fast as the caller reads. Not for concurrent use.
//
// A Tail does not wait: use it with package watch. The caller opens the watch before it
// calls Next or Skip.
type Tail struct {
	Path string // required

	// file is the log that is read; nil if there was none yet. It is called name. gone is
	// true if it no longer has the path of the log: then nothing more is written to it.
	file *os.File
	name string
	gone bool

	from    limitedReader
	lines   Lines
	decoder artifact.Decoder

	started bool
	resume  bool     // the end of file was reached, so it may have been truncated since
	seen    []byte   // the bytes of file that end at seenTo, as they were then
	seenTo  int64    // the end of the last line at the former end of file; -1 if unknown
	first   identity // of the first event in file; 0 if unknown
	last    uint64   // the seq of the last event that was returned or left out
	skip    uint64   // events up to this seq are not returned if isCopy
	isCopy  bool     // file may have events that were returned from another file
	source  identity // of the first event in the file that was read before
}

// seenSize is how many bytes of a log are compared to detect that lines were removed from
// its end: those of some dozen lines.
const seenSize = 16 << 10

// An identity identifies an event in copies of a log: it is a hash of its normal form, with
// a random seed, so that the writer of a log cannot make two events with the same one. 0
// means unknown.
type identity uint64

var seed = maphash.MakeSeed()

func identityOf(normal []byte) identity { return identity(maphash.Bytes(seed, normal)) }

// A limitedReader reads a file from the offset at, and returns ErrMore instead of more
// than left bytes.
type limitedReader struct {
	file *os.File
	at   int64
	left int
}

func (r *limitedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, ErrMore
	}
	n, err := r.file.ReadAt(p[:min(len(p), r.left)], r.at)
	r.at += int64(n)
	r.left -= n
	if n > 0 {
		err = nil
	}
	return n, err
}

// Skip leaves out all lines that have been written. The caller calls it before the first
// Next.
func (t *Tail) Skip() error {
	if err := t.SkipOld(); err != nil {
		return err
	}
	err := t.advance()
	if err == ErrMore {
		return nil // the log was rotated after SkipOld, so it has only later lines
	}
	if err != nil || t.file == nil {
		return err
	}
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	return t.moveToEnd(info.Size())
}

// SkipOld leaves out the lines of the log that was renamed by the last rotation. The
// caller calls it before the first Next.
func (t *Tail) SkipOld() error {
	t.started = true
	old, err := t.openOld()
	if err != nil || old == nil {
		return err
	}
	defer old.Close()
	t.last, err = lastSeq(old)
	return err
}

// Next returns the next line. It returns io.EOF if there is none now, ErrMore if it has
// not found the end of a line yet, and may be called again after both. Any other error
// names the file that cannot be read.
func (t *Tail) Next() (TailLine, error) {
	t.from.left = maxWork
	if t.resume {
		t.resume = false
		t.checkSeen()
	}
	for t.from.left > 0 {
		if t.file == nil {
			if err := t.advance(); err != nil {
				return TailLine{}, err
			}
			if t.file == nil {
				return TailLine{}, io.EOF
			}
		}
		line, err := t.lines.Next()
		switch err {
		case nil:
			next := t.decode(line)
			if next.Event == nil || !t.wasReturned(next.Event) {
				return next, nil
			}
		case io.EOF:
			moved, err := t.atEnd()
			if err != nil {
				return TailLine{}, err
			}
			if !moved {
				return TailLine{}, io.EOF
			}
		default:
			return TailLine{}, err
		}
	}
	return TailLine{}, ErrMore
}

// Normal returns the normal form of the event that Next returned last.
func (t *Tail) Normal() []byte { return t.decoder.Normal() }

// Close closes the log. The Tail must not be used again.
func (t *Tail) Close() {
	if t.file != nil {
		t.file.Close()
	}
}

func (t *Tail) decode(line Line) TailLine {
	next := TailLine{Line: line, File: t.name}
	if !line.Long {
		next.Event, next.Err = t.decoder.Event(line.Text)
	}
	return next
}

// wasReturned reports whether an event was returned from another file, and records that
// it is returned now.
func (t *Tail) wasReturned(e *artifact.Event) bool {
	if t.first == 0 {
		t.first = identityOf(t.decoder.Normal())
		t.isCopy = t.isCopy || t.first == t.source
	}
	if t.isCopy && e.Seq <= t.skip {
		return true
	}
	t.last = e.Seq
	return false
}

// atEnd continues after the end of the file. moved is false if there is nothing to read
// now.
func (t *Tail) atEnd() (moved bool, err error) {
	if t.gone {
		old := t.file
		if err := t.advance(); err != nil || t.file == old {
			t.rewind()
			return false, err
		}
		return true, nil
	}
	info, err := os.Lstat(t.Path)
	mine, mineErr := t.file.Stat()
	if err == nil && mineErr == nil && os.SameFile(info, mine) {
		t.rewind()
		return false, nil
	}
	t.gone = true // the writer may have appended between the last read and the rename
	return true, nil
}

// rewind drops an incomplete line, which a writer may remove or complete, and notes the
// bytes before it.
func (t *Tail) rewind() {
	at := t.lines.Drop()
	if t.from.at = at; t.seenTo != at {
		t.seenTo, t.seen = at, make([]byte, min(seenSize, at))
		_, _ = t.file.ReadAt(t.seen, at-int64(len(t.seen))) // after an error, checkSeen finds a difference
	}
	t.resume = true
}

// checkSeen goes back if the lines that were read last are no longer in the file. A writer
// removes lines from the end of the log if it could not write all lines of a commit, and
// another process may empty the log.
func (t *Tail) checkSeen() {
	start := t.seenTo - int64(len(t.seen))
	text := make([]byte, len(t.seen))
	n, _ := t.file.ReadAt(text, start)
	same := 0
	for same < n && text[same] == t.seen[same] {
		same++
	}
	if same == len(t.seen) {
		return
	}
	end := bytes.LastIndexByte(t.seen[:same], '\n') + 1
	if end == 0 {
		t.read(t.file, t.name)
		return
	}
	removed := bytes.Count(t.seen[end:], []byte{'\n'})
	t.from.at = start + int64(end)
	t.lines = Lines{From: &t.from, buf: t.lines.buf, offset: t.from.at, number: t.lines.number - uint64(removed)}
	t.seenTo = -1
}

// read starts to read f.
func (t *Tail) read(f *os.File, name string) {
	if t.file != f {
		t.Close()
	}
	t.file, t.name, t.gone, t.resume = f, name, false, false
	t.from.file, t.from.at = f, 0
	t.lines = Lines{From: &t.from, buf: t.lines.buf}
	t.seenTo = -1
	t.source, t.first = t.first, 0
	t.skip, t.isCopy = t.last, false
}

// moveToEnd continues after the last complete line of the first size bytes of the file.
func (t *Tail) moveToEnd(size int64) error {
	end, err := findEnd(t.file, size)
	if err != nil {
		return err
	}
	t.from.at = end.offset
	t.lines = Lines{From: &t.from, buf: t.lines.buf, offset: end.offset, long: end.inLongLine}
	t.isCopy = false
	if end.lastSeq > 0 {
		t.last = end.lastSeq
	}
	t.first = t.firstEvent()
	t.rewind()
	return nil
}

// firstEvent returns the identity of the first event in the file; 0 if there is none
// in the first artifact.MaxSize bytes.
func (t *Tail) firstEvent() identity {
	lines := Lines{From: io.NewSectionReader(t.file, 0, artifact.MaxSize+1)}
	for {
		line, err := lines.Next()
		if err != nil {
			return 0
		}
		if e, _ := t.decoder.Event(line.Text); e != nil {
			return identityOf(t.decoder.Normal())
		}
	}
}

// advance opens the log that follows the file: the one that was renamed by the last
// rotation if it has later events, otherwise the one that has the path. If there is none
// yet, the file stays the same. It returns ErrMore if the log was rotated meanwhile.
func (t *Tail) advance() error {
	t.from.left -= openWork
	old, err := t.openOld()
	if err != nil {
		return err
	}
	isNew, err := t.isNew(old)
	if err == nil && isNew {
		t.started = true
		t.read(old, filepath.Base(t.Path)+oldSuffix)
		t.gone, t.isCopy = true, true
		return nil
	}
	if old != nil {
		defer old.Close()
	}
	if err != nil {
		return err
	}
	t.started = true
	f, err := dirfs.Open(filepath.Dir(t.Path), filepath.Base(t.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !t.isOld(old) { // then f may have later events than old has now
		f.Close()
		return ErrMore
	}
	t.read(f, filepath.Base(t.Path))
	return nil
}

// openOld opens the log that was renamed by the last rotation. It returns nil if there
// is none, if this user may not read it, or if it is not a regular file.
func (t *Tail) openOld() (*os.File, error) {
	f, err := dirfs.Open(filepath.Dir(t.Path), filepath.Base(t.Path)+oldSuffix)
	var kind *dirfs.KindError
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.As(err, &kind) {
		return nil, nil
	}
	return f, err
}

// isNew reports whether the log that was renamed by the last rotation has events that
// are not in the file. old is nil if there is none.
func (t *Tail) isNew(old *os.File) (bool, error) {
	if old == nil || (t.file != nil && isSame(t.file, old)) {
		return false, nil
	}
	if !t.started {
		return true, nil
	}
	seq, err := lastSeq(old)
	return seq > t.last, err
}

// isOld reports whether old is still the log that was renamed by the last rotation. old is
// nil if openOld found none.
func (t *Tail) isOld(old *os.File) bool {
	now, err := t.openOld()
	if err != nil || now == nil {
		return err == nil && old == nil
	}
	defer now.Close()
	return old != nil && isSame(old, now)
}

func isSame(a, b *os.File) bool {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// lastSeq returns the seq of the last line of a log that has one, even if the line lacks
// its newline; 0 if none is near the end.
func lastSeq(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end, err := findEnd(f, info.Size())
	return max(end.lastSeq, end.tornSeq), err
}

// LastSeq returns the last seq of a state directory, from which the next writer continues:
// that of the last event in the log, or in the log that was renamed by the last rotation,
// or the number in the seq file. It returns 0 if there is none of these, or no directory.
// It reads only the end of a log.
func LastSeq(dir string) (uint64, error) {
	for _, name := range []string{writer.EventsName, writer.OldEventsName} {
		f, err := dirfs.Open(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		seq, err := lastSeq(f)
		f.Close()
		if err != nil || seq > 0 {
			return seq, err
		}
	}
	f, err := dirfs.Open(dir, writer.SeqName)
	if err != nil {
		return 0, nil // there is none, or only its owner may read it
	}
	defer f.Close()
	var text [32]byte
	n, _ := io.ReadFull(f, text[:])
	return writer.ParseSeq(text[:n]), nil
}

// A logEnd is the end of the complete lines of a log.
type logEnd struct {
	offset     int64
	inLongLine bool   // the offset is in a line that is longer than artifact.MaxSize
	lastSeq    uint64 // of the last complete line that has one; 0 if none is near
	tornSeq    uint64 // of the text after the complete lines: an event that lacks only its newline; or 0
}

// findEnd finds the end of the complete lines in the first size bytes of a log. It reads
// at most a little more than artifact.MaxSize.
func findEnd(f *os.File, size int64) (logEnd, error) {
	for _, window := range []int64{chunk, artifact.MaxSize + chunk} {
		window = min(window, size)
		text := make([]byte, window)
		n, err := f.ReadAt(text, size-window)
		if err != nil && err != io.EOF {
			return logEnd{}, err
		}
		text = text[:n]
		end := logEnd{offset: size, inLongLine: true}
		newline := bytes.LastIndexByte(text, '\n')
		switch {
		case newline >= 0:
			end = logEnd{offset: size - window + int64(newline) + 1}
			end.lastSeq = lastSeqIn(text[:newline], window == size)
			end.tornSeq = lastSeqIn(text[newline+1:], true)
		case window == size:
			end = logEnd{tornSeq: lastSeqIn(text, true)}
		}
		if end.lastSeq > 0 || window == size || window > chunk {
			return end, nil
		}
	}
	panic("unreachable")
}

// lastSeqIn returns the seq of the last line of text that has one, or 0. The last line
// has no newline. The first is complete only if whole is true.
func lastSeqIn(text []byte, whole bool) uint64 {
	var d artifact.Decoder
	for {
		start := bytes.LastIndexByte(text, '\n') + 1
		if start == 0 && !whole {
			return 0
		}
		seq, ok := d.LineSeq(text[start:])
		if ok {
			return seq
		}
		if start == 0 {
			return 0
		}
		text = text[:start-1]
	}
}
