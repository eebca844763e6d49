// Command pika-cloud-lifecycle writes the files in which a guest reports its state
// to its host: status.json, events.jsonl and result.json.
//
// It runs a command and records how it ended (run), reads a stream of directives
// (ingest), copies the files from a journal (rebuild), waits for a state (wait),
// writes one file (status, event, result), or shows and checks the files (show,
// plot, verify). The man page in docs is its reference.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/bootid"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

func main() {
	a := app{
		stdout: os.Stdout,
		stderr: &console{fd: 2},
		getenv: os.Getenv,
		clock:  clock,
		umask:  openToOwner(),
		levels: onJournal(),
	}
	a.bootID = a.readBootID
	os.Exit(a.main(os.Args[1:]))
}

// A subcommand is one that the first argument names.
type subcommand struct {
	name string
	main func(a *app, args []string) error
}

// subcommands returns the subcommands in the order of the usage text.
func subcommands() []subcommand {
	return []subcommand{
		{"run", runMain},
		{"ingest", ingestMain},
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
	err := a.dispatch(args)
	if err != nil && !isReported(err) {
		a.log(sd.PriErr, err.Error())
	}
	return exitCode(err)
}

// dispatch runs the subcommand that the first argument names.
func (a *app) dispatch(args []string) error {
	names := subcommandNames()
	if len(args) == 0 {
		return badUsage("expected a command: %s; see --help", strings.Join(names, ", "))
	}
	name := args[0]
	switch name {
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(a.stdout, usage)
		return err
	case "-version", "--version":
		_, err := io.WriteString(a.stdout, version())
		return err
	}
	for _, c := range subcommands() {
		if c.name == name {
			return c.main(a, args[1:])
		}
	}
	return badUsage("%q is no command; expected one of %s%s", name, strings.Join(names, ", "), didYouMean(name, names))
}

// openToOwner clears the owner's bits of the umask, and returns the old umask.
// Otherwise the program might not be able to open its own files again.
func openToOwner() (old int) {
	old = unix.Umask(0o077)
	unix.Umask(old &^ 0o700)
	return old
}

// onJournal reports whether systemd has connected stderr to the journal.
func onJournal() bool {
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

// bootIDRemedy returns what to do about an error of bootid.Read, to be appended to it.
func bootIDRemedy(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "; raise the limit of open files (ulimit -n)"
	case errors.Is(err, unix.ENOENT):
		return "; mount /proc"
	}
	return "; make the file readable"
}
