package dirfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The reasons for which OpenFile and Open reject a file. They are returned inside a
// [KindError].
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrDirectory  = errors.New("a directory")
	ErrSymlink    = errors.New("a symbolic link")
	ErrLinked     = errors.New("a file with a second hard link")
)

// A KindError reports that the file at Path is of the wrong kind. Err is
// ErrNotRegular, ErrDirectory, ErrSymlink or ErrLinked.
type KindError struct {
	Path string
	Err  error
}

func (e *KindError) Error() string { return e.Path + " is " + e.Err.Error() + "; remove it" }

// Unwrap returns Err.
func (e *KindError) Unwrap() error { return e.Err }

func isKind(err error) bool {
	return err == ErrNotRegular || err == ErrDirectory || err == ErrSymlink || err == ErrLinked
}

// openFlags are added to the flags of every open: do not follow a symbolic link, do
// not block on a FIFO, do not acquire a controlling terminal.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC //fault:no-follow

// A File is an open regular file. All errors of its methods are *fs.PathErrors. A
// nil File is closed; the zero File must not be used. A File is not safe for
// concurrent use.
type File struct {
	fd   int // -1 if it is closed
	path string
	id   ID
	dir  ID
}

// OpenFile opens the file called name by the rules in the package comment. flags
// are those of open(2). If mode is not 0, OpenFile sets the mode of a new or
// existing file to it, whatever the umask is. It cannot change the mode of another
// user's file, and ignores that. The error wraps ErrNotRegular, ErrDirectory,
// ErrSymlink, ErrLinked or an errno.
func (d *Dir) OpenFile(name string, flags int, mode uint32) (*File, error) {
	path := d.join(name)
	fd, err := RetryInt(func() (int, error) { return unix.Openat(d.fd, name, flags|openFlags, mode) })
	if err != nil {
		return nil, pathError("open", path, openCause(err))
	}
	f := &File{fd: fd, path: path, dir: d.id}
	st, err := f.Stat()
	if err == nil {
		err = CheckRegular(&st, flags&unix.O_ACCMODE != unix.O_RDONLY)
	}
	if err != nil {
		f.Close()
		return nil, pathError("open", path, Cause(err))
	}
	f.id = IDOf(&st)
	if mode != 0 && st.Mode&0o777 != mode {
		_ = unix.Fchmod(fd, mode) // fails for another user's file
	}
	return f, nil
}

// chmodTime is how long Open waits before it tries again to open a file that may not be
// read. A writer with a umask such as 077 makes a new file readable immediately after it
// has created the file, but a reader may run in between.
const chmodTime = 20 * time.Millisecond

// Open opens the file called name in the directory dir for reading, by the same
// rules. It is for readers that do not hold a Dir open. It creates nothing. If the file
// may not be read, Open tries once more.
func Open(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, unix.O_RDONLY|openFlags, 0)
	if errors.Is(err, unix.EACCES) {
		time.Sleep(chmodTime)
		f, err = os.OpenFile(path, unix.O_RDONLY|openFlags, 0)
	}
	if err != nil {
		return nil, pathError("open", path, openCause(Cause(err)))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = pathError("open", path, ErrNotRegular)
		if info.IsDir() {
			err = pathError("open", path, ErrDirectory)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openCause replaces ELOOP, which open(2) returns for a symbolic link because of
// O_NOFOLLOW, EISDIR, and ENXIO, which it returns for a socket.
func openCause(err error) error {
	switch err {
	case unix.ELOOP:
		return ErrSymlink
	case unix.EISDIR:
		return ErrDirectory
	case unix.ENXIO:
		return ErrNotRegular
	}
	return err
}

// CheckRegular returns ErrDirectory or ErrNotRegular if st does not describe a regular
// file. If write is true, it returns ErrLinked for a file with a second link.
func CheckRegular(st *unix.Stat_t, write bool) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return ErrDirectory
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return ErrNotRegular
	case write && st.Nlink > 1: //fault:no-second-link
		return ErrLinked
	}
	return nil
}

// ID returns the ID of the file.
func (f *File) ID() ID { return f.id }

// Dir returns the ID of the directory in which the file was opened.
func (f *File) Dir() ID { return f.dir }

// Path returns the path at which the file was opened.
func (f *File) Path() string { return f.path }

// Fd returns the descriptor.
func (f *File) Fd() int { return f.fd }

// Close closes the file. It does nothing if f is nil or closed.
func (f *File) Close() {
	if f != nil && f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// Stat returns the file status.
func (f *File) Stat() (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstat(f.fd, &st) })
	return st, pathError("stat", f.path, err)
}

// Write appends text with one call of write(2). If that writes only part of the text,
// Write returns an error. To find the cause, such as a full disk, it tries once to write
// the rest.
func (f *File) Write(text []byte) (int, error) {
	n, err := RetryInt(func() (int, error) { return unix.Write(f.fd, text) })
	if err == nil && n < len(text) {
		_, err = unix.Write(f.fd, text[n:])
		if err == nil {
			err = io.ErrShortWrite
		}
	}
	return max(n, 0), pathError("write", f.path, err)
}

// WriteAt writes text at an offset with one call of pwrite(2). It returns
// io.ErrShortWrite if that writes only part of the text.
func (f *File) WriteAt(text []byte, at int64) (int, error) {
	n, err := RetryInt(func() (int, error) { return unix.Pwrite(f.fd, text, at) })
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return max(n, 0), pathError("write", f.path, err)
}

// ReadAt fills text from an offset. It returns io.ErrUnexpectedEOF if the file
// ends too early.
func (f *File) ReadAt(text []byte, at int64) (int, error) {
	read := 0
	for read < len(text) {
		n, err := f.ReadUpTo(text[read:], at+int64(read))
		if err == nil && n == 0 {
			err = pathError("read", f.path, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return read, err
		}
		read += n
	}
	return read, nil
}

// ReadUpTo reads at most len(text) bytes from an offset with one call of pread(2). It
// returns 0 at the end of the file.
func (f *File) ReadUpTo(text []byte, at int64) (int, error) {
	n, err := RetryInt(func() (int, error) { return unix.Pread(f.fd, text, at) })
	return max(n, 0), pathError("read", f.path, err)
}

// ReadAll reads the whole file. It returns ErrTooLarge if the file has more than
// maxSize bytes.
func (f *File) ReadAll(maxSize int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size > maxSize {
		return nil, pathError("read", f.path, ErrTooLarge)
	}
	text := make([]byte, st.Size)
	_, err = f.ReadAt(text, 0)
	return text, err
}

// ErrTooLarge reports that a file is larger than the maximum given to ReadAll.
var ErrTooLarge = errors.New("the file is too large; move it to another directory")

// Truncate sets the size of the file in bytes.
func (f *File) Truncate(size int64) error {
	err := Retry(func() error { return unix.Ftruncate(f.fd, size) })
	return pathError("truncate", f.path, err)
}

// Sync makes the content of the file durable. After an error the File must not be
// used again: the kernel reports a lost page only once, so a second Sync could
// succeed although the page is lost (fsync(2)).
func (f *File) Sync() error {
	err := Retry(func() error { return unix.Fdatasync(f.fd) })
	return pathError("fdatasync", f.path, err)
}
