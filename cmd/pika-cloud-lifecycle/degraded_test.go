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

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A plant puts another file in place of an artifact.
type plant struct {
	name  string
	cause string // in the warning of ingest
	put   func(path, precious string) error
}

func plants() []plant {
	return []plant{
		{"directory", "a directory; ", func(path, _ string) error { return os.Mkdir(path, 0o755) }},
		{"symlink", "a symbolic link; ", func(path, precious string) error { return os.Symlink(precious, path) }},
		{"fifo", "not a regular file; ", func(path, _ string) error { return unix.Mkfifo(path, 0o644) }},
		{"hard link", "a file with a second hard link; ", func(path, precious string) error { return os.Link(precious, path) }},
	}
}

// plant puts the file at path. It returns a check that nothing was written through
// it.
func (pl *plant) plant(t *testing.T, path string) (check func()) {
	t.Helper()
	precious := filepath.Join(filepath.Dir(path), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := pl.put(path, precious); err != nil {
		t.Fatal(err)
	}
	return func() {
		if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
			t.Errorf("the file outside is %q, %v", text, err)
		}
	}
}

// If the log cannot be written, the other files are.
func TestDegraded_log_blocked(t *testing.T) {
	for _, pl := range plants() {
		t.Run(pl.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			check := pl.plant(t, dir+"/events.jsonl")
			p := startIn(t, dir, nil, "--write-timeout", "20ms")
			p.write("STATE=booted", "bad", "STATE=failed EXIT_CODE=7 MESSAGE=last")
			p.in.Close()
			output := p.exits(exitFailed)
			p.holds("status.json", `"message": "last"`)
			p.holds("result.json", `"exit_code": 7`)
			p.holds("rejected.jsonl", `"raw":"bad"`)
			if n := strings.Count(output, dir+"/events.jsonl is "+pl.cause+"remove it; trying again"); n != 1 {
				t.Errorf("path and cause are logged %d times:\n%s", n, output)
			}
			if !strings.Contains(output, ": 2 events lost\n") {
				t.Errorf("the lost events are not counted:\n%s", output)
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
			check()
		})
	}
}

// If the status or the result cannot be written, the other files are.
func TestDegraded_status_or_result_blocked(t *testing.T) {
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
			output := p.exits(exitFailed)
			p.seqs(2)
			p.holds(c.other, c.text)
			p.holds(c.other, `"seq": 2`)
			if n := strings.Count(output, dir+"/"+c.broken+" is a directory; remove it; trying again\n"); n != 1 {
				t.Errorf("path and cause are logged %d times:\n%s", n, output)
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
		})
	}
}

// A link or a FIFO in place of the status or the result is replaced; nothing is
// written through it.
func TestReplace_planted_file(t *testing.T) {
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

// Nothing is lost if an obstacle is removed within the write timeout.
func TestRetry_obstacle_removed(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "1h")
	log, moved := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "moved")
	p.write("STATE=booted", "STATE=starting")
	p.ackUpTo(2)
	p.must(os.Rename(log, moved), os.Mkdir(log, 0o755))
	p.write("STATE=ready")
	p.awaitStderr("events.jsonl is a directory; remove it; trying again")
	p.write("bad", "KIND=ready", "STATE=completed")
	p.must(os.Remove(log), os.Rename(moved, log))
	if seq, rejected := p.ackUpTo(6); seq != 5 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	if output := p.exits(exitRejected); strings.Contains(output, "gave up waiting") || !strings.Contains(output, "writing works again") {
		t.Errorf("stderr:\n%s", output)
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

// A degraded stream writes what it kept when the disk works again.
func TestDegraded_recovers(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "0s")
	log, moved := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "moved")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.must(os.Rename(log, moved), os.Mkdir(log, 0o755))
	p.write("STATE=ready MESSAGE=kept")
	p.awaitStderr("gave up waiting for " + p.dir)
	p.write("bad")
	p.awaitStderr("line 3, column 1") // so the attempt before it is over
	p.holds("status.json", `"message": "kept"`)
	p.must(os.Remove(log), os.Rename(moved, log))
	p.write("STATE=failed")
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
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

// A degraded stream does not block the caller. It counts the events that it drops.
func TestDegraded_never_blocks(t *testing.T) {
	t.Parallel()
	p := start(t, "--write-timeout", "20ms")
	log, moved := filepath.Join(p.dir, "events.jsonl"), filepath.Join(p.dir, "moved")
	p.write("STATE=booted")
	p.ackUpTo(1)
	p.must(os.Rename(log, moved), os.Mkdir(log, 0o755))
	const flood = 3000 // more than is kept
	p.flood(flood)
	p.write("bad")
	p.awaitStderr(fmt.Sprintf("line %d, column 1", flood+2))
	p.must(os.Remove(log), os.Rename(moved, log))
	p.write("STATE=failed MESSAGE=last")
	p.in.Close()
	output := p.exits(exitFailed)
	p.holds("result.json", `"message": "last"`)
	kept := len(linesOf(p.file("events.jsonl")))
	p.seqs(kept)
	lost := flood + 2 - kept
	p.holds("rejected.jsonl", `"raw":"bad"`)
	if kept < 100 || lost < 100 || !strings.Contains(output, fmt.Sprintf(": %d events lost\n", lost)) {
		t.Errorf("%d events kept, %d lost; stderr:\n%s", kept, lost, output)
	}
	if acks := p.moreAcks(); acks != "" {
		t.Errorf("lines after a dropped one are acknowledged: %q", acks)
	}
}

// One request to stop does not end the retries: the disk may recover. A second
// one does, and what can be written is written.
func TestStop_while_retrying(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/events.jsonl", 0o755); err != nil {
		t.Fatal(err)
	}
	p := startIn(t, dir, nil, "--write-timeout", "1h", "--grace", "20ms", "--require-result")
	p.write("STATE=ready")
	p.awaitStderr("trying again")
	p.signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond) // longer than the grace
	p.absent("result.json")
	p.signal(syscall.SIGTERM)
	p.exits(exitFailed)
	p.holds("result.json", `"reason":"stream_ended"`)
	p.holds("status.json", `"state": "failed"`)
}

// After the command has ended, a signal ends the retries of run: Ctrl-C does not
// have to wait for the write timeout. The exit code is still the command's.
func TestRun_stop_while_retrying(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file   string // that cannot be written
		signal syscall.Signal
		warns  string
	}{
		{"events.jsonl", unix.SIGTERM, "1 event lost"},
		{"events.jsonl", unix.SIGINT, "1 event lost"},
		{"result.json", unix.SIGHUP, " could not be written in time; see the warnings above"},
		{"result.json", unix.SIGINT, " could not be written in time; see the warnings above"},
	} {
		t.Run(test.file+"/"+unix.SignalName(test.signal), func(t *testing.T) {
			t.Parallel()
			script := fmt.Sprintf(`cd "$PIKA_LIFECYCLE_DIR"; rm -f %[1]s; mkdir %[1]s; exit 7`, test.file)
			p := launchRun(t, script)
			p.awaitStderr("trying again")
			start := time.Now()
			p.signal(test.signal)
			out := p.exits(7)
			if !strings.Contains(out, test.warns) {
				t.Errorf("no warning %q:\n%s", test.warns, out)
			}
			if took := time.Since(start); took >= ingest.DefaultWriteTimeout-5*time.Second {
				t.Errorf("it ended after %v, with the write timeout", took)
			}
			p.holds("status.json", `"state": "failed"`)
		})
	}
}

// Nothing is lost if space is freed within the write timeout.
func TestFullDisk_space_freed(t *testing.T) {
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
	p.awaitStderr("events.jsonl: no space left on device; free disk space or inodes; trying again")
	p.seqs(1) // a short write was cut back
	p.must(os.Remove(filler))
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRejected)
	p.seqs(3)
	p.holds("result.json", `"seq": 3`)
	p.absent("events.jsonl.torn")
}

// If the disk stays full, the old status stays, and each loss is logged.
func TestFullDisk_degraded(t *testing.T) {
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
	output := p.exits(exitFailed)
	for _, want := range []string{"events.jsonl: no space left on device; free disk space or inodes; trying again\n",
		"status failed could not be written\n", "result failed could not be written\n", ": 1 event lost\n",
		": write " + dir + "/events.jsonl: no space left on device; free disk space or inodes; until it can be written, the last state and the result are kept in memory, and events beyond 2 MiB are lost\n"} {
		if strings.Count(output, want) != 1 {
			t.Errorf("%q is not on stderr once:\n%s", want, output)
		}
	}
	p.seqs(1)
	p.holds("status.json", `"state": "booted"`)
	names, err := namesIn(dir)
	if len(names) != 4 || err != nil { // no temporary file, no torn line
		t.Errorf("unexpected files: %q, %v", names, err)
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

// If another process holds the lock, the status and the result are still written.
// The test takes five seconds, the time limit for the lock.
func TestDegraded_lock_held(t *testing.T) {
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
	p.write("STATE=failed MESSAGE=last")
	p.awaitStderr(fmt.Sprintf("lock %s/events.jsonl.seq: still held by process %d ", dir, os.Getpid()))
	p.awaitStderr("gave up waiting for " + p.dir)
	p.write("bad")
	p.awaitStderr("line 2, column 1")
	p.holds("result.json", `"message": "last"`)
	p.holds("status.json", `"message": "last"`)
	p.absent("events.jsonl") // it is not written without the lock
	p.must(unix.Flock(int(lock.Fd()), unix.LOCK_UN))
	if seq, rejected := p.ackUpTo(2); seq != 1 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	if output := p.exits(exitFailed); strings.Count(output, "trying again") != 1 {
		t.Errorf("the held lock is not logged once:\n%s", output)
	}
	p.seqs(1)
}

// The stream goes on if stderr is not read.
func TestStderr_stuck_reader(t *testing.T) {
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
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRejected)
	p.holds("status.json", `"rejected": 3`)
}

// A result of the previous run that could not be renamed does not count as the
// result of this run.
func TestRequireResult_old_result_not_moved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if code, output := runHere([]string{"result", "--state-dir", dir, "--status", "completed", "--message", "old"}); code != exitOK {
		t.Fatal(output)
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
