package ingest

import (
	"fmt"
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Supervisor starts the program that writes to the stream, and provides its
// result. The outcome and exit code of the result come from the supervisor. If the
// program reports completed or failed itself, nothing is written immediately: its message
// and details become part of the result when the program has ended.
type Supervisor interface {
	// Opening returns the first transition, which is committed before anything
	// is read.
	Opening() *Transition

	// Start is called after the first attempt to commit the opening. If that
	// failed, the stream retries while the program runs.
	Start()

	// Outcome is called when the stream has ended, and waits for the program to
	// end. It returns a transition to completed or failed, whose message is used
	// if the program reported none.
	Outcome() *Transition
}

// A Transition is a change of state that does not come from the input.
type Transition struct {
	State    artifact.State // required
	Message  string
	Details  strictjson.Value // an object; none if empty
	ExitCode *int32           // of an outcome; none if nil
}

func (t *Transition) directive() *directive.Directive {
	d := &directive.Directive{Type: directive.Transition, State: t.State, Details: t.Details,
		Message: strictjson.AppendText(nil, t.Message)}
	d.Outcome, _ = t.State.Outcome()
	if t.ExitCode != nil {
		d.ExitCode, d.HasExitCode = *t.ExitCode, true
	}
	return d
}

// A reportedOutcome is the outcome that a supervised program reported itself.
type reportedOutcome struct {
	outcome artifact.Outcome
	message strictjson.Value // empty if it gave none
	details strictjson.Value
}

func newReportedOutcome(d *directive.Directive) *reportedOutcome {
	r := &reportedOutcome{outcome: d.Outcome, details: slices.Clone(d.Details)}
	if d.HasMessage() {
		r.message = slices.Clone(d.Message)
	}
	if r.outcome == "" { // a status
		r.outcome, _ = d.State.Outcome()
	}
	return r
}

// addSupervised adds the supervisor's result. If the last state is stopped or destroyed,
// it is recorded again after the result, so that it stays the current state.
func (r *runner) addSupervised() {
	d := r.Supervisor.Outcome().directive()
	r.now = r.Clock()
	if r.decider.reported != nil {
		r.mergeReported(d)
	}
	last := r.decider.state
	if !last.IsStopped() {
		r.record(d, r.now)
		return
	}
	status := r.batch.status.value
	again := directive.Directive{Type: directive.Transition, State: last,
		Message: slices.Clone(status.Message), Details: slices.Clone(status.Details)}
	r.record(d, r.now)
	r.record(&again, r.now)
}

// mergeReported adds to d the message and details that the program reported.
func (r *runner) mergeReported(d *directive.Directive) {
	reported := r.decider.reported
	if reported.outcome != d.Outcome {
		exit := ""
		if d.HasExitCode {
			exit = fmt.Sprintf(" (exit code %d)", d.ExitCode)
		}
		r.warn("the result is %s%s, although the command reported %s", d.Outcome, exit, reported.outcome)
		var o strictjson.Object
		o.Text("reported", string(reported.outcome))
		d.Details = mergeDetails(d.Details, o.Value())
	}
	if len(reported.message) > 0 {
		d.Message = reported.message
	}
	d.Details = mergeDetails(reported.details, d.Details)
}

// mergeDetails returns an object with the members of under and over. If both have a
// member of the same name, it keeps that of over. If under is not an object, it becomes
// a member called details.
func mergeDetails(under, over strictjson.Value) strictjson.Value {
	switch {
	case len(under) == 0:
		return over
	case len(over) == 0:
		return under
	case under[0] != '{':
		var o strictjson.Object
		o.Raw("details", under)
		under = o.Value()
	}
	joined := append(under[:len(under)-1:len(under)-1], ',')
	joined = append(joined, over[1:]...)
	merged, err := new(strictjson.Normaliser).Normalise(nil, joined)
	if err != nil {
		return over // under is empty, or nested too deep as a member
	}
	return merged
}
