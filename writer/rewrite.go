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
// after it N is the old log.
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
	err = f.convertTo(file, convert)
	if err == nil {
		err = f.Exchange(name, f.name)
	}
	if err != nil {
		_ = f.Remove(name) // only an unfinished copy
		return "", err
	}
	f.close()
	return name, f.Dir.Sync()
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

// createBackup creates the file under whose name the old log will be kept. It
// picks an unused name, so a repair never replaces the file that an earlier
// repair kept.
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
