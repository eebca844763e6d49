package ingest

import "github.com/sledtools/pika-cloud-lifecycle/ingest/directive"

import (
	"errors"
	"io/fs"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// decide makes d part of the next commit, or refuses it.
func (r *run) decide(d *directive.Directive, number uint64) *directive.Error {
	if refused := r.check(d, number); refused != nil {
		return refused
	}
	when := r.now
	if !d.Time.IsZero() {
		when = Moment{Time: d.Time} // what the other clock showed then is not known
	}
	r.apply(d, when)
	return nil
}

// check holds d against what the stream has said so far.
func (r *run) check(d *directive.Directive, number uint64) *directive.Error {
	need, _ := d.Type.keys()
	at := d.at[need]
	if r.given() && !r.follows(d) {
		return directive.Errorf(at, "this stream has given its verdict; expected only stopped, destroyed and plain events after it")
	}
	if d.Type != directive.Transition || r.state == "" || r.Transitions == Off || d.State.Follows(r.state) {
		return nil
	}
	if r.Transitions == Enforce {
		return directive.Errorf(at, "%s may not follow %s", d.State, r.state)
	}
	if r.warned++; r.warned <= maxSaid {
		r.say("line %d: %s after %s is not on a guest's way; taken all the same", number, d.State, r.state)
	}
	return nil
}

// given reports whether the run that the stream carries has its verdict.
func (r *run) given() bool { return r.verdict || r.lent != nil }

// follows reports whether d may follow a verdict.
func (r *run) follows(d *directive.Directive) bool {
	if d.Type == directive.Event || d.State == artifact.Stopped || d.State == artifact.Destroyed {
		return true
	}
	return r.ManyRuns && d.Type == directive.Transition && d.State.StartsRun()
}

// apply adds to the commit what d writes.
func (r *run) apply(d *directive.Directive, when Moment) {
	if r.Owner != nil && d.isVerdict() {
		r.lend(d)
		return
	}
	p, event := &r.pending, -1
	if d.Type == directive.Transition || d.Type == directive.Event {
		if event = p.addEvent(r, d, when); event < 0 {
			r.drop()
		}
	}
	if d.Type == directive.Result || d.Type == directive.Transition && d.Outcome != "" {
		r.verdict = true
		p.setResult(r, d, when, event)
	}
	if d.Type == directive.Transition && d.State.StartsRun() {
		p.startsRun, r.verdict = true, false
	}
	if d.Type == directive.Transition || d.Type == directive.Status {
		r.state = d.State
		p.setStatus(r, d, when, event)
	}
	p.ready = p.ready || d.Type == directive.Transition && d.State == artifact.Ready
}

// suppliedMessage is that of a verdict that a stream supplies.
var suppliedMessage = strictjson.AppendText(nil, "lifecycle stream ended without a result")

// A Cause is what a service manager tells of how a service ended. Empty fields
// are not known.
type Cause struct {
	Result string // such as signal, oom-kill
	Code   string // exited, killed or dumped
	Status string // the exit code, or the name of the signal
}

// details are those of a verdict that a stream supplies.
func (c *Cause) details() strictjson.Value {
	d := strictjson.Value(`{"reason":"stream_ended"`)
	for _, member := range [...][2]string{{"service_result", c.Result}, {"main_code", c.Code}, {"main_status", c.Status}} {
		if member[1] != "" {
			d = append(append(append(d, `,"`...), member[0]...), `":`...)
			d = strictjson.AppendText(d, member[1])
		}
	}
	return append(d, '}')
}

// supply gives the verdict of a run that ended without one, unless the guest
// was stopped or destroyed: that is an end of its own.
func (r *run) supply() {
	if r.verdict || r.state == artifact.Stopped || r.state == artifact.Destroyed || r.resultStands() {
		return
	}
	r.Supplied = true
	r.pending.startsRun = true // a result that stands is another run's
	r.say("the stream ended without a result; giving the verdict failed")
	r.apply(&directive.Directive{verb: directive.Transition, state: artifact.Failed, outcome: artifact.OutcomeFailed,
		message: suppliedMessage, details: r.Cause.details()}, r.now)
}

// resultStands reports whether the result on disk is the verdict of this run.
// It is another run's if it was written in another boot, or if the status is
// of a later event and tells of a guest that runs: then a crash came between
// the status of a new run and setting the old verdict aside.
func (r *run) resultStands() bool {
	if r.pending.startsRun || r.nothingStands() {
		return false
	}
	result, err := r.Dir.Result.Read()
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.say("%v; taken for no result", err)
		}
		return false
	}
	if result.BootID != "" && r.BootID != "" && result.BootID != r.BootID {
		return false
	}
	status, err := r.Dir.Status.Read()
	if err != nil || result.Seq == 0 || status.Seq <= result.Seq {
		return true
	}
	return status.State.Ended()
}
