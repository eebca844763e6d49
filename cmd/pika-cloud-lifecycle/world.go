package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// A world is what surrounds the program.
type world struct {
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	clock  func() ingest.Moment
	bootID func() string
	umask  int  // of the command that run runs
	levels bool // stderr goes to the journal, which takes a level before each line
}

// The exit codes, which the man page lists.
const (
	exitOK      = 0
	exitFailed  = 1 // something could not be written, or is invalid
	exitUsage   = 2
	exitRefused = 3 // lines were refused, or what was to be verified or waited for could not be read

	// Of run and wait, as a shell's and timeout(1)'s.
	exitTimeout    = 124 // it took too long
	exitNotStarted = 126
	exitNotFound   = 127
)

// A usageError is a mistake in the command line.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

func badUsage(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// errRefused says that lines were refused, each of which has been said.
var errRefused = errors.New("lines were refused")

// main runs the program and returns its exit code.
func (w *world) main(args []string) int {
	err := w.run(args)
	var usage *usageError
	var ended commandExit
	var unreadable errUnreadable
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errInvalid):
		return exitFailed
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.As(err, &unreadable):
		w.say(err.Error())
		return exitRefused
	case errors.Is(err, errLate):
		w.say(err.Error())
		return exitTimeout
	case errors.As(err, &ended):
		return int(ended)
	case errors.As(err, &usage):
		w.tell(sd.PriErr, err.Error())
		return exitUsage
	}
	w.tell(sd.PriErr, err.Error())
	var unread *unreadError
	if errors.As(err, &unread) {
		return exitRefused
	}
	return exitFailed
}

// commands are the subcommands, in the order of the usage text.
var commands = []string{"run", "ingest", "wait", "status", "event", "result", "show", "plot", "verify", "schema"}

func (w *world) run(args []string) error {
	if len(args) == 0 {
		return badUsage("expected a command: %s; see --help", strings.Join(commands, ", "))
	}
	switch name, args := args[0], args[1:]; name {
	case "run":
		return w.runCommand(args)
	case "ingest":
		return w.ingest(args)
	case "wait":
		return w.wait(args)
	case "status":
		return w.status(args)
	case "event":
		return w.event(args)
	case "result":
		return w.result(args)
	case "show":
		return w.show(args)
	case "plot":
		return w.plot(args)
	case "verify":
		return w.verify(args)
	case "schema":
		return w.schema(args)
	case "help", "-h", "-help", "--help":
		io.WriteString(w.stdout, usage)
		return nil
	case "-version", "--version":
		io.WriteString(w.stdout, version())
		return nil
	default:
		return badUsage("%q is no command; expected one of %s%s", name,
			strings.Join(commands, ", "), didYouMean(name, commands))
	}
}

// say writes one line to stderr that somebody should look at.
func (w *world) say(line string) { w.tell(sd.PriWarning, line) }

// tell writes one line to stderr.
func (w *world) tell(p sd.Priority, line string) {
	level := ""
	if w.levels {
		level = fmt.Sprintf("<%d>", p) // sd-daemon(3)
	}
	fmt.Fprintf(w.stderr, "%spika-cloud-lifecycle: %s\n", level, timeline.Printable(line))
}

// parse parses the flags of a subcommand that takes nothing else.
func (w *world) parse(flags *flag.FlagSet, text string, args []string) error {
	operands, err := w.parseOperands(flags, text, args)
	if err == nil && len(operands) > 0 {
		err = badUsage("%s: unexpected argument %q; every value stands behind its flag, and one with spaces in quotes",
			flags.Name(), operands[0])
	}
	return err
}

// parseOperands parses the flags of a subcommand and returns what stands beside
// them.
func (w *world) parseOperands(flags *flag.FlagSet, text string, args []string) (operands []string, err error) {
	for {
		if err := w.parseFlags(flags, text, args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return operands, nil
		}
		operands, args = append(operands, flags.Arg(0)), flags.Args()[1:]
	}
}

// parseFlags parses the flags that stand before anything else. A command line
// that asks for help gets text and flag.ErrHelp.
func (w *world) parseFlags(flags *flag.FlagSet, text string, args []string) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(w.stdout, text)
		return err
	case err != nil:
		return badUsage("%s: %v%s", flags.Name(), err, choices(flags, err))
	}
	return nil
}

// choices names the flags there are, where err says that one is not.
func choices(flags *flag.FlagSet, err error) string {
	unknown, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok {
		return ""
	}
	var names []string
	flags.VisitAll(func(f *flag.Flag) { names = append(names, "--"+f.Name) })
	if names == nil {
		return "; expected none"
	}
	return "; expected one of " + strings.Join(names, ", ") + didYouMean("--"+unknown, names)
}

func didYouMean(word string, choices []string) string {
	if near := directive.Nearest(word, choices); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// require checks that the flags named were given.
func require(flags *flag.FlagSet, names ...string) error {
	var missing []string
	for _, name := range names {
		if !given(flags, name) {
			missing = append(missing, "--"+name)
		}
	}
	if missing == nil {
		return nil
	}
	return badUsage("%s: %s missing; see %s --help", flags.Name(), strings.Join(missing, ", "), flags.Name())
}

func given(flags *flag.FlagSet, name string) (found bool) {
	flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// stateDir declares --state-dir.
func (w *world) stateDir(flags *flag.FlagSet) *string {
	dir := w.getenv("PIKA_LIFECYCLE_DIR")
	if dir == "" {
		dir = "/run/pika-cloud"
	}
	return flags.String("state-dir", dir, "")
}

// parseWord parses the value of a flag that takes a state or an outcome.
func parseWord[T ~string](flags *flag.FlagSet, name, value string, all []T) (T, error) {
	if i := slices.Index(all, T(value)); i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, word := range all {
		names = append(names, string(word))
	}
	return "", badUsage("%s: --%s is %q; expected one of %s%s", flags.Name(), name, value,
		strings.Join(names, ", "), didYouMean(value, names))
}
