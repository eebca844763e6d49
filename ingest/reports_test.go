package ingest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest/directive"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// openReporting starts a supervised stream with Reports, and waits until its opening is
// recorded.
func openReporting(t *testing.T, change func(*guest)) (w *runningStream, reports *Reports) {
	t.Helper()
	g := newGuest(t)
	g.warn = make(chan string, 1000)
	reports, err := NewReports()
	testenv.Must(t, err)
	t.Cleanup(func() { unix.Close(reports.fd) })
	g.Reports = reports
	g.Supervisor = &fakeSupervisor{result: failedWith(3)}
	if change != nil {
		change(g)
	}
	w = g.open()
	w.waitFor(func() bool { return change != nil || strings.Contains(w.read("status.json"), "starting") })
	return w, reports
}

// await waits until all that was reported is committed.
func (r *Reports) await(w *runningStream) {
	w.t.Helper()
	done := make(chan bool)
	r.AfterCommit(func() { close(done) })
	select {
	case <-done:
	case <-time.After(time.Minute):
		w.t.Fatalf("the reports are not committed; warnings:\n%s", w.warnings())
	}
}

func textOf(s string) *string { return &s }

// Ready is an event with its message, and once only.
func TestReports_ready(t *testing.T) {
	for _, c := range []struct {
		name, want string
		message    *string
	}{
		{"default message", `"message":"ready"`, nil},
		{"empty message", `"message":"ready"`, textOf("")},
		{"message", `"message":"listening on 80"`, textOf("listening on 80")},
		{"not UTF-8", `"message":"a` + "\uFFFD" + `b\tc\u001bd"`, textOf("a\xffb\tc\x1bd")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, reports := openReporting(t, nil)
			reports.Ready(c.message)
			reports.await(w)
			w.checkContains("events.jsonl", `"kind":"ready"`, c.want, `"uptime_ms":12345`)
			w.checkContains("status.json", `"state": "ready"`, `"seq": 2`)
			reports.Ready(nil)
			reports.Ready(textOf("still ready"))
			reports.await(w)
			w.checkContains("status.json", `"message": "still ready"`, `"seq": 2`)
			w.close()
			w.checkSeqs(3)
			w.checkContains("result.json", `"status": "failed"`, `"seq": 3`)
		})
	}
}

// A message changes the message of the status, and nothing else. There is no event.
func TestReports_message(t *testing.T) {
	w, reports := openReporting(t, nil)
	before := w.read("status.json")
	reports.Message("50 %")
	reports.await(w)
	check(t, "the status", w.read("status.json"), strings.Replace(before, "off we go", "50 %", 1))

	w.print(`{"state":"ready","message":"up","details":{"port":8080}}` + "\n")
	w.waitFor(func() bool { return strings.Contains(w.read("status.json"), "8080") })
	before = w.read("status.json")
	w.print(`{"kind":"ready","message":"up","details":{"port":9999}}` + "\n") // uses the memory of the last event again
	w.waitFor(func() bool { return strings.Contains(w.read("events.jsonl"), "9999") })
	reports.Message("7 requests")
	reports.await(w)
	check(t, "the status", w.read("status.json"), strings.Replace(before, `"up"`, `"7 requests"`, 1))
	reports.Message("")
	reports.await(w)
	check(t, "the status", w.read("status.json"), strings.Replace(before, `"up"`, `"ready"`, 1))
	w.close()
	w.checkSeqs(4)
}

// The order of ready and of messages counts, and not when the stream gets them.
func TestReports_order(t *testing.T) {
	for range 20 {
		w, reports := openReporting(t, nil)
		reports.Message("loading")
		reports.Ready(nil)
		reports.Message("idle")
		reports.Ready(nil)
		reports.Ready(textOf("busy"))
		reports.await(w)
		w.checkContains("events.jsonl", `"kind":"ready"`, `"message":"ready"`)
		w.checkContains("status.json", `"state": "ready"`, `"message": "busy"`, `"seq": 2`)
		w.close()
		w.checkSeqs(3)
	}
}

// appendReport keeps at most a message, ready, and a message.
func TestReports_bounded(t *testing.T) {
	reports, err := NewReports()
	testenv.Must(t, err)
	defer unix.Close(reports.fd)
	for i := range 1000 {
		reports.Message(fmt.Sprint(i))
		if i%7 == 3 {
			reports.Ready(nil)
		}
		if i%5 == 3 {
			reports.Ready(textOf(fmt.Sprint(i)))
		}
		if len(reports.reports) > 3 {
			t.Fatalf("%d reports are kept: %+v", len(reports.reports), reports.reports)
		}
	}
	want := []report{{message: "3", hasMessage: true}, {ready: true}, {message: "999", hasMessage: true}}
	if got := fmt.Sprint(reports.reports); got != fmt.Sprint(want) {
		t.Errorf("kept are %s, want %v", got, want)
	}
}

// Statuses that have only a new message are written at most 20 times a second. The newest
// message counts.
func TestReports_message_interval(t *testing.T) {
	l := new(listener)
	var statuses atomic.Int64
	l.during = func() { statuses.Add(1) }
	w, reports := openReporting(t, func(g *guest) { g.Followers = []Follower{l} })
	w.waitFor(func() bool { return statuses.Load() == 1 })
	begun := time.Now()
	last := ""
	for i := 0; time.Since(begun) < 300*time.Millisecond; i++ {
		last = fmt.Sprintf("request %d", i)
		reports.Ready(&last) // only the first is a transition
		last += "."
		reports.Message(last)
	}
	reports.await(w)
	most := int64(time.Since(begun)/messageInterval) + 3 // the opening, ready, and the first
	if n := statuses.Load(); n > most {
		t.Errorf("%d statuses are written in %v; want at most %d", n, time.Since(begun), most)
	}
	w.checkContains("status.json", last)
	w.close()
	w.checkSeqs(3)
}

// A message that is not due is written when it is due, although nothing else happens.
func TestReports_message_due(t *testing.T) {
	w, reports := openReporting(t, nil)
	for i := range 3 {
		text := fmt.Sprintf("step %d", i)
		reports.Message(text)
		w.waitFor(func() bool { return strings.Contains(w.read("status.json"), text) })
	}
	w.close()
}

// AfterCommit calls back after the commit, at once if there is nothing to commit, and also
// for what is reported just before the end.
func TestReports_after_commit(t *testing.T) {
	w, reports := openReporting(t, nil)
	reports.await(w)
	reports.Ready(nil)
	onDisk := make(chan string, 2)
	reports.AfterCommit(func() { onDisk <- w.read("events.jsonl") + w.read("status.json") })
	if text := <-onDisk; !strings.Contains(text, `"kind":"ready"`) || !strings.Contains(text, `"state": "ready"`) {
		t.Errorf("AfterCommit calls back before the commit:\n%s", text)
	}
	reports.Message("last words")
	reports.AfterCommit(func() { onDisk <- w.read("status.json") })
	w.close()
	if len(onDisk) != 1 {
		t.Error("AfterCommit does not call back at the end")
	}
	w.checkContains("status.json", `"state": "failed"`)
	w.checkSeqs(3)
}

// Ready that was reported before the end of the input comes before the result, although
// the stream did not wait for it any more.
func TestReports_ready_before_end(t *testing.T) {
	w, reports := openReporting(t, func(g *guest) { g.Grace = time.Nanosecond })
	w.waitFor(func() bool { return w.isWritten("status.json") })
	reports.mu.Lock() // the stream waits
	done := make(chan bool)
	go func() { w.requestStop(); close(done) }()
	<-done
	reports.signalled = true // as if it was not woken up
	reports.reports = appendReport(nil, report{ready: true})
	reports.mu.Unlock()
	w.wait()
	w.checkSeqs(3)
	w.checkContains("events.jsonl", `"kind":"ready"`)
}

// A failing disk delays ready and its callback. Ready comes after the opening.
func TestReports_retried(t *testing.T) {
	for _, name := range []string{"events.jsonl", "status.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var free func()
			w, reports := openReporting(t, func(g *guest) {
				free = g.block(name)
				g.WriteTimeout = time.Hour
			})
			w.waitForWarning(retryText)
			reports.Ready(textOf("up"))
			var called atomic.Bool
			reports.AfterCommit(func() { called.Store(true) })
			time.Sleep(30 * time.Millisecond) // a few attempts
			if called.Load() {
				t.Error("AfterCommit calls back before the commit")
			}
			free()
			w.waitFor(called.Load)
			w.checkContains("events.jsonl", `"kind":"starting"`, `"kind":"ready"`)
			w.checkContains("status.json", `"message": "up"`)
			w.close()
			w.checkSeqs(3)
		})
	}
}

// A degraded stream answers after an attempt: the program does not wait for a disk that
// fails. What was reported is written when that works again.
func TestReports_degraded(t *testing.T) {
	var free func()
	w, reports := openReporting(t, func(g *guest) {
		free = g.block("status.json")
		g.WriteTimeout = 1
	})
	w.waitForWarning(degradedText)
	reports.Ready(textOf("up"))
	reports.await(w)
	reports.Message("up and busy")
	reports.await(w)
	w.checkContains("events.jsonl", `"kind":"ready"`)
	free()
	w.waitFor(func() bool { return strings.Contains(w.read("status.json"), `"message": "up and busy"`) })
	w.checkContains("status.json", `"state": "ready"`, `"seq": 2`)
	w.close()
	w.checkSeqs(3)
}

// If the program has reported its result, ready and messages are ignored.
func TestReports_after_result(t *testing.T) {
	w, reports := openReporting(t, nil)
	w.print("STATE=failed MESSAGE=broken EXIT_CODE=3\nKIND=ready MESSAGE=mark\n")
	w.waitFor(func() bool { return strings.Contains(w.read("events.jsonl"), "mark") })
	before := w.read("status.json")
	reports.Message("too late")
	reports.await(w)
	reports.Ready(textOf("too late"))
	w.waitForWarning("ready is ignored, because the run already has a result")
	for range 300 {
		reports.Ready(nil)
		reports.await(w)
	}
	check(t, "the status", w.read("status.json"), before)
	w.close()
	w.checkLacks("events.jsonl", `"message":"ready"`, "too late")
	w.checkContains("result.json", `"message": "broken"`)
	if n := strings.Count(w.warnings(), "is ignored"); n > maxWarnings {
		t.Errorf("%d warnings", n)
	}
}

// Ready after a later state is as unusual as the line STATE=ready.
func TestReports_unusual(t *testing.T) {
	w, reports := openReporting(t, nil)
	w.print("STATE=stopped\n")
	w.waitFor(func() bool { return strings.Contains(w.read("status.json"), "stopped") })
	reports.Ready(nil)
	w.waitForWarning("the command reported ready: ready after stopped is unusual; accepted")
	w.close()
}

// A flood of reports delays neither lines nor the end.
func TestReports_flood(t *testing.T) {
	w, reports := openReporting(t, nil)
	var stop atomic.Bool
	var flood sync.WaitGroup
	for range 2 {
		flood.Go(func() {
			pending := make(chan bool, 16)
			for i := 0; !stop.Load(); i++ {
				reports.Message(fmt.Sprint(i))
				reports.Ready(nil)
				select {
				case pending <- true:
					reports.AfterCommit(func() { <-pending })
				default:
				}
			}
		})
	}
	for i := range 50 {
		text := fmt.Sprintf("line %d", i)
		w.print("KIND=ready MESSAGE='" + text + "'\n")
		w.waitFor(func() bool { return strings.Contains(w.read("events.jsonl"), text) })
	}
	w.close()
	stop.Store(true)
	flood.Wait()
	w.checkSeqs(53)
}

// A closing stream takes what was reported once, although more is reported before each of its
// commits has ended. A slow disk has the same effect.
func TestReports_flood_at_the_end(t *testing.T) {
	w, _ := openReporting(t, func(g *guest) {
		l := new(listener)
		l.during = func() { g.Reports.Message(fmt.Sprint(len(l.calls))) }
		g.Followers = []Follower{l}
	})
	w.close()
	w.checkSeqs(2)
}

// A stream that is about to commit does not look for reports.
func TestReports_commit_not_delayed(t *testing.T) {
	g := newGuest(t)
	in := newPipe(t)
	reports, err := NewReports()
	testenv.Must(t, err)
	defer unix.Close(reports.fd)
	g.In, g.Reports = int(in.r.Fd()), reports
	r := newRunner(&g.Stream)
	reports.Ready(nil)
	if e := r.waitForInput(0); e != nothing {
		t.Errorf("event %d, want nothing", e)
	}
	if e := r.waitForInput(time.Minute); e != reported {
		t.Errorf("event %d, want reported", e)
	}
}

// Reports do not make a stream wait for input that another process has read.
func TestReports_drain_ends(t *testing.T) {
	for name, report := range map[string]func(*Reports){
		"message that is not due": func(reports *Reports) {
			reports.Message("new")
			reports.next = time.Now().Add(10 * time.Millisecond)
		},
		"ready after take": func(reports *Reports) { // take does not consume it
			_, _ = unix.Write(reports.fd, []byte{7: 1}[:8])
		},
	} {
		g := newGuest(t)
		in := newPipe(t)
		reports, err := NewReports()
		testenv.Must(t, err)
		defer unix.Close(reports.fd)
		g.In, g.Reports = int(in.r.Fd()), reports
		r := newRunner(&g.Stream)
		r.state.phase = draining
		r.drain = drain{deadline: time.Now().Add(time.Minute), unread: 5}
		report(reports)
		if e := r.read(); e != nothing && e != reported {
			t.Fatalf("%s: event %d", name, e)
		}
		if r.drain.unread != 0 {
			t.Errorf("%s: the stream waits for %d bytes", name, r.drain.unread)
		}
	}
}

// A message does not lose the details of the status, however long they are.
func TestReports_huge_details(t *testing.T) {
	w, reports := openReporting(t, func(g *guest) { g.MaxLine = 8 << 20 })
	text := strings.Repeat("x", 2*huge)
	go w.in.WriteString(`{"state":"ready","details":{"text":"` + text + `"}}` + "\n")
	w.waitFor(func() bool { return strings.Contains(w.read("status.json"), `"ready"`) })
	reports.Message("new")
	reports.await(w)
	w.checkContains("status.json", `"message": "new"`)
	if !strings.Contains(w.read("status.json"), text) {
		t.Error("the details are lost")
	}
	w.close()
}

// A new message is passed to the followers, even if only the seq of the status was missing.
func TestBatch_message_of_early_status(t *testing.T) {
	b := new(batch)
	d := directive.Directive{State: artifact.Ready, Message: strictjson.AppendText(nil, "up")}
	b.setStatus(&d, testMoment, testBoot, 1)
	b.status.noteWritten() // without its seq
	b.setMessage("new")
	if again := b.status.noteWritten(); again || !b.status.early {
		t.Errorf("again %v, early %v", again, b.status.early)
	}
}

// A flood of lines does not delay reports until it ends.
func TestReports_during_flood_of_lines(t *testing.T) {
	w, reports := openReporting(t, nil)
	var stop atomic.Bool
	var flood sync.WaitGroup
	flood.Go(func() {
		text := strings.Repeat("KIND=ready\n", 1000)
		for !stop.Load() {
			w.print(text)
		}
	})
	reports.Ready(textOf("up"))
	reports.await(w)
	stop.Store(true)
	flood.Wait()
	w.close()
	w.checkContains("events.jsonl", `"message":"up"`)
}
