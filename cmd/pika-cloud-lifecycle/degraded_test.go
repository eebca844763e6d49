package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A plant puts something in the way of an artifact.
type plant struct {
	name  string
	cause string // as ingest says it
	put   func(path, precious string) error
}

func plants() []plant {
	return []plant{
		{"directory", "is a directory", func(path, _ string) error { return os.Mkdir(path, 0o755) }},
		{"symlink", "a symbolic link; ", func(path, precious string) error { return os.Symlink(precious, path) }},
		{"fifo", "not a regular file; ", func(path, _ string) error { return unix.Mkfifo(path, 0o644) }},
		{"hard link", "the file has a second link; ", func(path, precious string) error { return os.Link(precious, path) }},
	}
}

// put plants something at path. It returns a check that nothing was written
// through it.
func (pl *plant) plant(t *testing.T, path string) (check func()) {
	t.Helper()
	precious := filepath.Join(filepath.Dir(path), "precious")
	if err := os.WriteFile(precious, []byte("not ours"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := pl.put(path, precious); err != nil {
		t.Fatal(err)
	}
	return func() {
		if text, err := os.ReadFile(precious); err != nil || string(text) != "not ours" {
			t.Errorf("the file outside is %q, %v", text, err)
		}
	}
}

func TestABrokenLogDoesNotHoldBackTheVerdict(t *testing.T) {
	for _, pl := range plants() {
		t.Run(pl.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			check := pl.plant(t, dir+"/events.jsonl")
			p := startIn(t, dir, nil, "--write-timeout", "20ms")
			p.write("STATE=booted", "bad", "STATE=failed EXIT_CODE=7 MESSAGE=told")
			p.in.Close()
			said := p.exits(exitFailed)
			p.holds("status.json", `"message": "told"`)
			p.holds("result.json", `"exit_code": 7`)
			p.holds("rejected.jsonl", `"raw":"bad"`)
			if n := strings.Count(said, dir+"/events.jsonl: "+pl.cause); n != 1 {
				t.Errorf("the path and the cause were said %d times:\n%s", n, said)
			}
			if !strings.Contains(said, ": 2 events and refused lines were lost\n") {
				t.Errorf("what was lost was not counted:\n%s", said)
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
			check()
		})
	}
}

func TestABrokenStatusOrResultHoldsNothingElseBack(t *testing.T) {
	for _, c := range []struct{ broken, other, text string }{
		{"status.json", "result.json", `"status": "failed"`},
		{"result.json", "status.json", `"state": "failed"`},
	} {
		t.Run(c.broken, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, c.broken), 0o755); err != nil {
				t.Fatal(err)
			}
			p := startIn(t, dir, nil, "--write-timeout", "20ms")
			p.write("STATE=ready", "STATE=failed")
			p.in.Close()
			said := p.exits(exitFailed)
			p.seqs(2)
			p.holds(c.other, c.text)
			p.holds(c.other, `"seq": 2`)
			if n := strings.Count(said, dir+"/"+c.broken+": "); n != 1 {
				t.Errorf("the path was said %d times:\n%s", n, said)
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
		})
	}
}

func TestAPlantedStatusOrResultIsReplacedNeverWrittenThrough(t *testing.T) {
	for _, pl := range plants() {
		if pl.name == "directory" {
			continue // cannot be replaced
		}
		t.Run(pl.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			check1, check2 := pl.plant(t, dir+"/status.json"), pl.plant(t, dir+"/result.json")
			p := startIn(t, dir, nil, "--write-timeout", "1h")
			p.write("STATE=failed")
			p.in.Close()
			p.exits(exitOK)
			for _, name := range []string{"status.json", "result.json"} {
				if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%s is %v, %v", name, info, err)
				}
				p.holds(name, `"failed"`)
			}
			check1()
			check2()
		})
	}
}

func TestWhatIsRemovedInTimeCostsNothing(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "1h")
	log, aside := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "aside")
	p.write("STATE=booted", "STATE=starting")
	p.ackUpTo(2)
	p.must(os.Rename(log, aside), os.Mkdir(log, 0o755))
	p.write("STATE=ready")
	p.hear("events.jsonl: is a directory; trying again")
	p.write("bad", "KIND=ready", "STATE=completed")
	p.must(os.Remove(log), os.Rename(aside, log))
	if seq, rejected := p.ackUpTo(6); seq != 5 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d refused", seq, rejected)
	}
	p.in.Close()
	if said := p.exits(exitRefused); strings.Contains(said, "cannot be written; reading on") || !strings.Contains(said, "writing works again") {
		t.Errorf("said:\n%s", said)
	}
	p.seqs(5)
	p.holds("status.json", `"seq": 5`)
	p.holds("result.json", `"seq": 5`)
}

// must fails the test at the first error.
func (p *process) must(errs ...error) {
	p.Helper()
	if err := errors.Join(errs...); err != nil {
		p.Fatal(err)
	}
}

func TestADegradedStreamWritesWhatItKeptOnceItCan(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "0s")
	log, aside := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "aside")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.must(os.Rename(log, aside), os.Mkdir(log, 0o755))
	p.write("STATE=ready MESSAGE=kept")
	p.hear("cannot be written; reading on")
	p.write("bad")
	p.hear("line 3, column 1") // so the attempt before it is over
	p.holds("status.json", `"message": "kept"`)
	p.must(os.Remove(log), os.Rename(aside, log))
	p.write("STATE=failed")
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d refused", seq, rejected)
	}
	p.in.Close()
	p.exits(exitFailed) // all is written, but it was late
	p.seqs(3)
	p.holds("result.json", `"seq": 3`)
	p.holds("rejected.jsonl", `"line":3,`)
}

// flood writes n events of a kilobyte each.
func (p *process) flood(n int) {
	text := strings.Repeat("x", 1000)
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "KIND=ready MESSAGE=%s\n", text)
	}
	if _, err := p.in.Write(b.Bytes()); err != nil {
		p.Error(err)
	}
}

func TestADegradedStreamNeverBlocksTheGuestAndCountsWhatItDrops(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "20ms")
	log, aside := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "aside")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.must(os.Rename(log, aside), os.Mkdir(log, 0o755))
	const flood = 3000 // more than is kept
	p.flood(flood)
	p.write("bad")
	p.hear(fmt.Sprintf("line %d, column 1", flood+2))
	p.must(os.Remove(log), os.Rename(aside, log))
	p.write("STATE=failed MESSAGE=told")
	p.in.Close()
	said := p.exits(exitFailed)
	p.holds("result.json", `"message": "told"`)
	kept := len(linesOf(p.file("events.jsonl")))
	p.seqs(kept)
	lost := flood + 2 - kept
	p.holds("rejected.jsonl", `"raw":"bad"`)
	if kept < 100 || lost < 100 || !strings.Contains(said, fmt.Sprintf(": %d events and refused lines were lost\n", lost)) {
		t.Errorf("%d events kept, %d lost; said:\n%s", kept, lost, said)
	}
	if acks := p.moreAcks(); acks != "" {
		t.Errorf("acknowledged beyond what was dropped: %q", acks)
	}
}

// One request to stop does not end the retries: the disk may recover. A second
// one does, and what can be written is written.
func TestStopWhileRetrying(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/events.jsonl", 0o755); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir, nil, "--write-timeout", "1h", "--grace", "20ms", "--require-result")
	p.write("STATE=ready")
	p.hear("trying again")
	p.signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond) // longer than the grace
	p.absent("result.json")
	p.signal(syscall.SIGTERM)
	p.exits(exitFailed)
	p.holds("result.json", `"reason":"stream_ended"`)
	p.holds("status.json", `"state": "failed"`)
}

func TestAFullDiskLosesNothingOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := smallTmpfs(t)
	p := startIn(t, dir, nil, "--write-timeout", "1h")
	p.write("STATE=booted")
	p.ackUpTo(1)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the tmpfs is not full: %v", err)
	}
	p.write("KIND=ready MESSAGE="+strings.Repeat("x", 10000), "bad", "STATE=failed")
	p.hear("events.jsonl: no space left on device; trying again")
	p.seqs(1) // a short write was cut back
	p.must(os.Remove(filler))
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d refused", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRefused)
	p.seqs(3)
	p.holds("result.json", `"seq": 3`)
	p.absent("events.jsonl.torn")
}

func TestAFullDiskDegrades(t *testing.T) {
	t.Parallel()
	dir := smallTmpfs(t)
	p := startIn(t, dir, nil, "--write-timeout", "20ms")
	p.write("STATE=booted")
	p.ackUpTo(1)
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the tmpfs is not full: %v", err)
	}
	p.write("STATE=failed MESSAGE=" + strings.Repeat("x", 10000))
	p.in.Close()
	said := p.exits(exitFailed)
	for _, want := range []string{"events.jsonl: no space left on device; trying again\n",
		"status failed could not be written\n", "result failed could not be written\n", ": 1 events and refused lines were lost\n"} {
		if strings.Count(said, want) != 1 {
			t.Errorf("%q was not said once:\n%s", want, said)
		}
	}
	p.seqs(1)
	p.holds("status.json", `"state": "booted"`)
	names, err := namesIn(dir)
	if len(names) != 4 || err != nil { // no temporary, no torn tail
		t.Errorf("left behind: %q, %v", names, err)
	}
}

// smallTmpfs mounts a tmpfs of 64 KiB.
func smallTmpfs(t *testing.T) string {
	t.Helper()
	testenv.Mount(t)
	dir := t.TempDir()
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestALockThatIsHeldDoesNotHoldBackTheVerdict takes as long as a lock is
// waited for, five seconds.
func TestALockThatIsHeldDoesNotHoldBackTheVerdict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := os.OpenFile(dir+"/events.jsonl.seq", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir, nil, "--write-timeout", "0s")
	p.write("STATE=failed MESSAGE=told")
	p.hear(fmt.Sprintf("lock %s/events.jsonl.seq: still held by process %d ", dir, os.Getpid()))
	p.hear("cannot be written; reading on")
	p.write("bad")
	p.hear("line 2, column 1")
	p.holds("result.json", `"message": "told"`)
	p.holds("status.json", `"message": "told"`)
	p.absent("events.jsonl") // what the lock guards is not touched
	p.must(unix.Flock(int(lock.Fd()), unix.LOCK_UN))
	if seq, rejected := p.ackUpTo(2); seq != 1 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d refused", seq, rejected)
	}
	p.in.Close()
	p.exits(exitFailed)
	p.seqs(1)
}

func TestAStuckReaderOfStderrDoesNotHoldUpTheStream(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fill(t, w)
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = w })
	w.Close()
	p.write("bad", "worse", "STATE=ready", "bad", "STATE=failed")
	if seq, rejected := p.ackUpTo(5); seq != 2 || rejected != 3 {
		t.Errorf("acknowledged seq %d with %d refused", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRefused)
	p.holds("status.json", `"rejected": 3`)
}

func TestAnOldVerdictThatCouldNotBeRetiredIsNotThisRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if code, said := runHere([]string{"result", "--state-dir", dir, "--status", "completed", "--message", "old"}); code != exitOK {
		t.Fatal(said)
	}
	if err := os.Mkdir(dir+"/status.json", 0o755); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir, nil, "--write-timeout", "20ms", "--require-result")
	p.write("STATE=booted")
	p.in.Close()
	p.exits(exitFailed)
	p.holds("result.json", `"reason":"stream_ended"`)
	p.holds("result.json.prev", `"message": "old"`)
}
