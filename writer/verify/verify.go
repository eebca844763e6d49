// Package verify checks a state directory against docs/format.md, and repairs
// what can be repaired.
//
// A check reports each problem with its file and line. It opens the files while
// it holds the lock that orders all writers, and reads them after it has released
// the lock. A repair holds the lock until it ends. It makes the repairs of package
// writer, which the next writer would make too, and moves everything that it
// removes from a file to another file in the directory.
package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// A Finding is one difference from docs/format.md.
type Finding struct {
	File       string // its name in the directory; empty for the directory itself
	Line       uint64 // counted from 1; 0 for the whole file
	What       string // the problem, as text for a person
	Repairable bool
}

// MaxFindings is how many findings a report lists; more are only counted. A log
// that has nothing but invalid lines may have a million.
const MaxFindings = 1000

// A Report is the result of a check. A field is zero if no valid file has a
// value for it.
type Report struct {
	Findings  []Finding
	Omitted   uint64      // how many findings are not listed
	Unchecked []Unchecked // what the user may not read

	Rejected uint64 // how many rejected lines rejected.jsonl has
	Events   uint64 // how many events the two logs have
	Boots    int    // how many boot IDs the events have
	FirstSeq uint64
	LastSeq  uint64
	State    artifact.State   // in the status
	Outcome  artifact.Outcome // in the result
}

// An Unchecked is a file that could not be checked, because the user may not read it.
type Unchecked struct {
	File   string // its name in the directory; empty for the directory itself
	Effect string // the consequence, as text for a person
}

// Valid reports whether the check found nothing.
func (r *Report) Valid() bool { return len(r.Findings) == 0 }

// Dir checks the state directory at path. It changes nothing. It waits for the
// lock for writer.DefaultLockWait; if the lock is not free then, that is a
// finding. A file that the user may not read is in Unchecked. The error wraps
// ErrNoFiles, or reports that the directory cannot be read.
func Dir(path string) (*Report, error) {
	c, err := check(path, lockShared)
	if err != nil {
		return nil, err
	}
	return &c.Report, nil
}

// A checker checks one state directory.
//
// Each step of the check relies on the steps before it. checkStatusAndResult sets status,
// result, and the fields of the two references that come from these files. checkLogs sets
// oldLast, and the fields of the references that come from the events. checkModes needs
// the native field of all files, which these two steps and checkSeqFile set.
type checker struct {
	Report
	dir     string
	lock    lockFunc
	files   map[string]*file // the regular files, by name
	seqText []byte           // the content of the seq file
	decoder artifact.Decoder

	status    *artifact.Status // nil if there is none, or it is invalid
	result    *artifact.Result // nil if there is none, or it is invalid
	statusRef reference
	resultRef reference

	hasNewer     bool            // a newer version wrote a file or a line
	oldLast      uint64          // seq of the last event in the log before the rotation; 0 if none
	needsRewrite map[string]bool // logs with lines that only a rewrite can repair
}

// check checks the directory at path. It holds lock while it opens the files.
func check(path string, lock lockFunc) (*checker, error) {
	c := &checker{dir: path, lock: lock, files: make(map[string]*file), needsRewrite: make(map[string]bool)}
	defer c.close()
	unlock, lockErr := lock(path)
	err := c.open()
	unlock()
	if err != nil {
		return nil, err
	}
	if lockErr != nil {
		c.add(writer.SeqName, 0, false, "%v; the files were read without the lock, perhaps during a commit", lockErr)
	}
	for _, step := range []func() error{c.checkDirectory, c.checkStatusAndResult, c.checkLogs, c.checkSeqFile,
		c.checkConsistency, c.checkTemporaries, c.checkModes} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// uncheckedFile adds a file that the user may not read.
func (c *checker) uncheckedFile(file, effect string) {
	c.Unchecked = append(c.Unchecked, Unchecked{file, effect})
}

func (c *checker) isUnchecked(file string) bool {
	return slices.ContainsFunc(c.Unchecked, func(u Unchecked) bool { return u.File == file })
}

// add adds a finding.
func (c *checker) add(file string, line uint64, repairable bool, format string, args ...any) {
	if len(c.Findings) == MaxFindings {
		c.Omitted++
		return
	}
	c.Findings = append(c.Findings, Finding{file, line, fmt.Sprintf(format, args...), repairable})
}

// fileNames are the names of the files that are checked.
var fileNames = []string{writer.StatusName, writer.EventsName, writer.ResultName, writer.RejectedName,
	writer.SeqName, writer.WriterLockName, writer.OldEventsName, writer.PrevResultName}

// A file is one file of the directory. It is read up to the size that it had when
// it was opened: a writer may append to it meanwhile.
type file struct {
	*os.File
	info   fs.FileInfo
	native bool // the last artifact in it is by this program, not by the Python command
}

// open opens the files, and reads the seq file, because writers change its content
// in place.
func (c *checker) open() error {
	info, err := os.Stat(c.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: c.dir, Err: syscall.ENOTDIR}
	}
	for _, name := range fileNames {
		if err := c.openFile(name); err != nil {
			return err
		}
	}
	if f := c.files[writer.SeqName]; f != nil {
		c.seqText, err = history.ReadAll(f)
		if err != nil {
			return err
		}
	}
	if len(c.files) == 0 && c.Valid() && len(c.Unchecked) == 0 {
		return &fs.PathError{Op: "verify", Path: c.dir, Err: ErrNoFiles}
	}
	return nil
}

// ErrNoFiles reports a directory that has none of the files of a state directory.
var ErrNoFiles = errors.New("the directory has no file to check")

// openFile opens a file if it exists. Anything but a regular file is a finding. A file
// that the user may not read is not checked, unless that is true of the directory.
func (c *checker) openFile(name string) error {
	f, err := dirfs.Open(c.dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, dirfs.ErrNotRegular), errors.Is(err, dirfs.ErrSymlink), errors.Is(err, dirfs.ErrDirectory):
		c.add(name, 0, false, "%v; remove it", dirfs.Cause(err))
		return nil
	case errors.Is(err, fs.ErrPermission):
		if _, statErr := os.Lstat(filepath.Join(c.dir, name)); errors.Is(statErr, fs.ErrPermission) {
			return &fs.PathError{Op: "open", Path: c.dir, Err: dirfs.Cause(err)}
		}
		c.uncheckedFile(name, effectOf(name))
		return nil
	case err != nil:
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	isOurs := name == writer.WriterLockName // the Python command does not write it
	c.files[name] = &file{File: f, info: info, native: isOurs}
	return nil
}

// effectOf returns what is not checked if a file cannot be read.
func effectOf(name string) string {
	switch name {
	case writer.SeqName:
		return "its number was not checked, and the other files were read without its lock"
	case writer.WriterLockName:
		return "whether a writer has died was not checked"
	}
	return "its content was not checked"
}

func (c *checker) close() {
	for _, name := range fileNames { // in order, so that every run makes the same system calls
		if f := c.files[name]; f != nil {
			f.Close()
		}
	}
}
