package ingest

import (
	"io"
	"slices"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// A Moment is one reading of the clocks.
type Moment struct {
	Time   time.Time     // the wall clock
	Uptime time.Duration // CLOCK_BOOTTIME (clock_gettime(2)); 0 if unknown
}

// A Stream reads directives from a descriptor and commits them to the files of a
// state directory. The zero value of every optional field works. Not for
// concurrent use.
type Stream struct {
	Dir   *writer.Dir   // required
	Clock func() Moment // required; called once for all lines that one read(2) returns

	In     int    // descriptor to read; standard input if 0
	Ack    int    // descriptor for acknowledgements; none if 0
	Stop   int    // descriptor of a pipe: each byte read from it requests a stop; none if 0
	BootID string // of the events, the status and the result; absent if empty

	// Warn is called with one line that an operator should read: about rejected lines
	// and unusual transitions (the first 100 of each), and about write errors. It
	// contains no control characters.
	Warn func(line string)

	// Unusable is called before anything is read if the state directory cannot be
	// used and waiting does not help: it is a file, or may not be written. The
	// stream then reads anyway and tries to write, but does not warn about that. It sets
	// Summary.Unusable if no write succeeds. If Unusable is nil, Run returns the error
	// instead.
	Unusable func(err error)

	// ShowRejected is called after each Warn about a rejected line, with the line, or
	// its start, and the offset at which it was rejected.
	ShowRejected func(line []byte, offset int)

	// DryRun, if not nil, receives the text of everything that a commit would
	// write, and nothing is written. Its errors are ignored.
	DryRun io.Writer

	// Source, if not nil, decodes the lines instead of package directive: the
	// stream copies the log of another directory. Transitions, RequireResult,
	// ExitOnResult and Supervisor must then be zero. Until a stop is requested, a
	// copying stream retries a failed write without limit: its input can be read
	// again.
	Source Source

	Followers []Follower // notified of each commit, in this order
	Watchdog  Watchdog   // of the process; none if zero

	// Reports, if not nil, passes what the program reports without writing a line. Source
	// must then be nil.
	Reports *Reports

	// Supervisor starts the program that writes to the stream and provides the
	// result; nil if the result comes from a directive.
	Supervisor Supervisor

	Transitions   Policy
	RequireResult bool          // add the fallback result (failed) if a run ended without a result
	Service       ServiceResult // how the service ended; becomes part of the fallback result's details
	ExitOnResult  bool          // end once the result is committed
	ManyRuns      bool          // the input may contain several runs, for example that of a FIFO
	MaxLine       int           // longest line in bytes; DefaultMaxLine if 0
	WriteTimeout  time.Duration // DefaultWriteTimeout if 0
	Grace         time.Duration // DefaultGrace if 0
}

// The defaults.
const (
	// DefaultMaxLine, in bytes, is far longer than any useful directive, and short
	// enough for the memory of the smallest guest.
	DefaultMaxLine = 1 << 20
	// DefaultWriteTimeout is how long the input waits for a failing disk. Usually a file
	// system recovers, and another process releases the lock, in less time. A longer
	// wait would do more harm, because it blocks the guest.
	DefaultWriteTimeout = 30 * time.Second
	// DefaultGrace is how long a stream reads on after a stop was requested: well
	// within the 90 s that systemd gives a unit to stop.
	DefaultGrace = 5 * time.Second
)

// A Summary describes a stream that has ended.
type Summary struct {
	Lines          uint64 // how many lines were read
	Rejected       uint64 // how many of them were rejected
	Dropped        uint64 // events and rejected lines that could not be written
	DroppedRejects uint64 // the rejected lines among Dropped
	Degraded       bool   // something could not be written, or not within WriteTimeout
	Unusable       bool   // the state directory could not be used, see Stream.Unusable
	Fallback       bool   // the stream added the fallback result, see Stream.RequireResult
}

// Run reads and commits until the input ends or a stop is requested. It returns
// an error if the input could not be read or, unless Stream.Unusable is set, if the
// state directory cannot be used. If there is a supervisor and another run writes to the
// directory, it returns a *writerlock.HeldError before it calls the supervisor. The
// summary reports write errors. Run must be called only once.
func (s *Stream) Run() (Summary, error) {
	r := newRunner(s)
	if err := r.begin(); err != nil {
		return r.Summary, err
	}
	for r.state.phase != finished {
		r.state = r.state.next(r.step())
	}
	r.answer()
	r.committer.writerLock.end(r.lost)
	r.Lines, r.Degraded = r.lines.number, r.Degraded || r.state.disk == degraded
	r.Summary.Unusable = r.committer.report.silent
	return r.Summary, r.readError
}

// A Policy is how a stream treats an unusual transition (artifact.State.Follows).
type Policy int

// The policies.
const (
	Warn    Policy = iota // it is accepted with a warning
	Enforce               // it is rejected
	Off                   // it is accepted
)

var policyNames = [...]string{Warn: "warn", Enforce: "enforce", Off: "off"}

// ParsePolicy returns the policy called warn, enforce or off.
func ParsePolicy(name string) (p Policy, ok bool) {
	i := slices.Index(policyNames[:], name)
	return Policy(i), i >= 0
}

func (p Policy) String() string { return policyNames[p] }

// A Commit contains what one commit made durable. If a commit succeeds only in
// part and is retried, each part is reported once.
type Commit struct {
	Events  []byte           // lines of events.jsonl
	Rejects []byte           // lines as in rejected.jsonl, also those beyond its limit
	Result  *artifact.Result // nil if none
	Status  *artifact.Status // nil if none
	Ready   bool             // with Status: ready was reached, even if Status is already a later state
}

// A Follower is notified of each commit, after the lock is released and the lines
// are acknowledged. Committed delays the stream, so it must not block. Its
// argument is valid until it returns.
type Follower interface {
	Committed(c *Commit)
}
