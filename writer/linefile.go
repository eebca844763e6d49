package writer

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// The sizes in which a file is read when the start of a line is searched, or
// copied. The start of nearly every line is in the last page.
const (
	page  = 4 << 10
	chunk = 64 << 10
)

// maxBack is how far back from its end a file is searched for a newline: longer
// than any line of this program, and short enough that a file which another
// process has made huge does not take long under a lock that all writers wait for.
const maxBack = 64 << 20

// A lineFile is a file of lines, each appended as a whole or not at all: a tail
// without a newline is repaired before anything is appended, and a write that
// failed is undone. Its users hold the writers' lock during every call.
//
// While file is not nil, end is its size, and the byte before end is a newline.
// While unconfirmed is not nil, the file may also hold part of that append.
type lineFile struct {
	location
	isComplete  func(line []byte) bool // reports whether a line lacks only its newline
	file        *dirfs.File
	end         int64
	unconfirmed *unconfirmed
}

// prepare opens the file at path, unless it is open and still has its name, and
// repairs its tail. It reports whether the file is another one, or has other
// lines, than after the last append.
func (f *lineFile) prepare(path string) (changed bool, err error) {
	if err := f.open(path); err != nil {
		return true, err
	}
	st, err := f.StatFile(f.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	if err != nil || !f.isOpenAs(&st) {
		st, err = f.reopen()
		if err != nil {
			return true, err
		}
	} else if st.Size == f.end && f.unconfirmed == nil {
		return false, nil
	}
	if err := f.repairTail(st.Size); err != nil {
		f.close() // a sync may have failed on the descriptor
		return true, err
	}
	return true, nil
}

// isOpenAs reports whether the open file is the one that st describes, found in
// the open directory, and may be written.
func (f *lineFile) isOpenAs(st *unix.Stat_t) bool {
	return f.file != nil && f.file.Dir() == f.Dir.ID() &&
		f.file.ID() == dirfs.IDOf(st) && dirfs.CheckRegular(st, true) == nil
}

func (f *lineFile) reopen() (st unix.Stat_t, err error) {
	f.close()
	f.file, err = f.OpenFile(f.name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT, artifactMode)
	if err != nil {
		return st, err
	}
	return f.file.Stat()
}

// close closes the file. The next use opens it again.
func (f *lineFile) close() {
	f.file.Close()
	f.file = nil
}

// append writes whole lines and makes them durable:
//
//	[fsync(dir)] write fdatasync
//
// The directory is synced while the file is empty, so that a file that has
// lines has a durable name. A write that fails, or whose durability is unknown,
// is undone, so that the caller may try the same again.
func (f *lineFile) append(text []byte) error {
	if f.end == 0 {
		if err := f.Dir.Sync(); err != nil {
			return err
		}
	}
	_, err := f.file.Write(text)
	if err == nil {
		err = f.file.Sync() //fault:sync-log
	}
	if err != nil {
		f.unconfirmed = newUnconfirmed(f.file, f.end, text)
		_ = f.undo() //fault:undo-append // tried again by resolve
		return err   //fault:report-append
	}
	f.end += int64(len(text))
	return nil
}

var errNoLines = errors.New("no line")

// lineBefore returns the bounds of the line whose newline ends at end. It
// returns errNoLines at the start of the file.
func lineBefore(f *dirfs.File, end int64) (start, stop int64, err error) {
	if end == 0 {
		return 0, 0, errNoLines
	}
	start, err = lineStart(f, end-1)
	return start, end - 1, err
}

// errTooFar reports that there is no newline within maxBack.
var errTooFar = errors.New("no newline within reach")

// lineStart returns the offset after the last newline before end, or 0. It
// returns errTooFar if that is more than maxBack before end.
func lineStart(f *dirfs.File, end int64) (int64, error) {
	buf := make([]byte, 0, page)
	for from := end; end > 0; {
		if from-end >= maxBack {
			return 0, errTooFar
		}
		buf = buf[:min(int64(cap(buf)), end)]
		if _, err := f.ReadAt(buf, end-int64(len(buf))); err != nil {
			return 0, err
		}
		newline := bytes.LastIndexByte(buf, '\n')
		if newline >= 0 {
			return end - int64(len(buf)-newline-1), nil
		}
		end -= int64(len(buf))
		if cap(buf) < chunk {
			buf = make([]byte, 0, chunk)
		}
	}
	return 0, nil
}
