package writer

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// A StatusFile is status.json: where the guest stands now. Not for concurrent
// use; several processes may replace one at the same time.
type StatusFile struct {
	Path string // required

	whole wholeFile
}

// Replace writes s in the place of what stands at Path. When it returns nil,
// s is durable; when it returns an error, the old content or s stands there,
// whole.
func (f *StatusFile) Replace(s *Status) error {
	f.whole.text = s.Append(f.whole.text[:0])
	return f.whole.replace(f.Path)
}

// A ResultFile is result.json: the verdict. Not for concurrent use; several
// processes may replace one at the same time.
type ResultFile struct {
	Path string // required

	whole wholeFile
	prev  wholeFile
}

// Replace writes r in the place of what stands at Path, as StatusFile.Replace
// does.
func (f *ResultFile) Replace(r *Result) error {
	f.whole.text = r.Append(f.whole.text[:0])
	f.whole.keeps = true
	return f.whole.replace(f.Path)
}

// SetAside moves the standing verdict, if there is one, to Path + ".prev".
func (f *ResultFile) SetAside() error {
	p := &f.whole.place
	if err := p.open(f.Path); err != nil {
		return err
	}
	err := p.rename(p.name, p.name+prevSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.sync() // of what an earlier try may have moved, too
}

// Keep copies the standing verdict, if there is one, to Path + ".prev", so
// that the next Replace loses nothing and no reader ever misses a result.
func (f *ResultFile) Keep() error {
	text, err := readWhole(&f.whole.place, f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.prev.text = text
	return f.prev.replace(f.Path + prevSuffix)
}

// prevSuffix names the verdict of the run before.
const prevSuffix = ".prev"

// artifactMode is the mode of every artifact but the seq file, whatever the
// umask: the host and the guest's users read them.
const artifactMode = 0o644

// A wholeFile is a file that is only ever replaced as a whole.
type wholeFile struct {
	place
	text  []byte // what to write; kept for its capacity
	swept bool
	keeps bool // NAME.prev is written too, but seldom: its temporaries are swept here
}

// replace puts w.text at path with these system calls, as renameio makes them
// relative to the directory's descriptor:
//
//	openat(.NAMEnnn, O_CREAT|O_EXCL) fchmod flock write fsync close renameat fsync(dir)
//
// A crash before renameat leaves the old content and a temporary, which the
// next writer removes; one after it leaves the new content.
func (w *wholeFile) replace(path string) error {
	if err := w.open(path); err != nil {
		return err
	}
	if !w.swept {
		w.sweep()
		w.swept = true
	}
	err := w.writeTemporary()
	for tries := 1; tries < maxSwept && isSwept(err); tries++ {
		err = w.writeTemporary()
	}
	if err == nil {
		err = w.sync()
	}
	if err != nil {
		w.swept = false // the temporary may have been left
		return &fs.PathError{Op: "replace", Path: path, Err: cause(err)}
	}
	return nil
}

// maxSwept is how often a temporary is made anew that another writer swept: by
// chance it is hardly ever more than once, and a file is not fought for.
const maxSwept = 10

// isSwept reports whether err is what becomes of a temporary that another
// writer took for a dead one, in the moment before it was locked.
func isSwept(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK)
}

// writeTemporary writes a temporary and renames it. The lock on it is held by
// a second descriptor, because renameio closes its own before it renames: a
// temporary that is not locked is taken for one that a crash left.
func (w *wholeFile) writeTemporary() error {
	root, err := w.openRoot()
	if err != nil {
		return err
	}
	t, err := renameio.NewPendingFile(w.name,
		renameio.WithRoot(root), renameio.WithStaticPermissions(artifactMode))
	if err != nil {
		return err
	}
	defer t.Cleanup()
	lock, err := unix.FcntlInt(t.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := t.Write(w.text); err != nil {
		return err
	}
	return t.CloseAtomicallyReplace()
}

// sweep removes the temporaries that a crash left: those whose name is ours
// and whose lock is free. It does what it can; what stays harms nobody and is
// tried again by the next writer.
func (w *wholeFile) sweep() {
	names, err := readNames(w)
	if err != nil {
		return
	}
	for _, name := range names {
		if w.isTemporary(name) {
			w.removeStale(name)
		}
	}
}

func readNames(w *wholeFile) ([]string, error) {
	root, err := w.openRoot()
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(".") // a descriptor of its own: reading moves its offset
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// isTemporary reports whether name is what renameio calls a temporary for
// this file: a dot, its name, and a random number below 2^63. One number in
// 90,000 has fewer than 15 digits; its temporary is left, for a name with few
// digits, such as .status.json1, may be somebody else's.
func (w *wholeFile) isTemporary(name string) bool {
	digits, ok := strings.CutPrefix(name, "."+w.name)
	if w.keeps {
		digits = strings.TrimPrefix(digits, prevSuffix)
	}
	return ok && 15 <= len(digits) && len(digits) <= 19 && strings.Trim(digits, "0123456789") == ""
}

// removeStale removes the temporary called name unless its writer lives.
func (w *wholeFile) removeStale(name string) {
	f, err := w.openFile(name, unix.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.close()
	if unix.Flock(f.fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = unix.Unlinkat(w.fd, name, 0)
	}
}
