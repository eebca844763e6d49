package ingest

import (
	"slices"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Supervisor starts the program that writes to the stream, and knows how it
// ended. The outcome and exit code of the result are the supervisor's. If the
// program reports completed or failed itself, nothing is written then, but its
// message and details become part of the result.
type Supervisor interface {
	// Opening returns the first transition, which is committed before anything
	// is read.
	Opening() *Transition

	// Start is called after the opening was committed, or that has failed once:
	// it is then tried again, but the program need not wait.
	Start()

	// Outcome is called when the stream has ended, and waits for the program to
	// end. It returns a transition to completed or failed. Its message is used if
	// the program has reported none.
	Outcome() *Transition
}

// A Transition is one that does not come from the input.
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

// A reportedOutcome is what a supervised program has reported about its outcome.
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

// addSupervised adds the supervisor's result. A guest that has reported stopped
// or destroyed still is: that is recorded once more after the result.
func (r *run) addSupervised() {
	d := r.Supervisor.Outcome().directive()
	r.now = r.Clock()
	if r.decider.reported != nil {
		r.mergeReported(d)
	}
	last, status := r.decider.state, r.batch.status.value
	again := directive.Directive{Type: directive.Transition, State: last,
		Message: slices.Clone(status.Message), Details: slices.Clone(status.Details)}
	r.record(d, r.now)
	if last == artifact.Stopped || last == artifact.Destroyed {
		r.record(&again, r.now)
	}
}

// mergeReported gives d the message and details that the program has reported.
func (r *run) mergeReported(d *directive.Directive) {
	reported := r.decider.reported
	if reported.outcome != d.Outcome {
		r.warn("the result is %s, although the command reported %s", d.Outcome, reported.outcome)
		var o strictjson.Object
		o.Text("said", string(reported.outcome))
		d.Details = mergeDetails(d.Details, o.Value())
	}
	if len(reported.message) > 0 {
		d.Message = reported.message
	}
	d.Details = mergeDetails(reported.details, d.Details)
}

// mergeDetails returns the members of both values; of a name in both, that of
// over. A value that is not an object becomes the member details of one.
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
