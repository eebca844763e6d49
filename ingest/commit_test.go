package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// plant puts a directory in the place of an artifact, and returns what puts
// the artifact back.
func (g *guest) plant(name string) (free func()) {
	g.t.Helper()
	aside := g.file("aside-" + name)
	if err := os.Rename(g.file(name), aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.t.Fatal(err)
	}
	testenv.Must(g.t, os.Mkdir(g.file(name), 0o755))
	return func() {
		g.t.Helper()
		testenv.Must(g.t, os.Remove(g.file(name)))
		if err := os.Rename(aside, g.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.t.Fatal(err)
		}
	}
}

// planted is every artifact of a commit, in the order of its steps.
var planted = []string{"events.jsonl.seq", "events.jsonl", "rejected.jsonl", "result.json", "status.json"}

// isWritten reports whether an artifact stands.
func (g *guest) isWritten(name string) bool {
	st, err := os.Stat(g.file(name))
	return err == nil && st.Mode().IsRegular()
}

// isQuiet reports whether there is nothing to read from a pipe.
func isQuiet(t *testing.T, p pipe) bool {
	fds := []unix.PollFd{{Fd: int32(p.r.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	testenv.Must(t, err)
	return n == 0
}

const (
	aRun     = "STATE=ready\nbad\nKIND=ready\nSTATE=failed EXIT_CODE=3\n"
	tryAgain = "; trying again"
	gaveUp   = "cannot be written; reading on"
	works    = "writing works again"
)

// faulty is a guest of which an artifact cannot be written, its stream under
// way.
func faulty(t *testing.T, name string, timeout time.Duration) (w *tap, acks pipe, free func()) {
	g := newGuest(t)
	g.WriteTimeout = timeout
	g.talk = make(chan string, 100)
	acks = g.withAcks()
	free = g.plant(name)
	return g.open(), acks, free
}

// running → a write error → running: what cannot be written waits, and what
// comes after it in the commit too; nothing is lost or written twice.
func TestFailedCommitIsTriedAgain(t *testing.T) {
	for i, name := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := faulty(t, name, time.Hour)
			w.print(aRun)
			w.until(tryAgain)
			for j, other := range planted {
				if j != i && w.isWritten(other) != (j < i) {
					t.Errorf("%s is written: %v", other, w.isWritten(other))
				}
			}
			if !isQuiet(t, acks) {
				t.Error("acknowledged before it was written")
			}
			w.print("KIND=ready\n") // waits in the pipe
			free()
			w.until(works)
			if seq, rejected := awaitAck(t, acks.r, 5); seq != 4 || rejected != 1 {
				t.Errorf("seq %d, rejected %d", seq, rejected)
			}
			if sum := w.close(); sum.Degraded || sum.Dropped != 0 || sum.Lines != 5 {
				t.Errorf("%+v", sum)
			}
			w.checkRun(4)
			if strings.Count(w.heard(), tryAgain) != 1 || strings.Count(w.heard(), works) != 1 {
				t.Errorf("said:\n%s", w.heard())
			}
		})
	}
}

// checkRun checks the artifacts of aRun and what followed it: events in all.
func (g *guest) checkRun(events int) {
	g.t.Helper()
	g.checkSeqs(events)
	check(g.t, "the seq file", g.read("events.jsonl.seq"), fmt.Sprintf("%d\n", events))
	for name, want := range map[string]string{
		"result.json": `"exit_code": 3`, "status.json": `"state": "failed"`, "rejected.jsonl": `"raw":"bad"`} {
		if text := g.read(name); strings.Count(text, want) != 1 {
			g.t.Errorf("%s is %s", name, text)
		}
	}
}

// checkSeqs checks that the log has so many events, numbered from 1.
func (g *guest) checkSeqs(events int) {
	g.t.Helper()
	lines := strings.SplitAfter(g.read("events.jsonl"), "\n")
	for i, line := range lines[:len(lines)-1] {
		var e struct{ Seq int }
		testenv.Must(g.t, json.Unmarshal([]byte(line), &e))
		if e.Seq != i+1 {
			g.t.Fatalf("event %d has seq %d", i+1, e.Seq)
		}
	}
	if len(lines)-1 != events || lines[events] != "" {
		g.t.Errorf("%d events; expected %d", len(lines)-1, events)
	}
}

// A commit that failed in its middle does not write again what it has written.
func TestEventsAreNotWrittenTwice(t *testing.T) {
	w, acks, free := faulty(t, "result.json", time.Hour)
	w.print(aRun)
	w.until(tryAgain)
	w.checkSeqs(3)
	free()
	awaitAck(t, acks.r, 4)
	w.close()
	w.checkSeqs(3)
	if text := w.read("status.json") + w.read("result.json"); strings.Count(text, `"seq": 3`) != 2 {
		t.Error(text)
	}
}

// A run that starts and ends in one commit waits for its verdict to be kept.
func TestVerdictBeforeIsKeptOrWaitedFor(t *testing.T) {
	g := newGuest(t)
	old := standing("failed", 7, thisBoot)["result.json"]
	g.write("result.json", old)
	g.WriteTimeout = time.Hour
	g.talk = make(chan string, 100)
	free := g.plant("result.json.prev")
	w := g.open()
	w.print("STATE=starting\nSTATE=completed\n")
	w.until(tryAgain)
	check(t, "the result", g.read("result.json"), old)
	free()
	w.close()
	check(t, "the result before", g.read("result.json.prev"), old)
	if !strings.Contains(g.read("result.json"), "completed") {
		t.Error(g.read("result.json"))
	}
}

// running → a write error → degraded: each artifact is written that can be, and
// the rest once it can.
func TestDegradedStreamWritesWhatItCan(t *testing.T) {
	for i, name := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := faulty(t, name, 1)
			w.print(aRun)
			w.until(gaveUp)
			w.print("KIND=ready\nbad\n")
			testenv.Must(t, w.in.Close())
			sum := w.wait()
			for j, other := range planted {
				logs := name == "events.jsonl.seq" && j <= 2 // the lock is for both
				if want := j != i && !logs; other != "events.jsonl.seq" && w.isWritten(other) != want {
					t.Errorf("%s is written: %v", other, !want)
				}
			}
			if !isQuiet(t, acks) {
				t.Error("acknowledged what was not written")
			}
			lost := map[string]uint64{"events.jsonl.seq": 6, "events.jsonl": 4, "rejected.jsonl": 2}[name]
			if !sum.Degraded || sum.Dropped != lost {
				t.Errorf("%+v", sum)
			}
			lastWords := map[string]string{"result.json": "result failed could not be written", "status.json": "status failed could not be written"}[name]
			if !strings.Contains(w.heard(), lastWords) {
				t.Errorf("said:\n%s", w.heard())
			}
			free()
		})
	}
}

// degraded → writing works again: all that was kept is written, and is
// acknowledged, for nothing was lost.
func TestDegradedStreamHeals(t *testing.T) {
	for _, name := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := faulty(t, name, 1)
			w.print(aRun)
			w.until(gaveUp)
			free()
			w.until(works) // with no input
			w.print("KIND=ready\n")
			awaitAck(t, acks.r, 5)
			if sum := w.close(); !sum.Degraded || sum.Dropped != 0 {
				t.Errorf("%+v", sum)
			}
			w.checkRun(4)
		})
	}
}

// What a degraded stream writes late tells of the event that it belongs to, not
// of those that were written since.
func TestLateArtifactsKeepTheirSeq(t *testing.T) {
	for _, name := range []string{"result.json", "status.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, free := faulty(t, name, 1)
			w.print(aRun)
			w.until(gaveUp)
			w.print("KIND=ready\nKIND=ready\n")
			for strings.Count(w.read("events.jsonl"), "\n") < 5 {
				time.Sleep(time.Millisecond)
			}
			free()
			w.until(works)
			w.close()
			w.checkRun(5)
			if text := w.read("status.json") + w.read("result.json"); strings.Count(text, `"seq": 3`) != 2 {
				t.Error(text)
			}
		})
	}
}

// A verdict that cannot be kept does not take its successor with it.
func TestVerdictIsWrittenWhereTheOldCannotBeKept(t *testing.T) {
	g := newGuest(t)
	testenv.Must(t, os.Symlink("nowhere", g.file("result.json")))
	g.WriteTimeout = 1
	g.feed("STATE=starting\nSTATE=completed\n")
	if result := g.read("result.json"); !strings.Contains(result, "completed") || g.isWritten("nowhere") {
		t.Errorf("the result is %q", result)
	}
}

// A degraded stream drops what there is no room for, in order, counts it, and
// keeps the verdict; acknowledgements stop before the first line that is lost.
func TestDegradedStreamDropsEventsNotTheVerdict(t *testing.T) {
	const lines = 100_000
	var input strings.Builder
	for n := 1; n <= lines; n++ {
		fmt.Fprintf(&input, "KIND=ready MESSAGE=%d\n", n)
	}
	input.WriteString("STATE=failed EXIT_CODE=9 MESSAGE='the verdict'\nKIND=stopped\n")

	g := newGuest(t)
	g.WriteTimeout = 1
	acks := g.withAcks()
	g.plantWhileReading("events.jsonl", 2, input.Len()) // some of the first read is committed
	sum := g.feed(input.String())
	kept := strings.Count(g.read("events.jsonl"), "\n")
	if !sum.Degraded || sum.Dropped == 0 || sum.Dropped != uint64(lines+2-kept) {
		t.Errorf("%d events are kept: %+v", kept, sum)
	}
	g.checkSeqs(kept)
	if !strings.Contains(g.read("events.jsonl"), fmt.Sprintf(`"message":"%d",`, kept)) {
		t.Error("it is not the first events that are kept")
	}
	for _, name := range []string{"result.json", "status.json"} {
		if text := g.read(name); !strings.Contains(text, `"message": "the verdict"`) || strings.Contains(text, `"seq"`) {
			t.Errorf("%s is %s", name, text)
		}
	}
	acks.w.Close()
	g.checkAcksEnd(acks, uint64(kept))
}

// checkAcksEnd checks that some lines were acknowledged, all of them kept.
func (g *guest) checkAcksEnd(acks pipe, kept uint64) {
	g.t.Helper()
	var line, last, seq, rejected uint64
	for {
		if _, err := fmt.Fscanf(acks.r, "%d %d %d\n", &line, &seq, &rejected); err != nil {
			break
		}
		last = line
	}
	if last == 0 || last > kept {
		g.t.Errorf("line %d is acknowledged; %d are kept", last, kept)
	}
}

// plantWhileReading plants an artifact at a read of an input, counted from 1,
// and puts it back when all is read and the end is seen.
func (g *guest) plantWhileReading(name string, read, size int) {
	calls, free := 0, func() {}
	g.Clock = func() Moment { // called at the start, and then with each read
		switch calls++; calls {
		case 1 + read:
			free = g.plant(name)
		case 1 + (size+readSize-1)/readSize + 1:
			free()
		}
		return testMoment
	}
}

// A log of refused lines that cannot be written costs refused lines, those that
// there is no room for, and nothing else.
func TestDegradedStreamDropsWhatHasNoRoomAlone(t *testing.T) {
	const bad, good = 50_000, 500
	input := strings.Repeat("bad line, and a long one\n", bad) + strings.Repeat("KIND=ready\n", good)
	g := newGuest(t)
	g.WriteTimeout = 1
	g.plantWhileReading("rejected.jsonl", 1, len(input))
	sum := g.feed(input)
	kept := strings.Count(g.read("rejected.jsonl"), "\n")
	if sum.Rejected != bad || sum.Dropped != uint64(bad-kept) || kept == 0 || kept == bad {
		t.Errorf("%d refused lines are kept: %+v", kept, sum)
	}
	g.checkSeqs(good)
}

// And a log of events, events.
func TestDegradedStreamKeepsRefusedLines(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = 1
	g.plant("events.jsonl")
	const good, bad = 50_000, 500
	sum := g.feed(strings.Repeat("KIND=ready\n", good) + strings.Repeat("bad\n", bad))
	if n := strings.Count(g.read("rejected.jsonl"), "\n"); n != bad || sum.Dropped != good {
		t.Errorf("%d refused lines are kept: %+v", n, sum)
	}
}

// A reader that sees completed finds the result, in a degraded stream too.
func TestVerdictIsSetAsideAfterTheStatus(t *testing.T) {
	g := newGuest(t)
	old := standing("failed", 7, thisBoot)["result.json"]
	g.write("result.json", old)
	g.WriteTimeout = 1
	g.talk = make(chan string, 100)
	free := g.plant("status.json")
	w := g.open()
	w.print("STATE=starting\nbad\n")
	w.until(gaveUp)
	w.print("KIND=ready\n")
	testenv.Must(t, w.in.Close())
	w.wait()
	check(t, "the result", g.read("result.json"), old)

	free()
	w = g.open()
	w.print("STATE=starting\n")
	w.close()
	check(t, "the result before", g.read("result.json.prev"), old)
	if g.isWritten("result.json") {
		t.Error("the verdict stands beside a run")
	}
}

// A request to stop does not end the retries, however short the grace: nothing
// is lost if the disk recovers within the write timeout.
func TestStopWhileRetrying(t *testing.T) {
	for _, name := range planted {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.WriteTimeout, g.Grace = time.Hour, time.Millisecond
			g.talk = make(chan string, 100)
			free := g.plant(name)
			w := g.open()
			w.print(aRun)
			w.until(tryAgain)
			w.tell()
			time.Sleep(20 * time.Millisecond) // longer than the grace
			free()
			if sum := w.wait(); sum.Degraded || sum.Dropped > 0 {
				t.Errorf("%+v", sum)
			}
		})
	}
}

func TestSecondStopWhileRetrying(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout, g.Grace = time.Hour, time.Hour
	g.talk = make(chan string, 100)
	g.plant("events.jsonl")
	w := g.open()
	w.print(aRun)
	w.until(tryAgain)
	w.tell()
	w.tell()
	sum := w.wait()
	if !sum.Degraded || sum.Dropped != 3 {
		t.Errorf("%+v", sum)
	}
	for _, name := range []string{"result.json", "status.json", "rejected.jsonl"} {
		if !w.isWritten(name) {
			t.Errorf("%s is not tried on its own", name)
		}
	}
}

// A stop that comes while the disk fails and works again costs nothing.
func TestStopWhileTheDiskFails(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout, g.Grace = time.Hour, time.Hour
	g.talk = make(chan string, 100)
	free := g.plant("events.jsonl")
	w := g.open()
	w.print(aRun)
	w.until(tryAgain)
	w.tell()
	free()
	w.until(works)
	if sum := w.close(); sum.Degraded || sum.Dropped != 0 {
		t.Errorf("%+v", sum)
	}
	g.checkRun(3)
}

func TestWriteErrorIsSaidOnce(t *testing.T) {
	g := newGuest(t)
	r := newRun(&g.Stream)
	for _, err := range []error{unix.ENOSPC, unix.ENOSPC, unix.EIO, unix.EIO, unix.ENOSPC} {
		r.commitFailed(err)
	}
	check(t, "what is said", g.heard(), "no space left on device; trying again\ninput/output error; trying again\nno space left on device; trying again")
}

// A degraded stream tries no more often than once a second, for each try may
// take its time.
func TestDegradedStreamWaitsBeforeItTriesAgain(t *testing.T) {
	g := newGuest(t)
	r := newRun(&g.Stream)
	r.committer.nextTry = time.Now().Add(time.Hour)
	r.state.disk, r.batch.rejects = degraded, []byte("{}\n")
	r.lines.ended = true
	r.state.phase = closing
	if e := r.step(); e != closed {
		t.Errorf("event %d", e)
	}
	if g.isWritten("rejected.jsonl") {
		t.Error("it tries at once")
	}
	r.committer.nextTry = time.Time{}
	r.step()
	if !g.isWritten("rejected.jsonl") {
		t.Error("it does not try again")
	}
}

// The verdict that is required is kept through a fault as any other is.
func TestSuppliedVerdictIsTriedAgain(t *testing.T) {
	g := newGuest(t)
	g.RequireResult, g.WriteTimeout = true, time.Hour
	g.talk = make(chan string, 100)
	free := g.plant("result.json")
	w := g.open()
	w.print("STATE=ready\n")
	testenv.Must(t, w.in.Close())
	w.until(tryAgain)
	free()
	if sum := w.wait(); !sum.Supplied || sum.Degraded {
		t.Errorf("%+v", sum)
	}
	g.checkSupplied(true, "")
}

func TestHeldLockIsWaitedFor(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = time.Hour
	g.Dir.Events.LockWait = time.Millisecond
	g.talk = make(chan string, 100)
	holder, err := os.Create(g.file("events.jsonl.seq"))
	testenv.Must(t, err)
	testenv.Must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	w := g.open()
	w.print(aRun)
	w.until("still held by process")
	for _, name := range planted[1:] {
		if w.isWritten(name) {
			t.Errorf("%s is written without the lock", name)
		}
	}
	testenv.Must(t, holder.Close())
	w.until(works)
	w.close()
	w.checkRun(3)
}

// Whoever reads a status finds its event, and beside completed the result,
// at any moment.
func TestReaderNeverSeesAStatusAhead(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	w := g.open()
	done, seen := make(chan bool), make(chan int)
	go func() { seen <- g.watch(done) }()
	for n := uint64(1); n <= 500; n++ {
		w.print("STATE=starting\n")
		awaitAck(t, acks.r, n)
	}
	w.print("STATE=completed\n")
	w.close()
	close(done)
	if n := <-seen; n == 0 || !strings.Contains(g.read("status.json"), `"seq": 501`) {
		t.Errorf("%d statuses seen; the last is %s", n, g.read("status.json"))
	}
}

// watch reads the status, then what it tells of, until done is closed. It
// returns how many it has read.
func (g *guest) watch(done chan bool) (seen int) {
	for ; ; seen++ {
		status, _ := os.ReadFile(g.file("status.json"))
		events, _ := os.ReadFile(g.file("events.jsonl"))
		_, err := os.Stat(g.file("result.json"))
		var s struct {
			State string
			Seq   int
		}
		if len(status) == 0 {
			s.Seq = 1 // none yet
			events = []byte(`"seq":1}`)
		} else if err := json.Unmarshal(status, &s); err != nil {
			g.t.Errorf("a status of %q: %v", status, err)
		}
		if !strings.Contains(string(events), fmt.Sprintf(`"seq":%d}`, s.Seq)) {
			g.t.Errorf("a status of seq %d without its event", s.Seq)
		}
		if s.State == "completed" && err != nil {
			g.t.Errorf("completed without a result: %v", err)
		}
		select {
		case <-done:
			return seen
		default:
		}
	}
}

func TestCommitsAreOfAMebibyte(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	const lines = 40_000
	g.feed(strings.Repeat("KIND=ready\n", lines)) // less than one read
	var first uint64
	_, err := fmt.Fscanf(acks.r, "%d", &first)
	testenv.Must(t, err)
	if first == lines {
		t.Error("all is committed at once")
	}
	g.checkSeqs(lines)
}
