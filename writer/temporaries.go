package writer

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// StaleTemporaries returns the names of the stale temporary files in the state
// directory, which must exist. A temporary file is stale if no process holds a
// lock on it: its writer has crashed. StaleTemporaries changes nothing.
func (d *Dir) StaleTemporaries() (names []string, err error) {
	err = d.eachTemporary(func(f *atomicFile, name string) {
		file, err := f.OpenFile(name, unix.O_RDONLY, 0)
		if err != nil {
			return
		}
		defer file.Close()
		free, _ := dirfs.TryLock(file.Fd(), unix.LOCK_SH)
		if free {
			names = append(names, name)
		}
	})
	return names, err
}

// RemoveTemporaries removes the stale temporary files, as the next writer would.
func (d *Dir) RemoveTemporaries() error {
	return d.eachTemporary((*atomicFile).removeIfStale)
}

// eachTemporary calls found for each temporary file of the status and the result.
func (d *Dir) eachTemporary(found func(f *atomicFile, name string)) error {
	d.Result.current.hasPrevious = true
	err := errors.Join(d.Status.current.open(d.Status.Path), d.Result.current.open(d.Result.Path))
	if err != nil {
		return err
	}
	for _, f := range []*atomicFile{&d.Result.current, &d.Status.current} {
		names, err := f.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if f.isTemporary(name) {
				found(f, name)
			}
		}
	}
	return nil
}

// removeStale removes the stale temporary files of f. It ignores errors, because
// a temporary file does no harm to readers, and the next writer tries again.
func (f *atomicFile) removeStale() {
	names, err := f.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		if f.isTemporary(name) {
			f.removeIfStale(name)
		}
	}
}

// isTemporary reports whether name is the name of a temporary file of f. renameio
// composes it of a dot, the name of the file, and a random number below 2^63.
// isTemporary requires at least 15 digits, because a file such as .status.json1
// may belong to another program; one number in 90,000 has fewer.
func (f *atomicFile) isTemporary(name string) bool {
	digits, ok := strings.CutPrefix(name, "."+f.name)
	if f.hasPrevious {
		digits = strings.TrimPrefix(digits, prevSuffix)
	}
	return ok && 15 <= len(digits) && len(digits) <= 19 && strings.Trim(digits, "0123456789") == ""
}

// removeIfStale removes a temporary file unless its writer holds a lock on it.
func (f *atomicFile) removeIfStale(name string) {
	file, err := f.OpenFile(name, unix.O_RDWR, 0)
	if err != nil {
		return
	}
	defer file.Close()
	free, _ := dirfs.TryLock(file.Fd(), unix.LOCK_EX)
	if free {
		_ = f.Remove(name)
	}
}
