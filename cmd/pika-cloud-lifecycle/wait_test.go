package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// inotify does not report every change on a shared file system, so wait reads the files
// once more when its time is over.
func TestWait_reads_at_deadline(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	elsewhere, here := t.TempDir(), t.TempDir()
	testenv.Bindfs(t, elsewhere, here)
	dir := filepath.Join(here, "run")
	testenv.Must(t, os.Mkdir(dir, 0o755))
	go func() {
		time.Sleep(100 * time.Millisecond)
		s := artifact.Status{State: artifact.Ready, Time: time.Now(), Message: strictjson.AppendText(nil, "m")}
		if err := writer.In(filepath.Join(elsewhere, "run")).Status.Replace(&s); err != nil {
			t.Error(err)
		}
	}()
	w := waiter{dir: dir, states: []artifact.State{artifact.Ready}, limit: 500 * time.Millisecond}
	start := time.Now()
	s, err := w.wait()
	if err != nil || s.Status == nil || time.Since(start) < w.limit {
		t.Errorf("%v, %v after %v", s, err, time.Since(start))
	}
}

// A sequence of statuses, results and events leads to a decision.
func TestDecide(t *testing.T) {
	status := func(state artifact.State, seq uint64) *artifact.Status {
		return &artifact.Status{State: state, BootID: testBoot, Seq: seq}
	}
	result := func(outcome artifact.Outcome, seq uint64) *artifact.Result {
		return &artifact.Result{Outcome: outcome, BootID: testBoot, Seq: seq}
	}
	event := func(kind artifact.State, seq uint64) *artifact.Event {
		return &artifact.Event{Kind: kind, BootID: testBoot, Seq: seq}
	}
	events := func(first uint64, kinds ...artifact.State) (all []*artifact.Event) {
		for i, kind := range kinds {
			all = append(all, event(kind, first+uint64(i)))
		}
		return all
	}
	died := &writerlock.Writer{Kind: writerlock.Ingest, PID: 7, State: writerlock.Dead}
	const long, short = patience, patience - 1
	const after5 = 5
	for _, c := range []struct {
		name     string
		states   string
		after    uint64 // 0 for no --after
		status   *artifact.Status
		result   *artifact.Result
		events   []*artifact.Event
		dead     *writerlock.Writer
		deadFor  time.Duration
		idleFor  time.Duration
		want     int // exit code; -1 if wait continues
		wantFile string
	}{
		{name: "nothing", states: "ready", want: -1},
		{name: "status", states: "ready", status: status("ready", 1)},
		{name: "status_later", states: "starting", status: status("ready", 1)},
		{name: "status_earlier", states: "ready", status: status("starting", 1), want: -1},
		{name: "status_of_other_boot", states: "ready", status: &artifact.Status{State: "ready", BootID: "other", Seq: 1}, want: -1},
		{name: "event", states: "ready", status: status("starting", 3), events: events(1, "booted", "ready", "starting")},
		{name: "event_later", states: "booted", events: events(1, "ready")},
		{name: "event_earlier", states: "ready", events: events(1, "booted", "starting"), want: -1},
		{name: "event_unreachable", states: "unreachable", status: status("ready", 2), events: events(1, "unreachable", "ready")},
		{name: "event_of_other_boot", states: "ready", events: []*artifact.Event{{Kind: "ready", BootID: "other", Seq: 1}}, want: -1},
		{name: "event_without_boot", states: "ready", events: []*artifact.Event{{Kind: "ready", Seq: 1}}, want: -1},
		{name: "event_plain", states: "ready", events: []*artifact.Event{{Kind: "ready", BootID: testBoot, Seq: 1, Plain: true}}, want: -1},
		{name: "reached_before_failure", states: "ready", status: status("failed", 3), result: result("failed", 3), events: events(1, "booted", "ready", "failed")},
		{name: "reached_after_failure", states: "ready", events: events(1, "failed", "starting", "ready")},

		{name: "outcome", states: "failed", status: status("failed", 3), result: result("failed", 3)},
		{name: "outcome_without_result", states: "failed", status: status("failed", 3), events: events(3, "failed"), want: -1},
		{name: "outcome_event_only", states: "failed", events: events(3, "failed"), want: -1},
		{name: "outcome_status_not_replaced", states: "failed", status: status("ready", 2), result: result("failed", 3), dead: died, deadFor: long},
		{name: "outcome_before_status", states: "failed", status: status("ready", 2), result: result("failed", 3), events: events(3, "failed")},
		{name: "outcome_of_other_event", states: "failed", status: status("ready", 2), result: result("failed", 1), events: events(3, "failed"), want: -1},
		{name: "outcome_of_other_boot", states: "failed", result: &artifact.Result{Outcome: "failed", BootID: "other", Seq: 3}, events: events(3, "failed"), want: -1},
		{name: "outcome_then_unreachable", states: "failed", status: status("unreachable", 4), result: result("failed", 3), events: events(3, "failed", "unreachable")},
		{name: "outcome_then_stopped", states: "failed", status: status("stopped", 4), result: result("failed", 3)},
		{name: "outcome_plain", states: "failed", events: []*artifact.Event{{Kind: "failed", BootID: testBoot, Seq: 1, Plain: true}, event("starting", 2)}, want: -1},
		{name: "outcome_of_earlier_run", states: "failed", status: status("starting", 4), events: events(3, "failed", "starting")},
		{name: "outcome_of_run_before_that", states: "failed", status: status("starting", 6), events: events(3, "failed", "starting", "completed", "starting")},
		{name: "outcome_earlier_and_later", states: "failed", status: status("completed", 5), result: result("completed", 5), events: events(3, "failed", "starting", "completed")},
		{name: "other_outcome", states: "ready", status: status("failed", 3), result: result("failed", 3), want: exitFailed, wantFile: "result.json"},
		{name: "other_outcome_before_status", states: "ready", result: result("failed", 3), events: events(3, "failed"), want: exitFailed, wantFile: "result.json"},
		{name: "other_outcome_of_earlier_run", states: "completed", status: status("starting", 4), events: events(3, "failed", "starting"), want: exitFailed, wantFile: "result.json.prev"},
		{name: "other_outcome_event_only", states: "ready", events: events(3, "failed"), want: -1},

		{name: "stopped", states: "stopped", status: status("stopped", 3)},
		{name: "ready_on_stopped", states: "ready", status: status("stopped", 3), want: exitFailed},
		{name: "unreachable_on_stopped", states: "unreachable", status: status("stopped", 3), want: exitFailed},
		{name: "destroyed_on_stopped", states: "destroyed", status: status("stopped", 3), idleFor: long, want: -1},
		{name: "ready_or_destroyed_on_stopped", states: "ready,destroyed", status: status("stopped", 3), idleFor: long, want: -1},
		{name: "stopped_on_destroyed", states: "stopped", status: status("destroyed", 3), want: exitFailed},
		{name: "failed_on_stopped", states: "failed", status: status("stopped", 3), idleFor: short, want: -1},
		{name: "failed_on_stopped_no_writer", states: "failed", status: status("stopped", 3), idleFor: long, want: exitFailed},
		{name: "ready_or_failed_on_stopped", states: "ready,failed", status: status("stopped", 3), idleFor: short, want: -1},
		{name: "completed_on_destroyed_no_writer", states: "completed", status: status("destroyed", 3), idleFor: long, want: exitFailed},
		{name: "failed_on_starting_no_writer", states: "failed", status: status("starting", 3), idleFor: long, want: -1},

		{name: "died", states: "ready", status: status("starting", 3), dead: died, deadFor: long, want: exitDied},
		{name: "died_without_status", states: "ready", dead: died, deadFor: long, want: exitDied},
		{name: "died_just_now", states: "ready", dead: died, deadFor: short, want: -1},
		{name: "died_after_ready", states: "ready", events: events(1, "ready"), dead: died, deadFor: long},
		{name: "died_after_result", states: "ready", status: status("failed", 3), result: result("failed", 3), dead: died, deadFor: long, want: exitFailed, wantFile: "result.json"},
		{name: "died_before_result", states: "failed", status: status("failed", 3), events: events(3, "failed"), dead: died, deadFor: long, want: exitDied},

		{name: "after_status", states: "ready", after: after5, status: status("ready", 5), want: -1},
		{name: "after_later_status", states: "ready", after: after5, status: status("ready", 6)},
		{name: "after_status_without_seq", states: "ready", after: after5, status: status("ready", 0), want: -1},
		{name: "after_event", states: "ready", after: after5, events: events(4, "starting", "ready"), want: -1},
		{name: "after_later_event", states: "ready", after: after5, events: events(4, "ready", "starting", "ready")},
		{name: "after_result", states: "failed", after: after5, status: status("failed", 5), result: result("failed", 5), want: -1},
		{name: "after_later_result", states: "failed", after: after5, status: status("failed", 6), result: result("failed", 6)},
		{name: "after_stopped_with_earlier_result", states: "failed", after: after5, status: status("stopped", 6), result: result("failed", 5), idleFor: short, want: -1},
		{name: "after_other_outcome", states: "ready", after: after5, status: status("completed", 5), result: result("completed", 5), want: -1},
		{name: "after_earlier_run", states: "failed", after: after5, status: status("starting", 6), events: events(5, "failed", "starting"), want: -1},
		{name: "after_stopped", states: "ready", after: after5, status: status("stopped", 5), want: -1},
		{name: "after_died", states: "ready", after: after5, status: status("ready", 5), dead: died, deadFor: long, want: exitDied},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := waiter{bootID: testBoot, hasAfter: c.after > 0, after: c.after}
			for word := range strings.SplitSeq(c.states, ",") {
				w.states = append(w.states, artifact.State(word))
			}
			o := observation{files: &history.Snapshot{Status: c.status, Result: c.result}, dead: c.dead, deadFor: c.deadFor, idleFor: c.idleFor}
			for _, e := range c.events {
				w.add(&o.log, e)
			}
			done, err := w.decide(&o)
			got := exitCode(err)
			if !done {
				got = -1
			}
			if got != c.want {
				t.Errorf("exit code %d, want %d (%v)", got, c.want, err)
			}
			var other *otherOutcomeError
			if errors.As(err, &other) && other.file != c.wantFile {
				t.Errorf("see %s, want %s", other.file, c.wantFile)
			}
		})
	}
}

// If several runs have ended, the error names the outcome that is in result.json.prev.
func TestDecide_earlier_runs(t *testing.T) {
	w := waiter{bootID: testBoot, states: []artifact.State{artifact.Ready}}
	o := observation{files: new(history.Snapshot)}
	for i, kind := range []artifact.State{"completed", "starting", "failed", "starting", "completed", "starting"} {
		w.add(&o.log, &artifact.Event{Kind: kind, BootID: testBoot, Seq: uint64(i + 1)})
	}
	for range 20 {
		_, err := w.decide(&o)
		var other *otherOutcomeError
		if !errors.As(err, &other) || *other != (otherOutcomeError{"completed", "result.json.prev"}) {
			t.Fatal(err)
		}
	}
}

// The times for which a writer has died, or none is alive, are counted from the first look.
func TestSetWriters(t *testing.T) {
	const (
		run    = writerlock.Run
		ingest = writerlock.Ingest
		s      = time.Second
	)
	one := writerlock.Writer{Kind: ingest, PID: 1, State: writerlock.Dead}
	type look struct {
		at      time.Duration
		writers []writerlock.Writer
		failed  bool
		deadFor time.Duration // -1 for none
		idleFor time.Duration
	}
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"none", []look{{0, nil, false, -1, 0}, {3 * s, nil, false, -1, 3 * s}}},
		{"unreadable", []look{{0, nil, true, -1, 0}, {s, nil, true, -1, 0}, {2 * s, nil, false, -1, 0}, {3 * s, nil, false, -1, s}}},
		{"unknown", []look{{0, []writerlock.Writer{{Kind: run, PID: 1}}, false, -1, 0}, {s, []writerlock.Writer{{Kind: run, PID: 1}}, false, -1, 0}}},
		{"alive", []look{{0, []writerlock.Writer{{Kind: ingest, PID: 1, State: writerlock.Alive}}, false, -1, 0}, {s, nil, false, -1, 0}, {2 * s, nil, false, -1, s}}},
		{"dead", []look{{0, []writerlock.Writer{one}, false, 0, 0}, {s, []writerlock.Writer{one}, false, s, s}}},
		{"dead_beside_unknown", []look{{0, []writerlock.Writer{one, {Kind: ingest, PID: 2}}, false, 0, 0}, {s, []writerlock.Writer{one, {Kind: ingest, PID: 2}}, false, s, 0}}},
		{"dead_beside_ingest", []look{{0, []writerlock.Writer{one, {Kind: ingest, PID: 2, State: writerlock.Alive}}, false, 0, 0}, {s, []writerlock.Writer{one}, false, s, 0}}},
		{"dead_beside_run", []look{{0, []writerlock.Writer{one, {Kind: run, PID: 2, State: writerlock.Alive}}, false, -1, 0}, {s, []writerlock.Writer{one}, false, 0, 0}}},
		{"another_dead", []look{{0, []writerlock.Writer{one}, false, 0, 0}, {s, []writerlock.Writer{{Kind: ingest, PID: 2, State: writerlock.Dead}}, false, 0, s}}},
		{"restarted", []look{{0, []writerlock.Writer{one}, false, 0, 0}, {s, []writerlock.Writer{{Kind: ingest, PID: 1, State: writerlock.Alive}}, false, -1, 0}, {2 * s, []writerlock.Writer{one}, false, 0, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			o := observer{waiter: new(waiter)}
			for i, l := range c.looks {
				o.setWriters(l.writers, l.failed, start.Add(l.at))
				deadFor := o.deadFor
				if o.dead == nil {
					deadFor = -1
				}
				if deadFor != l.deadFor || o.idleFor != l.idleFor {
					t.Errorf("look %d: dead for %v, idle for %v; want %v, %v", i, deadFor, o.idleFor, l.deadFor, l.idleFor)
				}
			}
		})
	}
}

// Events that are not read yet delay an error, but not without limit, and not a success.
func TestMayEnd(t *testing.T) {
	now := time.Now()
	var o observer
	for _, c := range []struct {
		err  error
		more bool
		at   time.Duration
		want bool
	}{
		{nil, true, 0, true},
		{errTimeout, true, 0, false},
		{errTimeout, true, catchUp - 1, false},
		{errTimeout, false, catchUp - 1, true},
		{nil, true, catchUp - 1, true},
		{errTimeout, true, catchUp, true},
	} {
		if got := o.mayEnd(c.err, c.more, now.Add(c.at)); got != c.want {
			t.Errorf("after %v, error %v, more %v: may end is %v", c.at, c.err, c.more, got)
		}
	}
}

// With --timeout 0s, wait reads the whole log.
func TestWait_large_log(t *testing.T) {
	dir := t.TempDir()
	const event = `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00Z","message":"m","boot_id":"` + testBoot + `","seq":2}` + "\n"
	writeFile(t, filepath.Join(dir, writer.EventsName), strings.Repeat("\n", 1<<19)+event)
	w := newWaiter(dir, artifact.Ready)
	w.hasAfter, w.after, w.limit = true, 1, 0
	if _, err := w.wait(); err != nil {
		t.Error(err)
	}
}
