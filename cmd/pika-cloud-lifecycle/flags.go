package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A flagSet holds the flags of a subcommand. --help prints usage to stdout.
//
// It does not use the parser of package flag, whose messages name a flag with one
// dash and quote strconv: invalid value "10" for flag -timeout: parse error.
type flagSet struct {
	*flag.FlagSet
	usage    string
	stdout   io.Writer
	given    []string // the names of the flags on the command line
	operands []string // after the flags that parseFlags has parsed
}

func (a *app) newFlags(name, usage string) *flagSet {
	return &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), usage: usage, stdout: a.stdout}
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
	return badUsage("%s: %w", f.Name(), fmt.Errorf(format, args...))
}

// parseAll parses the flags of a subcommand that has no operands.
func (f *flagSet) parseAll(args []string) error {
	operands, err := f.parseOperands(args)
	if err != nil {
		return err
	}
	if len(operands) > 0 {
		return f.badUsage("unexpected argument %q; %s", operands[0], f.operandHint(operands[0]))
	}
	return nil
}

// parseOperands parses flags and returns the operands. Flags may be before, between
// and after the operands, up to the argument "--".
func (f *flagSet) parseOperands(args []string) (operands []string, err error) {
	for {
		rest, noMoreFlags, err := f.parse(args)
		if err != nil {
			return nil, err
		}
		if noMoreFlags || len(rest) == 0 {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// parseFlags parses the flags before the first operand. Args returns the rest.
func (f *flagSet) parseFlags(args []string) (err error) {
	f.operands, _, err = f.parse(args)
	return err
}

// Args returns the arguments after the flags that parseFlags has parsed.
func (f *flagSet) Args() []string { return f.operands }

// parse parses flags up to the first operand, or up to "--", after which all
// arguments are operands. If the user asks for help, parse prints the usage and
// returns flag.ErrHelp.
func (f *flagSet) parse(args []string) (rest []string, noMoreFlags bool, err error) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return args, true, nil
		}
		args, err = f.parseFlag(arg, args)
		if err != nil {
			return nil, false, err
		}
	}
	return args, false, nil
}

// parseFlag parses one flag, whose value may be the first argument of rest. It
// returns the arguments that follow.
func (f *flagSet) parseFlag(arg string, rest []string) ([]string, error) {
	dashed, value, hasValue := strings.Cut(arg, "=")
	found := f.lookUp(dashed)
	switch {
	case found == nil && isHelp(dashed):
		return nil, f.printUsage()
	case found == nil:
		return nil, f.badUsage("%w", &unknownFlagError{dashed, f.Name(), f.flagNames()})
	case hasValue:
	case isSwitch(found):
		value = "true"
	case len(rest) == 0 || rest[0] == "--":
		return nil, f.badUsage("--%s needs a value; see %s --help", found.Name, f.Name())
	case f.startsWithFlag(rest[0]):
		return nil, f.badUsage("--%s needs a value; if %q is the value, write --%s=%s",
			found.Name, rest[0], found.Name, rest[0])
	default:
		value, rest = rest[0], rest[1:]
	}
	return rest, f.set(found, value)
}

// lookUp returns the flag of an argument such as --name or -name; nil if there is
// none.
func (f *flagSet) lookUp(dashed string) *flag.Flag { return f.Lookup(undashed(dashed)) }

// undashed returns an argument without its first one or two dashes.
func undashed(arg string) string { return strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-") }

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// startsWithFlag reports whether an argument is a flag of the subcommand.
func (f *flagSet) startsWithFlag(arg string) bool {
	dashed, _, _ := strings.Cut(arg, "=")
	return strings.HasPrefix(arg, "--") && f.lookUp(dashed) != nil
}

// isSwitch reports whether a flag needs no value.
func isSwitch(found *flag.Flag) bool {
	value, ok := found.Value.(interface{ IsBoolFlag() bool })
	return ok && value.IsBoolFlag()
}

// set sets the value of a flag. A duration must not be negative.
func (f *flagSet) set(found *flag.Flag, text string) error {
	err := found.Value.Set(text)
	f.given = append(f.given, found.Name)
	duration, _ := found.Value.(flag.Getter).Get().(time.Duration)
	switch {
	case err != nil:
		return f.badUsage("--%s is %q; expected %s", found.Name, text, expectedValue(found.Value, text, err))
	case duration < 0:
		return f.badUsage("--%s is %q; expected 0s or longer", found.Name, text)
	}
	return nil
}

// expectedValue describes the values that v accepts, after Set(text) has returned err.
func expectedValue(v flag.Value, text string, err error) string {
	switch v.(flag.Getter).Get().(type) {
	case bool:
		return "no value, or true or false"
	case time.Duration:
		return durationHint(text)
	case int:
		return "the number of a descriptor, such as 3"
	case uint64:
		return "a sequence number, as show --seq prints it"
	}
	return err.Error() // of a sizeValue
}

// durationHint describes durations, and suggests one if text is a number, or a number
// with a unit that package time does not accept.
func durationHint(text string) string {
	const expected = "a duration such as 10s, 10m or 24h"
	fields := strings.ToLower(strings.Join(strings.Fields(text), ""))
	digits := strings.TrimRight(fields, "abcdefghijklmnopqrstuvwxyz")
	unit, isKnown := map[string]string{"": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
		"min": "m", "mins": "m", "minute": "m", "minutes": "m", "hr": "h", "hour": "h", "hours": "h",
		"s": "s", "m": "m", "h": "h"}[fields[len(digits):]]
	if days, err := strconv.Atoi(digits); err == nil && slices.Contains([]string{"d", "day", "days"}, fields[len(digits):]) {
		digits, unit, isKnown = strconv.Itoa(24*days), "h", true
	}
	_, err := time.ParseDuration(text)
	_, unitErr := time.ParseDuration(digits + unit)
	switch {
	case isKnown && unitErr == nil && digits[0] != '-':
		return fmt.Sprintf("%s; did you mean %s%s?", expected, digits, unit)
	case isKnown && err != nil && digits != "" && strings.Trim(digits, "0123456789") == "":
		return "at most 2562047h"
	}
	return expected
}

func (f *flagSet) printUsage() error {
	_, err := io.WriteString(f.stdout, f.usage)
	if err != nil {
		return err
	}
	return flag.ErrHelp
}

// flagNames returns the names of all flags, without dashes.
func (f *flagSet) flagNames() (names []string) {
	f.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}

// isGiven reports whether the command line has a flag.
func (f *flagSet) isGiven(name string) bool { return slices.Contains(f.given, name) }

// require checks that the command line has the named flags.
func (f *flagSet) require(names ...string) error {
	var missing []string
	for _, name := range names {
		if !f.isGiven(name) {
			missing = append(missing, "--"+name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return f.badUsage("%s is missing; see %s --help", missing[0], f.Name())
	}
	return f.badUsage("%s are missing; see %s --help", strings.Join(missing, " and "), f.Name())
}

// checkStateDir checks the value of --state-dir.
func (f *flagSet) checkStateDir(dir string) error {
	if dir == "" {
		return f.badUsage("--state-dir is empty; expected a directory")
	}
	if rest, found := strings.CutPrefix(dir, "~/"); found {
		return f.badUsage("the state directory is %q, in which no shell has replaced ~; write $HOME/%s, or ./%s if the directory is called ~", dir, rest, dir)
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
	to := '<'
	if wrong == unix.O_RDONLY {
		to = '>'
	}
	usual := max(fd, 3)
	if fd > 9 { // shells limit descriptors in redirections
		usual = 3
	}
	example := fmt.Sprintf("%s --%s %[3]d %[3]d%cFILE", f.Name(), name, usual, to)
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if fd < 0 || err != nil {
		return f.badUsage("--%s is %d, which is not an open descriptor; open it in the shell, as in %s", name, fd, example)
	}
	if mode&unix.O_ACCMODE == wrong {
		return f.badUsage("--%s is %d, which is not open for %s; open it in the shell, as in %s",
			name, fd, use, example)
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
