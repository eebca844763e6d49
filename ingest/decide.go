package ingest

import (
	"runtime"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A decider accepts or rejects a directive, depending on the directives before it.
//
// state is the last state of the guest, empty if it is unknown. hasResult reports
// whether the current run has its result. Under a supervisor, hasResult is false until
// the end, and reported is the outcome that the program reported itself.
type decider struct {
	policy    Policy
	manyRuns  bool
	state     artifact.State
	hasResult bool
	reported  *reportedOutcome
}

// check returns why d is rejected, or a warning if d is accepted although it is
// unusual.
func (dc *decider) check(d *directive.Directive) (warning string, rejected *directive.Error) {
	if (dc.hasResult || dc.reported != nil) && !dc.mayFollowResult(d) {
		if dc.manyRuns {
			return "", directive.Errorf(d.Offset(), "the run already has a result; start another run with requested, provisioning, booted or starting")
		}
		return "", directive.Errorf(d.Offset(), "the run already has a result; only stopped, destroyed and lines with kind may follow it")
	}
	usual := d.Type != directive.Transition || dc.state == "" || d.State.Follows(dc.state)
	if usual || dc.policy == Off {
		return "", nil
	}
	if dc.policy == Enforce {
		return "", directive.Errorf(d.Offset(), "%s may not follow %s; expected one of %s", d.State, dc.state, followers(dc.state))
	}
	return string(d.State) + " after " + string(dc.state) + " is unusual; accepted", nil
}

// followers lists the states that may follow last.
func followers(last artifact.State) string {
	var names []string
	for _, state := range artifact.States() {
		if state.Follows(last) {
			names = append(names, string(state))
		}
	}
	return strings.Join(names, ", ")
}

// mayFollowResult reports whether d may follow the result of a run: a process that
// outlives the run must not change its result.
func (dc *decider) mayFollowResult(d *directive.Directive) bool {
	if d.Type == directive.Event || d.State.IsStopped() {
		return true
	}
	return dc.manyRuns && startsRun(d)
}

// accepted notes what d changes.
func (dc *decider) accepted(d *directive.Directive) {
	if setsResult(d) {
		dc.hasResult = true
	}
	if startsRun(d) {
		dc.hasResult = false
	}
	if setsStatus(d) {
		dc.state = d.State
	}
}

// What a directive writes (docs/protocol.md, "Keys").

func setsEvent(d *directive.Directive) bool {
	return d.Type == directive.Transition || d.Type == directive.Event
}

func setsStatus(d *directive.Directive) bool {
	return d.Type == directive.Transition || d.Type == directive.Status
}

func setsResult(d *directive.Directive) bool {
	return d.Type == directive.Result || (d.Type == directive.Transition && d.Outcome != "")
}

func startsRun(d *directive.Directive) bool {
	return d.Type == directive.Transition && d.State.StartsRun()
}

// directives is the handler of a stream of directives.
type directives struct {
	*runner
	decoder directive.Decoder
}

func (t *directives) idle()                       {}
func (t *directives) end()                        {}
func (t *directives) inputTimeout() time.Duration { return -1 }

// handle decodes a line and records what it writes.
func (t *directives) handle(ln *line) *directive.Error {
	text := ln.text
	if ln.number == 1 {
		text = trimByteOrderMark(text)
	}
	if directive.IsBlank(text) {
		return nil
	}
	if len(text) > longLine && len(t.Followers) > 0 {
		runtime.GC() // collect what the followers no longer use
	}
	d, rejected := t.decoder.Decode(text, ln.cut)
	var warning string
	if rejected == nil {
		warning, rejected = t.decider.check(d)
	}
	if rejected != nil {
		rejected.Offset += len(ln.text) - len(text)
		return rejected
	}
	if warning != "" {
		t.warnLimited("line %d: %s", ln.number, warning)
	}
	if warning, at := d.Joined(text); warning != "" {
		t.warnLimited("line %d, column %d: %s", ln.number, at+len(ln.text)-len(text)+1, warning)
	}
	if t.Supervisor != nil && d.ReportsOutcome() {
		t.decider.reported = newReportedOutcome(d) // addSupervised adds it to the result
		return nil
	}
	when := t.now
	if !d.Time.IsZero() {
		when = Moment{Time: d.Time} // the uptime at that time is unknown
	}
	t.record(d, when)
	d.Message, d.Details = nil, nil // or the decoder would keep the memory of the batch alive
	return nil
}

// longLine is the size in bytes from which a line may need several MiB when it is decoded.
// handle then first collects the garbage of the followers, so that the memory of a stream
// has a limit even if all lines are long.
const longLine = 256 << 10

// trimByteOrderMark removes the byte order mark that some editors and PowerShell
// write (RFC 8259 section 8.1 lets a reader ignore it).
func trimByteOrderMark(text []byte) []byte {
	if len(text) >= 3 && string(text[:3]) == "\xef\xbb\xbf" {
		return text[3:]
	}
	return text
}

// record adds what an accepted directive writes to the next commit.
func (r *runner) record(d *directive.Directive, when Moment) {
	b := &r.batch
	event := noEvent
	if setsEvent(d) {
		event = b.addEvent(d, when, r.BootID, r.state.disk == degraded)
		if event == noEvent {
			r.Dropped++ // from here on nothing is acknowledged
		}
	}
	if setsResult(d) {
		b.setResult(d, when, r.BootID, event)
	}
	if startsRun(d) {
		b.startsRun = true
	}
	if setsStatus(d) {
		b.setStatus(d, when, r.BootID, event)
		b.status.value.Rejected = r.Rejected
	}
	if d.Type == directive.Transition && d.State == artifact.Ready {
		b.ready = true
	}
	r.decider.accepted(d)
}

// A ServiceResult is what a service manager reports about how a service ended
// (systemd.exec(5), $SERVICE_RESULT). Empty fields are unknown.
type ServiceResult struct {
	Result string // such as signal or oom-kill
	Code   string // exited, killed or dumped
	Status string // the exit code, or the name of the signal
}

// details returns the details of the fallback result.
func (s *ServiceResult) details() strictjson.Value {
	var o strictjson.Object
	o.Text("reason", "stream_ended")
	for _, m := range [...]struct{ name, value string }{
		{"service_result", s.Result}, {"main_code", s.Code}, {"main_status", s.Status},
	} {
		if m.value != "" {
			o.Text(m.name, m.value)
		}
	}
	return o.Value()
}

// addFallback adds the result if the run has none. If the guest is completed or failed, only
// the result was lost, and addFallback recreates it from the status. Otherwise it adds the
// fallback result. A guest that is stopped or destroyed needs no result.
// While a run is alive, it will record the result itself.
func (r *runner) addFallback() {
	status, current := r.lastStatus()
	if r.decider.hasResult || r.decider.state.IsStopped() || (current && status.State.IsStopped()) {
		return
	}
	var outcome artifact.Outcome // of the current status
	if current {
		outcome, _ = status.State.Outcome()
	}
	result, problem := r.currentResult(status, outcome != "")
	if problem == "" {
		r.finishStatus(status, result)
		return
	}
	if pid := r.committer.store.aliveRun(); pid > 0 {
		r.warn("the stream ended without a result; run with PID %d, which still writes to %s, will record it", pid, r.dir())
		return
	}
	if outcome != "" {
		r.warn("the status is %s, but result.json %s; recreated it from the status", outcome, problem)
		r.recreateResult(status, outcome)
		r.batch.startsRun = r.batch.startsRun || problem == otherRun
		return
	}
	r.Fallback = true
	r.batch.startsRun = true // an existing result is of another run
	r.warn("the stream ended without a result; recorded it as failed")
	t := Transition{State: artifact.Failed, Message: "lifecycle stream ended without a result", Details: r.Service.details()}
	r.record(t.directive(), r.now)
}

// lastStatus returns the last status, which another program may have written; nil if there is
// none. current reports whether it is of this boot. If the ID of this boot is unknown, only
// the state that this stream recorded is current.
func (r *runner) lastStatus() (status *artifact.Status, current bool) {
	if r.batch.status.set {
		return &r.batch.status.value, true
	}
	status, err := r.committer.store.status()
	if err != nil {
		return nil, false
	}
	return status, status.BootID == r.BootID && (r.BootID != "" || status.State == r.decider.state)
}

// otherRun is the problem with a result that is not of this run.
const otherRun = "belongs to another run"

// currentResult returns the result of this run, or why result.json is not that result. final
// reports whether the status is the last one of the run: the result then is from the same
// event or, if the writer died before it replaced the status, from a later one.
func (r *runner) currentResult(status *artifact.Status, final bool) (result *artifact.Result, problem string) {
	if r.batch.startsRun {
		return nil, otherRun
	}
	result, err := r.committer.store.result()
	switch {
	case isNotExist(err):
		return nil, "is missing"
	case err != nil:
		r.warn("%v; treated as missing", err)
		return nil, "is invalid"
	case !artifact.SameBoot(result.BootID, r.BootID):
		return nil, otherRun
	case status == nil:
		return result, ""
	}
	sameBoot := *status
	sameBoot.BootID = r.BootID // the boot was compared above
	older := result.Seq > 0 && result.Seq < status.Seq
	if !result.IsOf(&sameBoot) || (final && older) {
		return nil, otherRun
	}
	return result, ""
}

// finishStatus adds the status that belongs to the result, if the writer died after it had
// replaced the result and before it replaced the status. It adds no event, because the
// event was written before the result.
func (r *runner) finishStatus(status *artifact.Status, result *artifact.Result) {
	isFinished := status != nil && (status.State.Ended() || status.Seq >= result.Seq)
	if isFinished || result.Seq == 0 || r.batch.status.set || r.committer.store.aliveRun() > 0 {
		return
	}
	r.warn("the result is %s, but the status is of an earlier event; added the status of the result", result.Outcome)
	d := &directive.Directive{Type: directive.Status, State: artifact.State(result.Outcome), Message: result.Message, Details: result.Details}
	r.record(d, Moment{Time: result.Time})
	r.batch.status.value.Seq = result.Seq
}

// recreateResult adds the result that belongs to a final status. It adds no event, because
// that of the status belongs to the result too.
func (r *runner) recreateResult(status *artifact.Status, outcome artifact.Outcome) {
	d := &directive.Directive{Type: directive.Result, Outcome: outcome, Message: status.Message, Details: status.Details,
		HasExitCode: outcome == artifact.OutcomeCompleted}
	r.record(d, Moment{Time: status.Time})
	r.batch.result.value.Seq = status.Seq
	if r.batch.status.set {
		r.batch.result.event = r.batch.status.event
	}
}
