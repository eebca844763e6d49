package main

import (
	"fmt"
	"path/filepath"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/journal"
)

// checkMirror checks the value of --journal.
func (f *flagSet) checkMirror(word string) error {
	if word != "never" && word != "auto" && word != "always" {
		return f.badUsage("--journal is %q; expected never, auto or always", word)
	}
	return nil
}

// newMirror starts the mirror for the value of --journal; it returns nil if the
// events are not mirrored. If journald does not run, newMirror only warns: a guest
// must not fail because a log is missing.
func (a *app) newMirror(word, eventsPath string) (*journal.Mirror, error) {
	if word == "never" || (word == "auto" && !journal.Present("")) {
		return nil, nil
	}
	path, err := filepath.Abs(eventsPath)
	if err != nil {
		return nil, err
	}
	m := &journal.Mirror{EventsPath: path}
	if err := m.Start(); err != nil {
		a.warn(fmt.Sprintf("--journal %s: connect %s: %v; start systemd-journald", word, journal.DefaultSocket, err))
	}
	return m, nil
}

// runMirrored runs a stream with the mirror for the value of --journal. It runs the stream
// even if there can be no mirror.
func (a *app) runMirrored(s *ingest.Stream, word string) error {
	m, err := a.newMirror(word, s.Dir.Events.Path)
	if err != nil {
		a.warn(fmt.Sprintf("--journal %s: %v, so nothing is sent to the journal; start the command in a directory that exists", word, err))
	}
	if m != nil {
		s.Followers = append(s.Followers, m)
	}
	defer a.closeMirror(m)
	return a.runStream(s)
}

// closeMirror closes the mirror, which may be nil, and warns about entries that did not
// reach the journal.
func (a *app) closeMirror(m *journal.Mirror) {
	if m == nil {
		return
	}
	missed, of := m.Close()
	if missed > 0 {
		a.warn(ofText(missed, of, "entry", "entries") + " did not reach the journal; the files in the state directory are complete")
	}
}
