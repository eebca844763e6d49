package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
)

// A listener is a follower that records its calls.
type listener struct {
	events, rejects string
	calls           []string // what each commit contains
	during          func()
}

func (l *listener) Committed(c *Commit) {
	l.events += string(c.Events)
	l.rejects += string(c.Rejects)
	about := fmt.Sprintf("%d events", strings.Count(string(c.Events), "\n"))
	if c.Result != nil {
		about += fmt.Sprintf(", %s %d", c.Result.Outcome, c.Result.Seq)
	}
	if c.Status != nil {
		about += fmt.Sprintf(", %s %d", c.Status.State, c.Status.Seq)
	}
	if c.Ready {
		about += ", was ready"
	}
	l.calls = append(l.calls, about)
	if l.during != nil {
		l.during()
	}
}

// check compares what the follower got with the files, and its parts with calls.
func (l *listener) check(g *guest, calls ...string) {
	g.t.Helper()
	if l.events != g.read("events.jsonl") || l.rejects != g.read("rejected.jsonl") {
		g.t.Errorf("followers got\n%s%s, on disk\n%s%s", l.events, l.rejects, g.read("events.jsonl"), g.read("rejected.jsonl"))
	}
	if got, want := strings.Join(l.calls, "; "), strings.Join(calls, "; "); got != want {
		g.t.Errorf("followers got %s\nexpected %s", got, want)
	}
}

func TestFollower_each_commit_once(t *testing.T) {
	g, l := newGuest(t), new(listener)
	g.Followers = []Follower{l}
	acks := g.withAcks()
	w := g.open()
	for i, text := range []string{"STATE=starting\n", "STATE=ready\nSTATE=failed EXIT_CODE=3\n", "# nothing\n", "KIND=ready\n", "bad\n"} {
		w.print(text)
		awaitAck(t, acks.r, []uint64{1, 3, 4, 5, 6}[i])
	}
	w.close()
	l.check(g, "1 events, starting 1", "2 events, failed 3, failed 3, was ready", "1 events", "0 events")
}

// A follower is called after the commit is durable and acknowledged, with the
// lock released.
func TestFollower_after_ack(t *testing.T) {
	g, l := newGuest(t), new(listener)
	acks := g.withAcks()
	g.Followers = []Follower{l}
	l.during = func() {
		if isQuiet(t, acks) {
			t.Error("called before the acknowledgement")
		}
		other := writer.In(g.path)
		defer other.Close()
		other.Events.LockWait = time.Millisecond
		if _, err := other.Events.Lock(); err != nil {
			t.Error(err)
		}
	}
	g.feed("STATE=ready\n")
	l.check(g, "1 events, ready 1, was ready")
}

// Each part of a retried commit is passed to the followers once, when it is
// written.
func TestFollower_commit_retried(t *testing.T) {
	for name, calls := range map[string][]string{
		"events.jsonl": {"3 events, failed 3, failed 3, was ready"},
		"result.json":  {"3 events", "0 events, failed 3, failed 3, was ready"},
		"status.json":  {"3 events, failed 3", "0 events, failed 3, was ready"},
	} {
		t.Run(name, func(t *testing.T) {
			l := new(listener)
			g := newGuest(t)
			g.Followers, g.warn = []Follower{l}, make(chan string, 100)
			free := g.block(name)
			w := g.open()
			w.print(runInput)
			w.waitForWarning(retryText)
			free()
			w.waitForWarning(recoveredText)
			w.close()
			l.check(g, calls...)
		})
	}
}
