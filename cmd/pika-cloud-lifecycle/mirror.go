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

// newMirror starts the mirror that --journal asks for; nil if it asks for none.
// A journal that cannot be reached is a warning, not an error: no guest fails
// because a log is missing.
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
		a.warn(fmt.Sprintf("--journal=%s: connect %s: %v; entries wait until it is there", word, journal.DefaultSocket, err))
	}
	return m, nil
}

// runMirrored runs a stream with the mirror that --journal asks for.
func (a *app) runMirrored(s *ingest.Stream, word string) error {
	m, err := a.newMirror(word, s.Dir.Events.Path)
	if err != nil {
		return err
	}
	if m != nil {
		s.Followers = append(s.Followers, m)
	}
	defer a.closeMirror(m)
	return a.summarize(s.Run())
}

// closeMirror waits a little for the journal, and warns about what it has missed.
// m may be nil.
func (a *app) closeMirror(m *journal.Mirror) {
	if m == nil {
		return
	}
	missed, of := m.Close()
	if missed > 0 {
		a.warn(fmt.Sprintf("the journal missed %d of %d entries; the artifacts have them", missed, of))
	}
}
