package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A fakeSupervisor calls back at the start and at the end, so that a test can
// look at the files then.
type fakeSupervisor struct {
	opened, over func()
	result       Transition
}

func (p *fakeSupervisor) Opening() *Transition {
	return &Transition{State: artifact.Starting, Message: "off we go", Details: strictjson.Value(`{"argv":["a"]}`)}
}

func (p *fakeSupervisor) Start() {
	if p.opened != nil {
		p.opened()
	}
}

func (p *fakeSupervisor) Outcome() *Transition {
	if p.over != nil {
		p.over()
	}
	return &p.result
}

// failedWith returns the transition of a supervisor whose command exited with n.
func failedWith(n int32) Transition {
	return Transition{State: artifact.Failed, Message: "exited", ExitCode: &n}
}

func (g *guest) checkContains(name string, texts ...string) {
	g.t.Helper()
	content := g.read(name)
	for _, text := range texts {
		if !strings.Contains(content, text) {
			g.t.Errorf("%s has no %s:\n%s", name, text, content)
		}
	}
}

func (g *guest) checkLacks(name string, texts ...string) {
	g.t.Helper()
	content := g.read(name)
	for _, text := range texts {
		if strings.Contains(content, text) {
			g.t.Errorf("%s has %s:\n%s", name, text, content)
		}
	}
}

func TestSupervisor(t *testing.T) {
	g := newGuest(t)
	old := existingFiles("failed", 7, otherBoot)["result.json"]
	g.write("result.json", old)
	g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: func() {
		g.checkContains("events.jsonl", `"kind":"starting"`)
		g.checkContains("status.json", `"state": "starting"`, `"message": "off we go"`, `"details": {"argv":["a"]}`)
		check(t, "the previous result", g.read("result.json.prev"), old)
		check(t, "the result", g.read("result.json"), "")
	}}
	if sum := g.feed("STATE=ready\n"); sum.Fallback || sum.Lines != 1 {
		t.Errorf("%+v", sum)
	}
	g.checkContains("events.jsonl", `"kind":"ready"`, `"kind":"failed"`)
	g.checkContains("result.json", `"status": "failed"`, `"exit_code": 3`, `"message": "exited"`, `"seq": 3`)
	g.checkContains("status.json", `"state": "failed"`, `"seq": 3`)
	g.checkLacks("result.json", "details")
}

func TestSupervisor_result_from_command(t *testing.T) {
	for _, line := range []string{"STATE=completed", "STATUS=completed", "TYPE=status STATE=completed", "STATE=failed EXIT_CODE=9"} {
		t.Run(line, func(t *testing.T) {
			g := newGuest(t)
			g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() {
				check(t, "the result", g.read("result.json"), "")
				g.checkContains("status.json", `"state": "ready"`)
				g.checkLacks("events.jsonl", "mine")
			}}
			g.feed("STATE=ready\n" + line + " MESSAGE=mine DETAILS.a:=1\n")
			for _, name := range []string{"result.json", "status.json"} {
				g.checkContains(name, `"failed"`, `"message": "mine"`, `"seq": 3`, `"a":1`)
			}
			g.checkContains("result.json", `"exit_code": 3`)
			g.checkContains("events.jsonl", `"kind":"failed"`)
			warning := !strings.Contains(line, "failed")
			if strings.Contains(g.read("result.json"), `"reported":"completed"`) != warning ||
				strings.Contains(g.warnings(), "the result is failed (exit code 3), although the command reported completed") != warning {
				t.Errorf("%s\n%s", g.read("result.json"), g.warnings())
			}
		})
	}
}

func TestSupervisor_event_from_command(t *testing.T) {
	g := newGuest(t)
	g.Supervisor = &fakeSupervisor{result: failedWith(3)}
	g.feed("KIND=completed MESSAGE=mine\n")
	g.checkContains("events.jsonl", `"kind":"completed"`, "mine")
	g.checkLacks("result.json", "mine")
}

func TestSupervisor_lines_after_result(t *testing.T) {
	g := newGuest(t)
	g.Supervisor = &fakeSupervisor{result: failedWith(3)}
	if sum := g.feed("STATE=failed MESSAGE=first\nSTATE=completed MESSAGE=second\nSTATE=ready\nKIND=ready\n"); sum.Rejected != 2 {
		t.Errorf("%+v", sum)
	}
	g.checkContains("result.json", `"message": "first"`)
}

func TestSupervisor_stopped_by_command(t *testing.T) {
	for _, state := range []string{"stopped", "destroyed"} {
		g := newGuest(t)
		g.Supervisor = &fakeSupervisor{result: failedWith(143)}
		g.feed("STATE=ready\nSTATE=" + state + " MESSAGE=asked DETAILS.a:=1\n")
		g.checkContains("status.json", `"state": "`+state+`"`, `"message": "asked"`, `"details": {"a":1}`, `"seq": 5`)
		g.checkContains("result.json", `"status": "failed"`, `"exit_code": 143`, `"seq": 4`)
		var kinds []string
		for _, line := range strings.Split(g.read("events.jsonl"), "\n") {
			_, rest, _ := strings.Cut(line, `"kind":"`)
			kind, _, _ := strings.Cut(rest, `"`)
			kinds = append(kinds, kind)
		}
		check(t, "the log", strings.Join(kinds, " "), "starting ready "+state+" failed "+state+" ")
	}
}

func TestSupervisor_opening_not_written(t *testing.T) {
	g := newGuest(t)
	free := g.block("events.jsonl")
	g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: func() {
		if !strings.Contains(g.warnings(), retryText) {
			t.Error("the failure is not logged")
		}
		free()
	}}
	g.feed("")
	g.checkContains("events.jsonl", `"kind":"starting"`, `"kind":"failed"`)
	g.checkContains("result.json", `"seq": 2`)
}

func TestMergeDetails(t *testing.T) {
	deep := strings.Repeat("[", strictjson.MaxDepth) + strings.Repeat("]", strictjson.MaxDepth)
	for _, c := range [][3]string{
		{``, ``, ``},
		{`{"a":1}`, ``, `{"a":1}`},
		{``, `{"a":1}`, `{"a":1}`},
		{`{}`, `{"a":1}`, `{"a":1}`},
		{`{"a":1,"signal":"mine"}`, `{"signal":"SIGKILL"}`, `{"a":1,"signal":"SIGKILL"}`},
		{`[1]`, `{"a":1}`, `{"details":[1],"a":1}`},
		{`"x"`, ``, `"x"`},
		{deep, `{"a":1}`, `{"a":1}`},
	} {
		under := strictjson.Value(c[0])
		if got := mergeDetails(under, strictjson.Value(c[1])); string(got) != c[2] || string(under) != c[0] {
			t.Errorf("%s and %s are %s, expected %s", c[0], c[1], got, c[2])
		}
	}
}

// Input that was in the pipe when the stop arrived is read, even if the commit
// under way outlasts the grace period.
func TestStop_input_before_grace_ends(t *testing.T) {
	g := newGuest(t)
	g.Grace, g.WriteTimeout, g.warn = 1, 100*time.Millisecond, make(chan string, 100)
	free := g.block("events.jsonl")
	w := g.open()
	w.print("STATE=booted\n")
	w.waitForWarning(retryText)
	w.print("STATE=failed MESSAGE=arrived\n")
	w.requestStop()
	w.waitForWarning(degradedText)
	free()
	w.wait()
	g.checkContains("result.json", `"message": "arrived"`)
}

// The last commit has its own time limit, whenever the stop arrived.
func TestSupervisor_result_retried_after_grace(t *testing.T) {
	g := newGuest(t)
	g.Grace, g.warn = 1, make(chan string, 100)
	free := func() {}
	g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() { free = g.block("result.json") }}
	w := g.open()
	w.requestStop()
	w.waitForWarning(retryText)
	free()
	if sum := w.wait(); sum.Degraded {
		t.Error(w.warnings())
	}
	g.checkContains("result.json", `"exit_code": 3`)
}

func TestSupervisor_result_time(t *testing.T) {
	g := newGuest(t)
	now := testMoment
	g.Clock = func() Moment { return now }
	g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() { now.Time = now.Time.Add(time.Hour) }}
	g.feed("STATE=ready\n")
	g.checkContains("status.json", `"updated_at": "2026-03-25T21:00:00.123Z"`)
}

func TestManyRuns(t *testing.T) {
	g := newGuest(t)
	g.ManyRuns = true
	const input = "STATE=failed\nSTATE=ready\nTYPE=status STATE=starting\nSTATE=starting\nSTATE=completed MESSAGE=second\n"
	if sum := g.feed(input); sum.Rejected != 2 {
		t.Errorf("%+v; warnings:\n%s", sum, g.warnings())
	}
	g.checkContains("result.json", `"message": "second"`)
	g.checkContains("status.json", `"state": "completed"`)
	g.checkContains("rejected.jsonl", `"line":2`)
	g.checkContains("rejected.jsonl", "start another run with requested")
}

func TestManyRuns_require_result(t *testing.T) {
	g := newGuest(t)
	g.ManyRuns, g.RequireResult = true, true
	if sum := g.feed("STATE=completed\nSTATE=starting\n"); !sum.Fallback {
		t.Errorf("%+v", sum)
	}
	g.checkContains("result.json", "stream_ended")
}

func TestState_reaches(t *testing.T) {
	for _, now := range artifact.States() {
		for _, want := range artifact.States() {
			order := "requested provisioning booted starting ready"
			past := strings.Contains(order, string(now)) && strings.Contains(order, string(want)) &&
				strings.Index(order, string(want)) <= strings.Index(order, string(now))
			if got := now.Reaches(want); got != (now == want || past) {
				t.Errorf("%s reaches %s: %v", now, want, got)
			}
		}
	}
}
