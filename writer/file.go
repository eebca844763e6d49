package writer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// retry calls f again for as long as a signal interrupts it (signal(7)).
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// retryInt is retry for calls that also return a number.
func retryInt(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

// An identity tells one file from another that took its name.
type identity struct{ dev, ino uint64 }

func identify(st *unix.Stat_t) identity { return identity{uint64(st.Dev), st.Ino} }

// A folder is a directory that is held open. The artifacts of one directory
// share one. The zero folder is closed. Not for concurrent use.
type folder struct {
	path string
	fd   int // 0 if it is closed
	id   identity
	root *os.Root // the same directory, once openRoot was called

	stale bool // fd is of no use after a failed sync
	fixed bool // under the lock: what stands at path is not looked at again
}

// open opens the directory at path, making it if it is missing. One that is
// already open is kept unless another one has taken its path since: a writer
// must not go on in one that was removed or moved away.
func (f *folder) open(path string) error {
	if f.fd > 0 {
		if !f.stale && (f.fixed || f.stands()) {
			return nil
		}
		f.close()
	}
	f.path = path
	err := f.openDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDirs(path); err == nil {
			err = f.openDir(path)
		}
	}
	return err
}

// stands reports whether the open directory is the one at path.
func (f *folder) stands() bool {
	var st unix.Stat_t
	return unix.Stat(f.path, &st) == nil && identify(&st) == f.id
}

// openDir opens dir. Everything else is opened relative to it.
func (f *folder) openDir(dir string) error {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("open", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return pathError("stat", dir, err)
	}
	f.fd, f.id = fd, identify(&st)
	return nil
}

// openRoot returns the open directory in the form that renameio takes.
func (f *folder) openRoot() (*os.Root, error) {
	if f.root != nil {
		return f.root, nil
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return nil, err
	}
	st, err := root.Stat(".")
	if err == nil {
		if sys := st.Sys().(*syscall.Stat_t); (identity{uint64(sys.Dev), sys.Ino}) != f.id {
			err, f.stale = errReplaced, true
		}
	}
	if err != nil {
		root.Close()
		return nil, &fs.PathError{Op: "open", Path: f.path, Err: cause(err)}
	}
	f.root = root
	return root, nil
}

var errReplaced = errors.New("the directory was replaced meanwhile: try again, and see who may write to the one it is in")

func (f *folder) close() {
	if f == nil || f.fd == 0 {
		return
	}
	unix.Close(f.fd)
	if f.root != nil {
		f.root.Close()
	}
	*f = folder{fixed: f.fixed}
}

// sync makes the directory's names durable. After an error the descriptor is
// of no use, as with a file's.
func (f *folder) sync() error {
	err := retry(func() error { return unix.Fsync(f.fd) })
	f.stale = err != nil
	return pathError("fsync", f.path, err)
}

// A place is a name in a folder. The zero place is closed; whoever has others
// in the same directory gives it their folder.
type place struct {
	*folder
	path string
	name string
}

// open opens the directory of path.
func (p *place) open(path string) error {
	if p.path != path {
		p.path, p.name = path, filepath.Base(path)
	}
	dir := filepath.Dir(path)
	if p.folder == nil || p.folder.path != "" && p.folder.path != dir {
		p.folder = &folder{}
	}
	return p.folder.open(dir)
}

// sibling returns the path of a file beside p, for errors.
func (p *place) sibling(name string) string { return filepath.Join(filepath.Dir(p.path), name) }

// stat looks at what bears name now, following no link.
func (p *place) stat(name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(p.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, pathError("stat", p.sibling(name), err)
}

// rename gives the file old another name in the same directory.
func (p *place) rename(old, name string) error {
	err := retry(func() error { return unix.Renameat(p.fd, old, p.fd, name) })
	return pathError("rename", p.sibling(old), err)
}

// openFile opens name for reading and, unless flags say O_RDONLY, writing. It
// follows no symbolic link, does not block on a FIFO, takes no terminal, and
// refuses whatever is not a regular file; what is to be written must have no
// second link, which could be a file outside.
func (p *place) openFile(name string, flags int, mode uint32) (*file, error) {
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	path := p.sibling(name)
	fd, err := retryInt(func() (int, error) { return unix.Openat(p.fd, name, flags, mode) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: openCause(err)}
	}
	f := &file{fd: fd, path: path}
	st, err := f.stat()
	if err == nil {
		err = plain(&st, flags&unix.O_ACCMODE != unix.O_RDONLY)
	}
	if err != nil {
		f.close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: cause(err)}
	}
	f.id, f.in = identify(&st), p.id
	if mode != 0 && st.Mode&0o777 != mode {
		// Whatever the umask. Where it fails the file is another user's,
		// who opened it to us: its mode is that user's to choose.
		_ = unix.Fchmod(fd, mode)
	}
	return f, nil
}

// errPlanted is what a file is refused for that somebody put in our way.
var (
	errNotRegular = errors.New("not a regular file: remove it, and see who may write to the directory")
	errLinked     = errors.New("the file has a second link: remove it, and see who may write to the directory")
	errSymlink    = errors.New("a symbolic link stands there: remove it, and see who may write to the directory")
)

// openCause explains the errno that O_NOFOLLOW gives for a link (open(2)).
func openCause(err error) error {
	if err == unix.ELOOP {
		return errSymlink
	}
	return err
}

// plain checks that st is a regular file and, if it is to be written, that it
// has no other name.
func plain(st *unix.Stat_t, write bool) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNotRegular
	}
	if write && st.Nlink > 1 {
		return errLinked
	}
	return nil
}

// A file is an open regular file. Errors carry its path.
type file struct {
	fd   int
	path string
	id   identity
	in   identity // of its directory
}

func (f *file) close() {
	if f != nil && f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

func (f *file) stat() (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(f.fd, &st) })
	return st, pathError("stat", f.path, err)
}

// write writes text with one call; less than all of it is an error. What the
// error is, such as a full disk, only a call for the rest tells (write(2)).
func (f *file) write(text []byte) error {
	n, err := retryInt(func() (int, error) { return unix.Write(f.fd, text) })
	if err == nil && n < len(text) {
		if _, err = unix.Write(f.fd, text[n:]); err == nil {
			err = io.ErrShortWrite
		}
	}
	return pathError("write", f.path, err)
}

func (f *file) writeAt(text []byte, at int64) error {
	n, err := retryInt(func() (int, error) { return unix.Pwrite(f.fd, text, at) })
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return pathError("write", f.path, err)
}

// readAt fills text from the file at the offset at; a file that ends before
// is an error.
func (f *file) readAt(text []byte, at int64) error {
	for len(text) > 0 {
		n, err := retryInt(func() (int, error) { return unix.Pread(f.fd, text, at) })
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return pathError("read", f.path, err)
		}
		text, at = text[n:], at+int64(n)
	}
	return nil
}

func (f *file) truncate(size int64) error {
	err := retry(func() error { return unix.Ftruncate(f.fd, size) })
	return pathError("truncate", f.path, err)
}

// sync makes the content durable. After an error the descriptor is of no use:
// the kernel reports a lost page once and then forgets it (fsync(2), ERRORS).
func (f *file) sync() error {
	err := retry(func() error { return unix.Fdatasync(f.fd) })
	return pathError("fdatasync", f.path, err)
}

// makeDirs makes dir and its missing parents, each durable in its parent.
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
		return nil // made meanwhile; what is no directory fails when opened
	}
	if err != nil {
		return err
	}
	if err := syncDir(parent); err != nil {
		_ = os.Remove(dir) // else the next try finds it, and does not sync its name
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
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// cause returns what a path error wraps, to be wrapped with another path.
func cause(err error) error {
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
