package main

import (
	"errors"
	"fmt"
	"io/fs"
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
)

// A waiter waits until a guest reaches one of several states.
type waiter struct {
	dir    string
	states []artifact.State
	bootID string        // the boot whose status counts; "" for any boot
	note   func(string)  // prints a hint if there is no status yet; nil for no hint
	limit  time.Duration // no limit if negative
}

// An otherOutcomeError reports that the run ended with an outcome that wait did not
// wait for.
type otherOutcomeError struct{ outcome artifact.Outcome }

func (e *otherOutcomeError) Error() string { return "the run has ended as " + string(e.outcome) }

// waitMain runs the subcommand wait: it waits for a state and prints the status.
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
	if _, terminal := columnsOf(a.stderr); terminal {
		w.note = a.warn
	}
	last, err := w.wait()
	if err := a.printStatus(last, *format); err != nil {
		a.warn(fmt.Sprintf("wait: the status could not be printed: %v", err)) // the exit code reports the state
	}
	return w.explainError(err, last)
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
			return f.badUsage("the ID of this boot cannot be read, so no status can be matched with it; add --boot any")
		}
		return nil
	}
	return f.badUsage("--boot is %q; expected current or any", word)
}

// wait waits until check reports that the wait is over, or until the time limit is
// reached. It returns the last snapshot that it read; nil if it read none.
func (w *waiter) wait() (*history.Snapshot, error) {
	deadline := time.Now().Add(w.limit)
	changes, err := watch.Open(w.dir)
	if err != nil {
		return nil, &unreadableError{err}
	}
	defer changes.Close()
	timeOver := false
	for first := true; ; first = false {
		snapshot, err := history.Read(w.dir)
		if err != nil {
			return nil, &unreadableError{err}
		}
		done, err := w.check(snapshot)
		if done {
			return snapshot, err
		}
		if timeOver {
			return snapshot, errTimeout
		}
		if first && snapshot.Status == nil && w.note != nil && w.limit != 0 {
			w.note(fmt.Sprintf("wait: there is no status in %s yet; waiting for one, Ctrl-C to stop", w.dir))
		}
		left := time.Duration(-1)
		if w.limit >= 0 {
			left = max(0, time.Until(deadline))
		}
		changed, err := changes.Wait(left)
		if err != nil {
			return snapshot, &unreadableError{err}
		}
		timeOver = !changed // read the files once more, because not all changes are reported
	}
}

// check reports whether the wait is over. It returns an *otherOutcomeError if the
// run has ended and the guest is in none of the states.
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
	var other *otherOutcomeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		return fmt.Errorf("wait: %w, not %s; see %s", err, w.wanted(),
			filepath.Join(w.dir, writer.ResultName))
	case errors.Is(err, errTimeout):
		return fmt.Errorf("wait: %w after %v; %s", err, w.limit, w.current(s))
	}
	return fmt.Errorf("wait: %w", &unreadableError{w.explainUnreadable(err)})
}

// explainUnreadable adds what to do to the error of a file that cannot be read.
func (w *waiter) explainUnreadable(err error) error {
	var (
		pathErr *fs.PathError
		errno   syscall.Errno
	)
	switch {
	case !errors.As(err, &pathErr):
		return err
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory; check --state-dir", notDirectory(w.dir))
	case errors.As(err, &errno):
		return openError(err)
	case filepath.Base(pathErr.Path) == writer.ResultName:
		return fmt.Errorf("%s is not a valid result: %w%s", pathErr.Path, pathErr.Err, replaceInvalid)
	}
	return fmt.Errorf("%s is not a valid status: %w%s", pathErr.Path, pathErr.Err, replaceInvalid)
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
	if s == nil || s.Status == nil {
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
	case isOutcome && s.Result == nil:
		return text + ", but result.json is missing"
	case isOutcome:
		return text + ", but result.json does not match it"
	}
	return text + ", not " + w.wanted()
}
