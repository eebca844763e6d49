package writer

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// An unconfirmed describes an append that failed and was not undone yet. All, part or
// none of its text may be in the file.
type unconfirmed struct {
	file dirfs.ID
	at   int64 // the offset at which the text was appended
	text []byte
}

func newUnconfirmed(f *dirfs.File, at int64, text []byte) *unconfirmed {
	return &unconfirmed{f.ID(), at, bytes.Clone(text)}
}

// undo cuts the unconfirmed append off the file. It opens the file again, because
// the kernel reports a lost page only once for each descriptor: a second sync on
// the old one could succeed although the page is lost. The old descriptor is closed
// last, because it holds the lock on the log.
func (f *lineFile) undo() error {
	defer f.close()
	file, err := f.OpenFile(f.name, unix.O_RDWR|unix.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.ID() == f.unconfirmed.file {
		if err := file.Truncate(f.unconfirmed.at); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
	}
	f.unconfirmed = nil
	return nil
}

// resolve finds out how much of an unconfirmed append is in the file. If nothing
// follows it, resolve cuts it off. If another writer has appended since, resolve keeps
// the lines that are complete, and returns their number. It must be called before
// prepare.
func (f *lineFile) resolve(path string) (kept int, err error) {
	if f.unconfirmed == nil { //fault:resolve-append
		return 0, nil
	}
	if err := f.open(path); err != nil {
		return 0, err
	}
	st, err := f.StatFile(f.name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	case err != nil || dirfs.IDOf(&st) != f.unconfirmed.file || st.Size < f.unconfirmed.at:
		f.unconfirmed = nil // the file with these lines is gone
		return 0, nil
	}
	file, err := f.OpenFile(f.name, unix.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	f.close()
	f.file = file
	defer f.close() // prepare opens the file again, for appending
	if err := f.acquire(file); err != nil {
		return 0, err
	}
	st, err = file.Stat() // another writer may have appended before this one had the lock
	if err != nil {
		return 0, err
	}
	after := st.Size - f.unconfirmed.at
	if file.ID() != f.unconfirmed.file || after < 0 {
		f.unconfirmed = nil
		return 0, nil
	}
	found := make([]byte, min(after, int64(len(f.unconfirmed.text))))
	if _, err := file.ReadAt(found, f.unconfirmed.at); err != nil {
		return 0, err
	}
	isLast := after == int64(len(found)) && bytes.HasPrefix(f.unconfirmed.text, found)
	if isLast {
		return 0, f.undo()
	}
	return f.confirm(file, found)
}

// confirm makes the complete lines of an unconfirmed append durable, and returns
// their number. found is the text at their offset; another writer may have
// moved the torn last line away and appended its own lines. confirm writes the
// same bytes once more, because after a failed sync the kernel may consider their
// pages clean (fsync(2)).
func (f *lineFile) confirm(file *dirfs.File, found []byte) (kept int, err error) {
	equal := 0
	for equal < len(found) && found[equal] == f.unconfirmed.text[equal] {
		equal++
	}
	lines := found[:bytes.LastIndexByte(found[:equal], '\n')+1]
	if len(lines) > 0 {
		if _, err := file.WriteAt(lines, f.unconfirmed.at); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
	}
	f.unconfirmed = nil
	return bytes.Count(lines, []byte{'\n'}), nil
}
