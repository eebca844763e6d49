package writer

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// seqMode allows only the owner to open the seq file: flock(2) needs no more
// than permission to read, so any user who can open a lock file can hold its
// lock.
const seqMode = 0o600

// maxSeqFile is longer than the longest seq and its newline.
const maxSeqFile = 32

// read returns the number in the seq file; 0 if it is empty or not a number.
// After a power loss a file that grew can end in NULs: its size was durable
// before its last byte was.
func (l *seqFile) read() (uint64, error) {
	text, err := l.text()
	if err != nil {
		return 0, err
	}
	seq, err := strconv.ParseUint(string(bytes.Trim(text, "\x00 \t\r\n")), 10, 64) //fault:trim-nuls
	if err != nil || seq > math.MaxInt64 {
		return 0, nil
	}
	return seq, nil
}

// text returns at most maxSeqFile bytes of the seq file.
func (l *seqFile) text() ([]byte, error) {
	st, err := l.file.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(st.Size, maxSeqFile))
	_, err = l.file.ReadAt(text, 0)
	return text, err
}

// write makes seq durable in the seq file. It writes in place and never
// truncates first: at no moment, and however short a write is cut, does the file
// name a number lower than one in use. A number of as many digits that is not
// higher can be overwritten; any other is raised first.
func (l *seqFile) write(seq uint64) error {
	old, err := l.text()
	if err != nil {
		return err
	}
	if len(old) == 0 { // so that a seq file with a number has a durable name
		if err := l.Dir.Sync(); err != nil {
			return err
		}
	}
	var buf [maxSeqFile]byte
	text := append(strconv.AppendUint(buf[:0], seq, 10), '\n')
	if len(old) > 0 && (len(old) != len(text) || bytes.Compare(old, text) > 0) { //fault:raise-seq
		if err := l.raise(old, len(text)); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(text, 0); err != nil {
		return err
	}
	return l.syncContent()
}

// syncContent makes the content of the seq file durable.
func (l *seqFile) syncContent() error {
	err := l.file.Sync()
	l.unusable = err != nil
	return err
}

// raise replaces each digit of the seq file by a nine, and adds nines or cuts
// digits off until it is as long as a text of size bytes. Writing that text over
// it then lowers the number byte by byte, down to its own. Digits are cut off
// once the nines are durable: a power loss could otherwise leave 2 of 20.
func (l *seqFile) raise(old []byte, size int) error {
	digits := len(old) - len(bytes.TrimLeft(old, "0123456789"))
	nines := append(bytes.Repeat([]byte{'9'}, max(digits, size-1)), '\n')
	if _, err := l.file.WriteAt(nines, 0); err != nil {
		return err
	}
	if digits > size-1 { //fault:sync-raised-seq
		if err := l.syncContent(); err != nil {
			return err
		}
	}
	return l.file.Truncate(int64(size - 1))
}

// maxUnnumbered is how many lines without a seq are passed over to find one that
// has it. Writers older than seq left a few.
const maxUnnumbered = 1000

// lastSeq returns the seq of the last line of f, which ends at end, that has
// one; errNoLines if there is none within reach.
func lastSeq(f *dirfs.File, end int64) (uint64, error) {
	var d artifact.Decoder
	for range maxUnnumbered {
		start, stop, err := lineBefore(f, end)
		if err == errTooFar {
			break
		}
		if err != nil {
			return 0, err
		}
		if stop-start <= artifact.MaxSize {
			line := make([]byte, stop-start)
			if _, err := f.ReadAt(line, start); err != nil {
				return 0, err
			}
			seq, ok := d.LineSeq(line)
			if ok {
				return seq, nil
			}
		}
		end = start
	}
	return 0, errNoLines
}

// findLastSeq finds the seq of the last event under the lock: in the log, else
// in the log before the last rotation, else in the seq file.
func (l *EventLog) findLastSeq() (uint64, error) {
	seq, err := lastSeq(l.lines.file, l.lines.end)
	if err != errNoLines { //fault:seq-from-log
		return seq, err
	}
	seq, err = lastSeqIn(&l.lines.location, l.lines.name+oldSuffix)
	if err == nil || (err != errNoLines && !errors.Is(err, fs.ErrNotExist)) {
		return seq, err
	}
	return l.seq.read()
}

// LastSeq returns the seq of the last event, as far as it can be known without
// the lock. It changes nothing; the directory must exist.
func (l *EventLog) LastSeq() (uint64, error) {
	if err := l.lines.open(l.Path); err != nil {
		return 0, err
	}
	for _, name := range []string{l.lines.name, l.lines.name + oldSuffix} {
		seq, err := lastSeqIn(&l.lines.location, name)
		if err == nil || (err != errNoLines && !errors.Is(err, fs.ErrNotExist)) {
			return seq, err
		}
	}
	f, err := l.lines.OpenFile(l.lines.name+seqSuffix, unix.O_RDONLY, 0)
	if err != nil {
		return 0, nil // it is missing, or may not be read: 0 is the best guess
	}
	defer f.Close()
	return (&seqFile{file: f}).read()
}

// lastSeqIn returns the seq of the last line of the file called name. A last
// line without its newline counts.
func lastSeqIn(l *location, name string) (uint64, error) {
	f, err := l.OpenFile(name, unix.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return lastSeq(f, st.Size+1)
}

// seqText returns the content of a seq file.
func seqText(seq uint64) string { return strconv.FormatUint(seq, 10) + "\n" }
