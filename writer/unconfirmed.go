package writer

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// An unconfirmed append failed and could not be undone: all, part or none of its
// text may be in the file.
type unconfirmed struct {
	file dirfs.ID
	at   int64
	text []byte
}

func newUnconfirmed(f *dirfs.File, at int64, text []byte) *unconfirmed {
	return &unconfirmed{f.ID(), at, bytes.Clone(text)}
}

// undo cuts the unconfirmed append off. It uses a new descriptor, because the
// kernel reports a lost page only once: a retry on the old one could succeed
// without the page.
func (f *lineFile) undo() error {
	f.close()
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

// resolve finds out what became of an unconfirmed append: it is undone if it is
// the last in the file, and its whole lines are kept if another writer has
// appended since. It returns how many lines were kept. To be called before
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
		f.unconfirmed = nil // the file is gone, and the lines with it
		return 0, nil
	}
	after := st.Size - f.unconfirmed.at
	file, err := f.OpenFile(f.name, unix.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer file.Close()
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

// confirm makes the lines of an unconfirmed append durable that are whole in
// the file, after which another writer has appended or moved a torn rest away.
// It writes the same bytes once more, because after a failed sync the kernel may
// treat their pages as clean.
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
