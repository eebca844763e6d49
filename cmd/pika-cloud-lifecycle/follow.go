package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	dirwatch "github.com/sledtools/pika-cloud-lifecycle/writer/watch"
)

// follow shows what there is, and then each event as it is written. It ends with
// the process.
func (w *world) follow(f *showFlags) error {
	path, err := f.followed()
	if err != nil {
		return err
	}
	dir, err := dirwatch.Open(filepath.Dir(path)) // before anything is looked at
	if err != nil {
		return err
	}
	defer dir.Close()
	v := w.newView(f)
	log, err := f.begin(v, path)
	if err != nil {
		return err
	}
	for {
		if log, err = log.goOn(v, path); err != nil {
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

// begin shows what there is, and returns the log that bears the path, nil if none does
// yet.
func (f *showFlags) begin(v view, path string) (log *pulledLog, err error) {
	p, err := pull(f.dir, f.paths)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoArtifact) {
		p, err = new(pulled), nil // it may come
	}
	if err != nil {
		return nil, err
	}
	v.now(p)
	for _, l := range p.logs {
		if err := l.show(v); err != nil {
			return nil, err
		}
		if log = nil; filepath.Clean(l.path) == path {
			log = l
		}
	}
	return log, nil
}

// followed returns the path of the log that is to be followed.
func (f *showFlags) followed() (string, error) {
	switch len(f.paths) {
	case 0:
		return filepath.Join(f.dir, writer.EventsName), nil
	case 1:
		info, err := os.Stat(f.paths[0])
		if err == nil && info.IsDir() {
			return filepath.Join(f.paths[0], writer.EventsName), nil
		}
		if err == nil && !info.Mode().IsRegular() {
			return "", badUsage("show: --follow follows a file; %q is none", f.paths[0])
		}
		return filepath.Clean(f.paths[0]), nil
	}
	return "", badUsage("show: --follow follows one log; expected one directory or file, not %d", len(f.paths))
}

// goOn shows what was written since, to the end, and returns the log that bears the
// path now: after a rotation, or when the file was replaced, another one.
func (l *pulledLog) goOn(v view, path string) (*pulledLog, error) {
	for {
		same := l != nil && l.bears(path) // asked first: what follows is then all that it will have
		if l != nil {
			if err := l.more(v); err != nil {
				return l, err
			}
		}
		if same {
			return l, nil
		}
		f, err := dirfs.Open(filepath.Dir(path), filepath.Base(path))
		if errors.Is(err, fs.ErrNotExist) {
			return l, nil
		}
		if err != nil {
			return l, err
		}
		next := newPulledLog(f, f)
		if l != nil {
			next.before = &l.mark
			l.file.Close()
		}
		l = next
	}
}

// bears reports whether the log has the path still.
func (l *pulledLog) bears(path string) bool {
	mine, err := l.file.Stat()
	other, otherErr := os.Stat(path)
	return err == nil && otherErr == nil && os.SameFile(mine, other)
}

// more shows what was written behind the last line that was shown. What has no
// newline yet is read again: a writer may have cut it back, and written another.
func (l *pulledLog) more(v view) error {
	at := l.lines.Drop()
	if info, err := l.file.Stat(); err == nil && info.Size() < at {
		at, l.lines = 0, history.Lines{} // cut, and begun anew
	}
	if _, err := l.file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	l.lines.From = l.file
	return l.show(v)
}

// A mark tells which part of a log was shown.
type mark struct {
	first, last uint64
	begun       bool
}

// seen reports whether an event was shown from the file that bore the log's name
// before: one that begins with the same seq is a copy that somebody put in its
// place, as a repair does.
func (l *pulledLog) seen(e *artifact.Event) bool {
	if !l.mark.begun {
		l.mark = mark{first: e.Seq, last: e.Seq, begun: true}
	}
	l.mark.last = e.Seq
	b := l.before
	return b != nil && b.begun && b.first == l.mark.first && e.Seq <= b.last
}
