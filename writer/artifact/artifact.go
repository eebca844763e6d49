// Package artifact defines what the files of a state directory contain: the
// states of a guest and the rules between them, and the event, status, result
// and rejected line, with one encoder and one validating decoder for each.
//
// It does no I/O. docs/format.md describes every field.
package artifact

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// SchemaVersion is the version that every artifact carries. Fields may be
// added under it, never renamed or removed: the reader on the host ignores
// what it does not know.
const SchemaVersion = 1

// An Event is one line of events.jsonl.
type Event struct {
	Kind    State            // required
	Time    time.Time        // required; written in UTC, cut to milliseconds
	Message strictjson.Value // required; a string
	BootID  string           // absent if empty
	Details strictjson.Value // absent if empty
	Uptime  time.Duration    // since boot, cut to milliseconds; absent if 0
	Seq     uint64           // required; of a new event it is given by the log, under its lock
}

// A Status is the content of status.json.
type Status struct {
	State    State            // required
	Time     time.Time        // required; written in UTC, cut to milliseconds
	Message  strictjson.Value // required; a string
	BootID   string           // absent if empty
	Details  strictjson.Value // absent if empty
	Seq      uint64           // of the event committed with it; absent if 0
	Rejected uint64           // lines rejected so far; absent if 0
}

// A Result is the content of result.json.
type Result struct {
	Outcome  Outcome          // required
	ExitCode *int32           // absent if nil: an exit code is never invented
	Time     time.Time        // required; written in UTC, cut to milliseconds
	Message  strictjson.Value // required; a string
	Details  strictjson.Value // absent if empty
	BootID   string           // absent if empty
	Seq      uint64           // of the event committed with it; absent if 0
}
