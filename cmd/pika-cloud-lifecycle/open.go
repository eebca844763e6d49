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

// openedFiles are the files that show and plot read: those of a state directory,
// or files that were copied from one.
type openedFiles struct {
	status     *artifact.Status // nil if there is none
	result     *artifact.Result // nil if there is none
	statusText []byte           // in normal form, on one line
	resultText []byte
	problems   []string   // why a status or a result cannot be shown
	logs       []*logFile // in the order in which their events are shown
	isDir      bool       // a directory was opened: a file that was not found is not there
}

// A logFile is a log that is open.
type logFile struct {
	path     string
	file     *os.File
	lines    history.Lines
	decoder  artifact.Decoder
	shown    seqRange
	previous *seqRange // the events shown from the file that had the path before; nil if none
}

// newLogFile returns the log in f, whose start may have been read into from.
func newLogFile(f *os.File, from io.Reader) *logFile {
	return &logFile{path: f.Name(), file: f, lines: history.Lines{From: from}}
}

// openFiles opens the files and directories at paths, or the state directory dir
// if there are none.
func openFiles(dir string, paths []string) (*openedFiles, error) {
	if len(paths) == 0 {
		paths = []string{dir}
	}
	files := new(openedFiles)
	for _, path := range paths {
		add := files.addFile
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			add = files.addDir
		}
		if err := add(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// addDir opens the artifacts of a state directory, which must have at least one.
func (files *openedFiles) addDir(dir string) error {
	found := false
	files.isDir = true
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
			files.logs = append(files.logs, newLogFile(f, f))
			continue
		}
		if err := files.addObject(f, f); err != nil {
			return err
		}
	}
	if !found {
		return &fs.PathError{Op: "open", Path: dir, Err: errNoArtifact}
	}
	return nil
}

var errNoArtifact = errors.New("no artifact stands there")

// sniffSize is how much of a file is read to detect what it is.
const sniffSize = 64 << 10

// addFile opens what the operator has named, which may be a symlink or a pipe, and
// detects from the content what it is: files may be copied under any name.
func (files *openedFiles) addFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	from := bufio.NewReaderSize(f, sniffSize)
	head, err := from.Peek(sniffSize)
	if err != nil && err != io.EOF {
		return err
	}
	if isObject(head) {
		return files.addObject(f, from)
	}
	files.logs = append(files.logs, newLogFile(f, from))
	return nil
}

// isObject reports whether a file that begins with head is a status or a result: one
// object, indented or on one line.
func isObject(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	var decoder artifact.Decoder
	status, _ := decoder.Status(line)
	result, _ := decoder.Result(line)
	if status != nil || result != nil {
		return true
	}
	return string(bytes.TrimSpace(line)) == "{"
}

// addObject reads a status or a result.
func (files *openedFiles) addObject(f *os.File, from io.Reader) error {
	defer f.Close()
	text, err := history.ReadAll(from)
	if err != nil {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	var decoder artifact.Decoder
	status, why := decoder.Status(text)
	if status != nil {
		files.status, files.statusText = status, decoder.Normal()
		return nil
	}
	decoder = artifact.Decoder{}
	result, resultWhy := decoder.Result(text)
	if result != nil {
		files.result, files.resultText = result, decoder.Normal()
		return nil
	}
	if bytes.Contains(text, []byte(`"finished_at"`)) {
		why = resultWhy
	}
	files.problems = append(files.problems, fmt.Sprintf("%s cannot be read: %v", f.Name(), why))
	return nil
}
