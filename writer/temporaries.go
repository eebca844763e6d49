package writer

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// StaleTemporaries returns the names of the temporaries that a crash left. It
// looks in the directory of the status, which must exist.
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

// RemoveTemporaries removes the temporaries that a crash left, as the next
// writer would.
func (d *Dir) RemoveTemporaries() error {
	return d.eachTemporary((*atomicFile).removeIfStale)
}

// eachTemporary calls found for each temporary of the status and the result.
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

// removeStale removes the temporaries of f that a crash left. Errors are
// ignored: a temporary that stays harms no reader, and the next writer tries
// again.
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

// isTemporary reports whether renameio uses name for a temporary of this file: a
// dot, the name of the file, and a random number below 2^63. One number in
// 90,000 has fewer than 15 digits, and its temporary is left: a name with few
// digits, such as .status.json1, may be another program's.
func (f *atomicFile) isTemporary(name string) bool {
	digits, ok := strings.CutPrefix(name, "."+f.name)
	if f.hasPrevious {
		digits = strings.TrimPrefix(digits, prevSuffix)
	}
	return ok && 15 <= len(digits) && len(digits) <= 19 && strings.Trim(digits, "0123456789") == ""
}

// removeIfStale removes a temporary unless its writer holds its lock.
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
