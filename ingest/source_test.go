package ingest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A fakeSource reads lines of SEQ KIND, SEQ OUTCOME!, or "newboot" before the
// event of another boot. It buffers a line that starts with "late".
type fakeSource struct {
	records, late []*Record
	next          Record
}

func (s *fakeSource) Add(line []byte, _ time.Time) error {
	text, waits := strings.CutPrefix(string(line), "late ")
	if text == "newboot" {
		s.next = Record{EndedBoot: testBoot, NewLog: true}
		return nil
	}
	var seq uint64
	var word string
	if n, _ := fmt.Sscan(text, &seq, &word); n != 2 {
		return errors.New("expected two words")
	}
	rec := s.next
	s.next = Record{}
	message := strictjson.AppendText(nil, text)
	if outcome, ok := strings.CutSuffix(word, "!"); ok {
		rec.Result = &artifact.Result{Outcome: artifact.Outcome(outcome), Time: testMoment.Time, Message: message, Seq: seq}
	} else {
		rec.Event = &artifact.Event{Kind: artifact.State(word), Time: testMoment.Time, Message: message, Seq: seq}
	}
	if waits {
		s.late = append(s.late, &rec)
	} else {
		s.records = append(s.records, &rec)
	}
	return nil
}

func (s *fakeSource) Next(_ time.Time, all bool) *Record {
	if all {
		s.records, s.late = append(s.records, s.late...), nil
	}
	if len(s.records) == 0 {
		return nil
	}
	rec := s.records[0]
	s.records = s.records[1:]
	return rec
}

func (s *fakeSource) Buffered() bool { return len(s.late) > 0 }

// seqs returns the seqs in each file; a slash ends those of a file.
func (g *guest) seqs(names ...string) string {
	var all []string
	for _, name := range names {
		for line := range strings.Lines(g.read(name)) {
			if _, seq, ok := strings.Cut(strings.TrimRight(line, "}\n"), `"seq":`); ok {
				all = append(all, strings.TrimSpace(seq))
			}
		}
		all = append(all, "/")
	}
	return strings.Join(all, " ")
}

func TestSource(t *testing.T) {
	for name, c := range map[string]struct{ in, events, before, results string }{
		"events":               {"1 ready\n2 stopped\n7 ready\n", "1 2 7 /", "/", "/ /"},
		"a result":             {"1 failed\n1 failed!\n", "1 /", "/", "1 / /"},
		"a run after a result": {"1 failed\n1 failed!\n2 starting\n", "1 2 /", "/", "/ 1 /"},
		"two results":          {"1 failed\n1 failed!\n2 starting\n3 failed\n3 failed!\n", "1 2 3 /", "/", "3 / 1 /"},
		"another boot":         {"1 failed\n1 failed!\nnewboot\n1 ready\n", "1 /", "1 /", "/ 1 /"},
		"another boot, twice":  {"1 ready\n2 ready\nnewboot\n1 ready\nnewboot\n1 starting\n2 ready\n", "1 2 /", "1 /", "/ /"},
		"buffered record":      {"late 3 ready\n1 ready\n2 ready\n", "1 2 3 /", "/", "/ /"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.Source = new(fakeSource)
			sum := g.feed(c.in)
			check(t, "events", g.seqs("events.jsonl"), c.events)
			check(t, "the previous log", g.seqs("events.jsonl.1"), c.before)
			check(t, "results", g.seqs("result.json", "result.json.prev"), c.results)
			if sum.Rejected+sum.Dropped > 0 || sum.Degraded {
				t.Errorf("%+v", sum)
			}
			if status := g.read("status.json"); !strings.Contains(status, `"seq": `+c.events[len(c.events)-3:len(c.events)-2]) {
				t.Errorf("status\n%s", status)
			}
			if boots := g.read("events.jsonl.boots"); boots != strings.Repeat(testBoot+"\n", strings.Count(c.in, "newboot")) {
				t.Errorf("boots\n%s", boots)
			}
		})
	}
}

func TestSource_acknowledged(t *testing.T) {
	g := newGuest(t)
	g.Source = new(fakeSource)
	acks := g.withAcks()
	w := g.open()
	w.print("1 ready\n7 ready\n")
	if seq, _ := awaitAck(t, acks.r, 2); seq != 7 {
		t.Errorf("seq %d", seq)
	}
	w.close()
}

// Without the lock no log is written; a degraded stream still writes its
// result.
func TestDegraded_lock_held(t *testing.T) {
	g := newGuest(t)
	other := writer.In(g.path)
	defer other.Close()
	unlock, err := other.Events.Lock()
	testenv.Must(t, err)
	defer unlock()
	g.Dir.Events.LockWait, g.WriteTimeout = time.Millisecond, time.Nanosecond
	if sum := g.feed("bad\nSTATE=failed\n"); !sum.Degraded || sum.Dropped != 2 {
		t.Errorf("%+v", sum)
	}
	check(t, "rejects", g.read("rejected.jsonl"), "")
	check(t, "events", g.read("events.jsonl"), "")
	if !strings.Contains(g.read("result.json"), `"status": "failed"`) {
		t.Errorf("result\n%s", g.read("result.json"))
	}
}

func TestSource_line_rejected(t *testing.T) {
	g := newGuest(t)
	g.Source = new(fakeSource)
	if sum := g.feed("1 ready\nbad\n2 ready"); sum.Rejected != 1 || sum.Lines != 3 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 2 /")
	check(t, "the warnings", g.warnings(), "line 2, column 1: expected two words")
	if text := g.read("rejected.jsonl"); !strings.Contains(text, `"raw":"bad"`) {
		t.Errorf("rejects\n%s", text)
	}
}

// A source can be read again, so its stream retries without a time limit. Its
// followers are called as usual.
func TestSource_waits_for_disk(t *testing.T) {
	g, l := newGuest(t), new(listener)
	g.Source, g.warn, g.WriteTimeout = new(fakeSource), make(chan string, 100), time.Nanosecond
	g.Followers = []Follower{l}
	free := g.block("events.jsonl")
	w := g.open()
	w.print("1 ready\n2 failed\n2 failed!\n")
	w.waitForWarning(retryText)
	time.Sleep(30 * time.Millisecond) // some more tries
	free()
	w.waitForWarning(recoveredText)
	if sum := w.close(); sum.Degraded || sum.Dropped > 0 {
		t.Errorf("%+v", sum)
	}
	l.check(g, "2 events, failed 2, failed 2")
	check(t, "events", g.seqs("events.jsonl"), "1 2 /")
}

// If a stream with a source must stop, it drops a record that it could not
// write and all later ones. The next stream reads them again, so the copy has
// no gap.
func TestSource_stopped_while_disk_fails(t *testing.T) {
	g := newGuest(t)
	g.Source, g.warn, g.Grace, g.WriteTimeout = new(fakeSource), make(chan string, 100), time.Millisecond, 100*time.Millisecond
	w := g.open()
	w.print("1 ready\n")
	w.waitFor(func() bool { return g.seqs("events.jsonl") == "1 /" })
	free := g.block("events.jsonl.boots")
	w.print("newboot\n1 ready\n2 ready\n")
	w.waitForWarning(retryText)
	w.requestStop()
	w.waitForWarning(degradedText)
	sum := w.wait()
	free()
	if !sum.Degraded || sum.Dropped == 0 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 /")
	check(t, "the previous log", g.seqs("events.jsonl.1"), "/")
}

// After one record does not fit, all later ones are dropped too.
func TestSource_degraded(t *testing.T) {
	event := func(size int, seq uint64) *artifact.Event {
		return &artifact.Event{Kind: artifact.Ready, Time: testMoment.Time, Message: strictjson.AppendText(nil, strings.Repeat("x", size)), Seq: seq}
	}
	for name, c := range map[string]struct {
		size int
		next Record
	}{
		"another boot": {1, Record{Event: event(1, 1), EndedBoot: testBoot, NewLog: true}},
		"no room":      {maxBatch, Record{Event: event(1, 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := readingRunner(t)
			r.committer.failure.nextTry = time.Now().Add(time.Hour)
			r.state.disk = degraded
			cp := &copier{runner: r}
			cp.add(&Record{Event: event(c.size, 1)})
			cp.add(&c.next)
			r.batch.numbered.Reset() // there is room again
			cp.add(&Record{Event: event(1, 3)})
			if r.Dropped != 2 || r.batch.numbered.Len() != 0 || r.batch.endedBoot != "" || r.batch.newLog {
				t.Errorf("%d dropped, %d pending, ended boot %q, new log %v", r.Dropped, r.batch.numbered.Len(), r.batch.endedBoot, r.batch.newLog)
			}
		})
	}
}

// The stream polls for a buffered record while no input arrives.
func TestSource_buffered_record(t *testing.T) {
	g := newGuest(t)
	s := &slowSource{}
	g.Source = s
	w := g.open()
	w.print("late 2 ready\n")
	w.waitFor(func() bool { return g.seqs("events.jsonl") == "2 /" })
	w.close()
}

// A slowSource returns its buffered records at the fourth call.
type slowSource struct {
	fakeSource
	asked int
}

func (s *slowSource) Next(now time.Time, all bool) *Record {
	s.asked++
	return s.fakeSource.Next(now, all || s.asked > 3)
}

// waitFor polls until done reports true.
func (w *runningStream) waitFor(done func() bool) {
	w.t.Helper()
	for late := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			w.t.Fatalf("timed out; warnings:\n%s", w.warnings())
		}
	}
}
