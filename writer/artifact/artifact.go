// Package artifact defines the content of the files in a state directory: the
// states of a guest, the rules about them, and the four artifacts (event, status,
// result and rejected line). Each artifact has one encoder and one decoder, which
// also validates it.
//
// The package does no I/O. docs/format.md describes every field.
package artifact

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// SchemaVersion is the value of schema_version in every artifact. Within one
// version, fields may be added but never renamed or removed: the reader on the
// host ignores fields that it does not know.
const SchemaVersion = 1

// An Event is one line of events.jsonl.
type Event struct {
	Kind    State            // required
	Time    time.Time        // required; written in UTC, truncated to milliseconds
	Message strictjson.Value // required; a string
	BootID  string           // absent if empty
	Details strictjson.Value // absent if empty
	Uptime  time.Duration    // time since boot, truncated to milliseconds; absent if 0
	Plain   bool             // the event did not change the state of the guest; absent (transition) if false
	Seq     uint64           // required, from 1 on; EventLog.Append determines that of a new event
}

// A Status is the content of status.json.
type Status struct {
	State    State            // required
	Time     time.Time        // required; written in UTC, truncated to milliseconds
	Message  strictjson.Value // required; a string
	BootID   string           // absent if empty
	Details  strictjson.Value // absent if empty
	Seq      uint64           // of the event in the same commit; absent if 0
	Rejected uint64           // how many lines have been rejected so far; absent if 0
}

// A Result is the content of result.json.
type Result struct {
	Outcome  Outcome          // required
	ExitCode *int32           // nil and absent if it is unknown
	Time     time.Time        // required; written in UTC, truncated to milliseconds
	Message  strictjson.Value // required; a string
	Details  strictjson.Value // absent if empty
	BootID   string           // absent if empty
	Seq      uint64           // of the event in the same commit; absent if 0
}
