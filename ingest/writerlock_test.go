package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// checkWriters compares the writers of the directory with want. Each has the PID of this
// process.
func (g *guest) checkWriters(want ...writerlock.Writer) {
	g.t.Helper()
	for i := range want {
		want[i].PID = os.Getpid()
	}
	got, err := writerlock.Read(g.path, testBoot)
	if err != nil || !slices.Equal(got, want) {
		g.t.Errorf("writers %v, %v; expected %v", got, err, want)
	}
}

// die leaves the record of a dead writer.
func (g *guest) die(kind writerlock.Kind) {
	g.t.Helper()
	var d dirfs.Dir
	defer d.Close()
	var l writerlock.Lock
	testenv.Must(g.t, d.Open(g.path), l.Acquire(&d, kind, testBoot))
	l.Release(true)
	g.checkWriters(writerlock.Writer{Kind: kind, State: writerlock.Dead})
}

var (
	aliveIngest = writerlock.Writer{Kind: writerlock.Ingest, State: writerlock.Alive}
	deadIngest  = writerlock.Writer{Kind: writerlock.Ingest, State: writerlock.Dead}
	deadRun     = writerlock.Writer{Kind: writerlock.Run, State: writerlock.Dead}
)

// newAckedStream starts a stream, and returns a function that waits until n lines are
// committed.
func newAckedStream(g *guest) (w *runningStream, await func(n int)) {
	acks := g.withAcks()
	w = g.open()
	lines := bufio.NewReader(acks.r)
	return w, func(n int) {
		for line := 0; line < n; {
			text, err := lines.ReadString('\n')
			testenv.Must(g.t, err)
			_, err = fmt.Sscan(text, &line)
			testenv.Must(g.t, err)
		}
	}
}

func TestWriterLock_from_first_commit_to_end(t *testing.T) {
	g := newGuest(t)
	w, await := newAckedStream(g)
	g.checkWriters()
	w.print("STATE=ready\n")
	await(1)
	g.checkWriters(aliveIngest)
	w.close()
	g.checkWriters()
	info, err := os.Stat(g.file(writer.WriterLockName))
	testenv.Must(t, err)
	if info.Size() != 0 || info.Mode() != 0o600 {
		t.Errorf("the file has %d bytes and mode %v; expected 0 and 0600", info.Size(), info.Mode())
	}
}

func TestWriterLock_kinds(t *testing.T) {
	for kind, change := range map[writerlock.Kind]func(g *guest, during func()){
		writerlock.Run: func(g *guest, during func()) {
			g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: during}
		},
		writerlock.Ingest:  func(g *guest, during func()) { g.Followers = []Follower{onCommit(during)} },
		writerlock.Rebuild: func(g *guest, during func()) { g.Followers = []Follower{onCommit(during)}; g.Source = new(fakeSource) },
	} {
		t.Run(string(kind), func(t *testing.T) {
			g := newGuest(t)
			called := false
			change(g, func() {
				called = true
				g.checkWriters(writerlock.Writer{Kind: kind, State: writerlock.Alive})
			})
			input := "STATE=ready\n"
			if kind == writerlock.Rebuild {
				input = "1 ready\n"
			}
			g.feed(input)
			g.checkWriters()
			if !called {
				t.Error("there was no commit")
			}
		})
	}
}

type onCommit func()

func (f onCommit) Committed(*Commit) { f() }

// A commit with a start or a result makes earlier deaths irrelevant; another one does not.
func TestWriterLock_clears_dead(t *testing.T) {
	for input, cleared := range map[string]bool{
		"STATE=starting\n": true, "STATE=failed EXIT_CODE=3\n": true, "TYPE=result STATUS=failed EXIT_CODE=3\n": true,
		"STATE=ready\n": false, "KIND=ready\n": false, "TYPE=status STATE=ready\n": false, "bad\n": false, "": false,
	} {
		t.Run(strings.TrimSpace(input), func(t *testing.T) {
			g := newGuest(t)
			g.die(writerlock.Run) // in another slot than that of the stream
			g.feed(input)
			if cleared {
				g.checkWriters()
			} else {
				g.checkWriters(deadRun)
			}
		})
	}
}

// A stream that replaces the record of a dead writer makes the death invisible. It may do
// so only if it writes a status.
func TestWriterLock_replaces_dead(t *testing.T) {
	for input, dead := range map[string]bool{
		"STATE=ready\n": false, "TYPE=status STATE=ready\n": false, "STATE=starting\n": false, "STATE=completed\n": false,
		"KIND=ready\n": true, "bad\n": true, "": true,
	} {
		t.Run(strings.TrimSpace(input), func(t *testing.T) {
			g := newGuest(t)
			g.die(writerlock.Ingest)
			g.feed(input)
			if dead {
				g.checkWriters(deadIngest)
			} else {
				g.checkWriters()
			}
		})
	}
}

// A stream that could not write the last status or result counts as dead.
func TestWriterLock_lost(t *testing.T) {
	for name, lost := range map[string]bool{"status.json": true, "result.json": true, "events.jsonl": false} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.WriteTimeout = 1
			g.block(name)
			if sum := g.feed("STATE=failed EXIT_CODE=3\n"); !sum.Degraded {
				t.Errorf("%+v; expected a write error", sum)
			}
			if lost {
				g.checkWriters(deadIngest)
			} else {
				g.checkWriters()
			}
		})
	}
}

// Without the lock, a stream works as before, and warns once, also if it tries the lock
// again.
func TestWriterLock_unavailable(t *testing.T) {
	g := newGuest(t)
	free := g.block(writer.WriterLockName)
	w, await := newAckedStream(g)
	w.print("STATE=booted\n")
	await(1)
	g.checkContains("status.json", `"state": "booted"`)
	time.Sleep(writerLockPause)
	w.print("STATE=starting\n")
	await(2)
	free()
	time.Sleep(writerLockPause)
	w.print("STATE=ready\n")
	await(3)
	g.checkWriters(aliveIngest)
	if sum := w.close(); sum.Degraded || sum.Dropped > 0 {
		t.Errorf("%+v", sum)
	}
	want := g.file(writer.WriterLockName) + " is a directory; remove it; wait cannot find out whether this process has died"
	check(t, "the warnings", g.warnings(), want)
}

// A failing commit has only its own warning.
func TestWriterLock_and_commit_fail(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = 1
	g.block(writer.WriterLockName)
	g.block("status.json")
	g.feed("STATE=ready\n")
	if strings.Contains(g.warnings(), writer.WriterLockName) {
		t.Errorf("warnings:\n%s", g.warnings())
	}
}

func TestWriterLock_dry_run(t *testing.T) {
	g := newGuest(t)
	g.DryRun = new(bytes.Buffer)
	g.feed("STATE=ready\n")
	if len(g.artifacts()) != 0 || g.isWritten(writer.WriterLockName) {
		t.Errorf("files: %v", g.artifacts())
	}
}

// While the lock is held, a commit does not look at the file.
func TestWriterLock_not_opened_again(t *testing.T) {
	g := newGuest(t)
	w, await := newAckedStream(g)
	w.print("STATE=booted\n")
	await(1)
	testenv.Must(t, os.Remove(g.file(writer.WriterLockName)))
	w.print("STATE=ready\n")
	await(2)
	w.close()
	if g.isWritten(writer.WriterLockName) {
		t.Error("the file was opened again")
	}
}

// Two supervised streams exclude each other before anything starts.
func TestWriterLock_second_run(t *testing.T) {
	g := newGuest(t)
	second := newGuest(t)
	second.path, second.Dir = g.path, writer.In(g.path)
	g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: func() {
		before := g.artifacts()
		second.Supervisor = &fakeSupervisor{opened: func() { t.Error("the second command was started") }}
		second.Unusable = func(err error) { t.Errorf("the directory counts as unusable: %v", err) }
		s := second.Stream
		s.In = int(newPipe(t).r.Fd())
		_, err := s.Run()
		var held *writerlock.HeldError
		if !errors.As(err, &held) || held.PID != os.Getpid() {
			t.Errorf("error %v; expected that this process holds the lock", err)
		}
		checkSame(t, "after the second run", g.artifacts(), before)
	}}
	g.feed("")
	g.checkContains("result.json", `"exit_code": 3`)
}

// A result that another writer recorded during the stream is kept.
func TestResult_of_another_writer(t *testing.T) {
	const another = "another program has recorded the result"
	t.Run("supervised", func(t *testing.T) {
		g := newGuest(t)
		b := newGuest(t)
		b.path, b.Dir = g.path, writer.In(g.path)
		other := ""
		g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() {
			b.feed("TYPE=result STATUS=completed\n")
			other = g.read("result.json")
		}}
		g.feed("")
		g.checkContains("result.json", `"exit_code": 3`)
		check(t, "the other result", g.read("result.json.prev"), other)
		check(t, "the warning", g.warnings(), another+" completed (exit code 0); it is now in result.json.prev; let only one program report the result of a run")
	})
	t.Run("two_streams", func(t *testing.T) {
		a, b := newGuest(t), newGuest(t)
		b.path, b.Dir = a.path, writer.In(a.path)
		first, awaitFirst := newAckedStream(a)
		second, awaitSecond := newAckedStream(b)
		first.print("STATE=booted\n")
		awaitFirst(1)
		second.print("STATE=ready\n")
		awaitSecond(1)
		first.print("STATE=failed EXIT_CODE=7\n")
		awaitFirst(2)
		second.print("STATE=completed\n")
		awaitSecond(2)
		first.close()
		second.close()
		a.checkContains("result.json", `"completed"`)
		a.checkContains("result.json.prev", `"exit_code": 7`)
		if a.warnings() != "" || !strings.Contains(b.warnings(), another+" failed (exit code 7)") {
			t.Errorf("warnings of the first %q, of the second %q", a.warnings(), b.warnings())
		}
	})
	t.Run("invalid", func(t *testing.T) {
		g := newGuest(t)
		g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() { g.write("result.json", "{") }}
		g.feed("")
		g.checkContains("result.json", `"exit_code": 3`)
		check(t, "the other result", g.read("result.json.prev"), "{")
	})
	t.Run("earlier", func(t *testing.T) { // it was there before the stream: replaced, as ever
		g := newGuest(t)
		g.write("result.json", existingFiles("completed", 0, testBoot)["result.json"])
		g.feed("STATE=failed EXIT_CODE=3\n")
		check(t, "the previous result", g.read("result.json.prev"), "")
		check(t, "the warnings", g.warnings(), "")
	})
	t.Run("many_runs", func(t *testing.T) { // all results are of the stream itself
		g := newGuest(t)
		g.ManyRuns = true
		w, await := newAckedStream(g)
		for n, line := range []string{"STATE=booted", "STATE=completed", "STATE=booted", "STATE=failed", "STATE=booted"} {
			w.print(line + "\n")
			await(n + 1)
		}
		w.print("STATE=ready\nSTATE=failed\nSTATE=booted\nSTATE=completed\n")
		await(9)
		w.close()
		check(t, "the warnings", g.warnings(), "")
	})
	t.Run("own_written_early", func(t *testing.T) { // without its seq, and then again
		g := newGuest(t)
		g.warn, g.WriteTimeout = make(chan string, 100), time.Nanosecond
		free := g.block("events.jsonl")
		w := g.open()
		w.print("STATE=failed EXIT_CODE=3\n")
		w.waitForWarning(degradedText)
		for !g.isWritten("result.json") {
			time.Sleep(time.Millisecond)
		}
		free()
		w.close()
		g.checkContains("result.json", `"seq": 1`)
		check(t, "the previous result", g.read("result.json.prev"), "")
		if strings.Contains(g.warnings(), another) {
			t.Errorf("warnings:\n%s", g.warnings())
		}
	})
	t.Run("own_not_confirmed", func(t *testing.T) { // it is at its path, but the sync has failed
		g := newGuest(t)
		g.ManyRuns = true
		previous := existingFiles("failed", 7, thisBoot)
		g.write("result.json", previous["result.json"])
		g.write("status.json", previous["status.json"])
		r := newRunner(&g.Stream)
		testenv.Must(t, r.begin())
		defer g.Dir.Close()
		r.committer.store = &unconfirmedStore{store: r.committer.store}
		for n, text := range []string{"STATE=starting", "STATE=completed"} {
			r.handle(&line{text: []byte(text), number: uint64(n + 1), length: uint64(len(text))})
		}
		if e := r.commit(); e != writeFailed {
			t.Fatalf("the first commit returns %v", e)
		}
		if e := r.commit(); e != written {
			t.Fatalf("the second commit returns %v", e)
		}
		g.checkContains("result.json", `"completed"`)
		check(t, "the previous result", g.read("result.json.prev"), previous["result.json"])
	})
	t.Run("cannot_be_kept", func(t *testing.T) { // the result is more important
		g := newGuest(t)
		g.WriteTimeout = 1
		g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() {
			g.block("result.json.prev")
			g.write("result.json", existingFiles("completed", 0, testBoot)["result.json"])
		}}
		g.feed("")
		g.checkContains("result.json", `"exit_code": 3`)
	})
}

// While a run is alive, it will record the result, and the fallback result would be wrong.
func TestRequireResult_run_alive(t *testing.T) {
	g := newGuest(t)
	fallback := newGuest(t)
	fallback.path, fallback.Dir, fallback.RequireResult = g.path, writer.In(g.path), true
	g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: func() {
		before := g.artifacts()
		sum := fallback.feed("")
		if sum.Fallback || !strings.Contains(fallback.warnings(), ", will record it") {
			t.Errorf("%+v; warnings:\n%s", sum, fallback.warnings())
		}
		checkSame(t, "after the fallback", g.artifacts(), before)
	}}
	g.feed("")
	g.die(writerlock.Run)
	testenv.Must(t, os.Remove(g.file("result.json")), os.Remove(g.file("status.json")))
	if sum := fallback.feed(""); !sum.Fallback {
		t.Errorf("%+v; expected the fallback result after the run has died", sum)
	}
	g.checkWriters()
}

// An unconfirmedStore replaces the result and returns an error the first time, as if the sync
// of the directory had failed after the rename.
type unconfirmedStore struct {
	store
	done bool
}

func (s *unconfirmedStore) replaceResult(r *artifact.Result) error {
	err := s.store.replaceResult(r)
	if err == nil && !s.done {
		s.done = true
		return unix.EIO
	}
	return err
}
