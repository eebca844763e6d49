package writer

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// chunk is how much of a file is read at once when a line's start is looked for,
// or a tail is copied: a buffer that no guest notices. The first look is at a
// page, where the start of nearly every line is.
const (
	chunk = 64 << 10
	page  = 4 << 10
)

// maxLine is the longest line that is parsed back. Longer ones were not
// written by us (see maxWhole).
const maxLine = 16 << 20

// maxBack is how far back from its end a file is looked through for a newline:
// further than any line of ours reaches, and near enough that a file which
// somebody else has made huge costs nobody's time, under a lock that all wait for.
const maxBack = 64 << 20

// maxTorn is how large the file of torn tails may grow before it is begun
// anew, so that a writer that crashes for ever does not fill a tmpfs.
const maxTorn = 8 << 20

// A jsonl is an append-only file of one JSON object a line. Appends are whole
// or not at all: a tail without newline is repaired before anything follows
// it, and a write that fails is cut back. Its users hold a lock around every
// call.
type jsonl struct {
	place
	whole func(line []byte) bool // tells a line that lacks only its newline
	file  *file
	end   int64 // where the next line goes
	loose *loose
}

// A loose append failed and could not be cut back: some, all or none of its
// text may be in the file.
type loose struct {
	id   identity
	at   int64
	text []byte
}

// ready opens the file at path, or keeps it if it is open and still bears its
// name, and repairs its tail. When it returns nil, end is the file's size and
// the byte before it, if there is one, is a newline. It reports whether the
// file is another or has other lines than this jsonl left there.
func (j *jsonl) ready(path string) (changed bool, err error) {
	if err := j.open(path); err != nil {
		return true, err
	}
	st, err := j.stat(j.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	if j.file == nil || j.file.in != j.id || err != nil || identify(&st) != j.file.id || plain(&st, true) != nil {
		if st, err = j.reopen(); err != nil {
			return true, err
		}
	} else if st.Size == j.end && j.loose == nil {
		return false, nil
	}
	if err := j.repair(st.Size); err != nil {
		j.forget() // a sync may have failed on the descriptor
		return true, err
	}
	return true, nil
}

// reopen opens the file anew.
func (j *jsonl) reopen() (st unix.Stat_t, err error) {
	j.forget()
	j.file, err = j.openFile(j.name, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT, artifactMode)
	if err != nil {
		return st, err
	}
	return j.file.stat()
}

// forget closes the file, to be opened anew by the next use.
func (j *jsonl) forget() {
	j.file.close()
	j.file = nil
}

// repair makes the file of the given size end in a whole line. A tail that
// lacks only its newline, as whole tells, gets it; any other is moved aside.
// The tail is durable there before it is cut off here, so a crash between
// the two keeps it twice and loses nothing.
func (j *jsonl) repair(size int64) error {
	start, err := lineStart(j.file, size)
	if err == errFar {
		return j.setAllAside()
	}
	if err != nil {
		return err
	}
	j.end = start
	if start == size {
		return nil
	}
	if size-start <= maxLine {
		tail := make([]byte, size-start)
		if err := j.file.readAt(tail, start); err != nil {
			return err
		}
		if j.whole(tail) {
			j.end = size
			return j.append([]byte{'\n'})
		}
	}
	if err := j.setAside(start, size); err != nil {
		return err
	}
	if err := j.file.truncate(start); err != nil {
		return err
	}
	return j.file.sync()
}

// setAside appends the bytes from start to size, and a newline, to the file of
// torn tails.
func (j *jsonl) setAside(start, size int64) error {
	torn, err := j.openFile(j.name+".torn", unix.O_RDWR|unix.O_APPEND|unix.O_CREAT, artifactMode)
	if err != nil {
		return err
	}
	defer torn.close()
	if st, err := torn.stat(); err != nil {
		return err
	} else if st.Size > maxTorn {
		if err := torn.truncate(0); err != nil {
			return err
		}
	}
	if err := copyRange(torn, j.file, start, size); err != nil {
		return err
	}
	if err := torn.sync(); err != nil {
		return err
	}
	return j.sync()
}

// setAllAside moves a file whose last line has no start in reach to the place of
// the torn tails, as it is: a copy of a sparse one could fill the disk. What it
// replaces there was a tail, and what was a log before somebody spoilt it is kept.
func (j *jsonl) setAllAside() error {
	if err := j.rename(j.name, j.name+".torn"); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	_, err := j.reopen()
	j.end = 0
	return err
}

// copyRange appends the bytes of src from start to end, and a newline, to dst.
func copyRange(dst, src *file, start, end int64) error {
	buf := make([]byte, 0, chunk+1)
	for start < end {
		buf = buf[:min(chunk, end-start)]
		if err := src.readAt(buf, start); err != nil {
			return err
		}
		if start += int64(len(buf)); start == end {
			buf = append(buf, '\n')
		}
		if err := dst.write(buf); err != nil {
			return err
		}
	}
	return nil
}

// append writes text, whole lines, and makes it durable:
//
//	[fsync(dir)] write fdatasync
//
// The directory is synced while the file is empty: a file that has lines has
// a durable name. A write that fails, or that is not known to be durable, is
// cut back, so that the caller may try the same again.
func (j *jsonl) append(text []byte) error {
	if j.end == 0 {
		if err := j.sync(); err != nil {
			return err
		}
	}
	err := j.file.write(text)
	if err == nil {
		err = j.file.sync()
	}
	if err != nil {
		j.loose = &loose{j.file.id, j.end, bytes.Clone(text)}
		_ = j.cutBack() // tried again by settle
		return err
	}
	j.end += int64(len(text))
	return nil
}

// cutBack undoes the loose append. It uses a new descriptor, for the kernel
// reports a lost page once and forgets it: a retry on the old one could
// succeed without the page.
func (j *jsonl) cutBack() error {
	j.forget()
	f, err := j.openFile(j.name, unix.O_RDWR|unix.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.close()
	if f.id == j.loose.id {
		if err := f.truncate(j.loose.at); err != nil {
			return err
		}
		if err := f.sync(); err != nil {
			return err
		}
	}
	j.loose = nil
	return nil
}

// settle finds out what became of a loose append, and ends it: it is cut back
// if it is the file's last, and its whole lines are kept if another writer has
// followed it. It returns how many were kept. To be called before ready.
func (j *jsonl) settle(path string) (kept int, err error) {
	if j.loose == nil {
		return 0, nil
	}
	if err := j.open(path); err != nil {
		return 0, err
	}
	st, err := j.stat(j.name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	case err != nil || identify(&st) != j.loose.id || st.Size < j.loose.at:
		j.loose = nil // gone, and the lines with it
		return 0, nil
	}
	after := st.Size - j.loose.at
	f, err := j.openFile(j.name, unix.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.close()
	there := make([]byte, min(after, int64(len(j.loose.text))))
	if err := f.readAt(there, j.loose.at); err != nil {
		return 0, err
	}
	if after == int64(len(there)) && bytes.HasPrefix(j.loose.text, there) {
		return 0, j.cutBack()
	}
	return j.keep(f, there)
}

// keep makes those lines of a loose append durable that stand whole in the
// file, behind which another writer has set aside a torn rest or appended. The
// same bytes are written once more over themselves, for after a failed sync
// the kernel may hold them for clean.
func (j *jsonl) keep(f *file, there []byte) (kept int, err error) {
	same := 0
	for same < len(there) && there[same] == j.loose.text[same] {
		same++
	}
	lines := there[:bytes.LastIndexByte(there[:same], '\n')+1]
	if len(lines) > 0 {
		if err := f.writeAt(lines, j.loose.at); err != nil {
			return 0, err
		}
		if err := f.sync(); err != nil {
			return 0, err
		}
	}
	j.loose = nil
	return bytes.Count(lines, []byte{'\n'}), nil
}

var errNoLines = errors.New("no line")

// lineBefore returns the bounds of the whole line that ends at end, its newline
// not counted. It returns errNoLines at the start of the file.
func lineBefore(f *file, end int64) (start, stop int64, err error) {
	if end == 0 {
		return 0, 0, errNoLines
	}
	start, err = lineStart(f, end-1)
	return start, end - 1, err
}

// errFar says that there is no newline within maxBack.
var errFar = errors.New("no newline in reach")

// lineStart returns where the line that the byte at end would belong to
// starts: behind the last newline before end, or at 0. It returns errFar if it
// would have to look too far back.
func lineStart(f *file, end int64) (int64, error) {
	buf := make([]byte, 0, page)
	for from := end; end > 0; {
		if from-end >= maxBack {
			return 0, errFar
		}
		buf = buf[:min(int64(cap(buf)), end)]
		if err := f.readAt(buf, end-int64(len(buf))); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			return end - int64(len(buf)-i-1), nil
		}
		end -= int64(len(buf))
		if cap(buf) < chunk {
			buf = make([]byte, 0, chunk)
		}
	}
	return 0, nil
}
