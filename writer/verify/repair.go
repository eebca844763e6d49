package verify

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// A RepairReport is the result of a repair.
type RepairReport struct {
	Report              // of the check after the repair
	Repaired  []Finding // of the check before the repair, without those of the check after it
	KeptFiles []string  // names of the files in the directory that keep the removed lines
}

// A RepairError reports a directory that could be read but not repaired. No data is
// lost.
type RepairError struct{ Err error }

func (e *RepairError) Error() string { return e.Err.Error() }
func (e *RepairError) Unwrap() error { return e.Err }

// Repair repairs the repairable problems of the state directory at path, and checks it
// again. It holds the lock of all writers while it does so, and waits for it as
// EventLog.Lock does. The error is a *RepairError, or an error of Dir.
func Repair(path string) (*RepairReport, error) {
	first, err := Dir(path) // before EventLog.Lock, which repairs the mode of the seq file
	if err != nil {
		return nil, err
	}
	r, err := repair(path)
	if err != nil {
		return nil, &RepairError{err}
	}
	for _, f := range first.Findings {
		i := slices.Index(r.Findings, f)
		switch {
		case !f.Repairable:
		case i < 0:
			r.Repaired = append(r.Repaired, f)
		default: // such as a mode that the file system does not change
			r.Findings[i].Repairable = false
		}
	}
	return r, nil
}

// repair checks, repairs and checks again under the lock.
func repair(path string) (*RepairReport, error) {
	dir := writer.In(path)
	defer dir.Close()
	lockWarning := ""
	dir.Events.Warn = func(text string) { lockWarning = text }
	// Without a log no writer needs the lock, and Lock would create the seq file.
	if fileSize(path, writer.EventsName) >= 0 || fileSize(path, writer.SeqName) >= 0 {
		unlock, err := dir.Events.Lock()
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	before, err := check(path, noLock)
	if err != nil {
		return nil, err
	}
	r := &repairer{found: before, dir: dir}
	if slices.ContainsFunc(before.Findings, func(f Finding) bool { return f.Repairable }) {
		if err := r.run(); err != nil {
			return nil, err
		}
	}
	after, err := check(path, noLock)
	if err != nil {
		return nil, err
	}
	if lockWarning != "" {
		after.add(writer.EventsName, 0, false, "%s", lockWarning)
	}
	return &RepairReport{Report: after.Report, KeptFiles: r.keptFiles}, nil
}

// A repairer repairs the findings of a check. Its caller holds the lock.
type repairer struct {
	found     *checker
	dir       *writer.Dir
	keptFiles []string
}

// run repairs everything. The log comes before the status and the result, because
// their events get their seqs there. A crash after any step leaves a directory that
// the next repair completes.
func (r *repairer) run() error {
	if err := r.dir.RemoveTemporaries(); err != nil {
		return err
	}
	if err := r.repairLog(writer.EventsName, r.dir.Events.Repair, r.rewriteEvents); err != nil {
		return err
	}
	if err := r.repairLog(writer.RejectedName, r.dir.Rejects.RepairTail, r.rewriteRejects); err != nil {
		return err
	}
	if err := r.renumber(); err != nil {
		return err
	}
	return r.found.repairModes()
}

// repairLog repairs the end of a file of lines, if it exists, and rewrites the file
// if it has invalid lines.
func (r *repairer) repairLog(name string, repairEnd func() error, rewrite func() (kept string, err error)) error {
	if r.found.files[name] == nil {
		return nil
	}
	torn := name + ".torn"
	before := fileSize(r.found.dir, torn)
	if err := repairEnd(); err != nil {
		return err
	}
	if fileSize(r.found.dir, torn) != before {
		r.keptFiles = append(r.keptFiles, torn)
	}
	if !r.found.needsRewrite[name] {
		return nil
	}
	kept, err := rewrite()
	if err != nil {
		return err
	}
	r.keptFiles = append(r.keptFiles, kept)
	return nil
}

// renumber changes the seqs of the status and the result to those that their events
// have now.
func (r *repairer) renumber() error {
	var statusErr, resultErr error
	if ref := &r.found.statusRef; ref.newSeq != 0 && ref.newSeq != ref.seq {
		statusErr = r.dir.Status.Renumber(ref.seq, ref.newSeq)
	}
	if ref := &r.found.resultRef; ref.newSeq != 0 && ref.newSeq != ref.seq {
		resultErr = r.dir.Result.Renumber(ref.seq, ref.newSeq)
	}
	return errors.Join(statusErr, resultErr)
}

// fileSize returns the size of a file, or -1 if it does not exist.
func fileSize(dir, name string) int64 {
	info, err := os.Lstat(filepath.Join(dir, name))
	if err != nil {
		return -1
	}
	return info.Size()
}
