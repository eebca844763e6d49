package writer

import (
	"bytes"
	"errors"
	"io/fs"
	"math"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// The sizes, in bytes, of the reads that search for the start of a line. The first one
// contains nearly every line; all others are chunks. Copies are made in chunks too.
const (
	firstRead = 1 << 10
	chunk     = 64 << 10
)

// page is the size of a page of the page cache.
const page = 4 << 10

// maxBack is how many bytes before its end a file is searched for a newline. It
// is longer than any line that this program writes. It is a limit because the
// search holds the lock that all writers wait for, and another process may have
// made the file huge.
const maxBack = 64 << 20

// A lineFile is a file of lines. A line is appended completely or not at all: a
// torn line is repaired before the next append, and a write that fails is undone.
// The caller of any method holds the lock of the events log.
//
// While file is not nil, end is its size, and the byte before end is a newline, unless end
// is 0. While unconfirmed is not nil, the file may also contain part of that append. fitted
// is how many complete lines the last append wrote before it failed; 0 if it did not fail.
// If lock is not nil, file is locked from prepare to unlock, unless another process has
// held that lock for too long.
type lineFile struct {
	location
	isComplete  func(line []byte) bool // reports whether only the newline of a torn line is missing
	file        *dirfs.File
	end         int64
	unconfirmed *unconfirmed
	fitted      int
	lock        *logLock          // of the events log; other files need no second lock
	warn        func(text string) // about the lock; may be nil
}

// maxReopens is how often prepare opens a file that other processes replace. One
// writer that rotates the log replaces it once.
const maxReopens = 10

// prepare opens the file at path, if it is not open or another file now has its name. It
// locks the file and repairs a torn line. changed reports whether the file may differ
// from what it was after the last append.
func (f *lineFile) prepare(path string) (changed bool, err error) {
	if err := f.open(path); err != nil {
		return true, err
	}
	for range maxReopens {
		if f.file == nil {
			changed = true
			if err := f.openFile(); err != nil {
				return true, err
			}
		}
		size, err := f.lockCurrent()
		if err == nil && size >= 0 && (changed || size != f.end || f.unconfirmed != nil) {
			changed = true
			err = f.repairTail(size)
		}
		if err != nil {
			f.close() // end may be wrong, and a sync may have failed on the descriptor
			return true, err
		}
		if size >= 0 && f.file != nil {
			return changed, nil
		}
		f.close()
	}
	return true, pathError("open", path, errReplacedOften)
}

// lockCurrent locks the open file and returns its size; -1 if it no longer has its
// name.
func (f *lineFile) lockCurrent() (size int64, err error) {
	if err := f.acquire(f.file); err != nil {
		return -1, err
	}
	st, err := f.StatFile(f.name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !f.isOpenAs(&st)) {
		return -1, nil
	}
	return st.Size, err
}

// isOpenAs reports whether the open file is the one that st describes, was
// opened in the directory that is open now, and may be written to.
func (f *lineFile) isOpenAs(st *unix.Stat_t) bool {
	return f.file.Dir() == f.Dir.ID() &&
		f.file.ID() == dirfs.IDOf(st) && dirfs.CheckRegular(st, true) == nil
}

func (f *lineFile) openFile() (err error) {
	f.file, err = f.OpenFile(f.name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT, artifactMode)
	return err
}

// acquire locks a descriptor of the file, if the file needs a lock.
func (f *lineFile) acquire(file *dirfs.File) error {
	if f.lock == nil { //fault:lock-log
		return nil
	}
	return f.lock.acquire(file, f.path, f.warn)
}

// unlock releases the lock on the file.
func (f *lineFile) unlock() {
	if f.lock != nil {
		f.lock.release(f.file)
	}
}

// close closes the file, which also releases its lock. The next use opens it again.
func (f *lineFile) close() {
	f.file.Close()
	f.file = nil
	if f.lock != nil {
		f.lock.held = false
	}
}

// append writes whole lines and makes them durable:
//
//	[fsync(dir)] write fdatasync
//
// The directory is synced only before the first line: from then on the file name
// is durable. If the write or the sync fails, append undoes the write. If that fails too,
// unconfirmed is set, and the caller must call resolve before it appends the lines again.
func (f *lineFile) append(text []byte) error {
	f.fitted = 0
	if f.end == 0 {
		if err := f.Dir.Sync(); err != nil {
			return err
		}
	}
	n, err := f.file.Write(text)
	if err == nil {
		err = f.file.Sync() //fault:sync-log
	}
	if err != nil {
		f.fitted = countLines(text, int64(n))
		f.unconfirmed = newUnconfirmed(f.file, f.end, text)
		_ = f.undo() //fault:undo-append // if it fails, resolve tries again
		return err   //fault:report-append
	}
	f.end += int64(len(text))
	return nil
}

// fitting returns how many of the lines of text fit if reserve bytes of the file system
// must stay free; all if reserve is 0.
func (f *lineFile) fitting(path string, text []byte, reserve int64) (int, error) {
	free := int64(math.MaxInt64)
	if reserve > 0 {
		if err := f.open(path); err != nil {
			return 0, err
		}
		var err error
		free, err = f.Free()
		if err != nil {
			return 0, err
		}
	}
	if reserve > 0 {
		free -= 2 * page // the last page of the file, and that of a new seq file
	}
	return countLines(text, free-reserve), nil
}

// errNoLines reports that the start of the file was reached.
var errNoLines = errors.New("no line")

// lineBefore returns the line before end, without its newline, which is the byte before
// end, and the offset at which the line starts. The line is nil if it is longer than
// artifact.MaxSize. lineBefore returns errNoLines if end is 0.
func lineBefore(f *dirfs.File, end int64) (line []byte, start int64, err error) {
	if end == 0 {
		return nil, 0, errNoLines
	}
	return lastText(f, end-1)
}

// errTooFar reports that there is no newline within maxBack.
var errTooFar = errors.New("no newline in the last 64 MiB")

// lastText returns the text between the last newline before end, or the start of the file,
// and end, and the offset of that text. The text is nil if it is longer than
// artifact.MaxSize. lastText returns errTooFar if the text is longer than maxBack.
func lastText(f *dirfs.File, end int64) (text []byte, start int64, err error) {
	buf := make([]byte, min(end, firstRead))
	start = end
	for start > 0 {
		if end-start >= maxBack {
			return nil, 0, errTooFar
		}
		buf = buf[:min(int64(cap(buf)), start)]
		start -= int64(len(buf))
		if _, err := f.ReadAt(buf, start); err != nil {
			return nil, 0, err
		}
		newline := bytes.LastIndexByte(buf, '\n')
		if newline >= 0 {
			buf = buf[newline+1:]
			start += int64(newline) + 1
			break
		}
		if start > 0 && cap(buf) < chunk {
			buf = make([]byte, chunk)
		}
	}
	size := end - start
	if size < firstRead { // it is in the first read
		return buf, start, nil
	}
	if size > artifact.MaxSize {
		return nil, start, nil
	}
	text = make([]byte, size)
	_, err = f.ReadAt(text, start)
	return text, start, err
}
