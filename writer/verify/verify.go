// Package verify holds a state directory against docs/format.md, and mends what
// can be mended.
//
// What it finds is told file by file and line by line. It looks at the directory
// at one moment, for which it takes the lock that orders all writers, and then
// reads on without it. A repair holds the lock to its end, does through package
// writer what the next writer would do, and keeps all that it takes out of a file
// beside it.
package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// A Finding is one thing that is not as it is promised.
type Finding struct {
	File     string // its name in the directory; the directory itself if empty
	Line     uint64 // counted from 1; 0 for the whole file
	What     string
	Mendable bool
}

// MaxFindings is how many findings a report lists; the others are counted. A log of
// nothing but bad lines has a million.
const MaxFindings = 1000

// A Report tells how a directory was found.
type Report struct {
	Findings []Finding
	Omitted  uint64 // findings that are not listed

	Events   uint64
	Boots    int
	FirstSeq uint64
	LastSeq  uint64
	State    string // of the status
	Outcome  string // of the result
}

// Sound reports whether nothing was found.
func (r *Report) Sound() bool { return len(r.Findings) == 0 }

// A check is a verification under way.
type check struct {
	Report
	dir    string
	lock   func(dir string) (unlock func(), err error)
	reader artifact.Decoder
	files  map[string]*found
	seq    []byte           // what the seq file says
	status *artifact.Status // nil if there is none, or none that can be read
	result *artifact.Result
	told   [2]named // the events of status and result

	oldLast uint64          // seq of the last event before the rotation
	unsound map[string]bool // logs that are to be made anew
}

// A named event is one whose seq the status or the result gives.
type named struct {
	seq  uint64
	kind artifact.State // as the status or the result says
	time time.Time
	boot string

	found  bool
	event  artifact.Event // as the log says
	likely uint64         // seq if that event is what it says, else that of the last one that is; 0 if none is
	now    uint64         // its seq after a repair; 0 if it stays
}

// says reports whether e is what the status or the result says.
func (t *named) says(e *artifact.Event) bool {
	return t.kind == e.Kind && t.time.Equal(e.Time) && t.boot == e.BootID
}

// Dir looks at the state directory at path. The error is for what cannot be read.
func Dir(path string) (*Report, error) {
	c, err := look(path, lockShared)
	if err != nil {
		return nil, err
	}
	return &c.Report, nil
}

// look looks at the directory at one moment, for which lock is held.
func look(path string, lock func(dir string) (unlock func(), err error)) (*check, error) {
	c := &check{dir: path, lock: lock, files: make(map[string]*found), unsound: make(map[string]bool)}
	defer c.close()
	unlock, held := lock(path)
	err := c.open()
	unlock()
	if err != nil {
		return nil, err
	}
	if held != nil {
		c.find(writer.SeqName, 0, false, "%v: what stands here may be half of what a writer is about to write", held)
	}
	return c, c.all()
}

// all makes the checks.
func (c *check) all() error {
	for _, step := range []func() error{c.directory, c.wholes, c.logs, c.seqFile, c.agreement, c.temporaries, c.modes} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// find notes a finding.
func (c *check) find(file string, line uint64, mendable bool, format string, args ...any) {
	if len(c.Findings) == MaxFindings {
		c.Omitted++
		return
	}
	c.Findings = append(c.Findings, Finding{file, line, fmt.Sprintf(format, args...), mendable})
}

// names are the files that are looked into.
var names = []string{writer.StatusName, writer.EventsName, writer.ResultName, writer.RejectedName, writer.SeqName, writer.OldEventsName, writer.PrevResultName}

// A found file, as it was at the moment of the look.
type found struct {
	*os.File
	info fs.FileInfo
	own  bool // its last time is in the form that this program writes
}

// open opens the files that are there, and reads the one that is written in place.
func (c *check) open() error {
	if info, err := os.Stat(c.dir); err != nil {
		return err
	} else if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: c.dir, Err: errors.New("not a directory")}
	}
	for _, name := range names {
		if err := c.openFile(name); err != nil {
			return err
		}
	}
	if f := c.files[writer.SeqName]; f != nil {
		text, err := history.ReadAll(f)
		if err != nil {
			return err
		}
		c.seq = text
	}
	if len(c.files) == 0 && c.Sound() {
		return &fs.PathError{Op: "verify", Path: c.dir, Err: errors.New("no artifact stands there")}
	}
	return nil
}

// openFile opens a file if it is there, and is one.
func (c *check) openFile(name string) error {
	f, err := dirfs.Open(c.dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, dirfs.ErrNotRegular), errors.Is(err, dirfs.ErrSymlink):
		c.find(name, 0, false, "%v", dirfs.Cause(err))
		return nil
	case err != nil:
		return err
	}
	info, err := f.Stat()
	c.files[name] = &found{File: f, info: info}
	return err
}

func (c *check) close() {
	for _, f := range c.files {
		f.Close()
	}
}
