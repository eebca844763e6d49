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
)

// A testSource is a source whose lines are SEQ KIND, SEQ OUTCOME!, or "new boot"
// before the event of another boot. The record of a line that begins with
// "buffered" is returned only at a flush.
type testSource struct {
	records, buffered []*Record
	next              Record
}

func (s *testSource) Add(line []byte, _ time.Time) error {
	text, buffered := strings.CutPrefix(string(line), "buffered ")
	if text == "new boot" {
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
	if buffered {
		s.buffered = append(s.buffered, &rec)
	} else {
		s.records = append(s.records, &rec)
	}
	return nil
}

func (s *testSource) Next(_ time.Time, flush bool) *Record {
	if flush {
		s.records, s.buffered = append(s.records, s.buffered...), nil
	}
	if len(s.records) == 0 {
		return nil
	}
	rec := s.records[0]
	s.records = s.records[1:]
	return rec
}

func (s *testSource) Buffered() bool { return len(s.buffered) > 0 }

// seqs returns the seqs in each file, and a slash after each.
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
	for name, c := range map[string]struct{ in, events, previousEvents, results string }{
		"events":                       {"1 ready\n2 stopped\n7 ready\n", "1 2 7 /", "/", "/ /"},
		"a result":                     {"1 failed\n1 failed!\n", "1 /", "/", "1 / /"},
		"a run after a result":         {"1 failed\n1 failed!\n2 starting\n", "1 2 /", "/", "/ 1 /"},
		"two results":                  {"1 failed\n1 failed!\n2 starting\n3 failed\n3 failed!\n", "1 2 3 /", "/", "3 / 1 /"},
		"another boot":                 {"1 failed\n1 failed!\nnew boot\n1 ready\n", "1 /", "1 /", "/ 1 /"},
		"two more boots":               {"1 ready\n2 ready\nnew boot\n1 ready\nnew boot\n1 starting\n2 ready\n", "1 2 /", "1 /", "/ /"},
		"a buffered record at the end": {"buffered 3 ready\n1 ready\n2 ready\n", "1 2 3 /", "/", "/ /"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.From = new(testSource)
			sum := g.feed(c.in)
			check(t, "events", g.seqs("events.jsonl"), c.events)
			check(t, "the previous log", g.seqs("events.jsonl.1"), c.previousEvents)
			check(t, "results", g.seqs("result.json", "result.json.prev"), c.results)
			if sum.Refused+sum.Dropped > 0 || sum.Degraded {
				t.Errorf("%+v", sum)
			}
			if status := g.read("status.json"); !strings.Contains(status, `"seq": `+c.events[len(c.events)-3:len(c.events)-2]) {
				t.Errorf("status\n%s", status)
			}
			if boots := g.read("events.jsonl.boots"); boots != strings.Repeat(testBoot+"\n", strings.Count(c.in, "new boot")) {
				t.Errorf("boots\n%s", boots)
			}
		})
	}
}

func TestSourceAcknowledged(t *testing.T) {
	g := newGuest(t)
	g.From = new(testSource)
	acks := g.withAcks()
	w := g.open()
	w.print("1 ready\n7 ready\n")
	if seq, _ := awaitAck(t, acks.r, 2); seq != 7 {
		t.Errorf("seq %d", seq)
	}
	w.close()
}

// TestCommitWithoutLock: a degraded stream writes no log without the lock, but
// still its result.
func TestCommitWithoutLock(t *testing.T) {
	g := newGuest(t)
	other := writer.In(g.path)
	defer other.Close()
	unlock, err := other.Events.Lock()
	must(t, err)
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

func TestSourceRejectsLine(t *testing.T) {
	g := newGuest(t)
	g.From = new(testSource)
	if sum := g.feed("1 ready\nbad\n2 ready"); sum.Refused != 1 || sum.Lines != 3 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 2 /")
	check(t, "messages", g.heard(), "line 2, column 1: expected two words")
	if text := g.read("rejected.jsonl"); !strings.Contains(text, `"raw":"bad"`) {
		t.Errorf("rejects\n%s", text)
	}
}

// TestSourceWaitsForDisk: the lines can be read again later, so the stream waits
// for the disk without a time limit. Its followers are called as for directives.
func TestSourceWaitsForDisk(t *testing.T) {
	g, l := newGuest(t), new(listener)
	g.From, g.talk, g.WriteTimeout = new(testSource), make(chan string, 100), time.Nanosecond
	g.Followers = []Follower{l}
	free := g.plant("events.jsonl")
	w := g.open()
	w.print("1 ready\n2 failed\n2 failed!\n")
	w.until(tryAgain)
	time.Sleep(30 * time.Millisecond) // some more tries
	free()
	w.until(works)
	if sum := w.close(); sum.Degraded || sum.Dropped > 0 {
		t.Errorf("%+v", sum)
	}
	l.check(g, "2 events, failed 2, failed 2")
	check(t, "events", g.seqs("events.jsonl"), "1 2 /")
}

// TestSourceStoppedWhileDiskFails: the stream drops the records that it cannot
// write and all that follow them, and the next stream reads them again.
func TestSourceStoppedWhileDiskFails(t *testing.T) {
	g := newGuest(t)
	g.From, g.talk, g.Grace = new(testSource), make(chan string, 100), time.Millisecond
	w := g.open()
	w.print("1 ready\n")
	w.sees(func() bool { return g.seqs("events.jsonl") == "1 /" })
	free := g.plant("events.jsonl.boots")
	w.print("new boot\n1 ready\n2 ready\n")
	w.until(tryAgain)
	w.tell()
	w.until("gave up")
	sum := w.wait()
	free()
	if !sum.Degraded || sum.Dropped == 0 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 /")
	check(t, "the previous log", g.seqs("events.jsonl.1"), "/")
}

// TestSourceDegraded: after a record that does not fit beside those that are
// still to be written, no further one is accepted.
func TestSourceDegraded(t *testing.T) {
	event := func(seq uint64, size int) *artifact.Event {
		return &artifact.Event{Kind: artifact.Ready, Time: testMoment.Time, Seq: seq,
			Message: strictjson.AppendText(nil, strings.Repeat("x", size))}
	}
	for name, c := range map[string]struct {
		size int
		next Record
	}{
		"another boot": {1, Record{Event: event(1, 1), EndedBoot: testBoot, NewLog: true}},
		"full":         {maxPending, Record{Event: event(2, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &run{Stream: &newGuest(t).Stream, tryAgain: time.Now().Add(time.Hour)}
			r.Degraded = true
			r.copy(&Record{Event: event(1, c.size)})
			r.copy(&c.next)
			r.pending.copies.Reset() // as after a commit
			r.copy(&Record{Event: event(3, 1)})
			if r.Dropped != 2 || r.pending.copies.Len() != 0 || r.pending.over != "" || r.pending.anew {
				t.Errorf("%d dropped, %d pending, over %q, anew %v", r.Dropped, r.pending.copies.Len(), r.pending.over, r.pending.anew)
			}
		})
	}
}

// TestSourceBuffered: the stream asks again for a buffered record while no input
// arrives.
func TestSourceBuffered(t *testing.T) {
	g := newGuest(t)
	g.From = &slowSource{}
	w := g.open()
	w.print("buffered 2 ready\n")
	w.sees(func() bool { return g.seqs("events.jsonl") == "2 /" })
	w.close()
}

// A slowSource returns its buffered records from the fourth call of Next on.
type slowSource struct {
	testSource
	calls int
}

func (s *slowSource) Next(now time.Time, flush bool) *Record {
	s.calls++
	return s.testSource.Next(now, flush || s.calls > 3)
}

// sees waits until condition is true.
func (w *tap) sees(condition func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			w.t.Fatalf("the condition is still false after a minute; messages:\n%s", w.heard())
		}
	}
}
