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
	"slices"
	"strings"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// openedFiles are the files that show and plot read: those of a state directory, or files
// that were copied from one. If a file cannot be read, the error is in problems, and the
// other files are shown.
type openedFiles struct {
	status     *artifact.Status // nil if there is none
	result     *artifact.Result // nil if there is none
	statusText []byte           // in normal form, on one line
	resultText []byte
	rejected   uint64     // lines in rejected.jsonl of a directory
	logs       []*logFile // in the order in which their events are shown
	problems   []error

	isDir            bool // a directory was opened, so a file that is missing does not exist
	statusUnreadable bool // the directory has one that cannot be read
	resultUnreadable bool
	dir              string // the directory that was opened; "" if none was
}

// A logFile is a log that is open.
type logFile struct {
	path     string
	file     *os.File
	lines    history.Lines
	decoder  artifact.Decoder
	inDir    bool // it is the log of a state directory, not a file that the user named
	problems lineProblems
}

// newLogFile returns the log in f, whose start may have been read into from.
func newLogFile(f *os.File, from io.Reader) *logFile {
	return &logFile{path: f.Name(), file: f, lines: history.Lines{From: from}}
}

// openFiles opens the files and directories at paths, or the state directory dir
// if there are none.
func openFiles(dir string, paths []string) *openedFiles {
	if len(paths) == 0 {
		paths = []string{dir}
	}
	files := new(openedFiles)
	shown := "" // the directory
	for _, path := range paths {
		add := files.addFile
		info, err := os.Stat(path)
		isDir := err == nil && info.IsDir()
		if isDir && shown != "" {
			files.problems = append(files.problems, fmt.Errorf("%s is not shown, because %s is a state directory too; show one at a time", path, shown))
			continue
		}
		if isDir {
			add, shown = files.addDir, path
		}
		if err := add(path); err != nil {
			files.problems = append(files.problems, err)
		}
	}
	return files
}

// pathOperands parses flags that may come before, between and after paths, which it
// returns. The user may give paths or --state-dir, not both.
func (f *flagSet) pathOperands(args []string) (paths []string, err error) {
	paths, err = f.parseOperands(args)
	switch {
	case err != nil:
		return nil, err
	case len(paths) > 0 && f.isGiven("state-dir"):
		return nil, f.badUsage("%q and --state-dir are both given; give one of them", paths[0])
	case slices.Contains(paths, ""):
		return nil, f.badUsage("a path is empty; name a directory or a file")
	}
	return paths, f.checkStateDir(f.Lookup("state-dir").Value.String())
}

// hasFiles reports whether there is a file to show, even if it cannot be read.
func (files *openedFiles) hasFiles() bool {
	return len(files.logs) > 0 || files.status != nil || files.result != nil || files.statusUnreadable || files.resultUnreadable
}

// close closes all logs.
func (files *openedFiles) close() {
	for _, log := range files.logs {
		log.file.Close()
	}
}

// addDir opens the files of a state directory.
func (files *openedFiles) addDir(dir string) error {
	files.isDir, files.dir = true, dir
	found := false
	for _, name := range []string{writer.StatusName, writer.ResultName, writer.OldEventsName, writer.EventsName} {
		f, err := dirfs.Open(dir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrPermission) && !canSearch(dir):
			return openError(&fs.PathError{Op: "open", Path: dir, Err: dirfs.Cause(err)})
		case err == nil && filepath.Ext(name) != ".json":
			log := newLogFile(f, f)
			log.inDir = true
			files.logs = append(files.logs, log)
		case err == nil:
			err = files.addObject(f, f)
		}
		if err != nil {
			files.problems = append(files.problems, openError(err))
			files.statusUnreadable = files.statusUnreadable || name == writer.StatusName
			files.resultUnreadable = files.resultUnreadable || name == writer.ResultName
		}
		found = true
	}
	rejected, err := countLines(dir, writer.RejectedName)
	files.rejected += rejected
	if err != nil {
		return openError(err)
	}
	if !found {
		return newNoFilesError(dir, rejected)
	}
	return nil
}

// canSearch reports whether the process may look up names in a directory.
func canSearch(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, writer.StatusName))
	return !errors.Is(err, fs.ErrPermission)
}

// countLines returns how many complete lines a file has; 0 if it does not exist.
func countLines(dir, name string) (n uint64, err error) {
	f, err := dirfs.Open(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := (history.Lines{From: f}); ; n++ {
		_, err := lines.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// A noFilesError reports a directory in which nothing has been recorded, or only
// rejected lines.
type noFilesError struct{ text string }

func (e *noFilesError) Error() string { return e.text }

// newNoFilesError returns the error for a directory that has no file to show, and so
// many rejected lines. A directory with other files is probably not a state directory.
func newNoFilesError(dir string, rejected uint64) error {
	switch {
	case rejected == 1:
		return &noFilesError{fmt.Sprintf("%s: the only line was rejected; see %s", dir, filepath.Join(dir, writer.RejectedName))}
	case rejected > 1:
		return &noFilesError{fmt.Sprintf("%s: all %d lines were rejected; see %s", dir, rejected, filepath.Join(dir, writer.RejectedName))}
	}
	const (
		maxListed = 3
		maxRead   = 1000 // a directory may have any number of files
	)
	var names []string
	d, err := os.Open(dir)
	if err == nil {
		names, _ = d.Readdirnames(maxRead)
		d.Close()
	}
	slices.Sort(names)
	text := dir + " has no status.json, events.jsonl or result.json"
	switch {
	case len(names) == 0:
		return &noFilesError{text + "; nothing has been recorded there yet, or it is not the state directory"}
	case len(names) > maxListed:
		names = append(names[:maxListed], "…")
	}
	return &noFilesError{text + ", only " + strings.Join(names, ", ") + "; name the state directory"}
}

// openError returns the error of a file or directory that could not be opened, with
// what the user can do about it.
func openError(err error) error {
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) {
		return err
	}
	switch {
	case pathErr.Path == "-":
		return errors.New("-: no such file or directory; for standard input use /dev/stdin")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		if filepath.Ext(pathErr.Path) == ".svg" {
			return fmt.Errorf("%w; plot prints the picture, as in plot > %s", withoutOp(pathErr), pathErr.Path)
		}
		return fmt.Errorf("%w; name the state directory, or set PIKA_LIFECYCLE_DIR", withoutOp(pathErr))
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w; %s", withoutOp(pathErr), ingest.Remedy(err))
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return fmt.Errorf("%w; use root to read it", withoutOp(pathErr))
	}
	return withoutOp(pathErr)
}

// withoutOp returns an error that names only the path and the cause.
func withoutOp(err *fs.PathError) error { return &pathCause{err} }

// A pathCause is an *fs.PathError whose text does not begin with the operation.
type pathCause struct{ *fs.PathError }

func (e *pathCause) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *pathCause) Unwrap() error { return e.PathError }

// logProblems logs all problems but the last, which it returns: main logs that.
func (a *app) logProblems(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	last := len(problems) - 1
	for _, problem := range problems[:last] {
		a.log(sd.PriErr, problem.Error())
	}
	return problems[last]
}

// sniffSize is how much of a file is read to detect what it is.
const sniffSize = 64 << 10

// addFile opens a file that the user has named, which may be a symlink or a pipe, and
// detects from the content what it is: files may be copied under any name.
func (files *openedFiles) addFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return openError(err)
	}
	from := bufio.NewReaderSize(f, sniffSize)
	head, err := from.Peek(sniffSize)
	if err != nil && err != io.EOF {
		f.Close()
		return openError(err)
	}
	if isObject(head) {
		return files.addObject(f, from)
	}
	if isRejectLog(head) {
		f.Close()
		return fmt.Errorf("%s holds rejected lines, not events; read it with a pager or jq", path)
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

// isRejectLog reports whether a file that begins with head is a rejected.jsonl.
func isRejectLog(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	var decoder artifact.Decoder
	return decoder.Reject(line) == nil
}

// addObject reads a status or a result, and closes f.
func (files *openedFiles) addObject(f *os.File, from io.Reader) error {
	defer f.Close()
	text, err := history.ReadAll(from)
	if err != nil {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: dirfs.Cause(err)}
	}
	var decoder artifact.Decoder
	status, statusErr := decoder.Status(text)
	if status != nil {
		files.status, files.statusText = status, decoder.Normal()
		return nil
	}
	decoder = artifact.Decoder{}
	result, resultErr := decoder.Result(text)
	if result != nil {
		files.result, files.resultText = result, decoder.Normal()
		return nil
	}
	if statusErr == artifact.ErrNewer || resultErr == artifact.ErrNewer {
		return fmt.Errorf("%s %w", f.Name(), artifact.ErrNewer)
	}
	if bytes.Contains(text, []byte(`"finished_at"`)) || filepath.Base(f.Name()) == writer.ResultName {
		return fmt.Errorf("%s is not a valid result: %v%s", f.Name(), resultErr, files.invalidRemedy())
	}
	return fmt.Errorf("%s is not a valid status: %v%s", f.Name(), statusErr, files.invalidRemedy())
}

// replaceInvalid is what to do about a status or a result that is not valid.
const replaceInvalid = "; remove it, or wait until a writer replaces it"

// invalidRemedy returns what to do about an invalid file, to be appended to its
// error; "" for a file that the user has copied.
func (files *openedFiles) invalidRemedy() string {
	if files.isDir {
		return replaceInvalid
	}
	return ""
}
