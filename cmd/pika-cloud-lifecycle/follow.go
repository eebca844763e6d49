package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
)

// A logFollower shows the current files, and then each event as it is written.
type logFollower struct {
	*app
	flags   *showFlags
	view    view
	path    string // of the log
	inDir   bool   // it is the log of a state directory, not a file that the user named
	tail    history.Tail
	log     *logFile // the file that has the last line; nil before the first one
	polls   bool     // it was reported that show polls
	started bool     // the lines that existed at the start are shown
}

// follow shows the current files, and then each event as it is written. It ends only
// with an error.
func (a *app) follow(f *showFlags) error {
	w := logFollower{app: a, flags: f, inDir: true}
	err := w.find()
	if err != nil {
		return err
	}
	dir, err := w.watch(filepath.Dir(w.path)) // before any file is read
	if err != nil {
		return err
	}
	defer dir.Close()
	w.view = a.newView(f)
	if err := w.showCurrent(); err != nil {
		return err
	}
	w.tail.Path = w.path
	defer w.tail.Close()
	if !w.inDir {
		if err := w.tail.SkipOld(); err != nil {
			return openError(err)
		}
	}
	for {
		if err := w.showNew(); err != nil {
			return err
		}
		if err := w.await(dir); err != nil {
			return err
		}
	}
}

// find finds the path of the log. If the user has named a path that does not exist, find
// waits until it does.
func (w *logFollower) find() error {
	switch len(w.flags.paths) {
	case 0:
		w.path = filepath.Join(w.flags.dir, writer.EventsName)
		_, err := os.Stat(w.flags.dir)
		if errors.Is(err, fs.ErrNotExist) {
			w.noteMissing(w.flags.dir)
		}
		return nil
	case 1:
	default:
		return badUsage("show: --follow follows one log; name one directory or file, not %d", len(w.flags.paths))
	}
	path := w.flags.paths[0]
	info, err := w.awaitPath(path)
	switch {
	case err != nil:
		return openError(err)
	case info.IsDir():
		w.path = filepath.Join(path, writer.EventsName)
		return nil
	case !info.Mode().IsRegular():
		return badUsage("show: --follow needs a directory or a regular file, and %q is neither; leave out --follow", path)
	}
	w.inDir = false
	w.path, err = filepath.EvalSymlinks(path) // a Tail follows no symbolic link
	return err
}

// awaitPath waits until path exists.
func (w *logFollower) awaitPath(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) || path == "-" {
		return info, err
	}
	w.noteMissing(path)
	dir, err := w.watch(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for {
		info, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
		if err := w.await(dir); err != nil {
			return nil, err
		}
	}
}

// noteMissing prints a hint on a terminal.
func (w *logFollower) noteMissing(path string) {
	_, terminal := columnsOf(w.stderr)
	if terminal {
		w.warn(fmt.Sprintf("show: %s does not exist yet; waiting for it, Ctrl-C to stop", path))
	}
}

// watch watches the directory at path.
func (w *logFollower) watch(path string) (*watch.Dir, error) {
	dir, err := watch.Open(path)
	if err != nil {
		return nil, openError(err)
	}
	f, ok := w.stdout.(*os.File)
	if ok {
		dir.Output = int(f.Fd())
	}
	return dir, nil
}

// await waits for a change. If nothing reads the output any more, await writes to it:
// then the process ends with SIGPIPE, or the write returns the error.
func (w *logFollower) await(dir *watch.Dir) error {
	if text := limitWarning(dir); text != "" && !w.polls {
		w.polls = true
		w.warn("show: " + text)
	}
	changed, err := dir.Wait(-1)
	if err == nil && !changed {
		err = w.print("\n")
	}
	return err
}

// showCurrent shows the status and the result. A problem with another file than the log is
// only logged.
func (w *logFollower) showCurrent() error {
	files := openFiles(w.flags.dir, w.flags.paths)
	defer files.close()
	w.view.current(files)
	if err := w.view.Flush(); err != nil {
		return err
	}
	for _, problem := range files.problems {
		var none *noFilesError
		var pathErr *fs.PathError
		var kindErr *dirfs.KindError
		switch {
		case errors.As(problem, &none), errors.Is(problem, fs.ErrNotExist): // it may be created later
		case !w.inDir,
			errors.As(problem, &pathErr) && filepath.Clean(pathErr.Path) == w.path,
			errors.As(problem, &kindErr) && filepath.Clean(kindErr.Path) == w.path:
			return problem
		default:
			w.app.log(sd.PriErr, problem.Error())
		}
	}
	if !w.inDir && len(files.logs) == 0 && len(files.problems) == 0 {
		return badUsage("show: --follow needs a directory or a log, and %q is neither; leave out --follow", w.flags.paths[0])
	}
	return nil
}

// showNew shows the new lines.
func (w *logFollower) showNew() error {
	for w.view.Err() == nil {
		line, err := w.tail.Next()
		switch err {
		case nil:
			if err := w.showLine(&line); err != nil {
				return err
			}
		case history.ErrMore:
		case io.EOF:
			if err := w.endStart(); err != nil {
				return err
			}
			w.started = true
			return w.view.Flush()
		default:
			return openError(err)
		}
	}
	return w.view.Err()
}

func (w *logFollower) showLine(line *history.TailLine) error {
	path := filepath.Join(filepath.Dir(w.path), line.File)
	if w.log == nil || w.log.path != path || line.Number == 1 {
		if err := w.endStart(); err != nil {
			return err
		}
		w.log = &logFile{path: path, inDir: w.inDir}
		w.log.problems.immediate = w.started
	}
	w.log.showLine(w.view, &line.Line, line.Event, w.tail.Normal(), line.Err)
	return nil
}

// endStart is called at the end of each file that existed at the start. It prints the
// problems with the lines that were kept. If a file that the user named has no events, it
// returns an error.
func (w *logFollower) endStart() error {
	if w.started || w.log == nil {
		return nil
	}
	err := w.log.noEvents()
	if err != nil && !w.inDir && w.log.problems.count > 0 {
		return err
	}
	w.log.printPending(w.view)
	w.log.printOmitted(w.view)
	w.log.problems.immediate = true
	return nil
}
