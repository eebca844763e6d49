package writer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// Repair puts right at once what the next append would: a torn tail, the file's
// mode, the seq file. The caller holds the lock.
func (l *EventLog) Repair() error {
	if err := l.Append(new(Batch)); err != nil {
		return err
	}
	if text, err := l.seqText(); err != nil || string(text) == fmt.Sprintln(l.last) {
		return err
	}
	return l.writeSeq(l.last)
}

// Rewrite replaces the log by what remake makes of it, which returns the last seq that
// it wrote. The log that stood there is kept, whole, beside it; its name is
// returned. The caller holds the lock and has called Repair. With these system calls,
// where U is the first name events.jsonl.unsoundN that is free:
//
//	openat(U, O_CREAT|O_EXCL) write… fdatasync(U) pwrite(seq) fdatasync(seq) renameat2(U, log, RENAME_EXCHANGE) fsync(dir)
//
// The exchange is the one moment at which anything changes: before it U is an
// unfinished copy, after it U is the old log.
func (l *EventLog) Rewrite(remake func(from io.Reader, to io.Writer) (last uint64, err error)) (kept string, err error) {
	if !l.locked {
		return "", pathError("rewrite", l.Path, errNotLocked)
	}
	return l.lines.rewrite(l.Path, func(from io.Reader, to io.Writer) error {
		last, err := remake(from, to)
		if err != nil || last == 0 {
			return err
		}
		return l.writeSeq(last) // first: a writer that trusts it alone must not repeat a number
	})
}

// Repair moves a torn tail aside, as the next append would. The caller holds the
// lock of the events log.
func (l *RejectLog) Repair() error {
	l.lines.whole = func([]byte) bool { return false }
	_, err := l.lines.ready(l.Path)
	return err
}

// Rewrite is as that of the events log.
func (l *RejectLog) Rewrite(remake func(from io.Reader, to io.Writer) error) (kept string, err error) {
	return l.lines.rewrite(l.Path, remake)
}

// rewrite exchanges the file at path for a copy of it.
func (j *jsonl) rewrite(path string, remake func(from io.Reader, to io.Writer) error) (kept string, err error) {
	if _, err := j.ready(path); err != nil {
		return "", err
	}
	f, name, err := j.createUnsound()
	if err != nil {
		return "", err
	}
	defer f.close()
	to := bufio.NewWriterSize(wholeWrites{f}, chunk)
	if err = remake(io.NewSectionReader(readsAt{j.file}, 0, j.end), to); err == nil {
		err = to.Flush()
	}
	if err == nil {
		err = f.sync()
	}
	if err == nil {
		err = j.exchange(name, j.name)
	}
	if err != nil {
		_ = unix.Unlinkat(j.fd, name, 0) // a copy: nothing is lost with it
		return "", err
	}
	j.forget()
	return name, j.sync()
}

// maxUnsound is how many logs of former repairs may stand there: more are a loop.
const maxUnsound = 1000

// createUnsound makes the file that the old log takes the name of: one that nothing
// else uses, so that no repair replaces what another one kept.
func (j *jsonl) createUnsound() (f *file, name string, err error) {
	for n := 1; n <= maxUnsound; n++ {
		name = fmt.Sprintf("%s.unsound%d", j.name, n)
		f, err = j.openFile(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, artifactMode)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, name, err
}

// exchange swaps the files that two names in the directory bear.
func (p *place) exchange(a, b string) error {
	err := retry(func() error { return unix.Renameat2(p.fd, a, p.fd, b, unix.RENAME_EXCHANGE) })
	return pathError("exchange", p.sibling(b), err)
}

// readsAt reads a file as io.SectionReader wants it.
type readsAt struct{ f *file }

func (r readsAt) ReadAt(text []byte, at int64) (int, error) {
	return len(text), r.f.readAt(text, at)
}

// wholeWrites writes to a file.
type wholeWrites struct{ f *file }

func (w wholeWrites) Write(text []byte) (int, error) { return len(text), w.f.write(text) }

// Renumber has the status tell of its event by another seq, after a Rewrite that
// gave it one. All else stays as it is.
func (f *StatusFile) Renumber(from, to uint64) error { return f.whole.renumber(f.Path, from, to) }

// Renumber is as that of the status.
func (f *ResultFile) Renumber(from, to uint64) error { return f.whole.renumber(f.Path, from, to) }

func (w *wholeFile) renumber(path string, from, to uint64) error {
	text, err := readWhole(&w.place, path)
	if err != nil {
		return err
	}
	w.text = text
	seq := gjson.GetBytes(text, "seq") // of any writer's form: on one line too
	if seq.Raw == strconv.FormatUint(from, 10) {
		w.text = slices.Concat(text[:seq.Index], strconv.AppendUint(nil, to, 10), text[seq.Index+len(seq.Raw):])
	}
	return w.replace(path)
}

// Stale returns the names of the temporaries that a crash left, which the next
// writer removes. It looks at the directory of the status, which must be there.
func (d *Dir) Stale() (names []string, err error) {
	err = d.temporaries(func(w *wholeFile, name string) {
		if f, err := w.openFile(name, unix.O_RDONLY, 0); err == nil {
			defer f.close()
			if unix.Flock(f.fd, unix.LOCK_SH|unix.LOCK_NB) == nil {
				names = append(names, name)
			}
		}
	})
	return names, err
}

// Sweep removes the temporaries that a crash left, as the next writer would.
func (d *Dir) Sweep() error {
	return d.temporaries((*wholeFile).removeStale)
}

// temporaries calls found for each temporary of the status and the result.
func (d *Dir) temporaries(found func(w *wholeFile, name string)) error {
	d.Result.whole.keeps = true
	if err := errors.Join(d.Status.whole.open(d.Status.Path), d.Result.whole.open(d.Result.Path)); err != nil {
		return err
	}
	for _, w := range []*wholeFile{&d.Result.whole, &d.Status.whole} {
		names, err := readNames(w)
		if err != nil {
			return err
		}
		for _, name := range names {
			if w.isTemporary(name) {
				found(w, name)
			}
		}
	}
	return nil
}

// LastSeq returns the seq that the next append goes on from, as far as can be
// told without the lock. It changes nothing; the directory must be there.
func (l *EventLog) LastSeq() (uint64, error) {
	if err := l.lines.open(l.Path); err != nil {
		return 0, err
	}
	for _, name := range []string{l.lines.name, l.lines.name + oldSuffix} {
		seq, err := l.lines.lastSeqIn(name)
		if err == nil || err != errNoLines && !errors.Is(err, fs.ErrNotExist) {
			return seq, err
		}
	}
	return l.seqAlone()
}

// lastSeqIn returns the seq of the last whole line of a file.
func (j *jsonl) lastSeqIn(name string) (uint64, error) {
	f, err := j.openFile(name, unix.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.close()
	st, err := f.stat()
	if err != nil {
		return 0, err
	}
	return lastSeq(f, st.Size+1) // a last line without its newline counts, too
}

// seqAlone returns what the seq file says, 0 if there is none.
func (l *EventLog) seqAlone() (uint64, error) {
	f, err := l.lines.openFile(l.lines.name+".seq", unix.O_RDONLY, 0)
	if err != nil {
		return 0, nil // none, or not ours to read: a guess will do
	}
	defer f.close()
	look := EventLog{seq: seqLock{file: f}}
	return look.readSeq()
}
