package ingest

import (
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// A Policy says what happens to a transition that Follows does not know.
type Policy int

// The policies.
const (
	Warn    Policy = iota // it is taken, and said
	Enforce               // it is refused
	Off                   // it is taken
)

// ParsePolicy returns the policy of a word: warn, enforce or off.
func ParsePolicy(word string) (Policy, bool) {
	i := slices.Index(policyWords[:], word)
	return Policy(i), i >= 0
}

var policyWords = [...]string{Warn: "warn", Enforce: "enforce", Off: "off"}

func (p Policy) String() string { return policyWords[p] }

// way is the way that a guest goes, in steps that may be skipped or repeated.
var way = [...]writer.State{writer.Requested, writer.Provisioning, writer.Booted,
	writer.Starting, writer.Ready, writer.Completed}

// startsRun reports whether a transition to s starts a run where a verdict
// stands.
func startsRun(s writer.State) bool {
	return s == writer.Requested || s == writer.Provisioning || s == writer.Booted || s == writer.Starting
}

// Follows reports whether the state next may follow the state last.
func Follows(last, next writer.State) bool {
	if last == next {
		return last != writer.Completed && last != writer.Failed
	}
	switch last {
	case writer.Unreachable:
		return true
	case writer.Completed, writer.Failed:
		return next == writer.Stopped || next == writer.Destroyed || startsRun(next)
	case writer.Stopped:
		return next == writer.Destroyed || startsRun(next)
	case writer.Destroyed:
		return next == writer.Requested
	}
	step, from := slices.Index(way[:], next), slices.Index(way[:], last)
	return step < 0 || step > from || last == writer.Ready && next == writer.Starting
}

// Reaches reports whether a guest in the state now is in the state want, or has
// come past it on the way up to ready: a status shows the last state of a commit
// only, so one that went by in between is never seen there.
func Reaches(now, want writer.State) bool {
	up := way[:slices.Index(way[:], writer.Ready)+1]
	step := slices.Index(up, want)
	return now == want || step >= 0 && slices.Index(up, now) >= step
}
