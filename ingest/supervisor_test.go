package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A parent is an owner that looks at what it is to see.
type parent struct {
	opened, over func()
	verdict      Transition
}

func (p *parent) Opening() *Transition {
	return &Transition{State: artifact.Starting, Message: "off we go", Details: strictjson.Value(`{"argv":["a"]}`)}
}

func (p *parent) Start() {
	if p.opened != nil {
		p.opened()
	}
}

func (p *parent) Outcome() *Transition {
	if p.over != nil {
		p.over()
	}
	return &p.verdict
}

// failedWith is the verdict of a parent whose child exited with n.
func failedWith(n int32) Transition {
	return Transition{State: artifact.Failed, Message: "exited", ExitCode: &n}
}

func (g *guest) holds(name string, texts ...string) {
	g.t.Helper()
	content := g.read(name)
	for _, text := range texts {
		if !strings.Contains(content, text) {
			g.t.Errorf("%s has no %s:\n%s", name, text, content)
		}
	}
}

func (g *guest) lacks(name string, texts ...string) {
	g.t.Helper()
	content := g.read(name)
	for _, text := range texts {
		if strings.Contains(content, text) {
			g.t.Errorf("%s has %s:\n%s", name, text, content)
		}
	}
}

func TestAnOwnerOpensTheStreamAndGivesItsVerdict(t *testing.T) {
	g := newGuest(t)
	old := standing("failed", 7, otherBoot)["result.json"]
	g.write("result.json", old)
	g.Supervisor = &parent{verdict: failedWith(3), opened: func() {
		g.holds("events.jsonl", `"kind":"starting"`)
		g.holds("status.json", `"state": "starting"`, `"message": "off we go"`, `"details": {"argv":["a"]}`)
		check(t, "the verdict before", g.read("result.json.prev"), old)
		check(t, "the result", g.read("result.json"), "")
	}}
	if sum := g.feed("STATE=ready\n"); sum.Supplied || sum.Lines != 1 {
		t.Errorf("%+v", sum)
	}
	g.holds("events.jsonl", `"kind":"ready"`, `"kind":"failed"`)
	g.holds("result.json", `"status": "failed"`, `"exit_code": 3`, `"message": "exited"`, `"seq": 3`)
	g.holds("status.json", `"state": "failed"`, `"seq": 3`)
	g.lacks("result.json", "details")
}

func TestAVerdictInAnOwnedStreamIsWithheldAndLendsItsWords(t *testing.T) {
	for _, line := range []string{"STATE=completed", "STATUS=completed", "TYPE=status STATE=completed", "STATE=failed EXIT_CODE=9"} {
		t.Run(line, func(t *testing.T) {
			g := newGuest(t)
			g.Supervisor = &parent{verdict: failedWith(3), over: func() {
				check(t, "the result", g.read("result.json"), "")
				g.holds("status.json", `"state": "ready"`)
				g.lacks("events.jsonl", "mine")
			}}
			g.feed("STATE=ready\n" + line + " MESSAGE=mine DETAILS.a:=1\n")
			for _, name := range []string{"result.json", "status.json"} {
				g.holds(name, `"failed"`, `"message": "mine"`, `"seq": 3`, `"a":1`)
			}
			g.holds("result.json", `"exit_code": 3`)
			g.holds("events.jsonl", `"kind":"failed"`)
			said := !strings.Contains(line, "failed")
			if strings.Contains(g.read("result.json"), `"said":"completed"`) != said ||
				strings.Contains(g.heard(), "the result is failed, although the command reported completed") != said {
				t.Errorf("%s\n%s", g.read("result.json"), g.heard())
			}
		})
	}
}

func TestAnEventOfAnEndIsNoVerdict(t *testing.T) {
	g := newGuest(t)
	g.Supervisor = &parent{verdict: failedWith(3)}
	g.feed("KIND=completed MESSAGE=mine\n")
	g.holds("events.jsonl", `"kind":"completed"`, "mine")
	g.lacks("result.json", "mine")
}

func TestAWithheldVerdictIsTheLast(t *testing.T) {
	g := newGuest(t)
	g.Supervisor = &parent{verdict: failedWith(3)}
	if sum := g.feed("STATE=failed MESSAGE=first\nSTATE=completed MESSAGE=second\nSTATE=ready\nKIND=ready\n"); sum.Rejected != 2 {
		t.Errorf("%+v", sum)
	}
	g.holds("result.json", `"message": "first"`)
}

func TestAGuestThatWasStoppedStaysSoAndHasAVerdict(t *testing.T) {
	for _, state := range []string{"stopped", "destroyed"} {
		g := newGuest(t)
		g.Supervisor = &parent{verdict: failedWith(143)}
		g.feed("STATE=ready\nSTATE=" + state + " MESSAGE=asked DETAILS.a:=1\n")
		g.holds("status.json", `"state": "`+state+`"`, `"message": "asked"`, `"details": {"a":1}`, `"seq": 5`)
		g.holds("result.json", `"status": "failed"`, `"exit_code": 143`, `"seq": 4`)
		var kinds []string
		for _, line := range strings.Split(g.read("events.jsonl"), "\n") {
			_, rest, _ := strings.Cut(line, `"kind":"`)
			kind, _, _ := strings.Cut(rest, `"`)
			kinds = append(kinds, kind)
		}
		check(t, "the log", strings.Join(kinds, " "), "starting ready "+state+" failed "+state+" ")
	}
}

func TestAnOpeningThatCannotBeWrittenHoldsNobodyUp(t *testing.T) {
	g := newGuest(t)
	free := g.plant("events.jsonl")
	g.Supervisor = &parent{verdict: failedWith(3), opened: func() {
		if !strings.Contains(g.heard(), tryAgain) {
			t.Error("not said")
		}
		free()
	}}
	g.feed("")
	g.holds("events.jsonl", `"kind":"starting"`, `"kind":"failed"`)
	g.holds("result.json", `"seq": 2`)
}

func TestDetailsJoin(t *testing.T) {
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

// What was in the pipe when the stream was told to end is read, though the
// grace was over before the commit under way was.
func TestWhatHadArrivedIsReadAfterTheGrace(t *testing.T) {
	g := newGuest(t)
	g.Grace, g.WriteTimeout, g.talk = 1, 100*time.Millisecond, make(chan string, 100)
	free := g.plant("events.jsonl")
	w := g.open()
	w.print("STATE=booted\n")
	w.until(tryAgain)
	w.print("STATE=failed MESSAGE=arrived\n")
	w.tell()
	w.until("cannot be written; reading on")
	free()
	w.wait()
	g.holds("result.json", `"message": "arrived"`)
}

// The last commit has a time of its own, whenever the stream was told to end.
func TestTheVerdictIsTriedForLongerThanTheGrace(t *testing.T) {
	g := newGuest(t)
	g.Grace, g.talk = 1, make(chan string, 100)
	free := func() {}
	g.Supervisor = &parent{verdict: failedWith(3), over: func() { free = g.plant("result.json") }}
	w := g.open()
	w.tell()
	w.until(tryAgain)
	free()
	if sum := w.wait(); sum.Degraded {
		t.Error(w.heard())
	}
	g.holds("result.json", `"exit_code": 3`)
}

func TestAVerdictHasTheTimeOfTheEnd(t *testing.T) {
	g := newGuest(t)
	now := testMoment
	g.Clock = func() Moment { return now }
	g.Supervisor = &parent{verdict: failedWith(3), over: func() { now.Time = now.Time.Add(time.Hour) }}
	g.feed("STATE=ready\n")
	g.holds("status.json", `"updated_at": "2026-03-25T21:00:00.123Z"`)
}

func TestAFIFOCarriesRunAfterRun(t *testing.T) {
	g := newGuest(t)
	g.ManyRuns = true
	const input = "STATE=failed\nSTATE=ready\nTYPE=status STATE=starting\nSTATE=starting\nSTATE=completed MESSAGE=second\n"
	if sum := g.feed(input); sum.Rejected != 2 {
		t.Errorf("%+v; said\n%s", sum, g.heard())
	}
	g.holds("result.json", `"message": "second"`)
	g.holds("status.json", `"state": "completed"`)
	g.holds("rejected.jsonl", `"line":2`)
}

func TestARequiredResultIsOfTheLastRun(t *testing.T) {
	g := newGuest(t)
	g.ManyRuns, g.RequireResult = true, true
	if sum := g.feed("STATE=completed\nSTATE=starting\n"); !sum.Supplied {
		t.Errorf("%+v", sum)
	}
	g.holds("result.json", "stream_ended")
}

func TestReaches(t *testing.T) {
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
