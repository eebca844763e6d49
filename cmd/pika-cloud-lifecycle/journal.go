package main

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/ingest/journal"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// What --from takes.
const (
	fromDirectives = "directives"
	fromJournal    = "journal"
)

// maxEntry is the longest line of a journal by default: journalctl takes up to
// five bytes for one of a directive, and adds fields of its own.
const maxEntry = 16 << 20

// checkSource checks that the flags fit what is read.
func (f *ingestFlags) checkSource() error {
	switch f.from {
	case fromDirectives:
		if given(f.FlagSet, "trust-uid") {
			return badUsage("ingest: --trust-uid is for --from=journal")
		}
		return nil
	case fromJournal:
	default:
		return badUsage("ingest: --from is %q; expected directives or journal", f.from)
	}
	for _, name := range []string{"journal", "transitions", "require-result", "exit-on-result", "write-timeout", "dry-run", "notify"} {
		if given(f.FlagSet, name) {
			return badUsage("ingest: --%s is for directives; --from=journal copies what the guest has written", name)
		}
	}
	if _, err := strconv.ParseUint(f.trusted, 10, 32); err != nil {
		return badUsage("ingest: --trust-uid is %q; expected a number", f.trusted)
	}
	if !given(f.FlagSet, "max-line") {
		f.maxLine = maxEntry
	}
	return nil
}

// openJournal returns the source of a stream that copies what a journal has.
func (w *world) openJournal(f *ingestFlags, dir *writer.Dir) (ingest.Source, error) {
	b := &journal.Rebuilder{Dir: dir, TrustUID: f.trusted, Warn: w.say}
	return b, b.Open()
}

// checkMirror checks the value of --journal.
func checkMirror(command, word string) error {
	if word != "never" && word != "auto" && word != "always" {
		return badUsage("%s: --journal is %q; expected never, auto or always", command, word)
	}
	return nil
}

// newMirror starts the mirror that --journal asks for; nil if it asks for none.
// A journal that is not there is said and is no error: nobody's guest fails for
// want of a log.
func (w *world) newMirror(word, events string) (*journal.Mirror, error) {
	if word == "never" || word == "auto" && !journal.Present("") {
		return nil, nil
	}
	path, err := filepath.Abs(events)
	if err != nil {
		return nil, err
	}
	m := &journal.Mirror{EventsPath: path}
	if err := m.Start(); err != nil {
		w.say(fmt.Sprintf("--journal=%s: connect %s: %v; entries wait until it is there", word, journal.DefaultSocket, err))
	}
	return m, nil
}

// runMirrored runs a stream with the mirror that --journal asks for.
func (w *world) runMirrored(s *ingest.Stream, word string) error {
	m, err := w.newMirror(word, s.Dir.Events.Path)
	if err != nil {
		return err
	}
	if m != nil {
		s.Followers = append(s.Followers, m)
	}
	defer w.endMirror(m)
	return w.conclude(s.Run())
}

// endMirror waits a little for the journal and says what it has missed.
func (w *world) endMirror(m *journal.Mirror) {
	if m == nil {
		return
	}
	if missed, of := m.Close(); missed > 0 {
		w.say(fmt.Sprintf("the journal missed %d of %d entries; the artifacts have them", missed, of))
	}
}
