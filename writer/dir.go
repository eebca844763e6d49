package writer

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// A Dir gives access to the files of one state directory. It is not safe for
// concurrent use by several goroutines; several processes may each use a Dir for
// the same directory.
type Dir struct {
	Events  EventLog
	Rejects RejectLog
	Result  ResultFile
	Status  StatusFile
	Boots   BootList // exists only in a copy, that is, a directory rebuilt from a journal

	WriterLock writerlock.Lock // shows others that this process writes to the directory, see LockWriter

	seen dirfs.ID // the directory that was open at the last call of WasReplaced
}

// The names of the files in a state directory.
const (
	StatusName     = "status.json"
	EventsName     = "events.jsonl"
	ResultName     = "result.json"
	RejectedName   = "rejected.jsonl"
	SeqName        = EventsName + seqSuffix
	OldEventsName  = EventsName + oldSuffix
	PrevResultName = ResultName + prevSuffix
	BootsName      = EventsName + ".boots"
	WriterLockName = writerlock.Name
)

const (
	seqSuffix  = ".seq"  // the seq file, which all writers lock
	oldSuffix  = ".1"    // the log that the last rotation renamed
	prevSuffix = ".prev" // the result of the previous run
	tornSuffix = ".torn" // the torn lines that were cut off a log
)

// In returns the Dir for the state directory at path. It does no I/O: the first
// read or write opens the directory, and creates it if it is missing.
func In(path string) *Dir {
	d := new(Dir)
	d.Events.Path = filepath.Join(path, EventsName)
	d.Rejects.Path = filepath.Join(path, RejectedName)
	d.Result.Path = filepath.Join(path, ResultName)
	d.Status.Path = filepath.Join(path, StatusName)
	d.Boots.Path = filepath.Join(path, BootsName)
	shared := new(dirfs.Dir)
	for _, l := range d.locations() {
		l.Dir = shared
	}
	return d
}

func (d *Dir) locations() []*location {
	return []*location{&d.Events.lines.location, &d.Events.seq.location, &d.Rejects.lines.location,
		&d.Result.current.location, &d.Result.previous.location, &d.Status.current.location, &d.Boots.lines.location}
}

// Open opens the state directory, creates it if it is missing, and checks that
// this process may create files in it. It creates no file. Calling it is optional:
// every read and write opens the directory.
func (d *Dir) Open() error {
	l := &d.Status.current.location
	if err := l.open(d.Status.Path); err != nil {
		return err
	}
	return l.CheckWritable()
}

// Free returns how many bytes of the file system are free, as dirfs.Dir.Free does. The
// directory must be open.
func (d *Dir) Free() (int64, error) { return d.Status.current.Dir.Free() }

// OtherWriters names the users, other than root and the user of this process,
// that may write to the state directory. They can delete or forge its files. It
// returns "" if there are none, or if the directory is not open.
func (d *Dir) OtherWriters() string {
	dir := d.Status.current.Dir
	if dir == nil || !dir.IsOpen() {
		return ""
	}
	st, err := dir.Stat()
	if err != nil {
		return ""
	}
	return OtherWriters(&st, os.Geteuid())
}

// OtherWriters names the users, other than root and the user with the ID uid,
// that may write to the directory that st describes. It returns "" if there are
// none.
func OtherWriters(st *unix.Stat_t, uid int) string {
	switch {
	case st.Mode&0o002 != 0:
		return "every user"
	case st.Mode&0o020 != 0:
		return fmt.Sprintf("group %d", st.Gid)
	case st.Uid != 0 && int(st.Uid) != uid:
		return fmt.Sprintf("user %d", st.Uid)
	}
	return ""
}

// WasReplaced reports whether the open directory differs from that of the last call: the
// earlier one was removed, renamed or mounted over. It makes no system call.
func (d *Dir) WasReplaced() bool {
	dir := d.Status.current.Dir
	if !dir.IsOpen() {
		return false
	}
	before := d.seen
	d.seen = dir.ID()
	return before != d.seen && before != dirfs.ID{}
}

// LockWriter acquires WriterLock, unless it is held in the open directory. Then
// it makes no system call. The directory must be open.
func (d *Dir) LockWriter(kind writerlock.Kind, bootID string) error {
	dir := d.Status.current.Dir
	if !dir.IsOpen() || d.WriterLock.IsHeldIn(dir) {
		return nil
	}
	return d.WriterLock.Acquire(dir, kind, bootID)
}

// A Version identifies what a file contains: it changes when a writer replaces the file.
// The zero Version is that of a missing file.
type Version struct {
	id       dirfs.ID
	modified unix.Timespec
}

// ResultVersion returns the Version of result.json. The directory must be open.
func (d *Dir) ResultVersion() Version {
	dir := d.Status.current.Dir
	if !dir.IsOpen() {
		return Version{}
	}
	st, err := dir.StatFile(ResultName)
	if err != nil {
		return Version{}
	}
	return Version{dirfs.IDOf(&st), st.Mtim}
}

// Close closes all files. It releases the lock, or stops waiting for it. A process need
// not call Close before it exits. A later use opens the files again.
func (d *Dir) Close() {
	d.Events.lines.close()
	d.Events.seq.close()
	d.Rejects.lines.close()
	d.Boots.lines.close()
	d.WriterLock.Release(false)
	for _, l := range d.locations() {
		l.Dir.Close()
	}
}

// A location is the path of a file, with its open directory, which several
// locations may share. The zero location is ready to use.
type location struct {
	*dirfs.Dir
	path string // of the file
	name string // the last element of path
}

// open opens the directory of the file at path. It does not open the file.
func (l *location) open(path string) error {
	if l.path != path {
		l.path, l.name = path, filepath.Base(path)
	}
	parent := filepath.Dir(path)
	elsewhere := l.Dir != nil && l.Dir.Path() != "" && l.Dir.Path() != parent
	if l.Dir == nil || elsewhere {
		l.Dir = new(dirfs.Dir)
	}
	return l.Dir.Open(parent)
}

// read returns the content of the file at path. It returns dirfs.ErrTooLarge for
// a file of more than maxSize bytes.
func (l *location) read(path string, maxSize int64) ([]byte, error) {
	if err := l.open(path); err != nil {
		return nil, err
	}
	f, err := l.OpenFile(l.name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadAll(maxSize)
}
