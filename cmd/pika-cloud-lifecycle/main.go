// Command pika-cloud-lifecycle writes the files in which a guest tells its
// host how it is doing: status.json, events.jsonl and result.json.
//
// It runs a command and tells how it ended (run), reads a stream of directives
// (ingest), waits for a state (wait), writes one file and ends (status, event,
// result), or looks at what was written (show, plot, verify). The man page in
// docs is its reference.
package main

import (
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/bootid"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

func main() {
	w := world{
		stdout: os.Stdout,
		stderr: &console{fd: 2},
		getenv: os.Getenv,
		clock:  clock,
		bootID: bootID,
		umask:  openToOwner(),
		levels: onJournal(),
	}
	os.Exit(w.main(os.Args[1:]))
}

// openToOwner has the umask leave the owner's permissions, and returns the old
// umask. Without them we could not open what we create a second time.
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

// bootID returns the boot ID, or "" where the kernel does not tell it: an
// artifact without one is read as not of this boot, which is true enough.
func bootID() string {
	id, _ := bootid.Read()
	return id
}
