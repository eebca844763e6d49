package ingest

import "github.com/sledtools/pika-cloud-lifecycle/ingest/directive"

import (
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// An Owner is who knows how a run began and how it ended, such as the parent of
// the process that writes to the stream. A completed or failed that stands in
// the stream lends the owner's verdict its message and details, and is
// otherwise withheld.
type Owner interface {
	// Opening returns the first transition, which is committed before
	// anything is read.
	Opening() *Transition

	// Opened is called when the opening was committed, or when that has failed
	// once: then it is tried again, but nobody has to wait for it.
	Opened()

	// Verdict is called when the stream has ended. It returns a transition to
	// completed or failed, whose message is used where the stream has lent none.
	Verdict() *Transition
}

// A Transition is one that does not stand in the stream.
type Transition struct {
	State    artifact.State // required
	Message  string
	Details  strictjson.Value // an object; none if empty
	ExitCode *int32           // of a verdict; none if nil
}

func (t *Transition) directive() *directive.Directive {
	d := &directive.Directive{verb: directive.Transition, state: t.State, details: t.Details,
		message: strictjson.AppendText(nil, t.Message)}
	d.Outcome, _ = t.State.Outcome()
	if t.ExitCode != nil {
		d.ExitCode, d.HasExitCode = *t.ExitCode, true
	}
	return d
}

// open commits the owner's opening.
func (r *run) open() {
	if r.Owner == nil {
		return
	}
	r.apply(r.Owner.Opening().directive(), r.now)
	err := r.attempt()
	if err != nil {
		r.complain(err)
	}
	r.Owner.Opened()
	r.commit()
}

// A lent is what a verdict in the stream has said.
type lent struct {
	outcome artifact.Outcome
	message strictjson.Value // empty if it gave none
	details strictjson.Value
}

// isVerdict reports whether d would tell the host how the run ended.
func (d *directive.Directive) isVerdict() bool {
	_, terminal := d.State.Outcome()
	return d.Type == directive.Result || terminal && d.Type != directive.Event
}

// lend keeps the words of a verdict for the owner's.
func (r *run) lend(d *directive.Directive) {
	r.lent = &lent{outcome: d.Outcome, details: append(strictjson.Value(nil), d.Details...)}
	if d.has[directive.MessageKey] { // else it is its word, and the owner knows better
		r.lent.message = append(strictjson.Value(nil), d.Message...)
	}
	if r.lent.outcome == "" { // a status
		r.lent.outcome, _ = d.State.Outcome()
	}
}

// conclude gives the owner's verdict. A guest that said stopped or destroyed is so
// still: that is told again behind the verdict, as of any guest that has ended
// and then is stopped.
func (r *run) conclude() {
	d := r.Owner.Verdict().directive()
	r.now = r.Clock()
	if r.lent != nil {
		r.borrow(d)
	}
	event := r.addEvent(d)
	r.pending.setResult(r, d, r.now, event)
	if r.state == artifact.Stopped || r.state == artifact.Destroyed {
		last := &r.pending.status
		d = &directive.Directive{state: r.state, message: last.Message, details: last.Details}
		event = r.addEvent(d)
	}
	r.pending.setStatus(r, d, r.now, event)
	r.verdict = true
	// For what the commit may take, as a stream that is told to end.
	r.deadline = time.Now().Add(DefaultGrace)
}

// addEvent adds the event of d to the commit and returns its number.
func (r *run) addEvent(d *directive.Directive) int {
	event := r.pending.addEvent(r, d, r.now)
	if event < 0 {
		r.drop()
	}
	return event
}

// borrow gives d the message and the details that were lent.
func (r *run) borrow(d *directive.Directive) {
	if r.lent.outcome != d.Outcome {
		r.say("the verdict is %s, though the stream said %s", d.Outcome, r.lent.outcome)
		d.Details = join(d.Details, strictjson.Value(`{"said":"`+string(r.lent.outcome)+`"}`))
	}
	if len(r.lent.message) > 0 {
		d.Message = r.lent.message
	}
	d.Details = join(r.lent.details, d.Details)
}

// join returns the members of both values, of one name those of over. What is no
// object becomes a member of one.
func join(under, over strictjson.Value) strictjson.Value {
	switch {
	case len(under) == 0:
		return over
	case len(over) == 0:
		return under
	case under[0] != '{':
		under = append(append(strictjson.Value(`{"details":`), under...), '}')
	}
	joined := append(under[:len(under)-1:len(under)-1], ',')
	joined = append(joined, over[1:]...)
	var n strictjson.Normaliser
	normal, err := n.Normalise(nil, joined)
	if err != nil {
		return over // under has no member, or became one and was as deep as may be
	}
	return normal
}
