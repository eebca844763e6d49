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

// A teller is a source whose lines are SEQ KIND, SEQ OUTCOME!, or "anew" before
// the event of another boot. One that begins with "late" waits to be asked for.
type teller struct {
	records, late []*Record
	next          Record
}

func (s *teller) Add(line []byte, _ time.Time) error {
	text, waits := strings.CutPrefix(string(line), "late ")
	if text == "anew" {
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

func (s *teller) Next(_ time.Time, all bool) *Record {
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

func (s *teller) Buffered() bool { return len(s.late) > 0 }

// seqs returns the seqs of a log, and after a slash those of status and result.
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

func TestASourceIsCopied(t *testing.T) {
	for name, c := range map[string]struct{ in, events, before, verdicts string }{
		"events":                      {"1 ready\n2 stopped\n7 ready\n", "1 2 7 /", "/", "/ /"},
		"a verdict":                   {"1 failed\n1 failed!\n", "1 /", "/", "1 / /"},
		"a run after a verdict":       {"1 failed\n1 failed!\n2 starting\n", "1 2 /", "/", "/ 1 /"},
		"two verdicts":                {"1 failed\n1 failed!\n2 starting\n3 failed\n3 failed!\n", "1 2 3 /", "/", "3 / 1 /"},
		"another boot":                {"1 failed\n1 failed!\nanew\n1 ready\n", "1 /", "1 /", "/ 1 /"},
		"another boot, twice":         {"1 ready\n2 ready\nanew\n1 ready\nanew\n1 starting\n2 ready\n", "1 2 /", "1 /", "/ /"},
		"what waits comes at the end": {"late 3 ready\n1 ready\n2 ready\n", "1 2 3 /", "/", "/ /"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.Source = new(teller)
			sum := g.feed(c.in)
			check(t, "events", g.seqs("events.jsonl"), c.events)
			check(t, "the log before", g.seqs("events.jsonl.1"), c.before)
			check(t, "verdicts", g.seqs("result.json", "result.json.prev"), c.verdicts)
			if sum.Rejected+sum.Dropped > 0 || sum.Degraded {
				t.Errorf("%+v", sum)
			}
			if status := g.read("status.json"); !strings.Contains(status, `"seq": `+c.events[len(c.events)-3:len(c.events)-2]) {
				t.Errorf("status\n%s", status)
			}
			if boots := g.read("events.jsonl.boots"); boots != strings.Repeat(testBoot+"\n", strings.Count(c.in, "anew")) {
				t.Errorf("boots\n%s", boots)
			}
		})
	}
}

func TestACopyIsAcknowledged(t *testing.T) {
	g := newGuest(t)
	g.Source = new(teller)
	acks := g.withAcks()
	w := g.open()
	w.print("1 ready\n7 ready\n")
	if seq, _ := awaitAck(t, acks.r, 2); seq != 7 {
		t.Errorf("seq %d", seq)
	}
	w.close()
}

// Without the lock the logs are nobody's; a degraded stream gives its verdict
// all the same.
func TestNoLogIsWrittenWithoutTheLock(t *testing.T) {
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

func TestWhatASourceRefusesIsKept(t *testing.T) {
	g := newGuest(t)
	g.Source = new(teller)
	if sum := g.feed("1 ready\nbad\n2 ready"); sum.Rejected != 1 || sum.Lines != 3 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 2 /")
	check(t, "said", g.heard(), "line 2, column 1: expected two words")
	if text := g.read("rejected.jsonl"); !strings.Contains(text, `"raw":"bad"`) {
		t.Errorf("rejects\n%s", text)
	}
}

// A copy has the time of its journal: its stream waits for a disk however long,
// and is told of what it has made durable like any other.
func TestACopyWaitsForItsDisk(t *testing.T) {
	g, l := newGuest(t), new(listener)
	g.Source, g.talk, g.WriteTimeout = new(teller), make(chan string, 100), time.Nanosecond
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

// TestACopyThatMustEndHasNoHoles: what could not be written is dropped with all
// that follows, to be read again by the next stream.
func TestACopyThatMustEndHasNoHoles(t *testing.T) {
	g := newGuest(t)
	g.Source, g.talk, g.Grace, g.WriteTimeout = new(teller), make(chan string, 100), time.Millisecond, 100*time.Millisecond
	w := g.open()
	w.print("1 ready\n")
	w.sees(func() bool { return g.seqs("events.jsonl") == "1 /" })
	free := g.plant("events.jsonl.boots")
	w.print("anew\n1 ready\n2 ready\n")
	w.until(tryAgain)
	w.tell()
	w.until("cannot be written; reading on")
	sum := w.wait()
	free()
	if !sum.Degraded || sum.Dropped == 0 {
		t.Errorf("%+v", sum)
	}
	check(t, "events", g.seqs("events.jsonl"), "1 /")
	check(t, "the log before", g.seqs("events.jsonl.1"), "/")
}

// TestADegradedCopyDropsWholeEnds: once a record does not fit behind what is
// still to be written, none behind it does.
func TestADegradedCopyDropsWholeEnds(t *testing.T) {
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
			r := readingRun(t)
			r.committer.nextTry = time.Now().Add(time.Hour)
			r.state.disk = degraded
			cp := &copier{run: r}
			cp.add(&Record{Event: event(c.size, 1)})
			cp.add(&c.next)
			r.batch.numbered.Reset() // there is room again
			cp.add(&Record{Event: event(1, 3)})
			if r.Dropped != 2 || r.batch.numbered.Len() != 0 || r.batch.endedBoot != "" || r.batch.newLog {
				t.Errorf("%d dropped, %d pending, over %q, anew %v", r.Dropped, r.batch.numbered.Len(), r.batch.endedBoot, r.batch.newLog)
			}
		})
	}
}

// What waits is asked for while nothing arrives.
func TestWhatWaitsIsNotWaitedForForEver(t *testing.T) {
	g := newGuest(t)
	s := &patient{}
	g.Source = s
	w := g.open()
	w.print("late 2 ready\n")
	w.sees(func() bool { return g.seqs("events.jsonl") == "2 /" })
	w.close()
}

// A patient gives what waits when it has been asked three times.
type patient struct {
	teller
	asked int
}

func (s *patient) Next(now time.Time, all bool) *Record {
	s.asked++
	return s.teller.Next(now, all || s.asked > 3)
}

// sees waits for something that only looking tells.
func (w *tap) sees(what func() bool) {
	w.t.Helper()
	for late := time.Now().Add(time.Minute); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			w.t.Fatalf("it does not come; said:\n%s", w.heard())
		}
	}
}
