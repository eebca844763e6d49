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

// artifactMode is the mode of every file but the seq file, whatever the umask:
// the host and the guest's users read them.
const artifactMode = 0o644

// A StatusFile is status.json. Not for concurrent use; several processes may
// replace one at the same time.
type StatusFile struct {
	Path string // required

	current atomicFile
}

// Replace replaces the file by s. When it returns nil, s is durable; when it
// returns an error, the file is the old one or s, complete.
func (f *StatusFile) Replace(s *artifact.Status) error {
	f.current.text = s.Append(f.current.text[:0])
	return f.current.replace(f.Path)
}

// Read returns the status; an error that is fs.ErrNotExist if there is none.
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

// Renumber changes the seq of the status, if it is from, to to, after the event
// got another seq. Everything else stays as it is.
func (f *StatusFile) Renumber(from, to uint64) error { return f.current.renumber(f.Path, from, to) }

// A ResultFile is result.json. Not for concurrent use; several processes may
// replace one at the same time.
type ResultFile struct {
	Path string // required

	current  atomicFile
	previous atomicFile // Path + ".prev"
}

// Replace replaces the file by r, as StatusFile.Replace does.
func (f *ResultFile) Replace(r *artifact.Result) error {
	f.current.text = r.Append(f.current.text[:0])
	f.current.hasPrevious = true
	return f.current.replace(f.Path)
}

// Read returns the result; an error that is fs.ErrNotExist if there is none.
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

// Renumber is as StatusFile.Renumber.
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
	return l.Dir.Sync() // also for what an earlier attempt has renamed
}

// CopyToPrevious copies the result, if there is one, to Path + ".prev", so that
// the next Replace loses nothing and a reader finds a result at any moment.
func (f *ResultFile) CopyToPrevious() error {
	text, err := f.current.read(f.Path, artifact.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.previous.text = text
	return f.previous.replace(f.Path + prevSuffix)
}

// An atomicFile is a file that is only ever replaced as a whole.
type atomicFile struct {
	location
	text        []byte // what to write; kept for its capacity
	swept       bool   // temporaries that a crash left were removed
	hasPrevious bool   // NAME.prev is written too, but seldom: its temporaries are removed here
}

// replace replaces the file at path by f.text with these system calls, as
// renameio makes them relative to the directory's descriptor:
//
//	openat(.NAMEnnn, O_CREAT|O_EXCL) fchmod flock write fsync close renameat fsync(dir)
//
// A crash before renameat leaves the old file and a temporary, which the next
// writer removes; a crash after it leaves the new file.
func (f *atomicFile) replace(path string) error {
	if err := f.open(path); err != nil {
		return err
	}
	if !f.swept {
		f.removeStale() //fault:remove-temporaries
		f.swept = true
	}
	err := f.writeTemporary()
	for attempt := 1; attempt < maxAttempts && wasRemoved(err); attempt++ {
		err = f.writeTemporary()
	}
	if err == nil {
		err = f.Dir.Sync()
	}
	if err != nil {
		f.swept = false // a temporary may be left
		if f.isDirectory() {
			return &dirfs.KindError{Path: path, Err: dirfs.ErrDirectory}
		}
		return pathError("replace", path, dirfs.Cause(err))
	}
	return nil
}

// isDirectory reports whether a directory has the name of the file. os.Root
// reports EEXIST for it, whatever renameat(2) has returned.
func (f *atomicFile) isDirectory() bool {
	st, err := f.StatFile(f.name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// maxAttempts is how often a temporary is written that other writers remove. By
// chance it happens hardly ever more than once.
const maxAttempts = 10

// wasRemoved reports whether err can come from another writer that removed the
// temporary as a stale one in the moment before it was locked.
func wasRemoved(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK)
}

// writeTemporary writes a temporary and renames it. A second descriptor holds a
// lock on it, because renameio closes its own before it renames: a temporary
// without a lock is one that a crash left.
func (f *atomicFile) writeTemporary() error {
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
	if _, err := t.Write(f.text); err != nil {
		return err
	}
	return t.CloseAtomicallyReplace() //fault:sync-temporary
}

// renumber replaces the seq of the status or result at path, which is valid.
func (f *atomicFile) renumber(path string, from, to uint64) error {
	text, err := f.read(path, artifact.MaxSize)
	if err != nil {
		return err
	}
	f.text = text
	seq := gjson.GetBytes(text, "seq") // the Python command writes status and result on one line
	if seq.Raw == strconv.FormatUint(from, 10) {
		f.text = slices.Concat(text[:seq.Index], strconv.AppendUint(nil, to, 10), text[seq.Index+len(seq.Raw):])
	}
	return f.replace(path)
}
