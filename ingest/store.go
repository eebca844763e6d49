package ingest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// A store receives what a committer writes: a state directory, or the output of
// a dry run. Its methods behave as the methods of package writer that stateDir calls.
type store interface {
	open() error
	status() (*artifact.Status, error)
	result() (*artifact.Result, error)
	otherWriters() string
	wasReplaced() bool
	free() (int64, error)

	lockWriter() error
	clearDead() error
	unlockWriter(keep bool)
	replacedDead() bool
	aliveRun() (pid int)

	lock() (unlock func(), err error)
	appendEvents(*writer.Batch) error
	appendLeadingEvents(b *writer.Batch, reserve int64) (*writer.Batch, error)
	appendNumbered(*writer.NumberedBatch) error
	rotateError() error
	appendRejects(lines []byte) error
	appendLeadingRejects(lines []byte, reserve int64) (rest []byte, err error)
	endBoot(id string) error
	rotate() error
	resultVersion() writer.Version
	copyPrevious() error
	replaceResult(*artifact.Result) error
	replaceStatus(*artifact.Status) error
	movePrevious() error
}

func newStore(s *Stream) store {
	if s.DryRun != nil {
		return &dryRun{dir: s.Dir, to: s.DryRun}
	}
	d := stateDir{dir: s.Dir, kind: writerlock.Ingest, bootID: s.BootID}
	switch {
	case s.Supervisor != nil:
		d.kind = writerlock.Run
	case s.Source != nil:
		d.kind = writerlock.Rebuild
	}
	return d
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// isLasting reports whether waiting does not help against an error of open. A full
// disk, a file system that is read-only during boot, and too many open files are not
// lasting. open creates a missing directory, so its ErrNotExist means that the file
// system does not allow new directories, for example /proc.
func isLasting(err error) bool {
	for _, lasting := range []error{fs.ErrPermission, fs.ErrNotExist, dirfs.ErrDangling,
		unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, lasting) {
			return true
		}
	}
	return false
}

// A stateDir writes to a state directory.
type stateDir struct {
	dir    *writer.Dir
	kind   writerlock.Kind
	bootID string
}

func (s stateDir) open() error                       { return s.dir.Open() }
func (s stateDir) status() (*artifact.Status, error) { return s.dir.Status.Read() }
func (s stateDir) result() (*artifact.Result, error) { return s.dir.Result.Read() }
func (s stateDir) otherWriters() string              { return s.dir.OtherWriters() }
func (s stateDir) wasReplaced() bool                 { return s.dir.WasReplaced() }
func (s stateDir) free() (int64, error)              { return s.dir.Free() }
func (s stateDir) lockWriter() error                 { return s.dir.LockWriter(s.kind, s.bootID) }
func (s stateDir) clearDead() error                  { return s.dir.WriterLock.ClearDead() }
func (s stateDir) unlockWriter(keep bool)            { s.dir.WriterLock.Release(keep) }
func (s stateDir) replacedDead() bool                { return s.dir.WriterLock.ReplacedDead() }

// aliveRun returns the PID of a run that writes to the directory; 0 if there is none, or
// that is unknown.
func (s stateDir) aliveRun() (pid int) {
	writers, _ := writerlock.Read(filepath.Dir(s.dir.Status.Path), s.bootID)
	for _, w := range writers {
		if w.Kind == writerlock.Run && w.State == writerlock.Alive {
			return w.PID
		}
	}
	return 0
}

func (s stateDir) lock() (unlock func(), err error)   { return s.dir.Events.Lock() }
func (s stateDir) appendEvents(b *writer.Batch) error { return s.dir.Events.Append(b) }
func (s stateDir) appendLeadingEvents(b *writer.Batch, reserve int64) (*writer.Batch, error) {
	return s.dir.Events.AppendLeading(b, reserve)
}
func (s stateDir) appendNumbered(b *writer.NumberedBatch) error {
	return s.dir.Events.AppendNumbered(b)
}
func (s stateDir) rotateError() error               { return s.dir.Events.RotateError() }
func (s stateDir) appendRejects(lines []byte) error { return s.dir.Rejects.Append(lines) }
func (s stateDir) appendLeadingRejects(lines []byte, reserve int64) (rest []byte, err error) {
	return s.dir.Rejects.AppendLeading(lines, reserve)
}
func (s stateDir) endBoot(id string) error                 { return s.dir.Boots.Append(id) }
func (s stateDir) rotate() error                           { return s.dir.Events.Rotate() }
func (s stateDir) resultVersion() writer.Version           { return s.dir.ResultVersion() }
func (s stateDir) copyPrevious() error                     { return s.dir.Result.CopyToPrevious() }
func (s stateDir) replaceResult(r *artifact.Result) error  { return s.dir.Result.Replace(r) }
func (s stateDir) replaceStatus(st *artifact.Status) error { return s.dir.Status.Replace(st) }
func (s stateDir) movePrevious() error                     { return s.dir.Result.MoveToPrevious() }

// A dryRun prints what a commit would write. It reads the state directory, if
// there is one, and creates nothing.
type dryRun struct {
	dir     *writer.Dir
	to      io.Writer
	lastSeq uint64 // of the events that were printed; 0 before the first

	lastStatus *artifact.Status // that was printed last; nil if none was
	moved      bool             // the result of the previous run would no longer be in its place
}

// exists reports whether the state directory exists. A dry run checks that before it
// reads a file, because the read methods of package writer create a missing directory.
func (d *dryRun) exists() bool {
	return unix.Access(filepath.Dir(d.dir.Status.Path), unix.F_OK) == nil
}

func (d *dryRun) open() error {
	if !d.exists() {
		return nil
	}
	_, err := d.dir.Status.Read()
	if isLasting(err) && !isNotExist(err) {
		return err
	}
	return nil
}

func (d *dryRun) status() (*artifact.Status, error) {
	if d.lastStatus != nil {
		return d.lastStatus, nil
	}
	if !d.exists() {
		return nil, fs.ErrNotExist
	}
	return d.dir.Status.Read()
}

func (d *dryRun) result() (*artifact.Result, error) {
	if d.moved || !d.exists() {
		return nil, fs.ErrNotExist
	}
	return d.dir.Result.Read()
}

func (d *dryRun) otherWriters() string                 { return d.dir.OtherWriters() }
func (d *dryRun) wasReplaced() bool                    { return false }
func (d *dryRun) free() (int64, error)                 { return math.MaxInt64, nil }
func (d *dryRun) lockWriter() error                    { return nil }
func (d *dryRun) clearDead() error                     { return nil }
func (d *dryRun) unlockWriter(bool)                    {}
func (d *dryRun) replacedDead() bool                   { return false }
func (d *dryRun) aliveRun() int                        { return 0 }
func (d *dryRun) resultVersion() (none writer.Version) { return none }
func (d *dryRun) lock() (unlock func(), err error)     { return func() {}, nil }

// appendEvents numbers the events as writer.EventLog.Append would, and prints them.
func (d *dryRun) appendEvents(b *writer.Batch) error {
	if d.lastSeq == 0 && d.exists() {
		seq, err := d.dir.Events.LastSeq()
		if err != nil {
			return err
		}
		d.lastSeq = seq
	}
	b.Number(d.lastSeq + 1)
	d.lastSeq += uint64(b.Len())
	d.print(d.dir.Events.Path, b.Text())
	return nil
}

// appendLeadingEvents and appendLeadingRejects are never called: a dry run is never out
// of space.
func (d *dryRun) appendLeadingEvents(*writer.Batch, int64) (*writer.Batch, error) {
	return new(writer.Batch), nil
}
func (d *dryRun) appendLeadingRejects([]byte, int64) ([]byte, error) { return nil, nil }
func (d *dryRun) rotateError() error                                 { return nil }

func (d *dryRun) appendNumbered(b *writer.NumberedBatch) error {
	d.print(d.dir.Events.Path, b.Text())
	return nil
}

func (d *dryRun) appendRejects(lines []byte) error {
	d.print(d.dir.Rejects.Path, lines)
	return nil
}

func (d *dryRun) endBoot(string) error { return nil }
func (d *dryRun) rotate() error        { return nil }

func (d *dryRun) copyPrevious() error { return d.printPrevious() }
func (d *dryRun) movePrevious() error { return d.printPrevious() }

func (d *dryRun) printPrevious() error {
	_, err := d.result()
	if err == nil {
		name := filepath.Base(d.dir.Result.Path)
		fmt.Fprintf(d.to, "==> %s.prev: the current %s\n", name, name)
	}
	d.moved = true
	return nil
}

func (d *dryRun) replaceResult(r *artifact.Result) error {
	d.print(d.dir.Result.Path, r.Append(nil))
	return nil
}

func (d *dryRun) replaceStatus(s *artifact.Status) error {
	d.print(d.dir.Status.Path, s.Append(nil))
	last := *s
	last.Message, last.Details = slices.Clone(s.Message), slices.Clone(s.Details)
	d.lastStatus = &last
	return nil
}

func (d *dryRun) print(path string, text []byte) {
	fmt.Fprintf(d.to, "==> %s\n%s", filepath.Base(path), text)
}
