// Command pika-cloud-lifecycle writes the files in which a guest reports its state
// to its host: status.json, events.jsonl and result.json.
//
// It runs a command and records how it ended (run), reads a stream of directives
// (ingest), sends a directive to one of these (send), rebuilds the files from a journal
// (rebuild), waits for a state (wait), writes one file (status, event, result), or shows
// and checks the files (show, plot, verify). The man page in docs is the reference.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/bootid"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

func main() {
	debug.SetTraceback("crash") // a crash ends with SIGABRT: exit code 2, the default, means wrong usage
	a := app{
		stdout:      os.Stdout,
		stderr:      &console{fd: 2},
		getenv:      os.Getenv,
		clock:       clock,
		umask:       clearOwnerUmask(),
		logLevels:   stderrIsJournal(),
		limitMemory: limitMemory,
	}
	a.bootID = a.readBootID
	err := openPoller()
	if err != nil {
		a.log(sd.PriErr, err.Error())
		if len(os.Args) > 1 && os.Args[1] == "run" {
			os.Exit(exitNotStarted)
		}
		os.Exit(exitFailed)
	}
	os.Exit(a.main(os.Args[1:]))
}

// fewFiles is a limit of open files that may be too low for the program. It never has as
// many files open.
const fewFiles = 64

// openPoller makes the Go runtime open the descriptors of its network poller if the limit
// of open files is low. The runtime does so when it is needed first, and crashes if there
// are none left. Other errors of this kind are handled where they occur.
func openPoller() error {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if err != nil || limit.Cur >= fewFiles {
		return nil
	}
	const needed = 3 // epoll_create1, eventfd, and the file that is opened to start the poller
	var free []int
	for range needed {
		fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			free = append(free, fd)
		}
	}
	for _, fd := range free {
		unix.Close(fd)
	}
	if len(free) < needed {
		return fmt.Errorf("a limit of %d open files is too low; raise it (ulimit -n)", limit.Cur)
	}
	f, err := os.Open("/")
	if err == nil {
		f.Close()
	}
	return nil
}

// A subcommand is selected by the first argument.
type subcommand struct {
	name string
	main func(a *app, args []string) error
}

// subcommands returns the subcommands in the order of the usage text.
func subcommands() []subcommand {
	return []subcommand{
		{"run", runMain},
		{"ingest", ingestMain},
		{"send", sendMain},
		{"rebuild", rebuildMain},
		{"wait", waitMain},
		{"status", statusMain},
		{"event", eventMain},
		{"result", resultMain},
		{"show", showMain},
		{"plot", plotMain},
		{"verify", verifyMain},
		{"schema", schemaMain},
	}
}

func subcommandNames() (names []string) {
	for _, c := range subcommands() {
		names = append(names, c.name)
	}
	return names
}

// main runs the program and returns its exit code.
func (a *app) main(args []string) int {
	run, rest, err := a.choose(args)
	if run != nil {
		err = run(a, rest)
	}
	if err != nil && !isReported(err) {
		a.log(sd.PriErr, err.Error()+outputRemedy(err))
	}
	return exitCode(err)
}

// choose returns the subcommand that the first argument names, and its arguments. If the
// user asks for the help or the version of the program, choose prints it and returns no
// subcommand.
func (a *app) choose(args []string) (run func(*app, []string) error, rest []string, err error) {
	if len(args) == 0 {
		return nil, nil, badUsage("expected a command: %s; see --help", strings.Join(subcommandNames(), ", "))
	}
	name := args[0]
	switch {
	case isHelp(name):
		return nil, nil, a.print(usage)
	case name == "help":
		return (*app).help, args[1:], nil
	case name == "-version" || name == "--version":
		return nil, nil, a.print(version())
	}
	c := findSubcommand(name)
	if c == nil {
		return nil, nil, unknownCommand(name)
	}
	return c.main, args[1:], nil
}

// help prints the help of the program, or of the subcommand that args name.
func (a *app) help(args []string) error {
	if len(args) == 0 || isHelp(args[0]) {
		return a.print(usage)
	}
	c := findSubcommand(args[0])
	switch {
	case strings.HasPrefix(args[0], "-"):
		return badUsage("help: unexpected flag %s; expected a command, as in help run", args[0])
	case c == nil:
		return unknownCommand(args[0])
	case len(args) > 1:
		return badUsage("help: unexpected argument %q; expected one command", args[1])
	}
	return c.main(a, []string{"--help"})
}

func (a *app) print(text string) error {
	_, err := io.WriteString(a.stdout, text)
	return err
}

// findSubcommand returns the subcommand of this name; nil if there is none.
func findSubcommand(name string) *subcommand {
	for _, c := range subcommands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

// unknownCommand returns the error for a first argument that names no subcommand.
func unknownCommand(name string) error {
	near := nearestCommand(name)
	isFlag := strings.HasPrefix(name, "-")
	switch {
	case isFlag && near != "":
		return badUsage("unknown flag %s; did you mean %s?", name, near)
	case isFlag:
		return badUsage("expected a command before %s; flags follow the command, as in show --utc", name)
	case startsWithLongDash(name):
		return badUsage("%q is not a command; a flag starts with --, and follows the command, as in show --utc", name)
	case isDirective(name):
		return badUsage("%q is not a command; did you mean send %s?", name, name)
	case near != "":
		return badUsage("%q is not a command; did you mean %s?", name, near)
	}
	return badUsage("%q is not a command; expected %s or help", name, strings.Join(subcommandNames(), ", "))
}

// clearOwnerUmask clears the owner's bits of the umask and returns the old umask. With
// such bits, the program could not open the files that it has created.
func clearOwnerUmask() (old int) {
	old = unix.Umask(0o077)
	unix.Umask(old &^ 0o700)
	return old
}

// limitMemory sets the memory limit of the Go runtime, unless $GOMEMLIMIT has set one.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

// stderrIsJournal reports whether stderr is connected to the systemd journal.
func stderrIsJournal() bool {
	is, _ := sd.StderrIsJournalStream()
	return is
}

// clock reads the wall clock and CLOCK_BOOTTIME.
func clock() ingest.Moment {
	now := ingest.Moment{Time: time.Now()}
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) == nil {
		now.Uptime = time.Duration(up.Nano())
	}
	return now
}

// readBootID returns the boot ID. If it cannot be read, readBootID warns and returns
// "": readers treat an artifact without a boot ID as not of this boot.
func (a *app) readBootID() string {
	id, err := bootid.Read()
	if err != nil {
		a.warn(fmt.Sprintf("%v; continuing without a boot ID%s", err, bootIDRemedy(err)))
	}
	return id
}

// bootIDRemedy returns what to do about an error of bootid.Read. It begins with "; ".
func bootIDRemedy(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "; raise the limit of open files (ulimit -n)"
	case errors.Is(err, unix.ENOENT):
		return "; mount /proc"
	}
	return "; make the file readable"
}
