package verify

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// A Repaired directory.
type Repaired struct {
	Mended []Finding
	Kept   []string // files that hold what was taken out
	Report          // of what is left
}

// A MendError is for what could be read and could not be mended. What stands there has
// lost nothing.
type MendError struct{ Err error }

func (e *MendError) Error() string { return e.Err.Error() }
func (e *MendError) Unwrap() error { return e.Err }

// Repair mends what can be mended in the state directory at path, and looks at it
// again. It holds the lock of all writers from the look that it acts on to the last.
func Repair(path string) (*Repaired, error) {
	first, err := Dir(path) // before the lock, for that mends the seq file's mode
	if err != nil {
		return nil, err
	}
	r, err := repair(path)
	if err != nil {
		return nil, &MendError{err}
	}
	for _, f := range first.Findings {
		if f.Mendable && !slices.Contains(r.Findings, f) {
			r.Mended = append(r.Mended, f)
		}
	}
	return r, nil
}

// repair does all of it under the lock.
func repair(path string) (*Repaired, error) {
	dir := writer.In(path)
	defer dir.Close()
	if exists(path, writer.EventsName) || exists(path, writer.SeqName) {
		unlock, err := dir.Events.Lock()
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	before, err := look(path, unlocked)
	if err != nil {
		return nil, err
	}
	r := new(Repaired)
	if err := r.mend(before, dir); err != nil {
		return nil, err
	}
	after, err := look(path, unlocked)
	if err != nil {
		return nil, err
	}
	r.Report = after.Report
	return r, nil
}

func unlocked(string) (unlock func(), err error) { return func() {}, nil }

func exists(dir, name string) bool { return size(dir, name) >= 0 }

// size returns the size of a file, or -1 if there is none.
func size(dir, name string) int64 {
	info, err := os.Lstat(filepath.Join(dir, name))
	if err != nil {
		return -1
	}
	return info.Size()
}

// mend does what the next writer would do, and then what it would not.
func (r *Repaired) mend(c *check, dir *writer.Dir) error {
	if !slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Mendable }) {
		return nil
	}
	if err := dir.RemoveTemporaries(); err != nil {
		return err
	}
	m := remaking{last: c.oldLast, told: &c.told}
	events := func(from io.Reader, to io.Writer) (uint64, error) { return m.remake(from, to) }
	err := r.log(c, writer.EventsName, dir.Events.Repair, func() (string, error) { return dir.Events.Rewrite(events) })
	if err == nil {
		err = r.log(c, writer.RejectedName, dir.Rejects.RepairTail, func() (string, error) { return dir.Rejects.Rewrite(remakeRejects) })
	}
	if err != nil {
		return err
	}
	if err := c.renumber(dir); err != nil {
		return err
	}
	return c.setModes()
}

// renumber has status and result tell of their events by the seqs that these have
// now.
func (c *check) renumber(dir *writer.Dir) error {
	var errs [2]error
	if t := &c.told[0]; t.now != 0 && t.now != t.seq {
		errs[0] = dir.Status.Renumber(t.seq, t.now)
	}
	if t := &c.told[1]; t.now != 0 && t.now != t.seq {
		errs[1] = dir.Result.Renumber(t.seq, t.now)
	}
	return errors.Join(errs[:]...)
}

// log mends one file of lines, if it is there.
func (r *Repaired) log(c *check, name string, repair func() error, rewrite func() (string, error)) error {
	if c.files[name] == nil {
		return nil
	}
	torn := size(c.dir, name+".torn")
	if err := repair(); err != nil {
		return err
	}
	if size(c.dir, name+".torn") != torn {
		r.Kept = append(r.Kept, name+".torn")
	}
	if !c.unsound[name] {
		return nil
	}
	kept, err := rewrite()
	if err == nil {
		r.Kept = append(r.Kept, kept)
	}
	return err
}

var errSpent = errors.New("no seq is left for the lines that have one twice")

// A remaking copies the events of a log whose seqs are to be higher than last. What
// is no event, or the line before once more, is left out. An event whose seq does not
// rise gets the next one; one that is an event in its normal form only gets that.
type remaking struct {
	last uint64
	told *[2]named

	reader artifact.Decoder
	to     io.Writer
	wrote  bool
	before []byte // the last line, in normal form
}

// remake returns the last seq that it wrote, 0 if none.
func (m *remaking) remake(from io.Reader, to io.Writer) (uint64, error) {
	m.to = to
	if err := each(&history.Lines{From: from}, m.line); err != nil || !m.wrote {
		return 0, err
	}
	return m.last, nil
}

func (m *remaking) line(ln *history.Line) error {
	e, altered := m.reader.Event(ln.Text)
	if ln.Long || e == nil || bytes.Equal(m.reader.Normal(), m.before) {
		return nil
	}
	m.before = append(m.before[:0], m.reader.Normal()...)
	text, seq := ln.Text, e.Seq
	if seq <= m.last {
		if m.last == math.MaxUint64 {
			return errSpent
		}
		seq = m.last + 1
	}
	if seq != e.Seq || altered != nil {
		text = renumbered(&m.reader, seq)
	}
	for i := range m.told {
		if t := &m.told[i]; t.seq > 0 && e.Seq == t.likely && t.says(e) {
			t.now = seq
		}
	}
	m.last, m.wrote = seq, true
	return writeLine(m.to, text)
}

func writeLine(to io.Writer, text []byte) error {
	_, err := to.Write(text)
	if err == nil {
		_, err = to.Write([]byte{'\n'})
	}
	return err
}

// renumbered returns the line last read with another seq.
func renumbered(r *artifact.Decoder, seq uint64) []byte {
	line := r.Normal()
	start, end := r.SeqBounds()
	text := strconv.AppendUint(slices.Clone(line[:start]), seq, 10)
	return append(text, line[end:]...)
}

// remakeRejects copies the refused lines that can be read.
func remakeRejects(from io.Reader, to io.Writer) error {
	var reader artifact.Decoder
	return each(&history.Lines{From: from}, func(ln *history.Line) error {
		if ln.Long || reader.Reject(ln.Text) != nil {
			return nil
		}
		return writeLine(to, ln.Text)
	})
}

// setModes gives the files the modes that they should have.
func (c *check) setModes() error {
	for _, name := range names {
		if c.files[name] == nil || c.files[name].moded(modeOf(name)) {
			continue
		}
		f, err := dirfs.Open(c.dir, name)
		if err != nil {
			return err
		}
		err = f.Chmod(modeOf(name))
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
