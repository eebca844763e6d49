package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
)

// A flagSet is the flags of a subcommand. --help prints usage to stdout.
type flagSet struct {
	*flag.FlagSet
	usage  string
	stdout io.Writer
}

func (a *app) newFlags(name, usage string) *flagSet {
	f := &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), usage: usage, stdout: a.stdout}
	f.SetOutput(io.Discard)
	return f
}

// stateDir declares --state-dir.
func (a *app) stateDir(f *flagSet) *string {
	dir := a.getenv("PIKA_LIFECYCLE_DIR")
	if dir == "" {
		dir = "/run/pika-cloud"
	}
	return f.String("state-dir", dir, "")
}

// badUsage returns a usageError that names the subcommand.
func (f *flagSet) badUsage(format string, args ...any) error {
	return badUsage("%s: %s", f.Name(), fmt.Sprintf(format, args...))
}

// parseAll parses the flags of a subcommand that takes no operands.
func (f *flagSet) parseAll(args []string) error {
	operands, err := f.parseOperands(args)
	if err != nil {
		return err
	}
	if len(operands) > 0 {
		return f.badUsage("unexpected argument %q; every value stands behind its flag, and one with spaces in quotes", operands[0])
	}
	return nil
}

// parseOperands parses flags that may come before, between and after operands,
// which it returns.
func (f *flagSet) parseOperands(args []string) (operands []string, err error) {
	for {
		if err := f.parseFlags(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return operands, nil
		}
		operands, args = append(operands, f.Arg(0)), f.Args()[1:]
	}
}

// parseFlags parses the flags before the first operand. If help is asked for, it
// prints the usage and returns flag.ErrHelp.
func (f *flagSet) parseFlags(args []string) error {
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, writeErr := io.WriteString(f.stdout, f.usage)
		if writeErr != nil {
			return writeErr
		}
		return err
	}
	if err != nil {
		return f.badUsage("%v%s", err, f.choices(err))
	}
	return nil
}

// choices lists the flags if err reports an unknown one.
func (f *flagSet) choices(err error) string {
	unknown, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok {
		return ""
	}
	var names []string
	f.VisitAll(func(f *flag.Flag) { names = append(names, "--"+f.Name) })
	if names == nil {
		return "; expected none"
	}
	return "; expected one of " + strings.Join(names, ", ") + didYouMean("--"+unknown, names)
}

func didYouMean(word string, choices []string) string {
	near := directive.Nearest(word, choices)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", near)
}

// isGiven reports whether the command line has a flag.
func (f *flagSet) isGiven(name string) (found bool) {
	f.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// require checks that the command line has the named flags.
func (f *flagSet) require(names ...string) error {
	var missing []string
	for _, name := range names {
		if !f.isGiven(name) {
			missing = append(missing, "--"+name)
		}
	}
	if missing == nil {
		return nil
	}
	return f.badUsage("%s missing; see %s --help", strings.Join(missing, ", "), f.Name())
}

// checkStateDir checks the value of --state-dir.
func (f *flagSet) checkStateDir(dir string) error {
	if dir == "" {
		return f.badUsage("--state-dir is empty")
	}
	return nil
}

// checkFormat checks the value of --format.
func (f *flagSet) checkFormat(format string) error {
	words := []string{"text", "json"}
	if slices.Contains(words, format) {
		return nil
	}
	return f.badUsage("--format is %q; expected text or json%s", format, didYouMean(format, words))
}

// checkDescriptor checks that the descriptor that a flag names is open, and that
// its access mode is not the wrong one. It must be called before anything is
// opened that could get a number that the caller forgot to redirect.
func (f *flagSet) checkDescriptor(name string, fd int, wrong int, use string) error {
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if fd < 0 || err != nil {
		return f.badUsage("--%s %d is not an open descriptor; redirect it where %s is started", name, fd, f.Name())
	}
	if mode&unix.O_ACCMODE == wrong {
		return f.badUsage("--%s %d is not open for %s", name, fd, use)
	}
	return nil
}

// parseWord parses the value of a flag that takes a state or an outcome.
func parseWord[T ~string](f *flagSet, name, value string, all []T) (T, error) {
	i := slices.Index(all, T(value))
	if i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, word := range all {
		names = append(names, string(word))
	}
	return "", f.badUsage("--%s is %q; expected one of %s%s", name, value, strings.Join(names, ", "), didYouMean(value, names))
}
