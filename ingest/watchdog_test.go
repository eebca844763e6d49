package ingest

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A fakeWatchdog counts the calls of Alive.
type fakeWatchdog struct{ calls atomic.Int32 }

func (d *fakeWatchdog) every(interval time.Duration) Watchdog {
	return Watchdog{Interval: interval, Alive: func() bool { d.calls.Add(1); return true }}
}

// awaitMore waits for n more calls.
func (d *fakeWatchdog) awaitMore(t *testing.T, n int32) {
	t.Helper()
	want := d.calls.Load() + n
	for end := time.Now().Add(30 * time.Second); d.calls.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d calls of Alive are missing after 30 s", want-d.calls.Load())
		}
	}
}

// The stream calls Alive while it waits for input, and still handles the input.
func TestWatchdog_idle(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	g.Watchdog = d.every(10 * time.Millisecond)
	w := g.open()
	d.awaitMore(t, 10)
	w.print(runInput)
	d.awaitMore(t, 10)
	w.close()
	g.checkRun(3)
}

// Each attempt of a commit fails. The stream calls Alive during the pauses between them.
func TestWatchdog_commit_fails(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	g.Watchdog, g.WriteTimeout, g.warn = d.every(10*time.Millisecond), time.Hour, make(chan string, 100)
	free := g.block("status.json")
	w := g.open()
	w.print(runInput)
	w.waitForWarning(retryText)
	d.awaitMore(t, 200) // in pauses of up to a second
	free()
	w.waitForWarning(recoveredText)
	w.close()
	g.checkRun(3)
}

// Another process holds the lock. The stream usually waits 5 s for it, but calls Alive
// in time.
func TestWatchdog_lock_held(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	g.Watchdog, g.WriteTimeout, g.warn = d.every(50*time.Millisecond), time.Hour, make(chan string, 100)
	holder, err := os.Create(g.file("events.jsonl.seq"))
	testenv.Must(t, err)
	testenv.Must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	w := g.open()
	w.print(runInput)
	d.awaitMore(t, 100)
	testenv.Must(t, holder.Close())
	w.waitForWarning(recoveredText)
	w.close()
	g.checkRun(3)
}

// A hung stream does not call Alive.
func TestWatchdog_stream_hangs(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	hung, release := make(chan bool), make(chan bool)
	l := &listener{during: func() { hung <- true; <-release }}
	g.Watchdog, g.Followers = d.every(time.Millisecond), []Follower{l}
	w := g.open()
	w.print("STATE=ready\n")
	<-hung
	calls := d.calls.Load()
	time.Sleep(50 * time.Millisecond)
	if more := d.calls.Load() - calls; more > 0 {
		t.Errorf("%d calls of Alive while the stream hangs", more)
	}
	close(release)
	w.close()
}

// Each file of a commit takes longer than the interval. The stream calls Alive after
// each.
func TestWatchdog_slow_disk(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	g.Watchdog = d.every(10 * time.Millisecond)
	r := newRunner(&g.Stream)
	testenv.Must(t, r.begin())
	defer g.Dir.Close()
	r.committer.store = slowStore{r.committer.store}
	for n, text := range strings.Split(strings.TrimSpace(runInput), "\n") {
		line := line{text: []byte(text), number: uint64(n + 1), length: uint64(len(text))}
		r.handle(&line)
	}
	calls := d.calls.Load()
	if e := r.commit(); e != written {
		t.Fatalf("the commit returns %v", e)
	}
	if got := d.calls.Load() - calls; got < 3 {
		t.Errorf("%d calls of Alive during the commit, want one before each file", got)
	}
	g.checkRun(3)
}

// A slowStore takes 20 ms for each of the three files of a run.
type slowStore struct{ store }

func (s slowStore) appendEvents(b *writer.Batch) error {
	defer time.Sleep(20 * time.Millisecond)
	return s.store.appendEvents(b)
}

func (s slowStore) replaceResult(r *artifact.Result) error {
	defer time.Sleep(20 * time.Millisecond)
	return s.store.replaceResult(r)
}

func (s slowStore) replaceStatus(st *artifact.Status) error {
	defer time.Sleep(20 * time.Millisecond)
	return s.store.replaceStatus(st)
}

// A call of Alive does not shorten the limit of a wait, and does not lengthen it without
// end.
func TestWatchdog_wait_limit(t *testing.T) {
	g, d := newGuest(t), new(fakeWatchdog)
	in := newPipe(t)
	g.In, g.Watchdog = int(in.r.Fd()), d.every(time.Nanosecond) // counts as 1 ms
	r := newRunner(&g.Stream)
	const limit = 50 * time.Millisecond
	begun := time.Now()
	got := r.waitAlive(limit, true, false)
	took := time.Since(begun)
	if got != (readiness{}) || took < limit {
		t.Errorf("the wait returned %+v after %v; want nothing after %v", got, took, limit)
	}
	if calls := int64(d.calls.Load()); calls < 2 || calls > took.Milliseconds()+1 {
		t.Errorf("%d calls of Alive in %v, want at most one per millisecond", calls, took)
	}
}

// If Alive returns false, it is due again much sooner.
func TestWatchdog_not_sent(t *testing.T) {
	for sent, want := range map[bool]time.Duration{true: 8 * time.Hour, false: time.Hour} {
		a := newAliveReporter(Watchdog{Interval: 8 * time.Hour, Alive: func() bool { return sent }})
		a.report()
		if got := a.untilNext(-1); got > want || got < want-time.Minute {
			t.Errorf("sent %v: Alive is due in %v, want %v", sent, got, want)
		}
	}
}

// Without a watchdog, the limits are those of the stream.
func TestWatchdog_none(t *testing.T) {
	a := newAliveReporter(Watchdog{})
	a.report()
	for _, limit := range []time.Duration{-1, 0, time.Second} {
		if until, lock := a.untilNext(limit), a.lockWait(limit); until != limit || lock != limit {
			t.Errorf("limits %v and %v, want %v", until, lock, limit)
		}
	}
}
