package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// tmpfs returns the path of a tmpfs of the given size.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	testenv.Mount(t)
	dir := t.TempDir()
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size="+size))
	t.Cleanup(func() { testenv.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// fillDisk writes a file that leaves no space in dir, and returns a function that
// removes it.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	return func() { testenv.Must(t, os.Remove(path)) }
}

// run keeps its result for a disk that is full when its command ends, also if a signal
// arrives: a service manager sends it to run and to the command, so it may arrive when
// the command has ended.
func TestRun_disk_full_for_a_moment(t *testing.T) {
	for _, signals := range [][]syscall.Signal{{}, {unix.SIGTERM}, {unix.SIGTERM, unix.SIGHUP}} {
		t.Run(fmt.Sprint(len(signals), " signals"), func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "64k")
			p := launch(t, dir, nil, "run", "--", "sh", "-c", "head -c 65536 /dev/zero >"+dir+"/filler; exit 4")
			p.awaitStderr("trying again")
			for _, s := range signals {
				p.signal(s)
			}
			time.Sleep(signalPause + 300*time.Millisecond)
			testenv.Must(t, os.Remove(dir+"/filler"))
			p.exits(4)
			p.hasEvents(2)
			p.contains("result.json", `"exit_code": 4`)
			p.contains("result.json", `"seq": 2`)
			p.contains("status.json", `"state": "failed"`)
		})
	}
}

// SIGTERM and SIGHUP that arrive together are one request to stop.
func TestIngest_sigterm_and_sighup(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "64k")
	p := startIn(t, dir, nil, "--write-timeout", "1h", "--grace", "10ms", "--require-result")
	p.write("STATE=booted")
	p.ackUpTo(1)
	free := fillDisk(t, dir)
	p.write("STATE=ready")
	p.awaitStderr("trying again")
	p.signal(unix.SIGTERM)
	p.signal(unix.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	free()
	p.exits(exitOK)
	p.hasEvents(3)
	p.contains("result.json", `"reason":"stream_ended"`)
}

// The command result waits for a disk that is full for a moment. status and event do
// not: the caller can repeat them.
func TestOneshot_disk_full_for_a_moment(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "64k")
	free := fillDisk(t, dir)
	for _, args := range [][]string{{"status", "--state=ready"}, {"event", "--kind=ready"}} {
		p := launch(t, dir, nil, append(args, "--message=m")...)
		if output := p.exits(exitFailed); strings.Contains(output, "trying again") {
			t.Errorf("%q: it tries again: %s", args, output)
		}
	}
	p := launch(t, dir, nil, "result", "--status=failed", "--exit-code=3", "--message=m")
	p.awaitStderr("result.json: no space left on device; free disk space or inodes; trying again")
	free()
	if output := p.exits(exitOK); !strings.Contains(output, "writing works again") {
		t.Errorf("stderr: %s", output)
	}
	p.contains("result.json", `"exit_code": 3`)
}

// retryWrite gives up after its limit, and immediately if the disk cannot recover.
func TestRetryWrite(t *testing.T) {
	for _, test := range []struct {
		cause error
		limit time.Duration
		warns bool
	}{{unix.ENOSPC, 20 * time.Millisecond, true}, {unix.EACCES, time.Hour, false}, {unix.EBUSY, time.Hour, false}} {
		var out strings.Builder
		a := &app{stderr: &out, getenv: func(string) string { return "" }}
		f := a.newOneshotFlags("result", resultUsage, "result-path")
		err := a.retryWrite(f, test.limit, func() error { return &os.PathError{Op: "write", Path: "p", Err: test.cause} })
		if !errors.Is(err, test.cause) || strings.Contains(out.String(), "; trying again\n") != test.warns {
			t.Errorf("%v: %v, stderr %q", test.cause, err, out.String())
		}
	}
}

// largeEvents returns n events of 370 bytes.
func largeEvents(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("KIND=ready MESSAGE=event-%03d DETAILS.text=%0170d", i+1, 0))
	}
	return lines
}

// If a burst of events does not fit, the result and the status are written, and then as
// many of the first events as fit. The others are counted.
func TestFullDisk_burst(t *testing.T) {
	for _, test := range []struct {
		name string
		last []string
		min  int // events
	}{
		{"events", nil, 50},
		{"with a result", []string{"STATE=failed EXIT_CODE=7"}, 30},
		{"with rejected lines", []string{"bad", "STATE=failed EXIT_CODE=7"}, 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "28k")
			p := startIn(t, dir, nil, "--write-timeout", "100ms")
			_, err := p.in.WriteString(strings.Join(append(largeEvents(100), test.last...), "\n") + "\n")
			testenv.Must(t, err, p.in.Close())
			output := p.exits(exitFailed)
			kept := len(linesOf(p.file("events.jsonl")))
			if kept < test.min {
				t.Errorf("only %d events are kept", kept)
			}
			p.hasEvents(kept)
			p.contains("events.jsonl", fmt.Sprintf(`"message":"event-%03d"`, kept))
			events := 100
			if test.last != nil {
				events++
				p.contains("result.json", `"exit_code": 7`)
				p.contains("status.json", `"state": "failed"`)
			}
			lost := fmt.Sprintf(": %d events lost\n", events-kept)
			if len(test.last) == 2 {
				lost = fmt.Sprintf(": %d events and 1 rejected line lost\n", events-kept)
			}
			if !strings.Contains(output, lost) {
				t.Errorf("stderr has no %q:\n%s", lost, output)
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
		})
	}
}

// The result is written although its events use nearly all of the disk. The stream need
// not wait for the write timeout to write it.
func TestFullDisk_nearly(t *testing.T) {
	for events := 35; events <= 60; events += 5 {
		t.Run(fmt.Sprint(events), func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "28k")
			p := startIn(t, dir, nil, "--write-timeout", "1h")
			_, err := p.in.WriteString(strings.Join(append(largeEvents(events), "STATE=failed EXIT_CODE=7"), "\n") + "\n")
			testenv.Must(t, err, p.in.Close())
			p.await("result.json", `"exit_code": 7`)
			p.await("status.json", `"state": "failed"`)
		})
	}
}

// A degraded stream that has no space for a burst leaves some free for the result.
func TestFullDisk_reserve_for_result(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "68k")
	p := startIn(t, dir, nil, "--write-timeout", "50ms")
	_, err := p.in.WriteString(strings.Join(largeEvents(400), "\n") + "\n")
	testenv.Must(t, err)
	p.awaitStderr("gave up waiting")
	for len(linesOf(p.file("events.jsonl"))) < 50 {
		time.Sleep(10 * time.Millisecond)
	}
	p.write("STATE=failed EXIT_CODE=7")
	p.await("result.json", `"exit_code": 7`)
	p.await("status.json", `"state": "failed"`)
	testenv.Must(t, p.in.Close())
	p.exits(exitFailed)
	kept := len(linesOf(p.file("events.jsonl")))
	if kept < 130 {
		t.Errorf("only %d events are kept", kept)
	}
	p.hasEvents(kept)
}

// A status and a result that were written before their event get its seq once the event
// is written.
func TestFullDisk_seq_added(t *testing.T) {
	for _, test := range []struct {
		timeout string
		waitFor string
		code    int
	}{{"1h", "trying again", exitOK}, {"50ms", "gave up waiting", exitFailed}} {
		t.Run(test.timeout, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "64k")
			filler := filepath.Join(dir, "filler")
			testenv.Must(t, os.WriteFile(filler, make([]byte, 40<<10), 0o644))
			p := startIn(t, dir, nil, "--write-timeout", test.timeout)
			_, err := p.in.WriteString(strings.Join(append(largeEvents(60), "STATE=failed EXIT_CODE=7"), "\n") + "\n")
			testenv.Must(t, err)
			p.awaitStderr(test.waitFor)
			p.await("result.json", `"exit_code": 7`)
			if text := p.file("result.json"); strings.Contains(text, `"seq"`) {
				t.Errorf("the result has a seq before its event is written: %s", text)
			}
			testenv.Must(t, os.Remove(filler))
			p.awaitStderr("writing works again")
			testenv.Must(t, p.in.Close())
			p.exits(test.code)
			p.hasEvents(61)
			p.contains("result.json", `"seq": 61`)
			p.contains("status.json", `"seq": 61`)
		})
	}
}

// bindMount makes a file a mount point, as a container engine does that mounts a single
// file. It returns a function that undoes this.
func bindMount(t *testing.T, path string) (unmount func()) {
	t.Helper()
	testenv.Mount(t)
	testenv.Must(t, unix.Mount(path, path, "", unix.MS_BIND, ""))
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			testenv.Must(t, unix.Unmount(path, unix.MNT_DETACH))
		}
	}
	t.Cleanup(unmount)
	return unmount
}

// A log that cannot be renamed continues to grow, with one warning. Once it can be
// renamed, it is rotated.
func TestMounted_log(t *testing.T) {
	t.Parallel()
	p := start(t, "--max-events", "1000")
	p.write("STATE=booted")
	p.ackUpTo(1)
	unmount := bindMount(t, p.dir+"/events.jsonl")
	for n := 2; n <= 20; n++ {
		p.write("KIND=ready")
		p.ackUpTo(n)
	}
	p.hasEvents(20)
	p.absent("events.jsonl.1")
	unmount()
	p.write("STATE=failed")
	p.ackUpTo(21)
	if n := len(linesOf(p.file("events.jsonl.1"))); n != 20 {
		t.Errorf("%d events were rotated", n)
	}
	p.in.Close()
	output := p.exits(exitOK)
	if n := strings.Count(output, "rename "+p.dir+"/events.jsonl: device or resource busy; the log is not rotated and continues to grow\n"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, output)
	}
}

// A status or a result that cannot be replaced delays nothing else. ingest reports it
// once, acknowledges no line that it belongs to, and tries it again with later commits.
func TestMounted_status_or_result(t *testing.T) {
	for _, test := range []struct {
		name, other string
		first       string // acknowledged
		unmounts    bool
	}{
		{"status.json", "result.json", "KIND=ready", false},
		{"result.json", "status.json", "STATE=ready", false},
		{"status.json", "result.json", "KIND=ready", true},
		{"result.json", "status.json", "STATE=ready", true},
	} {
		t.Run(fmt.Sprint(test.name, "/", test.unmounts), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, test.name)
			testenv.Must(t, os.WriteFile(file, nil, 0o644))
			unmount := bindMount(t, file)
			p := startIn(t, dir, nil, "--write-timeout", "1h")
			p.write(test.first)
			p.ackUpTo(1)
			p.write("STATE=failed EXIT_CODE=7")
			p.awaitStderr(file + ": device or resource busy; it is a mount point; mount the state directory instead of this file; the other files are not affected")
			p.await(test.other, `"failed"`)
			for n := range 10 {
				p.write("KIND=failed")
				for len(linesOf(p.file("events.jsonl"))) < 3+n {
					time.Sleep(time.Millisecond)
				}
			}
			if p.file(test.name) != "" {
				t.Errorf("%s is %s", test.name, p.file(test.name))
			}
			code := exitFailed
			if test.unmounts {
				unmount()
				code = exitOK
				p.write("KIND=failed")
				p.ackUpTo(13)
			}
			testenv.Must(t, p.in.Close())
			output := p.exits(code)
			if n := strings.Count(output, "mount point"); n > 1 {
				t.Errorf("%d warnings:\n%s", n, output)
			}
			if test.unmounts {
				p.contains(test.name, `"seq": 2`)
				return
			}
			if acks := p.moreAcks(); acks != "" {
				t.Errorf("acknowledged: %q", acks)
			}
			if !strings.Contains(output, " failed could not be written\n") {
				t.Errorf("the loss is not logged:\n%s", output)
			}
		})
	}
}

// A run starts although its status cannot be replaced, and the result of the previous
// run is kept.
func TestMounted_status_at_run_start(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.write("STATE=failed EXIT_CODE=1")
	testenv.Must(t, p.in.Close())
	p.exits(exitOK)
	bindMount(t, p.dir+"/status.json")
	p = startIn(t, p.dir, nil, "--write-timeout", "1h")
	p.write("STATE=starting", "KIND=ready", "STATE=completed")
	for len(linesOf(p.file("events.jsonl"))) < 4 {
		time.Sleep(time.Millisecond)
	}
	testenv.Must(t, p.in.Close())
	p.exits(exitFailed)
	p.contains("result.json", `"status": "completed"`)
	p.contains("result.json.prev", `"exit_code": 1`)
}
