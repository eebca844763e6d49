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

// Rewrite replaces the log by a copy that convert makes of it; convert returns
// the last seq that it wrote. The old log is kept, complete, beside the new one;
// its name is returned. The caller holds the lock and has called Repair. It makes
// these system calls, where N is the first name events.jsonl.damagedN that is
// free:
//
//	openat(N, O_CREAT|O_EXCL) write… fdatasync(N) pwrite(seq) fdatasync(seq) renameat2(N, log, RENAME_EXCHANGE) fsync(dir)
//
// Only the exchange changes anything: before it N is an unfinished copy, after
// it N is the old log.
func (l *EventLog) Rewrite(convert func(from io.Reader, to io.Writer) (last uint64, err error)) (kept string, err error) {
	if !l.locked {
		return "", pathError("rewrite", l.Path, errNotLocked)
	}
	return l.lines.rewrite(l.Path, func(from io.Reader, to io.Writer) error {
		last, err := convert(from, to)
		if err != nil || last == 0 {
			return err
		}
		return l.seq.write(last) // first: a writer that relies on it alone must not repeat a number
	})
}

// Rewrite replaces the file by a copy that convert makes of it, as
// EventLog.Rewrite does. The caller holds the lock of the events log and has
// called RepairTail.
func (l *RejectLog) Rewrite(convert func(from io.Reader, to io.Writer) error) (kept string, err error) {
	return l.lines.rewrite(l.Path, convert)
}

// rewrite exchanges the file at path for a converted copy.
func (f *lineFile) rewrite(path string, convert func(from io.Reader, to io.Writer) error) (kept string, err error) {
	if _, err := f.prepare(path); err != nil {
		return "", err
	}
	file, name, err := f.createKept()
	if err != nil {
		return "", err
	}
	defer file.Close()
	err = f.convertTo(file, convert)
	if err == nil {
		err = f.Exchange(name, f.name)
	}
	if err != nil {
		_ = f.Remove(name) // a copy: nothing is lost with it
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

// maxKept is how many old files of earlier repairs there may be: more are a loop.
const maxKept = 1000

// createKept creates the file that will get the name of the old log. Its name is
// free, so that no repair replaces what an earlier one kept.
func (f *lineFile) createKept() (file *dirfs.File, name string, err error) {
	for n := 1; n <= maxKept; n++ {
		name = fmt.Sprintf("%s.damaged%d", f.name, n)
		file, err = f.OpenFile(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, artifactMode)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return file, name, err
}
