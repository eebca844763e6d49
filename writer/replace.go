package writer

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"

	"github.com/google/renameio/v2"
	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// artifactMode is the mode of every file except the seq file, whatever the umask
// is: the host and all users of the guest may read the files.
const artifactMode = 0o644

// A StatusFile is status.json. It is not safe for concurrent use, but several
// processes may replace the same file at the same time.
type StatusFile struct {
	Path string // required

	current atomicFile
}

// Replace writes s to the file. If it returns nil, s is durable. If it returns an
// error, the file contains either the old status or s, never part of one.
func (f *StatusFile) Replace(s *artifact.Status) error {
	return f.current.replaceParts(f.Path, s.Parts(f.current.buf))
}

// Read returns the status. If the file is missing, errors.Is(err, fs.ErrNotExist)
// is true.
func (f *StatusFile) Read() (*artifact.Status, error) {
	text, err := f.current.read(f.Path, artifact.MaxSize)
	if err != nil {
		return nil, err
	}
	s, err := new(artifact.Decoder).Status(text)
	if s == nil {
		return nil, pathError("read", f.Path, err)
	}
	return s, nil
}

// Renumber changes the seq of the status to the number to, if it is from. It changes
// nothing else. A repair calls it after it has changed the seq of the event.
func (f *StatusFile) Renumber(from, to uint64) error { return f.current.renumber(f.Path, from, to) }

// A ResultFile is result.json. It is not safe for concurrent use, but several
// processes may replace the same file at the same time.
type ResultFile struct {
	Path string // required

	current  atomicFile
	previous atomicFile // Path + ".prev"
}

// Replace writes r to the file, as StatusFile.Replace does.
func (f *ResultFile) Replace(r *artifact.Result) error {
	f.current.hasPrevious = true
	return f.current.replaceParts(f.Path, r.Parts(f.current.buf))
}

// Read returns the result. If the file is missing, errors.Is(err, fs.ErrNotExist)
// is true.
func (f *ResultFile) Read() (*artifact.Result, error) {
	text, err := f.current.read(f.Path, artifact.MaxSize)
	if err != nil {
		return nil, err
	}
	r, err := new(artifact.Decoder).Result(text)
	if r == nil {
		return nil, pathError("read", f.Path, err)
	}
	return r, nil
}

// Renumber changes the seq of the result, as StatusFile.Renumber does.
func (f *ResultFile) Renumber(from, to uint64) error { return f.current.renumber(f.Path, from, to) }

// MoveToPrevious renames the result, if there is one, to Path + ".prev".
func (f *ResultFile) MoveToPrevious() error {
	l := &f.current.location
	if err := l.open(f.Path); err != nil {
		return err
	}
	err := l.Rename(l.name, l.name+prevSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.Dir.Sync() // also if there was nothing to rename: an earlier attempt may have failed here
}

// CopyToPrevious copies the result, if there is one, to Path + ".prev". Unlike
// MoveToPrevious, it leaves result.json in place until the next Replace.
func (f *ResultFile) CopyToPrevious() error {
	text, err := f.current.read(f.Path, artifact.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.previous.replace(f.Path+prevSuffix, text)
}

// An atomicFile is a file that is always replaced as a whole.
type atomicFile struct {
	location
	buf          []byte // memory for the parts of the new content; used again
	text         []byte // memory for the new content if it is small; used again
	removedStale bool   // the stale temporary files have been removed
	hasPrevious  bool   // there may be a NAME.prev: remove its stale temporary files too
}

// maxJoined is the size in bytes up to which the content of a file is written with one
// call. Larger content is written in parts, because a copy would need much memory: a
// message of 1 MiB whose bytes are all escaped has 6 MiB.
const maxJoined = 64 << 10

// replaceParts writes a status or result, as replace does.
func (f *atomicFile) replaceParts(path string, p artifact.Parts) error {
	f.buf = p[0][:0]
	if p.Size() > maxJoined {
		return f.replace(path, p[:]...)
	}
	f.text = p.Append(f.text[:0])
	return f.replace(path, f.text)
}

// replace replaces the file at path by the content, which has one or more parts. Together
// with renameio, it makes these system calls, relative to the descriptor of the directory,
// with one write for each part:
//
//	openat(.NAMEnnn, O_CREAT|O_EXCL) fchmod flock write fsync close renameat fsync(dir)
//
// A crash before renameat leaves the old file and a temporary file, which the
// next writer removes. A crash after renameat leaves the new file.
func (f *atomicFile) replace(path string, content ...[]byte) error {
	if err := f.open(path); err != nil {
		return err
	}
	if !f.removedStale {
		f.removeStale() //fault:remove-temporaries
		f.removedStale = true
	}
	err := f.writeTemporary(content)
	for attempt := 1; attempt < maxAttempts && wasRemoved(err); attempt++ {
		err = f.writeTemporary(content)
	}
	if err == nil {
		err = f.Dir.Sync()
	}
	if err != nil {
		f.removedStale = false // this attempt may have left a temporary file
		if f.isDirectory() {
			return &dirfs.KindError{Path: path, Err: dirfs.ErrDirectory}
		}
		return pathError("replace", path, dirfs.Cause(err))
	}
	return nil
}

// isDirectory reports whether a directory has the name of the file. The error of
// os.Root does not show that: it is always EEXIST, whatever renameat(2) has returned.
func (f *atomicFile) isDirectory() bool {
	st, err := f.StatFile(f.name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// maxAttempts is how many times replace writes its temporary file, if another writer
// removes it each time. In practice that almost never happens twice.
const maxAttempts = 10

// wasRemoved reports whether another writer may have caused err: it may have
// locked or removed the temporary file as stale before this writer locked it.
func wasRemoved(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK)
}

// writeTemporary writes a temporary file and renames it. It holds a lock on the
// temporary file until after the rename, because other writers treat a temporary
// file without a lock as stale. The lock needs a second descriptor, because
// renameio closes its own before it renames.
func (f *atomicFile) writeTemporary(content [][]byte) error {
	root, err := f.Root()
	if err != nil {
		return err
	}
	t, err := renameio.NewPendingFile(f.name,
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
	for _, part := range content {
		if _, err := t.Write(part); err != nil {
			return err
		}
	}
	return t.CloseAtomicallyReplace() //fault:sync-temporary
}

// renumber changes the seq of the status or result at path to the number to, if it is
// from. The file must be valid.
func (f *atomicFile) renumber(path string, from, to uint64) error {
	text, err := f.read(path, artifact.MaxSize)
	if err != nil {
		return err
	}
	seq := gjson.GetBytes(text, "seq")
	if seq.Raw == strconv.FormatUint(from, 10) {
		text = slices.Concat(text[:seq.Index], strconv.AppendUint(nil, to, 10), text[seq.Index+len(seq.Raw):])
	}
	return f.replace(path, text)
}
