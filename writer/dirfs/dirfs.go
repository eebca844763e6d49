// Package dirfs accesses files relative to a directory that is held open.
//
// Another user may own the directory and replace anything in it at any moment.
// Therefore a file is always opened relative to the directory's descriptor,
// never through a symbolic link in its last component, and without blocking on
// a FIFO or acquiring a terminal. Anything but a regular file is rejected, and
// so is, for writing, a file with a second link, which may lie outside.
//
// No call returns EINTR: it is repeated (signal(7)).
package dirfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Retry calls f again as long as a signal interrupts it.
func Retry(f func() error) error {
	for {
		err := f()
		if err != unix.EINTR {
			return err
		}
	}
}

// RetryInt is Retry for a call that also returns a number.
func RetryInt(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// An ID identifies a file, or a directory, whatever its name.
type ID struct{ Dev, Ino uint64 }

// IDOf returns the ID of the file that st describes.
func IDOf(st *unix.Stat_t) ID { return ID{uint64(st.Dev), st.Ino} }

// A Dir is a directory that is held open. The zero Dir is closed. Not for
// concurrent use.
//
// If fd is not 0, it is a descriptor of the directory id, which was at path
// when it was opened; root, if not nil, refers to the same directory.
type Dir struct {
	path   string
	fd     int
	id     ID
	root   *os.Root
	stale  bool // fd is of no use after a failed fsync
	pinned bool
}

// Open opens the directory at path and creates it if it is missing. A directory
// that is already open is kept, unless another one is now at path: a writer must
// not continue in one that was removed or moved away.
func (d *Dir) Open(path string) error {
	if d.fd > 0 {
		current := d.path == path && !d.stale && (d.pinned || d.isAtPath())
		if current {
			return nil
		}
		d.Close()
	}
	d.path = path
	err := d.open()
	if errors.Is(err, fs.ErrNotExist) {
		err = makeDirs(path)
		if err == nil {
			err = d.open()
		}
		if errors.Is(err, fs.ErrNotExist) && isSymlink(path) {
			return pathError("open", path, ErrDangling)
		}
	}
	return err
}

// ErrDangling is returned by Open for a symbolic link to a missing directory.
var ErrDangling = errors.New("a symbolic link to a directory that does not exist")

func isSymlink(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// CheckWritable returns an error if this process may not create files in the open
// directory.
func (d *Dir) CheckWritable() error {
	err := Retry(func() error { return unix.Faccessat(unix.AT_FDCWD, d.path, unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
	return pathError("create a file in", d.path, err)
}

// isAtPath reports whether the open directory is the one at its path.
func (d *Dir) isAtPath() bool {
	var st unix.Stat_t
	return unix.Stat(d.path, &st) == nil && IDOf(&st) == d.id
}

func (d *Dir) open() error {
	fd, err := RetryInt(func() (int, error) {
		return unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("open", d.path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return pathError("stat", d.path, err)
	}
	d.fd, d.id = fd, IDOf(&st)
	return nil
}

// IsOpen reports whether the directory is open.
func (d *Dir) IsOpen() bool { return d.fd > 0 }

// ID returns the ID of the open directory.
func (d *Dir) ID() ID { return d.id }

// Path returns the path at which the directory was opened.
func (d *Dir) Path() string { return d.path }

// Pin keeps Open from comparing the open directory with the one at its path,
// until Unpin. It is meant for the time that a lock is held, in which all calls
// must see one directory.
func (d *Dir) Pin() { d.pinned = true }

// Unpin ends what Pin began.
func (d *Dir) Unpin() { d.pinned = false }

// ErrReplaced is returned by Root if another directory is at the path now.
var ErrReplaced = errors.New("another process has replaced the directory; check which users may write to its parent")

// Root returns the open directory as an os.Root.
func (d *Dir) Root() (*os.Root, error) {
	if d.root != nil {
		return d.root, nil
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		st := info.Sys().(*syscall.Stat_t)
		if (ID{uint64(st.Dev), st.Ino}) != d.id {
			err, d.stale = ErrReplaced, true
		}
	}
	if err != nil {
		root.Close()
		return nil, pathError("open", d.path, Cause(err))
	}
	d.root = root
	return root, nil
}

// Close closes the directory. The next Open opens it again. A nil Dir is closed.
func (d *Dir) Close() {
	if d == nil || d.fd == 0 {
		return
	}
	unix.Close(d.fd)
	if d.root != nil {
		d.root.Close()
	}
	*d = Dir{pinned: d.pinned}
}

// Sync makes the names in the directory durable. After an error the descriptor
// is not used again, because the kernel reports a lost page only once.
func (d *Dir) Sync() error {
	err := Retry(func() error { return unix.Fsync(d.fd) }) //fault:sync-directory
	d.stale = err != nil                                   //fault:reopen-directory
	return pathError("fsync", d.path, err)
}

// Stat describes the directory itself.
func (d *Dir) Stat() (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstat(d.fd, &st) })
	return st, pathError("stat", d.path, err)
}

// StatFile describes the file called name. It follows no link.
func (d *Dir) StatFile(name string) (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, pathError("stat", d.join(name), err)
}

// Rename renames a file within the directory, replacing any file called name.
func (d *Dir) Rename(old, name string) error {
	err := Retry(func() error { return unix.Renameat(d.fd, old, d.fd, name) })
	return pathError("rename", d.join(old), err)
}

// Exchange swaps the names of two files in the directory, atomically.
func (d *Dir) Exchange(a, b string) error {
	err := Retry(func() error { return unix.Renameat2(d.fd, a, d.fd, b, unix.RENAME_EXCHANGE) })
	return pathError("exchange", d.join(b), err)
}

// Remove removes a file from the directory.
func (d *Dir) Remove(name string) error {
	err := Retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	return pathError("remove", d.join(name), err)
}

// Names returns the names in the directory, in no order.
func (d *Dir) Names() ([]string, error) {
	root, err := d.Root()
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(".") // its own descriptor, because reading moves the offset
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// join returns the path of a name in the directory, for errors.
func (d *Dir) join(name string) string { return filepath.Join(d.path, name) }

// makeDirs creates dir and its missing parents, each durable in its parent.
func makeDirs(dir string) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // created meanwhile; if it is not a directory, opening it fails
	}
	if err != nil {
		return err
	}
	if err := syncDir(parent); err != nil {
		_ = os.Remove(dir) // else the next attempt finds it, and does not sync its name
		return err
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func pathError(op, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case isKind(err):
		return &KindError{Path: path, Err: err}
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// Cause returns the error inside an *fs.PathError, *KindError or *os.LinkError,
// to be wrapped with another path.
func Cause(err error) error {
	var k *KindError
	if errors.As(err, &k) {
		return k.Err
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
