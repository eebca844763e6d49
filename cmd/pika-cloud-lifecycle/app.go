package main

import (
	"fmt"
	"io"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// An app has the parts of the process that a subcommand uses. Tests replace them.
type app struct {
	stdout      io.Writer
	stderr      io.Writer
	getenv      func(string) string
	clock       func() ingest.Moment
	bootID      func() string     // "" if it cannot be read
	umask       int               // of the command that run starts
	logLevels   bool              // log writes a level before each line, because stderr goes to the journal
	limitMemory func(bytes int64) // sets when the Go runtime collects garbage more often; nil for no limit
}

// warn writes a warning to stderr.
func (a *app) warn(line string) { a.log(sd.PriWarning, line) }

// log writes a line to stderr.
func (a *app) log(p sd.Priority, line string) {
	level := ""
	if a.logLevels {
		level = fmt.Sprintf("<%d>", p) // sd-daemon(3)
	}
	fmt.Fprintf(a.stderr, "%spika-cloud-lifecycle: %s\n", level, timeline.Printable(line))
}
