package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// A waiter waits until a guest reaches one of several states.
type waiter struct {
	dir      string
	states   []artifact.State
	bootID   string        // the boot whose files count; "" for any boot
	thisBoot string        // the current boot, whose writers can be tested
	hasAfter bool          // only what has a higher seq than after counts
	after    uint64        // 0 if hasAfter is false
	limit    time.Duration // no limit if negative
	warn     func(string)
	note     func(string) // prints a hint if there is no status yet; nil for no hint
}

const (
	// patience is how long wait gives a writer that has died for a restart, and a guest
	// that has stopped for a fallback result.
	patience = time.Second
	// waitMemory makes the Go runtime collect garbage earlier: a hostile writer may
	// replace large files without a pause.
	waitMemory = 32 << 20
)

// An otherOutcomeError reports that the run ended with an outcome that wait did not
// wait for.
type otherOutcomeError struct {
	outcome artifact.Outcome
	file    string // the name of its result
}

func (e *otherOutcomeError) Error() string { return "the run has ended as " + string(e.outcome) }

// A guestEndedError reports that the guest is stopped or destroyed, so that the states
// cannot come any more.
type guestEndedError struct{ state artifact.State }

func (e *guestEndedError) Error() string { return "the guest is " + string(e.state) }

// A writerDiedError reports that a writer died before it recorded the end of the run.
type writerDiedError struct{ writer writerlock.Writer }

func (e *writerDiedError) Error() string {
	return deadText(e.writer)
}

// waitMain runs the subcommand wait: it waits for a state and prints the status.
func waitMain(a *app, args []string) error {
	w, format, err := parseWait(a, args)
	if err != nil {
		return err
	}
	if a.limitMemory != nil {
		a.limitMemory(waitMemory)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // the write to stdout fails instead
	last, waitErr := w.wait()
	err = a.printStatus(last, format)
	if err != nil {
		err = fmt.Errorf("wait: the status could not be printed: %w", err)
	}
	if waitErr == nil {
		return err // a caller that reads the output must not mistake an empty one for success
	}
	if err != nil {
		a.warn(err.Error()) // the exit code reports the other error
	}
	return w.explainError(waitErr, last)
}

// parseWait parses the flags of wait. format is text or json.
func parseWait(a *app, args []string) (w *waiter, format string, err error) {
	f := a.newFlags("wait", waitUsage)
	dir := a.stateDir(f)
	words := f.String("for", "", "")
	limit := f.Duration("timeout", -1, "")
	after := f.Uint64("after", 0, "")
	boot := f.String("boot", "current", "")
	f.StringVar(&format, "format", "text", "")
	if err := f.parseAll(args); err != nil {
		return nil, "", err
	}
	if err := f.require("for"); err != nil {
		return nil, "", err
	}
	if err := f.checkFormat(format); err != nil {
		return nil, "", err
	}
	if err := f.checkStateDir(*dir); err != nil {
		return nil, "", err
	}
	w = &waiter{dir: *dir, limit: *limit, hasAfter: f.isGiven("after"), after: *after, warn: a.warn}
	if err := w.setStates(f, *words); err != nil {
		return nil, "", err
	}
	if err := w.setBoot(f, *boot, a.bootID); err != nil {
		return nil, "", err
	}
	if _, terminal := columnsOf(a.stderr); terminal {
		w.note = a.warn
	}
	return w, format, nil
}

func (w *waiter) setStates(f *flagSet, words string) error {
	list := strings.Split(words, ",")
	if strings.Contains(words, " ") {
		return f.badUsage("--for is %q; separate states with commas and no spaces, as in --for ready,failed", words)
	}
	if slices.Contains(list, "") && len(list) > 1 {
		return f.badUsage("--for is %q; expected states separated by commas, such as ready,failed", words)
	}
	for _, word := range list {
		state, err := parseWord(f, "for", word, artifact.States())
		if err != nil {
			return err
		}
		if !slices.Contains(w.states, state) {
			w.states = append(w.states, state)
		}
	}
	return nil
}

func (w *waiter) setBoot(f *flagSet, word string, current func() string) error {
	switch word {
	case "any":
		w.thisBoot = current()
		return nil
	case "current":
		w.bootID = current()
		w.thisBoot = w.bootID
		if w.bootID == "" {
			return f.badUsage("the ID of this boot cannot be read, so no status can be matched with it; add --boot any")
		}
		return nil
	}
	return f.badUsage("--boot is %q; expected current or any", word)
}

// An observation is what wait has seen of a guest. decide needs nothing else.
type observation struct {
	files *history.Snapshot // the current ones
	log   passage
	dead  *writerlock.Writer // one that has died, if no run is alive; nil for none
	// deadFor is how long dead has been the one that has died.
	deadFor time.Duration
	// idleFor is how long it has been known that no writer is alive.
	idleFor time.Duration
	// unknown is true if it is unknown whether a writer is alive.
	unknown bool
}

// A passage is what the events that count show about the states that the guest has passed.
type passage struct {
	any     bool   // there is an event that counts
	reached uint64 // seq of the first event with which the guest reached a state; 0 for none
	// outcome is that of the last run that ended; "" if none has ended or a new run has
	// begun since. ended is the seq of the event with which it ended.
	outcome artifact.Outcome
	ended   uint64
	// past are the outcomes of earlier runs, each once, and the last one at the end. Their
	// results have been replaced, or will be.
	past []artifact.Outcome
}

// counts reports whether wait takes account of something with this boot ID and seq.
func (w *waiter) counts(bootID string, seq uint64) bool {
	return (w.bootID == "" || bootID == w.bootID) && (!w.hasAfter || seq > w.after)
}

// add adds an event to a passage.
func (w *waiter) add(p *passage, e *artifact.Event) {
	if !w.counts(e.BootID, e.Seq) {
		return
	}
	p.any = true
	if e.Plain {
		return
	}
	outcome, final := e.Kind.Outcome()
	switch {
	case final:
		p.outcome, p.ended = outcome, e.Seq
	case p.outcome != "" && e.Kind.StartsRun():
		p.past = slices.DeleteFunc(p.past, func(past artifact.Outcome) bool { return past == p.outcome })
		p.past, p.outcome = append(p.past, p.outcome), ""
	}
	if p.reached == 0 && w.isReached(e.Kind) {
		p.reached = e.Seq
	}
}

// isReached reports whether a guest in a state has reached one of the states that are not
// final.
func (w *waiter) isReached(state artifact.State) bool {
	return slices.ContainsFunc(w.states, func(want artifact.State) bool {
		_, final := want.Outcome()
		return !final && state.Reaches(want)
	})
}

// decide reports whether the wait is over. A state that was reached decides first, then an
// outcome, then the end of the guest, and last the death of a writer.
func (w *waiter) decide(o *observation) (done bool, err error) {
	s, r := o.files.Status, o.files.Result
	if s != nil && !w.counts(s.BootID, s.Seq) {
		s = nil
	}
	if r != nil && !w.counts(cmp.Or(r.BootID, w.bootID), r.Seq) {
		r = nil
	}
	if o.log.reached > 0 || (s != nil && w.isReached(s.State)) {
		return true, nil
	}
	outcome, hasOutcome := artifact.RunOutcome(s, r)
	if !hasOutcome && r != nil && o.log.outcome != "" && r.Seq == o.log.ended {
		outcome = r.Outcome // the status has already changed, or is not replaced yet
	}
	past := o.log.past
	for _, ended := range append(slices.Clone(past), outcome) {
		if slices.Contains(w.states, artifact.State(ended)) {
			return true, nil
		}
	}
	if outcome != "" {
		return true, &otherOutcomeError{outcome, writer.ResultName}
	}
	if len(past) > 0 {
		return true, &otherOutcomeError{past[len(past)-1], writer.PrevResultName}
	}
	if s != nil && w.isTooLate(s.State, o.idleFor) {
		return true, &guestEndedError{s.State}
	}
	if o.dead != nil && o.deadFor >= patience {
		return true, &writerDiedError{*o.dead}
	}
	return false, nil
}

// isTooLate reports whether none of the states can come after state without a new run.
// idleFor is how long no writer has been alive.
func (w *waiter) isTooLate(state artifact.State, idleFor time.Duration) bool {
	if !state.IsStopped() {
		return false
	}
	for _, want := range w.states {
		_, final := want.Outcome()
		if final && idleFor < patience {
			return false // a writer may add a result
		}
		if want == artifact.Destroyed {
			return false // it follows stopped
		}
	}
	return true
}

// lastEvent returns the seq of the last event that decide may have used.
func (p *passage) lastEvent() uint64 { return max(p.reached, p.ended) }

// wait waits until decide reports that the wait is over, or until the time limit is
// reached. It returns the last snapshot that it read; nil if it read none.
//
// The start position in the log is read before the files, and the files are read before
// the new events. So what happens after the start is in the files or in the events.
func (w *waiter) wait() (*history.Snapshot, error) {
	deadline := time.Now().Add(w.limit)
	changes, err := watch.Open(w.dir)
	if err != nil {
		return nil, &unreadableError{err}
	}
	defer changes.Close()
	o := w.newObserver()
	o.changes = changes
	defer o.events.Close()
	for {
		timeOver := w.limit >= 0 && !time.Now().Before(deadline)
		more, err := o.look()
		if err != nil {
			return nil, &unreadableError{err}
		}
		done, err := w.decide(&o.observation)
		if !done && timeOver {
			done, err = true, &timeoutError{o.unknown}
		}
		if done && o.mayEnd(err, more, time.Now()) {
			return o.settle(), err
		}
		if more {
			continue
		}
		o.reportWaiting()
		pause := o.untilWriters(time.Now())
		if w.limit >= 0 {
			pause = min(pause, max(0, time.Until(deadline)))
		}
		if _, err := changes.Wait(pause); err != nil {
			return o.files, &unreadableError{err}
		}
	}
}

// A timeoutError is errTimeout with what is known about the writers.
type timeoutError struct{ unknown bool }

func (e *timeoutError) Error() string { return errTimeout.Error() }
func (e *timeoutError) Unwrap() error { return errTimeout }

// printStatus prints the status of a snapshot, if it has one.
func (a *app) printStatus(s *history.Snapshot, format string) error {
	if s == nil || s.Status == nil {
		return nil
	}
	text := string(s.StatusText)
	if format != "json" {
		message, _ := s.Status.Message.Text()
		text = timeline.Printable(string(s.Status.State) + ": " + message)
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}

// explainError adds the current status, and what to do, to the error of a wait.
func (w *waiter) explainError(err error, s *history.Snapshot) error {
	var (
		other   *otherOutcomeError
		ended   *guestEndedError
		died    *writerDiedError
		timeout *timeoutError
	)
	switch {
	case errors.As(err, &other):
		return fmt.Errorf("wait: %w, not %s; see %s", err, w.wanted(),
			filepath.Join(w.dir, other.file))
	case errors.As(err, &ended):
		return fmt.Errorf("wait: %w, so it cannot become %s; start a new run", err, w.wanted())
	case errors.As(err, &died):
		return fmt.Errorf("wait: %w, and %s; record a failed result with ingest --require-result </dev/null, or start a new run", err, w.current(s))
	case errors.As(err, &timeout):
		unknown := ""
		if timeout.unknown {
			unknown = "; " + writer.WriterLockName + " does not show whether a writer is alive"
		}
		return fmt.Errorf("wait: %w after %v; %s%s", err, w.limit, w.current(s), unknown)
	}
	return fmt.Errorf("wait: %w", &unreadableError{w.explainUnreadable(err)})
}

// explainUnreadable adds what to do to the error of a file that cannot be read.
func (w *waiter) explainUnreadable(err error) error {
	var pathErr *fs.PathError
	switch {
	case !errors.As(err, &pathErr):
		return err
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory; check --state-dir or PIKA_LIFECYCLE_DIR", notDirectory(w.dir))
	case errors.Is(err, artifact.ErrNewer):
		return fmt.Errorf("%s %w", pathErr.Path, artifact.ErrNewer)
	}
	return openError(err)
}

func (w *waiter) wanted() string {
	var words []string
	for _, s := range w.states {
		words = append(words, string(s))
	}
	return strings.Join(words, " or ")
}

// current describes the status of a snapshot, and why it is not one of the states.
func (w *waiter) current(s *history.Snapshot) string {
	if s.Status == nil && s.StatusErr != nil {
		return fmt.Sprintf("%s is not a valid status: %v%s", filepath.Join(w.dir, writer.StatusName), s.StatusErr, replaceInvalid)
	}
	if s.Status == nil {
		return fmt.Sprintf("there is no status in %s; check --state-dir or PIKA_LIFECYCLE_DIR", w.dir)
	}
	text := fmt.Sprintf("the status in %s is %s", w.dir, s.Status.State)
	if s.Status.Seq > 0 {
		text += fmt.Sprintf(" (event %d)", s.Status.Seq)
	}
	_, isOutcome := s.Status.State.Outcome()
	switch {
	case w.bootID != "" && s.Status.BootID != w.bootID:
		return text + ", of another boot; if the files were copied from a guest, add --boot any"
	case w.hasAfter && s.Status.Seq == 0:
		return text + ", without a seq, which does not count with --after"
	case w.hasAfter && s.Status.Seq <= w.after:
		return text + fmt.Sprintf(", which is not after event %d", w.after)
	case isOutcome && s.ResultErr != nil:
		return text + fmt.Sprintf(", but result.json is not valid: %v%s", s.ResultErr, replaceInvalid)
	case isOutcome && s.Result == nil:
		return text + ", but result.json is missing"
	case isOutcome:
		return text + ", but result.json does not match it"
	}
	return text + ", not " + w.wanted()
}
