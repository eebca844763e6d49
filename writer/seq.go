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

// seqMode lets only the owner open the seq file. Any user that may read a file
// can also lock it (flock(2)), and so could block all writers.
const seqMode = 0o600

// maxSeqFile is how many bytes of the seq file are read. The longest seq has 20
// digits and a newline.
const maxSeqFile = 32

// read returns the number in the seq file, see ParseSeq.
func (l *seqFile) read() (uint64, error) {
	text, err := l.text()
	if err != nil {
		return 0, err
	}
	return ParseSeq(text), nil
}

// ParseSeq returns the number in the text of a seq file; 0 if it is empty or something
// else. ParseSeq ignores NUL bytes at the end: after a power loss the new size of a file
// may be durable although its new bytes are not.
func ParseSeq(text []byte) uint64 {
	seq, err := strconv.ParseUint(string(bytes.Trim(text, "\x00 \t\r\n")), 10, 64) //fault:trim-nuls
	if err != nil || seq > math.MaxInt64 {
		return 0
	}
	return seq
}

// text returns at most maxSeqFile bytes of the seq file.
func (l *seqFile) text() ([]byte, error) {
	text := make([]byte, maxSeqFile)
	n, err := l.file.ReadUpTo(text, 0)
	return text[:n], err
}

// write writes seq to the seq file and makes it durable. It overwrites the old
// number and never truncates the file first. At every moment, also after a write
// that is cut short, the number in the file is at least as high as every seq in
// use. To ensure this, write first raises the old number, unless that has the
// same number of digits and is not higher than seq.
func (l *seqFile) write(seq uint64) error {
	old, err := l.text()
	if err != nil {
		return err
	}
	if len(old) == 0 { // make the name of the file durable before its first number
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

// raise replaces every digit in the seq file by a nine, and then adds nines or
// cuts some off, so that the file has size bytes. When write overwrites the nines,
// each byte lowers the number, and none lowers it below the new seq. Before raise
// cuts nines off, it makes them durable: a power loss could otherwise cut 20 down
// to 2.
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

// maxUnnumbered is how many lines lastSeq skips, from the end of the log, to find
// one with a seq. Earlier programs wrote events without a seq.
const maxUnnumbered = 1000

// lastSeq returns the seq of the last line before end that has one. It returns
// errNoLines if none of the last maxUnnumbered lines has one.
func lastSeq(d *artifact.Decoder, f *dirfs.File, end int64) (uint64, error) {
	for range maxUnnumbered {
		line, start, err := lineBefore(f, end)
		if err == errTooFar {
			break
		}
		if err != nil {
			return 0, err
		}
		if line != nil {
			seq, ok := d.LineSeq(line)
			if ok {
				return seq, nil
			}
		}
		end = start
	}
	return 0, errNoLines
}

// findLastSeq returns the seq of the last event: from the log; if that has none,
// from the log before the last rotation; if that has none, from the seq file; if another
// process has removed all of these, from this EventLog. The caller holds the lock.
func (l *EventLog) findLastSeq() (uint64, error) {
	seq, err := lastSeq(&l.decoder, l.lines.file, l.lines.end)
	if err != errNoLines { //fault:seq-from-log
		return seq, err
	}
	seq, err = l.lastSeqIn(l.lines.name + oldSuffix)
	if err == nil || (err != errNoLines && !errors.Is(err, fs.ErrNotExist)) {
		return seq, err
	}
	if l.unused != nil && l.seqFileText() == l.unused.text {
		return l.unused.last, nil
	}
	seq, err = l.seq.read()
	if err == nil && seq == 0 {
		seq = l.last // so that no seq occurs twice in a boot, and a wait --after ends
	}
	return seq, err
}

// An unusedSeqs records that last is the last seq in use, although the seq file may
// contain a higher number, left by a failed append to an empty log. The record is valid
// while the log is empty and the content of the seq file is text: until another writer
// appends. Without the record, each retry of the append would start after the seqs of the
// previous attempt.
type unusedSeqs struct {
	text string
	last uint64
}

// returnSeqs makes the seqs of an append that has failed available again, if the log
// was empty. If the append was undone, it tries to write the previous number to the
// seq file, so that other processes can use the seqs too. If that fails, unused still lets
// this EventLog use them.
func (l *EventLog) returnSeqs() {
	l.unused = nil
	if l.lines.end > 0 {
		return
	}
	text := l.seqFileText()
	if text == "" {
		return // the append did not write to it
	}
	if l.lines.unconfirmed == nil && !l.seq.unusable {
		_ = l.seq.write(l.last)
		text = l.seqFileText()
	}
	if text != "" {
		l.unused = &unusedSeqs{text: text, last: l.last}
	}
}

// seqFileText returns the content of the seq file; "" if it cannot be read. It opens
// the file again, because a sync may have failed on the open descriptor.
func (l *EventLog) seqFileText() string {
	f, err := l.seq.OpenFile(l.seq.name, unix.O_RDONLY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := (&seqFile{file: f}).text()
	if err != nil {
		return ""
	}
	return string(text)
}

// LastSeq returns the seq of the last event without taking the lock, so another
// process may have appended more events when LastSeq returns. It changes no file;
// the directory must exist.
func (l *EventLog) LastSeq() (uint64, error) {
	if err := l.lines.open(l.Path); err != nil {
		return 0, err
	}
	for _, name := range []string{l.lines.name, l.lines.name + oldSuffix} {
		seq, err := l.lastSeqIn(name)
		if err == nil || (err != errNoLines && !errors.Is(err, fs.ErrNotExist)) {
			return seq, err
		}
	}
	f, err := l.lines.OpenFile(l.lines.name+seqSuffix, unix.O_RDONLY, 0)
	if err != nil {
		return 0, nil // the file is missing, or this user may not read it: assume 0
	}
	defer f.Close()
	return (&seqFile{file: f}).read()
}

// lastSeqIn returns the seq of the last line of the file called name, as lastSeq
// does. It also considers a last line without a newline.
func (l *EventLog) lastSeqIn(name string) (uint64, error) {
	f, err := l.lines.OpenFile(name, unix.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return lastSeq(&l.decoder, f, st.Size+1) // as if a newline followed
}

// seqText returns the content of a seq file.
func seqText(seq uint64) string { return strconv.FormatUint(seq, 10) + "\n" }
