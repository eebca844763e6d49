package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// pulled are the artifacts that are looked at: those of a state directory, or files
// that were copied from one.
type pulled struct {
	status     *artifact.Status
	result     *artifact.Result
	statusText []byte // in normal form, on one line
	resultText []byte
	faults     []string // why a status or a result cannot be shown
	logs       []*pulledLog
	dir        bool // a directory, so that a file that is missing is not there
}

// A pulledLog is a log that is open.
type pulledLog struct {
	path   string
	file   *os.File
	lines  history.Lines
	reader artifact.Decoder
	mark   mark
	before *mark // of the file that bore the path before; nil if none did
}

// newPulledLog reads a log from its start, which may have been read ahead.
func newPulledLog(f *os.File, from io.Reader) *pulledLog {
	return &pulledLog{path: f.Name(), file: f, lines: history.Lines{From: from}}
}

// pull opens the files and directories at paths, or the state directory dir if
// there are none.
func pull(dir string, paths []string) (*pulled, error) {
	if len(paths) == 0 {
		paths = []string{dir}
	}
	p := new(pulled)
	for _, path := range paths {
		add := p.addFile
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			add = p.addDir
		}
		if err := add(path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addDir opens the artifacts of a state directory, one of which at least must be
// there.
func (p *pulled) addDir(dir string) error {
	found := false
	p.dir = true
	for _, name := range []string{writer.StatusName, writer.ResultName, writer.EventsName + ".1", writer.EventsName} {
		f, err := dirfs.Open(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		found = true
		if filepath.Ext(name) != ".json" {
			p.logs = append(p.logs, newPulledLog(f, f))
		} else if err := p.addWhole(f, f); err != nil {
			return err
		}
	}
	if !found {
		return &fs.PathError{Op: "open", Path: dir, Err: errNoArtifact}
	}
	return nil
}

var errNoArtifact = errors.New("no artifact stands there")

// sniffed is how much of a file tells what it is.
const sniffed = 64 << 10

// addFile opens what the operator has named, be it a link or a pipe, and takes it
// for what its content says: names are lost when files are copied.
func (p *pulled) addFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	from := bufio.NewReaderSize(f, sniffed)
	head, err := from.Peek(sniffed)
	if err != nil && err != io.EOF {
		return err
	}
	if isWhole(head) {
		return p.addWhole(f, from)
	}
	p.logs = append(p.logs, newPulledLog(f, from))
	return nil
}

// isWhole reports whether a file that begins like this is a status or a result: its
// object is indented, or stands on a line of its own.
func isWhole(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	var r artifact.Decoder
	if s, _ := r.Status(line); s != nil {
		return true
	}
	if res, _ := r.Result(line); res != nil {
		return true
	}
	return string(bytes.TrimSpace(line)) == "{"
}

// addWhole reads a status or a result.
func (p *pulled) addWhole(f *os.File, from io.Reader) error {
	defer f.Close()
	text, err := history.ReadAll(from)
	if err != nil {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	var r artifact.Decoder
	status, why := r.Status(text)
	if status != nil {
		p.status, p.statusText = status, r.Normal()
		return nil
	}
	r = artifact.Decoder{}
	result, resultWhy := r.Result(text)
	if result != nil {
		p.result, p.resultText = result, r.Normal()
		return nil
	}
	if bytes.Contains(text, []byte(`"finished_at"`)) {
		why = resultWhy
	}
	p.faults = append(p.faults, fmt.Sprintf("%s cannot be read: %v", f.Name(), why))
	return nil
}
