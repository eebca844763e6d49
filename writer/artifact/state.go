package artifact

import "slices"

// A State is the state of a guest. It is the state of a status and the kind of an
// event.
type State string

// The ten states. A guest that works as planned goes through the first six in
// this order.
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

// States returns the ten states, in the order of the constants.
func States() []State {
	return []State{Requested, Provisioning, Booted, Starting, Ready,
		Completed, Failed, Unreachable, Stopped, Destroyed}
}

// ParseState returns the state called word; ok is false if there is none. It does
// not allocate.
func ParseState[T ~string | ~[]byte](word T) (s State, ok bool) {
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

// Outcome returns s as an outcome; ok is false if s is neither completed nor
// failed.
func (s State) Outcome() (o Outcome, ok bool) { return ParseOutcome(s) }

// Ended reports whether a guest in state s no longer runs.
func (s State) Ended() bool {
	switch s {
	case Completed, Failed, Stopped, Destroyed:
		return true
	}
	return false
}

// IsStopped reports whether a guest in state s was stopped or destroyed. Its run may have no
// result.
func (s State) IsStopped() bool { return s == Stopped || s == Destroyed }

// StartsRun reports whether a transition to s may start a run. If the guest already has
// a result, it does start a new one.
func (s State) StartsRun() bool {
	switch s {
	case Requested, Provisioning, Booted, Starting:
		return true
	}
	return false
}

// path is the order of states of a guest that works as planned. It may skip or
// repeat states.
var path = [...]State{Requested, Provisioning, Booted, Starting, Ready, Completed}

// Follows reports whether a transition from last to s is usual. docs/protocol.md,
// "State order", defines the usual ones, and what ingest does with others.
func (s State) Follows(last State) bool {
	if s == last {
		_, isOutcome := s.Outcome()
		return !isOutcome
	}
	switch last {
	case Unreachable:
		return true
	case Completed, Failed:
		return s == Stopped || s == Destroyed || s.StartsRun()
	case Stopped:
		return s == Destroyed || s.StartsRun()
	case Destroyed:
		return s == Requested
	}
	from, to := slices.Index(path[:], last), slices.Index(path[:], s)
	offPath := to < 0
	return offPath || to > from || (last == Ready && s == Starting)
}

// Reaches reports whether a guest whose current state is s is in state want, or
// has passed want on the way to ready. A caller that compares states for equality
// could miss want: the status shows only the last state of each commit.
func (s State) Reaches(want State) bool {
	if s == want {
		return true
	}
	up := path[:slices.Index(path[:], Ready)+1]
	step := slices.Index(up, want)
	return step >= 0 && slices.Index(up, s) > step
}

// An Outcome is how a run ended. It is the value of status in a result.
type Outcome string

// The two outcomes.
const (
	OutcomeCompleted = Outcome(Completed)
	OutcomeFailed    = Outcome(Failed)
)

// Outcomes returns the two outcomes.
func Outcomes() []Outcome { return []Outcome{OutcomeCompleted, OutcomeFailed} }

// ParseOutcome returns the outcome called word; ok is false if there is none. It
// does not allocate.
func ParseOutcome[T ~string | ~[]byte](word T) (o Outcome, ok bool) {
	switch string(word) {
	case "completed":
		return OutcomeCompleted, true
	case "failed":
		return OutcomeFailed, true
	}
	return "", false
}

// IsOf reports whether r is the result of the run that s describes. It reports
// false if r is from another boot. It also reports false if s belongs to a later
// event than r and the guest has not ended: then a new run has started, and its
// writer crashed before it could move r to result.json.prev.
func (r *Result) IsOf(s *Status) bool {
	if !SameBoot(r.BootID, s.BootID) {
		return false
	}
	later := r.Seq > 0 && s.Seq > r.Seq
	return !later || s.State.Ended()
}

// SameBoot reports whether artifacts with the boot IDs a and b may be from the
// same boot: the IDs are equal, or one of them is "".
func SameBoot(a, b string) bool { return a == "" || b == "" || a == b }

// RunOutcome returns the outcome of the run that s describes. s and r may be nil.
// ok is true if r is the result of the same run, and the state of s is stopped or
// destroyed, or is completed or failed like r and from the same event. It is also true if r
// is from a later event than s: a writer replaces the result first, and has not replaced
// the status yet, or has died in between.
func RunOutcome(s *Status, r *Result) (o Outcome, ok bool) {
	if s == nil || r == nil || !r.IsOf(s) {
		return "", false
	}
	if !s.State.Ended() {
		isLater := s.Seq > 0 && r.Seq > s.Seq
		if !isLater {
			return "", false
		}
		return r.Outcome, true
	}
	outcome, isOutcome := s.State.Outcome()
	if isOutcome {
		sameEvent := r.Seq == 0 || s.Seq == 0 || r.Seq == s.Seq
		if outcome != r.Outcome || !sameEvent {
			return "", false
		}
	}
	return r.Outcome, true
}
