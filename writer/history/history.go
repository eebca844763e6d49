// Package history reads artifacts back: the lines of a log one at a time, and
// status, result, events and refused lines field by field, as strictly as the
// schemas in docs/schema and the strictest reader on a host.
//
// It changes nothing and takes no lock. What it reads may have been copied from
// anywhere, may be torn, and may be hostile: memory is bounded by the longest
// line that is read, MaxText, whatever the size of a file.
package history

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MaxText is the longest line, and the largest status or result, that is read: as
// much as the writer reads back.
const MaxText = 16 << 20

// ErrNotRegular says that what bears an artifact's name is no file.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a file of a state directory for reading. It follows no symbolic
// link and does not block on a FIFO: who owns the directory may have put either
// there.
func Open(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ELOOP) {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular})
	}
	return f, nil
}
