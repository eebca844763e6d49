package dirfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The reasons for which a file is not opened or replaced. They are returned
// inside a [KindError].
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrDirectory  = errors.New("a directory")
	ErrSymlink    = errors.New("a symbolic link")
	ErrLinked     = errors.New("a file with a second hard link")
)

// A KindError reports that Path is not a file that may be opened. Err is
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

// openFlags are set for every file.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC //fault:no-follow

// A File is an open regular file. Its errors are *fs.PathErrors. The zero File
// is not usable; a nil one is closed. Not for concurrent use.
type File struct {
	fd   int // -1 if it is closed
	path string
	id   ID
	dir  ID
}

// OpenFile opens the file called name, as the package says. If flags ask for
// O_CREAT, mode is the file's mode whatever the umask; it is set again if an
// existing file has another one. The mode of a file of another user is left as
// it is.
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
		_ = unix.Fchmod(fd, mode) // fails for another user's file, whose mode is that user's choice
	}
	return f, nil
}

// Open opens a file for reading by path, by the same rules, for readers that
// hold no directory open. It creates nothing.
func Open(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, unix.O_RDONLY|openFlags, 0)
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

// openCause explains the errno that O_NOFOLLOW gives for a symbolic link, and
// that opening a directory for writing gives (open(2)).
func openCause(err error) error {
	switch err {
	case unix.ELOOP:
		return ErrSymlink
	case unix.EISDIR:
		return ErrDirectory
	}
	return err
}

// CheckRegular checks that st is a regular file and, if it is to be written,
// that it has no second link.
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

// Fd returns the descriptor.
func (f *File) Fd() int { return f.fd }

// Close closes the file.
func (f *File) Close() {
	if f != nil && f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// Stat describes the file.
func (f *File) Stat() (st unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstat(f.fd, &st) })
	return st, pathError("stat", f.path, err)
}

// Write writes text with one call. Less than all of it is an error: the cause,
// such as a full disk, is known only from a call for the rest (write(2)).
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

// WriteAt writes text at an offset with one call.
func (f *File) WriteAt(text []byte, at int64) (int, error) {
	n, err := RetryInt(func() (int, error) { return unix.Pwrite(f.fd, text, at) })
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return max(n, 0), pathError("write", f.path, err)
}

// ReadAt fills text from an offset. A file that ends earlier is an error.
func (f *File) ReadAt(text []byte, at int64) (int, error) {
	read := 0
	for read < len(text) {
		n, err := RetryInt(func() (int, error) { return unix.Pread(f.fd, text[read:], at+int64(read)) })
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return read, pathError("read", f.path, err)
		}
		read += n
	}
	return read, nil
}

// ReadAll reads the whole file, which must not be larger than most bytes.
func (f *File) ReadAll(most int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size > most {
		return nil, pathError("read", f.path, ErrTooLarge)
	}
	text := make([]byte, st.Size)
	_, err = f.ReadAt(text, 0)
	return text, err
}

// ErrTooLarge is returned for a file that is larger than any that can be read.
var ErrTooLarge = errors.New("the file is too large to be read")

// Truncate sets the size.
func (f *File) Truncate(size int64) error {
	err := Retry(func() error { return unix.Ftruncate(f.fd, size) })
	return pathError("truncate", f.path, err)
}

// Sync makes the content durable. After an error the descriptor must not be
// used again: the kernel reports a lost page once, then forgets it (fsync(2),
// ERRORS).
func (f *File) Sync() error {
	err := Retry(func() error { return unix.Fdatasync(f.fd) })
	return pathError("fdatasync", f.path, err)
}
