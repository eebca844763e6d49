package writer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// Rewrite replaces the log by the text that convert makes from it. convert
// returns the last seq that it wrote, or 0 for none. Rewrite keeps the complete
// old log in the same directory and returns its name. The caller holds the lock
// and has called Repair. Rewrite makes these system calls, where N is the first
// unused name of the form events.jsonl.damagedN:
//
//	openat(N, O_CREAT|O_EXCL) write… fdatasync(N) pwrite(seq) fdatasync(seq) renameat2(N, log, RENAME_EXCHANGE) fsync(dir)
//
// The log changes only in renameat2: before it N is the unfinished new log,
// after it N is the old log. A file system without RENAME_EXCHANGE needs a copy
// of the old log, C, which is the next unused name. These calls then replace
// renameat2:
//
//	openat(C, O_CREAT|O_EXCL) write… fdatasync(C) fsync(dir) renameat(N, log)
func (l *EventLog) Rewrite(convert func(from io.Reader, to io.Writer) (last uint64, err error)) (kept string, err error) {
	if !l.locked {
		return "", pathError("rewrite", l.Path, errNotLocked)
	}
	return l.lines.rewrite(l.Path, func(from io.Reader, to io.Writer) error {
		last, err := convert(from, to)
		if err != nil || last == 0 {
			return err
		}
		return l.seq.write(last) // before the log, so that no writer repeats a seq after a crash
	})
}

// Rewrite replaces the file by the text that convert makes from it, and returns
// the name of the old file, as EventLog.Rewrite does. The caller holds the lock
// of the events log and has called RepairTail.
func (l *RejectLog) Rewrite(convert func(from io.Reader, to io.Writer) error) (kept string, err error) {
	return l.lines.rewrite(l.Path, convert)
}

// rewrite replaces the file at path by a converted copy.
func (f *lineFile) rewrite(path string, convert func(from io.Reader, to io.Writer) error) (kept string, err error) {
	if _, err := f.prepare(path); err != nil {
		return "", err
	}
	file, name, err := f.createBackup()
	if err != nil {
		return "", err
	}
	defer file.Close()
	if f.lock != nil { // writers wait until the name of the new log is durable
		_, _ = dirfs.TryLock(file.Fd(), unix.LOCK_EX)
	}
	err = f.convertTo(file, convert)
	if err == nil {
		kept, err = f.replaceBy(name)
	}
	if err != nil {
		f.removeCopy(name, file.ID()) // only an unfinished copy
		return "", err
	}
	f.close()
	return kept, f.Dir.Sync()
}

// replaceBy gives the file called name the name of the log, and returns the new name
// of the old log. The content of that file is durable.
func (f *lineFile) replaceBy(name string) (kept string, err error) {
	if err := f.checkUnchanged(); err != nil {
		return "", err
	}
	err = f.Exchange(name, f.name)
	if !hasNoExchange(err) {
		return name, err
	}
	backup, kept, err := f.createBackup()
	if err != nil {
		return "", err
	}
	defer backup.Close()
	err = f.convertTo(backup, func(from io.Reader, to io.Writer) error {
		_, err := io.Copy(to, from)
		return err
	})
	if err == nil {
		err = f.Dir.Sync()
	}
	if err == nil {
		err = f.checkUnchanged()
	}
	if err == nil {
		err = f.Rename(name, f.name)
	}
	if err != nil && f.hasName() {
		f.removeCopy(kept, backup.ID())
	}
	return kept, err
}

// hasNoExchange reports whether an error of Exchange means that the file system or the
// kernel cannot exchange two names. 9p, NFS, exfat and FUSE cannot.
func hasNoExchange(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// checkUnchanged returns an error if another process has appended to the file since
// prepare, without the lock.
func (f *lineFile) checkUnchanged() error {
	st, err := f.file.Stat()
	if err == nil && st.Size != f.end {
		err = pathError("rewrite", f.path, errAppended)
	}
	return err
}

var errAppended = errors.New("another process has appended without the lock; run the repair again")

// hasName reports whether the open file is still the one at the path.
func (f *lineFile) hasName() bool {
	st, err := f.StatFile(f.name)
	return err == nil && dirfs.IDOf(&st) == f.file.ID()
}

// removeCopy removes a file that this repair has created, unless another file now has
// the name. That may be the old log, if an exchange took effect but returned an error.
func (f *lineFile) removeCopy(name string, id dirfs.ID) {
	st, err := f.StatFile(name)
	if err == nil && dirfs.IDOf(&st) == id {
		_ = f.Remove(name)
	}
}

// convertTo writes the converted copy to a file and makes it durable.
func (f *lineFile) convertTo(file *dirfs.File, convert func(from io.Reader, to io.Writer) error) error {
	to := bufio.NewWriterSize(file, chunk)
	if err := convert(io.NewSectionReader(f.file, 0, f.end), to); err != nil {
		return err
	}
	if err := to.Flush(); err != nil {
		return err
	}
	return file.Sync()
}

// maxBackups is how many old files repairs may leave in the directory. More than
// that suggests that a script repairs in a loop.
const maxBackups = 1000

// createBackup creates a file whose name is the one under which the old log will be
// kept. The name is unused, so a repair never replaces a file that an earlier repair
// kept.
func (f *lineFile) createBackup() (file *dirfs.File, name string, err error) {
	for n := 1; n <= maxBackups; n++ {
		name = fmt.Sprintf("%s.damaged%d", f.name, n)
		file, err = f.OpenFile(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, artifactMode)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return file, name, err
}
