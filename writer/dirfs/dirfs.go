// Package dirfs accesses files relative to a directory that is held open.
//
// Another user may own the directory and replace anything in it at any moment.
// Therefore the package opens every file relative to the descriptor of the
// directory, follows no symbolic link, does not block on a FIFO, and does not
// acquire a controlling terminal. It rejects everything except regular files. For
// writing, it also rejects a file with a second link, which may be outside the
// directory.
//
// A system call that a signal interrupts is repeated (signal(7)).
package dirfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Retry calls f until it returns something other than EINTR.
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

// An ID identifies a file or a directory independently of its name.
type ID struct{ Dev, Ino uint64 }

// IsPipe reports whether fd is a pipe or a FIFO.
func IsPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// IDOf returns the ID of the file that st describes.
func IDOf(st *unix.Stat_t) ID { return ID{uint64(st.Dev), st.Ino} }

// A Dir is a directory that is held open. The zero Dir is closed. A Dir is not
// safe for concurrent use.
//
// If fd is not 0, it is a descriptor of the directory id, which was at path when
// it was opened. If root is not nil, it refers to the same directory. If unsynced is
// not empty, an earlier Open created a subdirectory of it and could neither sync nor
// remove that name; the next Open must sync it first.
type Dir struct {
	path   string
	fd     int
	id     ID
	root   *os.Root
	stale  bool // Open must open path again
	pinned bool // Open does not check which directory is at path

	unsynced string // a directory that Open must sync first
}

// Open opens the directory at path, and creates it if it is missing. If the Dir
// is already open, Open checks that the same directory is still at path, and
// otherwise opens the new one: a writer must not continue in a directory that was
// removed or renamed.
func (d *Dir) Open(path string) error {
	if d.fd > 0 {
		current := d.path == path && !d.stale && (d.pinned || d.isAtPath())
		if current {
			return nil
		}
		d.Close()
	}
	d.path = path
	err := d.syncParent()
	if err == nil {
		err = d.open()
	}
	if errors.Is(err, fs.ErrNotExist) {
		d.unsynced, err = makeDirs(path)
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

// Path returns the path that was given to Open; "" if the Dir is closed.
func (d *Dir) Path() string { return d.path }

// Pin makes Open keep the open directory, without a check of its path, until
// Unpin. A writer pins the directory while it holds a lock in it, so that all its
// calls use the same directory.
func (d *Dir) Pin() { d.pinned = true }

// Unpin cancels Pin.
func (d *Dir) Unpin() { d.pinned = false }

// ErrReplaced is returned by Root if another directory is now at the path.
var ErrReplaced = errors.New("another directory is now at this path; try again, and check which users may write to the parent directory")

// Root returns the open directory as an os.Root. The Dir closes it.
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

// Close closes the directory. Open may be called again. Close does nothing if d is
// nil or closed.
func (d *Dir) Close() {
	if d == nil || d.fd == 0 {
		return
	}
	unix.Close(d.fd)
	if d.root != nil {
		d.root.Close()
	}
	*d = Dir{pinned: d.pinned, unsynced: d.unsynced}
}

// Sync makes the names of the files in the directory durable. After an error the
// next Open opens the directory again, because the kernel reports a lost page only
// once for each descriptor.
func (d *Dir) Sync() error {
	err := Retry(func() error { return unix.Fsync(d.fd) }) //fault:sync-directory
	d.stale = d.stale || err != nil                        //fault:reopen-directory
	return pathError("fsync", d.path, err)
}

// Stat returns the file status of the directory.
func (d *Dir) Stat() (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstat(d.fd, &st) })
	return st, pathError("stat", d.path, err)
}

// Free returns how many bytes of the file system of the directory are free for this
// user. It returns math.MaxInt64 if the file system reports no size, for example a tmpfs
// without a limit. It does not consider quotas.
func (d *Dir) Free() (int64, error) {
	var st unix.Statfs_t
	err := Retry(func() error { return unix.Fstatfs(d.fd, &st) })
	if err != nil || st.Blocks == 0 {
		return math.MaxInt64, pathError("statfs", d.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// StatFile returns the file status of the file called name. It does not follow a
// symbolic link.
func (d *Dir) StatFile(name string) (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, pathError("stat", d.join(name), err)
}

// Rename renames the file old in the directory to name, and replaces a file that
// has that name.
func (d *Dir) Rename(old, name string) error {
	err := Retry(func() error { return unix.Renameat(d.fd, old, d.fd, name) })
	return pathError("rename", d.join(old), err)
}

// Exchange atomically swaps the names of two files in the directory.
func (d *Dir) Exchange(a, b string) error {
	err := Retry(func() error { return unix.Renameat2(d.fd, a, d.fd, b, unix.RENAME_EXCHANGE) })
	return pathError("exchange", d.join(b), err)
}

// Remove removes a file from the directory.
func (d *Dir) Remove(name string) error {
	err := Retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	return pathError("remove", d.join(name), err)
}

// Names returns the names of the files in the directory, in no particular order.
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

// makeDirs creates dir and its missing parents. It syncs the parent of each directory
// that it creates. If that fails, it removes the new directory, because the next attempt
// would not sync a directory that exists. If the removal fails too, makeDirs returns the
// parent as unsynced.
func makeDirs(dir string) (unsynced string, err error) {
	parent := filepath.Dir(dir)
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if unsynced, err := makeDirs(parent); err != nil {
			return unsynced, err
		}
		err = os.Mkdir(dir, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return "", nil // another process created it; if it is not a directory, the caller cannot open it
	}
	if err != nil {
		return "", err
	}
	if err := syncDir(parent); err != nil {
		if os.Remove(dir) != nil {
			return parent, err
		}
		return "", err
	}
	return "", nil
}

// syncParent syncs the directory unsynced, if there is one.
func (d *Dir) syncParent() error {
	if d.unsynced == "" {
		return nil
	}
	err := syncDir(d.unsynced)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		d.unsynced = "" // or it was removed, with everything in it
		return nil
	}
	return err
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

// Cause returns the error inside an *fs.PathError, *KindError or *os.LinkError, or
// err if it is none of them. A caller uses it to wrap the error with another path.
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
