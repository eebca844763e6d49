package writer

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// SchemaVersion is the version that every artifact carries. Fields may be
// added under it, never renamed or removed: the reader on the host ignores
// what it does not know.
const SchemaVersion = 1

// A State is where a guest stands: the state of a status, the kind of an
// event.
type State string

// The ten states, in the order a guest passes them.
const (
	Requested    State = "requested"
	Provisioning State = "provisioning"
	Booted       State = "booted"
	Starting     State = "starting"
	Ready        State = "ready"
	Completed    State = "completed"
	Failed       State = "failed"
	Unreachable  State = "unreachable"
	Stopped      State = "stopped"
	Destroyed    State = "destroyed"
)

// States returns the ten states, in the order a guest passes them.
func States() []State {
	return []State{Requested, Provisioning, Booted, Starting, Ready,
		Completed, Failed, Unreachable, Stopped, Destroyed}
}

// ParseState returns the state that word names, and whether there is one.
// It does not allocate.
func ParseState[T ~string | ~[]byte](word T) (State, bool) {
	switch string(word) {
	case "requested":
		return Requested, true
	case "provisioning":
		return Provisioning, true
	case "booted":
		return Booted, true
	case "starting":
		return Starting, true
	case "ready":
		return Ready, true
	case "completed":
		return Completed, true
	case "failed":
		return Failed, true
	case "unreachable":
		return Unreachable, true
	case "stopped":
		return Stopped, true
	case "destroyed":
		return Destroyed, true
	}
	return "", false
}

// Outcome returns the verdict that s is, and whether s is one.
func (s State) Outcome() (Outcome, bool) { return ParseOutcome(s) }

// An Outcome is how a run ended: the status of a result.
type Outcome string

// The two outcomes.
const (
	OutcomeCompleted = Outcome(Completed)
	OutcomeFailed    = Outcome(Failed)
)

// Outcomes returns the two outcomes.
func Outcomes() []Outcome { return []Outcome{OutcomeCompleted, OutcomeFailed} }

// ParseOutcome returns the outcome that word names, and whether there is one.
// It does not allocate.
func ParseOutcome[T ~string | ~[]byte](word T) (Outcome, bool) {
	switch string(word) {
	case "completed":
		return OutcomeCompleted, true
	case "failed":
		return OutcomeFailed, true
	}
	return "", false
}

// An Event is one line of events.jsonl. Its seq is given by EventLog.Append.
type Event struct {
	Kind    State            // required
	Time    time.Time        // required; written in UTC, cut to milliseconds
	Message strictjson.Value // required; a string
	BootID  string           // absent if empty
	Details strictjson.Value // absent if empty
	Uptime  time.Duration    // since boot, cut to milliseconds; absent if 0
}

// A Status is the content of status.json.
type Status struct {
	State    State            // required
	Time     time.Time        // required; written in UTC, cut to milliseconds
	Message  strictjson.Value // required; a string
	BootID   string           // absent if empty
	Details  strictjson.Value // absent if empty
	Seq      uint64           // of the event committed with it; absent if 0
	Rejected uint64           // lines refused so far; absent if 0
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

// A Reject is one line of rejected.jsonl: an input line that was refused.
type Reject struct {
	Line   uint64    // counted from 1
	Offset uint64    // of the line's first byte in the input
	Time   time.Time // required; written in UTC, cut to milliseconds
	Error  string    // where in the line, and what was expected
	Raw    []byte    // the line, or its first MaxRaw bytes
	Length uint64    // of the whole line in bytes, its end not counted
}

// MaxRaw is how many bytes of a refused line are kept: enough to see what was
// meant, and few enough that a flood of long lines costs no more than one of
// short ones.
const MaxRaw = 4 << 10
