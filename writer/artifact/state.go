package artifact

import "slices"

// A State is the state of a guest: the state of a status, the kind of an event.
type State string

// The ten states. The first six are the path of a guest, in order.
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

// Outcome returns the outcome that s names; ok is false for the eight states
// that are not an outcome.
func (s State) Outcome() (o Outcome, ok bool) { return ParseOutcome(s) }

// Ended reports whether a guest in state s no longer runs.
func (s State) Ended() bool {
	switch s {
	case Completed, Failed, Stopped, Destroyed:
		return true
	}
	return false
}

// StartsRun reports whether a transition to s starts a new run if the guest
// already has a result.
func (s State) StartsRun() bool {
	switch s {
	case Requested, Provisioning, Booted, Starting:
		return true
	}
	return false
}

// path is the path of a guest. Steps may be skipped or repeated.
var path = [...]State{Requested, Provisioning, Booted, Starting, Ready, Completed}

// Follows reports whether a transition from last to s is a usual one
// (docs/protocol.md, "Transitions").
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

// Reaches reports whether a guest whose status shows s is in state want or has
// passed it on the way to ready. A status shows only the last state of a
// commit, so a state that was passed within one commit never appears in it.
func (s State) Reaches(want State) bool {
	if s == want {
		return true
	}
	up := path[:slices.Index(path[:], Ready)+1]
	step := slices.Index(up, want)
	return step >= 0 && slices.Index(up, s) > step
}

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

// IsOf reports whether r is the result of the run that s describes. It is not
// if it comes from another boot, or if s is of a later event and shows a guest
// that runs: then a new run has begun, and a crash came before its writer could
// set r aside.
func (r *Result) IsOf(s *Status) bool {
	if !SameBoot(r.BootID, s.BootID) {
		return false
	}
	later := r.Seq > 0 && s.Seq > r.Seq
	return !later || s.State.Ended()
}

// SameBoot reports whether two artifacts can be from the same boot: their boot
// IDs are equal, or one of them has none.
func SameBoot(a, b string) bool { return a == "" || b == "" || a == b }

// RunOutcome returns the outcome of the run that s describes; ok is false as
// long as the run has none that both files agree on. A status that is itself an
// outcome counts once its result is there, and a result once the status shows
// that the guest has ended.
func RunOutcome(s *Status, r *Result) (o Outcome, ok bool) {
	if s == nil || r == nil || !s.State.Ended() || !r.IsOf(s) {
		return "", false
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
