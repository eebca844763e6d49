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

// block replaces an artifact by a directory, and returns a function that puts
// the artifact back.
func (g *guest) block(name string) (free func()) {
	g.t.Helper()
	moved := g.file("moved-" + name)
	if err := os.Rename(g.file(name), moved); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.t.Fatal(err)
	}
	testenv.Must(g.t, os.Mkdir(g.file(name), 0o755))
	return func() {
		g.t.Helper()
		testenv.Must(g.t, os.Remove(g.file(name)))
		if err := os.Rename(moved, g.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.t.Fatal(err)
		}
	}
}

// commitFiles lists the files of a commit in the order in which it writes them.
var commitFiles = []string{"events.jsonl.seq", "events.jsonl", "rejected.jsonl", "result.json", "status.json"}

// isWritten reports whether a regular file of that name exists.
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
	runInput      = "STATE=ready\nbad\nKIND=ready\nSTATE=failed EXIT_CODE=3\n"
	retryText     = "; trying again"
	degradedText  = "gave up waiting for "
	recoveredText = "writing works again"
)

// openWithFault starts a stream that cannot write one of its files. The
// function free makes the file writable again.
func openWithFault(t *testing.T, name string, timeout time.Duration) (w *runningStream, acks pipe, free func()) {
	g := newGuest(t)
	g.WriteTimeout = timeout
	g.warn = make(chan string, 100)
	acks = g.withAcks()
	free = g.block(name)
	return g.open(), acks, free
}

// A commit that fails at one file waits there, then writes that file and those
// after it. Nothing is lost or written twice.
func TestCommit_retried(t *testing.T) {
	for i, name := range commitFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := openWithFault(t, name, time.Hour)
			w.print(runInput)
			w.waitForWarning(retryText)
			for j, other := range commitFiles {
				if j != i && w.isWritten(other) != (j < i) {
					t.Errorf("%s is written: %v", other, w.isWritten(other))
				}
			}
			if !isQuiet(t, acks) {
				t.Error("acknowledged before it was written")
			}
			w.print("KIND=ready\n") // waits in the pipe
			free()
			w.waitForWarning(recoveredText)
			if seq, rejected := awaitAck(t, acks.r, 5); seq != 4 || rejected != 1 {
				t.Errorf("seq %d, rejected %d", seq, rejected)
			}
			if sum := w.close(); sum.Degraded || sum.Dropped != 0 || sum.Lines != 5 {
				t.Errorf("%+v", sum)
			}
			w.checkRun(4)
			if strings.Count(w.warnings(), retryText) != 1 || strings.Count(w.warnings(), recoveredText) != 1 {
				t.Errorf("warnings:\n%s", w.warnings())
			}
		})
	}
}

// checkRun checks the files that runInput leads to, and how many events there
// are.
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

// checkSeqs checks how many events the log has, and that they are numbered from
// 1.
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

// A commit that is retried does not write its events again.
func TestCommit_partly_written(t *testing.T) {
	w, acks, free := openWithFault(t, "result.json", time.Hour)
	w.print(runInput)
	w.waitForWarning(retryText)
	w.checkSeqs(3)
	free()
	awaitAck(t, acks.r, 4)
	w.close()
	w.checkSeqs(3)
	if text := w.read("status.json") + w.read("result.json"); strings.Count(text, `"seq": 3`) != 2 {
		t.Error(text)
	}
}

// A run that starts and ends in one commit waits until the previous result is
// kept.
func TestCommit_previous_result_blocked(t *testing.T) {
	g := newGuest(t)
	old := existingFiles("failed", 7, thisBoot)["result.json"]
	g.write("result.json", old)
	g.WriteTimeout = time.Hour
	g.warn = make(chan string, 100)
	free := g.block("result.json.prev")
	w := g.open()
	w.print("STATE=starting\nSTATE=completed\n")
	w.waitForWarning(retryText)
	check(t, "the result", g.read("result.json"), old)
	free()
	w.close()
	check(t, "the previous result", g.read("result.json.prev"), old)
	if !strings.Contains(g.read("result.json"), "completed") {
		t.Error(g.read("result.json"))
	}
}

// A degraded stream writes every file that it can, and the rest when writing
// works again.
func TestDegraded_other_files_written(t *testing.T) {
	for i, name := range commitFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := openWithFault(t, name, 1)
			w.print(runInput)
			w.waitForWarning(degradedText)
			w.print("KIND=ready\nbad\n")
			testenv.Must(t, w.in.Close())
			sum := w.wait()
			for j, other := range commitFiles {
				logs := name == "events.jsonl.seq" && j <= 2 // the lock is for both
				if want := j != i && !logs; other != "events.jsonl.seq" && w.isWritten(other) != want {
					t.Errorf("%s is written: %v", other, !want)
				}
			}
			if !isQuiet(t, acks) {
				t.Error("a line is acknowledged before it is written")
			}
			lost := map[string]uint64{"events.jsonl.seq": 6, "events.jsonl": 4, "rejected.jsonl": 2}[name]
			if !sum.Degraded || sum.Dropped != lost {
				t.Errorf("%+v", sum)
			}
			lastWords := map[string]string{"result.json": "result failed could not be written", "status.json": "status failed could not be written"}[name]
			if !strings.Contains(w.warnings(), lastWords) {
				t.Errorf("warnings:\n%s", w.warnings())
			}
			free()
		})
	}
}

// When writing works again, a degraded stream writes and acknowledges
// everything it kept.
func TestDegraded_recovers(t *testing.T) {
	for _, name := range commitFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, acks, free := openWithFault(t, name, 1)
			w.print(runInput)
			w.waitForWarning(degradedText)
			free()
			w.waitForWarning(recoveredText) // with no input
			w.print("KIND=ready\n")
			awaitAck(t, acks.r, 5)
			if sum := w.close(); !sum.Degraded || sum.Dropped != 0 {
				t.Errorf("%+v", sum)
			}
			w.checkRun(4)
		})
	}
}

// A status or result that is written late keeps the seq of its own event.
func TestDegraded_late_files_keep_seq(t *testing.T) {
	for _, name := range []string{"result.json", "status.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, free := openWithFault(t, name, 1)
			w.print(runInput)
			w.waitForWarning(degradedText)
			w.print("KIND=ready\nKIND=ready\n")
			for strings.Count(w.read("events.jsonl"), "\n") < 5 {
				time.Sleep(time.Millisecond)
			}
			free()
			w.waitForWarning(recoveredText)
			w.close()
			w.checkRun(5)
			if text := w.read("status.json") + w.read("result.json"); strings.Count(text, `"seq": 3`) != 2 {
				t.Error(text)
			}
		})
	}
}

// The new result is written even if the previous one cannot be kept.
func TestDegraded_previous_result_blocked(t *testing.T) {
	g := newGuest(t)
	testenv.Must(t, os.Symlink("nowhere", g.file("result.json")))
	g.WriteTimeout = 1
	g.feed("STATE=starting\nSTATE=completed\n")
	if result := g.read("result.json"); !strings.Contains(result, "completed") || g.isWritten("nowhere") {
		t.Errorf("the result is %q", result)
	}
}

// A degraded stream drops the events that do not fit, counts them, and keeps
// the result. It acknowledges no line after the first one lost.
func TestDegraded_result_kept(t *testing.T) {
	const lines = 100_000
	var input strings.Builder
	for n := 1; n <= lines; n++ {
		fmt.Fprintf(&input, "KIND=ready MESSAGE=%d\n", n)
	}
	input.WriteString("STATE=failed EXIT_CODE=9 MESSAGE='the result'\nKIND=stopped\n")

	g := newGuest(t)
	g.WriteTimeout = 1
	acks := g.withAcks()
	g.blockWhileReading("events.jsonl", 3, input.Len()) // some of the first two reads is committed
	sum := g.feed(input.String())
	kept := strings.Count(g.read("events.jsonl"), "\n")
	if !sum.Degraded || sum.Dropped == 0 || sum.Dropped != uint64(lines+2-kept) {
		t.Errorf("%d events are kept: %+v", kept, sum)
	}
	g.checkSeqs(kept)
	if !strings.Contains(g.read("events.jsonl"), fmt.Sprintf(`"message":"%d",`, kept)) {
		t.Error("the events that are kept are not the first ones")
	}
	for _, name := range []string{"result.json", "status.json"} {
		if text := g.read(name); !strings.Contains(text, `"message": "the result"`) || strings.Contains(text, `"seq"`) {
			t.Errorf("%s is %s", name, text)
		}
	}
	acks.w.Close()
	g.checkAcksEnd(acks, uint64(kept))
}

// checkAcksEnd checks that some lines were acknowledged, and only lines that
// were kept.
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

// blockWhileReading blocks an artifact when the stream makes the given read of its input,
// counted from 1. It unblocks the artifact when the stream reads the end of the input,
// which has size bytes.
func (g *guest) blockWhileReading(name string, read, size int) {
	calls, free := 0, func() {}
	g.Clock = func() Moment { // called at the start, and then with each read
		switch calls++; calls {
		case 1 + read:
			free = g.block(name)
		case 1 + (size+readSize-1)/readSize + 1:
			free()
		}
		return testMoment
	}
}

// If only the reject log cannot be written, only rejected lines are lost.
func TestDegraded_reject_log_fails(t *testing.T) {
	const bad, good = 50_000, 500
	input := strings.Repeat("bad line, and a long one\n", bad) + strings.Repeat("KIND=ready\n", good)
	g := newGuest(t)
	g.WriteTimeout = 1
	g.blockWhileReading("rejected.jsonl", 1, len(input))
	sum := g.feed(input)
	kept := strings.Count(g.read("rejected.jsonl"), "\n")
	if sum.Rejected != bad || sum.Dropped != uint64(bad-kept) || kept == 0 || kept == bad {
		t.Errorf("%d rejected lines are kept: %+v", kept, sum)
	}
	g.checkSeqs(good)
}

// If only the event log cannot be written, only events are lost.
func TestDegraded_event_log_fails(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = 1
	g.block("events.jsonl")
	const good, bad = 50_000, 500
	sum := g.feed(strings.Repeat("KIND=ready\n", good) + strings.Repeat("bad\n", bad))
	if n := strings.Count(g.read("rejected.jsonl"), "\n"); n != bad || sum.Dropped != good {
		t.Errorf("%d rejected lines are kept: %+v", n, sum)
	}
}

// The previous result stays until the status of the new run is written, so that
// a reader that sees completed finds a result.
func TestDegraded_status_fails_at_run_start(t *testing.T) {
	g := newGuest(t)
	old := existingFiles("failed", 7, thisBoot)["result.json"]
	g.write("result.json", old)
	g.WriteTimeout = 1
	g.warn = make(chan string, 100)
	free := g.block("status.json")
	w := g.open()
	w.print("STATE=starting\nbad\n")
	w.waitForWarning(degradedText)
	w.print("KIND=ready\n")
	testenv.Must(t, w.in.Close())
	w.wait()
	check(t, "the result", g.read("result.json"), old)

	free()
	w = g.open()
	w.print("STATE=starting\n")
	w.close()
	check(t, "the previous result", g.read("result.json.prev"), old)
	if g.isWritten("result.json") {
		t.Error("the result of the previous run is still there")
	}
}

// A request to stop does not end the retries, however short the grace period:
// nothing is lost if the disk recovers within the write timeout.
func TestStop_while_retrying(t *testing.T) {
	for _, name := range commitFiles {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.WriteTimeout, g.Grace = time.Hour, time.Millisecond
			g.warn = make(chan string, 100)
			free := g.block(name)
			w := g.open()
			w.print(runInput)
			w.waitForWarning(retryText)
			w.requestStop()
			time.Sleep(20 * time.Millisecond) // longer than the grace
			free()
			if sum := w.wait(); sum.Degraded || sum.Dropped > 0 {
				t.Errorf("%+v", sum)
			}
		})
	}
}

func TestStop_twice_while_retrying(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout, g.Grace = time.Hour, time.Hour
	g.warn = make(chan string, 100)
	g.block("events.jsonl")
	w := g.open()
	w.print(runInput)
	w.waitForWarning(retryText)
	w.requestStop()
	w.requestStop()
	sum := w.wait()
	if !sum.Degraded || sum.Dropped != 3 {
		t.Errorf("%+v", sum)
	}
	for _, name := range []string{"result.json", "status.json", "rejected.jsonl"} {
		if !w.isWritten(name) {
			t.Errorf("%s was not written", name)
		}
	}
}

// Nothing is lost if a stop arrives while the disk fails and the disk then
// recovers.
func TestStop_disk_recovers(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout, g.Grace = time.Hour, time.Hour
	g.warn = make(chan string, 100)
	free := g.block("events.jsonl")
	w := g.open()
	w.print(runInput)
	w.waitForWarning(retryText)
	w.requestStop()
	free()
	w.waitForWarning(recoveredText)
	if sum := w.close(); sum.Degraded || sum.Dropped != 0 {
		t.Errorf("%+v", sum)
	}
	g.checkRun(3)
}

func TestCommit_error_logged_once(t *testing.T) {
	g := newGuest(t)
	r := newRunner(&g.Stream)
	for _, err := range []error{unix.ENOSPC, unix.ENOSPC, unix.EIO, unix.EIO, unix.ENOSPC} {
		r.commitFailed(err)
	}
	check(t, "the warnings", g.warnings(), "no space left on device; free disk space or inodes; trying again\ninput/output error; check the disk; trying again\nno space left on device; free disk space or inodes; trying again")
}

func TestRemedy(t *testing.T) {
	for err, want := range map[error]string{
		unix.ENOSPC: "free disk space or inodes",
		unix.EDQUOT: "raise the disk quota or free disk space",
		unix.EFBIG:  "raise the limit of file sizes (ulimit -f)",
		unix.EROFS:  "mount the file system read-write",
		unix.EIO:    "check the disk",
		unix.EMFILE: "raise the limit of open files (ulimit -n)",
		unix.ENFILE: "raise fs.file-max",
		unix.EACCES: "check its owner and mode, or use another directory",
		unix.EPERM:  "check its owner, mode and attributes (lsattr)",

		unix.ENOENT:  "the directory was removed; start again in one that exists",
		unix.ENOTDIR: "remove the file that is in the way",
		unix.EINVAL:  "",
	} {
		check(t, err.Error(), Remedy(&fs.PathError{Op: "write", Path: "p", Err: err}), want)
	}
}

// A degraded stream retries once a second at most, because each attempt can be
// slow.
func TestDegraded_retry_interval(t *testing.T) {
	g := newGuest(t)
	r := newRunner(&g.Stream)
	r.committer.failure.nextTry = time.Now().Add(time.Hour)
	r.state.disk, r.batch.rejects = degraded, []byte("{}\n")
	r.lines.ended = true
	r.state.phase = closing
	if e := r.step(); e != closed {
		t.Errorf("event %d", e)
	}
	if g.isWritten("rejected.jsonl") {
		t.Error("it retries immediately")
	}
	r.committer.failure.nextTry = time.Time{}
	r.step()
	if !g.isWritten("rejected.jsonl") {
		t.Error("it does not retry")
	}
}

// A result that the stream adds itself is retried like any other.
func TestRequireResult_retried(t *testing.T) {
	g := newGuest(t)
	g.RequireResult, g.WriteTimeout = true, time.Hour
	g.warn = make(chan string, 100)
	free := g.block("result.json")
	w := g.open()
	w.print("STATE=ready\n")
	testenv.Must(t, w.in.Close())
	w.waitForWarning(retryText)
	free()
	if sum := w.wait(); !sum.Fallback || sum.Degraded {
		t.Errorf("%+v", sum)
	}
	g.checkFallback(true, "")
}

func TestCommit_lock_held(t *testing.T) {
	g := newGuest(t)
	g.WriteTimeout = time.Hour
	g.Dir.Events.LockWait = time.Millisecond
	g.warn = make(chan string, 100)
	holder, err := os.Create(g.file("events.jsonl.seq"))
	testenv.Must(t, err)
	testenv.Must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	w := g.open()
	w.print(runInput)
	w.waitForWarning("still held by process")
	for _, name := range commitFiles[1:] {
		if w.isWritten(name) {
			t.Errorf("%s is written without the lock", name)
		}
	}
	testenv.Must(t, holder.Close())
	w.waitForWarning(recoveredText)
	w.close()
	w.checkRun(3)
}

// A reader that sees a status always finds its event, and with completed the
// result.
func TestCommit_order_seen_by_reader(t *testing.T) {
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

// watch reads the status and then the files it refers to, until done is closed.
// It returns how many statuses it read.
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

func TestCommit_size(t *testing.T) {
	g := newGuest(t)
	acks := g.withAcks()
	const lines = 40_000
	g.feed(strings.Repeat("KIND=ready\n", lines)) // less than one read
	var first uint64
	_, err := fmt.Fscanf(acks.r, "%d", &first)
	testenv.Must(t, err)
	if first == lines {
		t.Error("all lines are in one commit")
	}
	g.checkSeqs(lines)
}

// A result that comes after the stream has degraded is retried for the write timeout,
// with the status and the events, even if the input ends.
func TestDegraded_late_result_retried(t *testing.T) {
	for _, stops := range []int{0, 1} {
		t.Run(fmt.Sprint(stops, " stops"), func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.WriteTimeout, g.Grace = time.Second, time.Millisecond
			g.warn = make(chan string, 100)
			free := g.block("result.json")
			freeLog := g.block("events.jsonl")
			w := g.open()
			w.print("STATE=ready\n")
			w.waitForWarning(degradedText)
			w.print("STATE=completed\n")
			for range stops {
				w.requestStop()
			}
			testenv.Must(t, w.in.Close())
			time.Sleep(300 * time.Millisecond)
			free()
			freeLog()
			if sum := w.wait(); !sum.Degraded || sum.Dropped > 0 {
				t.Errorf("%+v", sum)
			}
			if text := g.read("result.json"); !strings.Contains(text, "completed") {
				t.Errorf("the result is %s", text)
			}
			g.checkSeqs(2)
		})
	}
}
