package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/watch"
)

// A waiting is a wait for a guest to come into one of some states.
type waiting struct {
	dir    string
	states []artifact.State
	boot   string // of the guest; any if empty
	limit  time.Duration
}

// errUnreadable says that wait cannot look.
type errUnreadable struct{ error }

// errOther is what a wait ends with that will not see what it waits for.
type errOther struct{ verdict artifact.Outcome }

func (e *errOther) Error() string { return "the guest has " + string(e.verdict) }

// errLate says that the time of a wait is over.
var errLate = errors.New("time is over")

// wait waits for a state and prints the status that it ended with.
func (w *world) wait(args []string) error {
	flags := flag.NewFlagSet("wait", flag.ContinueOnError)
	dir := w.stateDir(flags)
	words := flags.String("for", "", "")
	limit := flags.Duration("timeout", -1, "")
	boot := flags.String("boot", "current", "")
	format := flags.String("format", "text", "")
	if err := w.parse(flags, waitUsage, args); err != nil {
		return err
	}
	if err := require(flags, "for"); err != nil {
		return err
	}
	switch {
	case given(flags, "timeout") && *limit < 0:
		return badUsage("wait: --timeout takes a duration that is not negative, such as 2m")
	case *format != "text" && *format != "json":
		return badUsage("wait: --format is %q; expected json or text", *format)
	case *dir == "":
		return badUsage("wait: --state-dir is empty")
	}
	wait := waiting{dir: *dir, limit: *limit}
	if err := wait.setStates(flags, *words); err != nil {
		return err
	}
	if err := wait.setBoot(*boot, w.bootID); err != nil {
		return err
	}
	stands, err := wait.run()
	w.showStatus(stands, *format)
	return wait.explain(err, stands)
}

func (wait *waiting) setStates(flags *flag.FlagSet, words string) error {
	for _, word := range strings.Split(words, ",") {
		state, err := parseWord(flags, "for", word, artifact.States())
		if err != nil {
			return err
		}
		wait.states = append(wait.states, state)
	}
	return nil
}

func (wait *waiting) setBoot(word string, current func() string) error {
	switch word {
	case "any":
		return nil
	case "current":
		if wait.boot = current(); wait.boot == "" {
			return badUsage("wait: the ID of this boot is not known, for /proc is missing; expected --boot any")
		}
		return nil
	}
	return badUsage("wait: --boot is %q; expected current or any", word)
}

// run waits. It returns what stood at the end.
func (wait *waiting) run() (*history.Snapshot, error) {
	deadline := time.Now().Add(wait.limit)
	changes, err := watch.Open(wait.dir)
	if err != nil {
		return nil, errUnreadable{err}
	}
	defer changes.Close()
	for {
		stands, err := history.Read(wait.dir)
		if err != nil {
			return nil, errUnreadable{err}
		}
		if done, err := wait.judge(stands); done {
			return stands, err
		}
		left := time.Duration(-1)
		if wait.limit >= 0 {
			left = max(0, time.Until(deadline))
		}
		changed, err := changes.Wait(left)
		if err != nil {
			return stands, errUnreadable{err}
		}
		if !changed {
			return stands, errLate
		}
	}
}

// judge reports whether the wait is over.
func (wait *waiting) judge(s *history.Snapshot) (done bool, err error) {
	if s.Status == nil || wait.boot != "" && s.Status.BootID != wait.boot {
		return false, nil
	}
	verdict, _ := artifact.RunOutcome(s.Status, s.Result)
	for _, want := range wait.states {
		outcome, terminal := want.Outcome()
		if terminal && outcome == verdict || !terminal && s.Status.State.Reaches(want) {
			return true, nil
		}
	}
	if verdict != "" {
		return true, &errOther{verdict}
	}
	return false, nil
}

// showStatus prints the status that stands.
func (w *world) showStatus(s *history.Snapshot, format string) {
	switch {
	case s == nil || s.Status == nil:
	case format == "json":
		fmt.Fprintf(w.stdout, "%s\n", s.StatusText)
	default:
		message, _ := s.Status.Message.Text()
		fmt.Fprintln(w.stdout, timeline.Printable(string(s.Status.State)+": "+message))
	}
}

// explain says what an operator should know, and returns what the exit code is
// for.
func (wait *waiting) explain(err error, s *history.Snapshot) error {
	var other *errOther
	switch {
	case errors.As(err, &other):
		return fmt.Errorf("wait: %w; expected %s", err, wait.wanted())
	case errors.Is(err, errLate) && (s == nil || s.Status == nil):
		return fmt.Errorf("wait: %w after %v, and there is no status in %s; expected %s", err, wait.limit, wait.dir, wait.wanted())
	case errors.Is(err, errLate):
		return fmt.Errorf("wait: %w after %v, and the status is %s%s; expected %s", err, wait.limit,
			s.Status.State, wait.ofWhen(s.Status), wait.wanted())
	case err != nil:
		return fmt.Errorf("wait: %w", err)
	}
	return nil
}

func (wait *waiting) wanted() string {
	var words []string
	for _, s := range wait.states {
		words = append(words, string(s))
	}
	return strings.Join(words, " or ")
}

// ofWhen says so where a status is another boot's.
func (wait *waiting) ofWhen(s *artifact.Status) string {
	if wait.boot == "" || s.BootID == wait.boot {
		return ""
	}
	return " of another boot"
}
