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

// An obstacle puts another file in place of an artifact.
type obstacle struct {
	name  string
	cause string // in the warning of ingest
	put   func(path, target string) error
}

func obstacles() []obstacle {
	return []obstacle{
		{"directory", "a directory; ", func(path, _ string) error { return os.Mkdir(path, 0o755) }},
		{"symlink", "a symbolic link; ", func(path, target string) error { return os.Symlink(target, path) }},
		{"fifo", "not a regular file; ", func(path, _ string) error { return unix.Mkfifo(path, 0o644) }},
		{"hard link", "a file with a second hard link; ", func(path, target string) error { return os.Link(target, path) }},
	}
}

// place puts the obstacle at path. check checks that nothing was written to the target of
// a link.
func (o *obstacle) place(t *testing.T, path string) (check func()) {
	t.Helper()
	target := filepath.Join(filepath.Dir(path), "target")
	if err := os.WriteFile(target, []byte("target"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.put(path, target); err != nil {
		t.Fatal(err)
	}
	return func() {
		if text, err := os.ReadFile(target); err != nil || string(text) != "target" {
			t.Errorf("the target of the link contains %q, %v", text, err)
		}
	}
}

// If ingest cannot write the log, it still writes the other files.
func TestDegraded_log_blocked(t *testing.T) {
	for _, o := range obstacles() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			check := o.place(t, dir+"/events.jsonl")
			p := startIn(t, dir, nil, "--write-timeout", "20ms")
			p.write("STATE=booted", "bad", "STATE=failed EXIT_CODE=7 MESSAGE=last")
			p.in.Close()
			output := p.exits(exitFailed)
			p.contains("status.json", `"message": "last"`)
			p.contains("result.json", `"exit_code": 7`)
			p.contains("rejected.jsonl", `"raw":"bad"`)
			if n := strings.Count(output, dir+"/events.jsonl is "+o.cause+"remove it; trying again"); n != 1 {
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

// If ingest cannot write the status or the result, it still writes the other files.
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
			p.hasEvents(2)
			p.contains(c.other, c.text)
			p.contains(c.other, `"seq": 2`)
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
func TestReplace_link_or_FIFO(t *testing.T) {
	for _, o := range obstacles() {
		if o.name == "directory" {
			continue // cannot be replaced
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			checkStatus, checkResult := o.place(t, dir+"/status.json"), o.place(t, dir+"/result.json")
			p := startIn(t, dir, nil, "--write-timeout", "1h")
			p.write("STATE=failed")
			p.in.Close()
			p.exits(exitOK)
			for _, name := range []string{"status.json", "result.json"} {
				if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%s is %v, %v", name, info, err)
				}
				p.contains(name, `"failed"`)
			}
			checkStatus()
			checkResult()
		})
	}
}

// If an obstacle is removed within the write timeout, nothing is lost.
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
	p.hasEvents(5)
	p.contains("status.json", `"seq": 5`)
	p.contains("result.json", `"seq": 5`)
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
	p.awaitStderr("line 3, column 1") // then the attempt to write the earlier lines has ended
	p.contains("status.json", `"message": "kept"`)
	p.must(os.Remove(log), os.Rename(moved, log))
	p.write("STATE=failed")
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	p.exits(exitFailed) // all is written, but it was late
	p.hasEvents(3)
	p.contains("result.json", `"seq": 3`)
	p.contains("rejected.jsonl", `"line":3,`)
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
func TestDegraded_caller_not_blocked(t *testing.T) {
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
	p.contains("result.json", `"message": "last"`)
	kept := len(linesOf(p.file("events.jsonl")))
	p.hasEvents(kept)
	lost := flood + 2 - kept
	p.contains("rejected.jsonl", `"raw":"bad"`)
	if kept < 100 || lost < 100 || !strings.Contains(output, fmt.Sprintf(": %d events lost\n", lost)) {
		t.Errorf("%d events kept, %d lost; stderr:\n%s", kept, lost, output)
	}
	if acks := p.moreAcks(); acks != "" {
		t.Errorf("lines after a dropped one are acknowledged: %q", acks)
	}
}

// The first request to stop does not end the retries, because the disk may recover. The
// second one does, and ingest writes the files that it can.
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
	p.contains("result.json", `"reason":"stream_ended"`)
	p.contains("status.json", `"state": "failed"`)
}

// Some time after the command has ended, a signal ends the retries of run: Ctrl-C does
// not have to wait for the write timeout. The exit code is still the command's.
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
			time.Sleep(signalPause + 200*time.Millisecond)
			p.signal(test.signal)
			out := p.exits(7)
			if !strings.Contains(out, test.warns) {
				t.Errorf("no warning %q:\n%s", test.warns, out)
			}
			if took := time.Since(start); took >= ingest.DefaultWriteTimeout-5*time.Second {
				t.Errorf("it ended after %v, with the write timeout", took)
			}
			p.contains("status.json", `"state": "failed"`)
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
	p.write("KIND=ready MESSAGE="+strings.Repeat("x", 10000), "bad")
	p.awaitStderr("events.jsonl: no space left on device; free disk space or inodes; trying again")
	p.hasEvents(1) // a short write was cut back
	p.write("STATE=failed")
	p.must(os.Remove(filler))
	if seq, rejected := p.ackUpTo(4); seq != 3 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRejected)
	p.hasEvents(3)
	p.contains("result.json", `"seq": 3`)
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
	for _, want := range []string{"result.json: no space left on device; free disk space or inodes; trying again\n",
		"status failed could not be written\n", "result failed could not be written\n", ": 1 event lost\n",
		": replace " + dir + "/result.json: no space left on device; free disk space or inodes; until it can be written, the last state and the result are kept in memory, and events beyond 2 MiB are lost\n"} {
		if strings.Count(output, want) != 1 {
			t.Errorf("%q is not on stderr once:\n%s", want, output)
		}
	}
	p.hasEvents(1)
	p.contains("status.json", `"state": "booted"`)
	names, err := namesIn(dir)
	if len(names) != 5 || err != nil { // no temporary file, no torn line
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
	p.contains("result.json", `"message": "last"`)
	p.contains("status.json", `"message": "last"`)
	p.absent("events.jsonl") // it is not written without the lock
	p.must(unix.Flock(int(lock.Fd()), unix.LOCK_UN))
	if seq, rejected := p.ackUpTo(2); seq != 1 || rejected != 1 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	if output := p.exits(exitFailed); strings.Count(output, "trying again") != 1 {
		t.Errorf("the held lock is not logged once:\n%s", output)
	}
	p.hasEvents(1)
}

// The stream continues if nothing reads stderr.
func TestStderr_stuck_reader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fillPipe(t, w)
	p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = w })
	w.Close()
	p.write("bad", "worse", "STATE=ready", "bad", "STATE=failed")
	if seq, rejected := p.ackUpTo(5); seq != 2 || rejected != 3 {
		t.Errorf("acknowledged seq %d with %d rejected", seq, rejected)
	}
	p.in.Close()
	p.exits(exitRejected)
	p.contains("status.json", `"rejected": 3`)
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
	p.contains("result.json", `"reason":"stream_ended"`)
	p.contains("result.json.prev", `"message": "old"`)
}
