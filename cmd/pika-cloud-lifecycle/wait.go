package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
)

// A waiter waits until a guest reaches one of some states.
type waiter struct {
	dir    string
	states []artifact.State
	bootID string        // of the guest; any if empty
	limit  time.Duration // none if negative
}

// An otherOutcomeError reports that the run has ended with an outcome other than
// those that were waited for, so none of the states will be reached.
type otherOutcomeError struct{ outcome artifact.Outcome }

func (e *otherOutcomeError) Error() string { return "the guest has " + string(e.outcome) }

// waitMain waits for a state and prints the last status.
func waitMain(a *app, args []string) error {
	f := a.newFlags("wait", waitUsage)
	dir := a.stateDir(f)
	words := f.String("for", "", "")
	limit := f.Duration("timeout", -1, "")
	boot := f.String("boot", "current", "")
	format := f.String("format", "text", "")
	if err := f.parseAll(args); err != nil {
		return err
	}
	if err := f.require("for"); err != nil {
		return err
	}
	if f.isGiven("timeout") && *limit < 0 {
		return f.badUsage("--timeout takes a duration that is not negative, such as 2m")
	}
	if err := f.checkFormat(*format); err != nil {
		return err
	}
	if err := f.checkStateDir(*dir); err != nil {
		return err
	}
	w := waiter{dir: *dir, limit: *limit}
	if err := w.setStates(f, *words); err != nil {
		return err
	}
	if err := w.setBoot(f, *boot, a.bootID); err != nil {
		return err
	}
	last, err := w.wait()
	a.printStatus(last, *format)
	return w.explain(err, last)
}

func (w *waiter) setStates(f *flagSet, words string) error {
	for _, word := range strings.Split(words, ",") {
		state, err := parseWord(f, "for", word, artifact.States())
		if err != nil {
			return err
		}
		w.states = append(w.states, state)
	}
	return nil
}

func (w *waiter) setBoot(f *flagSet, word string, current func() string) error {
	switch word {
	case "any":
		return nil
	case "current":
		w.bootID = current()
		if w.bootID == "" {
			return f.badUsage("the ID of this boot is not known, for /proc is missing; expected --boot any")
		}
		return nil
	}
	return f.badUsage("--boot is %q; expected current or any", word)
}

// wait waits, and returns the last snapshot that it has read; nil if none.
func (w *waiter) wait() (*history.Snapshot, error) {
	deadline := time.Now().Add(w.limit)
	changes, err := watch.Open(w.dir)
	if err != nil {
		return nil, &unreadableError{err}
	}
	defer changes.Close()
	for {
		snapshot, err := history.Read(w.dir)
		if err != nil {
			return nil, &unreadableError{err}
		}
		done, err := w.check(snapshot)
		if done {
			return snapshot, err
		}
		left := time.Duration(-1)
		if w.limit >= 0 {
			left = max(0, time.Until(deadline))
		}
		changed, err := changes.Wait(left)
		if err != nil {
			return snapshot, &unreadableError{err}
		}
		if !changed {
			return snapshot, errTimeout
		}
	}
}

// check reports whether the wait is over, and with an *otherOutcomeError if none
// of the states will be reached.
func (w *waiter) check(s *history.Snapshot) (done bool, err error) {
	if s.Status == nil || (w.bootID != "" && s.Status.BootID != w.bootID) {
		return false, nil
	}
	outcome, _ := artifact.RunOutcome(s.Status, s.Result)
	for _, state := range w.states {
		wanted, final := state.Outcome()
		if final && wanted == outcome {
			return true, nil
		}
		if !final && s.Status.State.Reaches(state) {
			return true, nil
		}
	}
	if outcome != "" {
		return true, &otherOutcomeError{outcome}
	}
	return false, nil
}

// printStatus prints the status of a snapshot, if there is one.
func (a *app) printStatus(s *history.Snapshot, format string) {
	if s == nil || s.Status == nil {
		return
	}
	if format == "json" {
		fmt.Fprintf(a.stdout, "%s\n", s.StatusText)
		return
	}
	message, _ := s.Status.Message.Text()
	fmt.Fprintln(a.stdout, timeline.Printable(string(s.Status.State)+": "+message))
}

// explain adds to the error of a wait what was waited for and what is there
// instead.
func (w *waiter) explain(err error, s *history.Snapshot) error {
	var other *otherOutcomeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		return fmt.Errorf("wait: %w; expected %s", err, w.wanted())
	case errors.Is(err, errTimeout) && (s == nil || s.Status == nil):
		return fmt.Errorf("wait: %w after %v, and there is no status in %s; expected %s", err, w.limit, w.dir, w.wanted())
	case errors.Is(err, errTimeout):
		return fmt.Errorf("wait: %w after %v, and the status is %s%s; expected %s", err, w.limit,
			s.Status.State, w.boot(s.Status), w.wanted())
	}
	return fmt.Errorf("wait: %w", err)
}

func (w *waiter) wanted() string {
	var words []string
	for _, s := range w.states {
		words = append(words, string(s))
	}
	return strings.Join(words, " or ")
}

// boot returns a remark if a status is from another boot than the one waited for.
func (w *waiter) boot(s *artifact.Status) string {
	if w.bootID == "" || s.BootID == w.bootID {
		return ""
	}
	return " of another boot"
}
