package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
)

// follow shows the current files, and then each event as it is written. It ends only
// with an error.
func (a *app) follow(f *showFlags) error {
	path, err := f.followedPath()
	if err != nil {
		return err
	}
	dir, err := watch.Open(filepath.Dir(path)) // before any file is read
	if err != nil {
		return openError(err)
	}
	defer dir.Close()
	v := a.newView(f)
	log, err := a.showCurrent(f, v, path)
	if err != nil {
		return err
	}
	for polls := false; ; {
		if text := limitWarning(dir); text != "" && !polls {
			polls = true
			a.warn("show: " + text)
		}
		log, err = showNew(v, log, path)
		if err != nil {
			return err
		}
		if err := v.Flush(); err != nil {
			return err
		}
		if _, err := dir.Wait(-1); err != nil {
			return err
		}
	}
}

// showCurrent shows the current files, and returns the log at path; nil if there is
// none yet. A problem with another file is only logged.
func (a *app) showCurrent(f *showFlags, v view, path string) (log *logFile, err error) {
	files := openFiles(f.dir, f.paths)
	v.current(files)
	if err := v.Flush(); err != nil {
		return nil, err
	}
	for _, problem := range files.problems {
		var none *noFilesError
		var pathErr *fs.PathError
		switch {
		case errors.As(problem, &none), errors.Is(problem, fs.ErrNotExist): // it may be created later
		case errors.As(problem, &pathErr) && filepath.Clean(pathErr.Path) == path:
			return nil, problem
		default:
			a.log(sd.PriErr, problem.Error())
		}
	}
	for _, l := range files.logs {
		if err := l.show(v); err != nil {
			return nil, err
		}
		if err := l.noEvents(); err != nil && !l.inDir && l.problems.count > 0 {
			return nil, err // it is not a log
		}
		l.printPending(v)
		l.printOmitted(v)
		l.problems.immediate = true
		log = nil
		if filepath.Clean(l.path) == path {
			log = l
		}
	}
	return log, nil
}

// followedPath returns the path of the log to follow.
func (f *showFlags) followedPath() (string, error) {
	switch len(f.paths) {
	case 0:
		return filepath.Join(f.dir, writer.EventsName), nil
	case 1:
		info, err := os.Stat(f.paths[0])
		if err == nil && info.IsDir() {
			return filepath.Join(f.paths[0], writer.EventsName), nil
		}
		if err == nil && !info.Mode().IsRegular() {
			return "", badUsage("show: --follow needs a directory or a regular file, and %q is neither; leave out --follow", f.paths[0])
		}
		return filepath.Clean(f.paths[0]), nil
	}
	return "", badUsage("show: --follow follows one log; name one directory or file, not %d", len(f.paths))
}

// showNew shows the new lines of log, to its end, and returns the log at path:
// another one if the log was rotated or replaced. log may be nil.
func showNew(v view, log *logFile, path string) (*logFile, error) {
	for {
		// If the log no longer has the path, nothing more is written to it:
		// showMore then finds the rest.
		same := log != nil && log.isAt(path)
		if log != nil {
			if err := log.showMore(v); err != nil {
				return log, err
			}
		}
		if same {
			return log, nil
		}
		f, err := dirfs.Open(filepath.Dir(path), filepath.Base(path))
		if errors.Is(err, fs.ErrNotExist) {
			return log, nil
		}
		if err != nil {
			return log, openError(err)
		}
		next := newLogFile(f, f)
		next.problems.immediate = true
		if log != nil {
			next.previous = &log.shown
			log.file.Close()
		}
		log = next
	}
}

// isAt reports whether the log is still the file at path.
func (l *logFile) isAt(path string) bool {
	mine, err := l.file.Stat()
	other, otherErr := os.Stat(path)
	return err == nil && otherErr == nil && os.SameFile(mine, other)
}

// showMore shows the lines after the last one that was shown. A last line without
// newline is read again: a writer may have cut it off and written another.
func (l *logFile) showMore(v view) error {
	at := l.lines.Drop()
	info, err := l.file.Stat()
	if err == nil && info.Size() < at {
		at, l.lines = 0, history.Lines{} // truncated and written from the start
	}
	if _, err := l.file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	l.lines.From = l.file
	return l.show(v)
}

// A seqRange is which events of a log were shown; the zero value means none.
type seqRange struct {
	first, last uint64
	any         bool
}

// markShown records that an event is shown. already is true if the event was shown from
// the file that was at the path before. That is possible only if both files begin with
// the same seq: then this file is a copy of the other one, as verify --repair makes it.
func (l *logFile) markShown(e *artifact.Event) (already bool) {
	if !l.shown.any {
		l.shown = seqRange{first: e.Seq, any: true}
	}
	l.shown.last = e.Seq
	previous := l.previous
	return previous != nil && previous.any && previous.first == l.shown.first && e.Seq <= previous.last
}
