package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// A follower runs show --follow, and receives its lines.
type follower struct {
	*testing.T
	dir   string
	log   string
	lines chan string
}

// newFollower follows a state directory that does not exist yet.
func newFollower(t *testing.T) *follower {
	t.Helper()
	f := startFollower(t, filepath.Join(t.TempDir(), "run"), io.Discard)
	f.awaitLine("no status")
	f.awaitLine("no result")
	return f
}

// startFollower follows a state directory, which args name if they are given.
func startFollower(t *testing.T, dir string, stderr io.Writer, args ...string) *follower {
	t.Helper()
	f := &follower{T: t, dir: dir, lines: make(chan string, 100)}
	f.log = filepath.Join(f.dir, "events.jsonl")
	from, to := io.Pipe()
	a := app{stdout: to, stderr: stderr, getenv: func(string) string { return "" }, bootID: func() string { return "" },
		clock: func() ingest.Moment { return ingest.Moment{} }}
	done := make(chan struct{})
	go func() {
		if len(args) == 0 {
			args = []string{"--state-dir", f.dir}
		}
		a.main(append([]string{"show", "--follow", "--utc"}, args...))
		close(done)
	}()
	go func() {
		for lines := bufio.NewScanner(from); lines.Scan(); {
			f.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { // the next write of show fails, and show ends
		from.CloseWithError(errors.New("closed"))
		f.appendEvent(0, "the last")
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("show continues after its reader has closed the pipe")
		}
	})
	return f
}

// awaitLine waits for a line that ends in text. It ignores headings and blank lines.
func (f *follower) awaitLine(text string) {
	f.Helper()
	for {
		select {
		case line := <-f.lines:
			if strings.HasSuffix(line, text) {
				return
			}
			if line != "" && !strings.HasPrefix(line, "2026-") && !strings.HasPrefix(line, "time ") {
				f.Fatalf("show printed %q, want %q", line, text)
			}
		case <-time.After(20 * time.Second):
			f.Fatalf("show did not print %q", text)
		}
	}
}

// appendEvent appends an event, as a writer with this limit does.
func (f *follower) appendEvent(maxBytes int64, message string) {
	f.Helper()
	dir := writer.In(f.dir)
	defer dir.Close()
	dir.Events.RotateAt = maxBytes
	unlock, err := dir.Events.Lock()
	if err != nil {
		f.Fatal(err)
	}
	defer unlock()
	var batch writer.Batch
	batch.Add(&artifact.Event{Kind: "ready", Time: time.Date(2026, 3, 25, 20, 0, 0, 0, time.UTC), Message: strictjson.AppendText(nil, message), BootID: "b"})
	if err := dir.Events.Append(&batch); err != nil {
		f.Fatal(err)
	}
}

// appendText appends text to the log.
func (f *follower) appendText(text string) {
	f.Helper()
	file, err := os.OpenFile(f.log, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = file.WriteString(text)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		f.Fatal(err)
	}
}

func (f *follower) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func TestFollow_rotation_and_replacement(t *testing.T) {
	f := newFollower(t)
	f.appendEvent(0, "one")
	f.awaitLine("  one")
	f.appendEvent(0, "two")
	f.awaitLine("  two")
	f.appendEvent(1, "after a rotation")
	f.awaitLine("  after a rotation")
	f.appendEvent(0, "three")
	f.awaitLine("  three")

	f.appendText("what is this\n")
	f.awaitLine("is not an event: column 1: expected a JSON value")
	if _, err := verify.Repair(f.dir); err != nil {
		t.Fatal(err)
	}
	f.appendEvent(0, "after a repair") // the events before it are not shown again
	f.awaitLine("  after a repair")

	f.must(os.RemoveAll(f.dir))
	f.appendEvent(0, "in a new directory")
	f.awaitLine("  in a new directory")
}

// An incomplete line is not shown before its writer completes it, and not at all if
// the writer removes it.
func TestFollow_incomplete_line(t *testing.T) {
	f := newFollower(t)
	f.appendEvent(0, "one")
	f.awaitLine("  one")
	info, err := os.Stat(f.log)
	f.must(err)
	const line = `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00Z","message":"two","boot_id":"b","seq":2}` + "\n"
	f.appendText(strings.Replace(line, "two", "cut", 1)[:90])
	time.Sleep(50 * time.Millisecond) // so show may read it; the test passes either way
	f.must(os.Truncate(f.log, info.Size()))
	f.appendText(line[:50])
	time.Sleep(50 * time.Millisecond)
	f.appendText(line[50:])
	f.awaitLine("  two")

	f.must(os.Truncate(f.log, 0)) // the next event begins the log again
	f.appendEvent(0, "three")
	f.awaitLine("  three")
}

// A status that cannot be read is reported, and the log is followed.
func TestFollow_unreadable_status(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "status.json"), "garbage\n")
	stderr := make(lineWriter, 10)
	f := startFollower(t, dir, stderr)
	f.awaitLine("status unknown, because status.json cannot be read")
	f.awaitLine("no result")
	f.appendEvent(0, "one")
	f.awaitLine("  one")
	if got, want := <-stderr, "pika-cloud-lifecycle: "+dir+"/status.json is not a valid status: column 1: expected a JSON value; remove it, or wait until a writer replaces it\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

// A lineWriter sends each write to a channel.
type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// A file that holds no events is not followed.
func TestFollow_no_events(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	writeFile(t, path, "root:x:0:0:root:/root:/bin/bash\n")
	stdout, stderr, code := environment{}.runAll("show", "--follow", path)
	if !strings.HasPrefix(stderr, "pika-cloud-lifecycle: "+path+" holds no events (line 1 is not an event: ") || stdout != "" || code != exitFailed {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

// A directory or a file that the user has named may be created later.
func TestFollow_operand_appears_later(t *testing.T) {
	for _, name := range []string{"directory", "file"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "not/yet")
			operand := dir
			if name == "file" {
				operand = filepath.Join(dir, "events.jsonl")
			}
			f := startFollower(t, dir, io.Discard, operand)
			time.Sleep(50 * time.Millisecond) // so that show waits; the test passes either way
			f.appendEvent(0, "one")
			if name == "directory" {
				f.awaitLine("no status")
				f.awaitLine("no result")
			}
			f.awaitLine("  one")
			f.appendEvent(1, "two")
			f.awaitLine("  two")
		})
	}
}

// The process ends when the reader of its output has ended, although no event is written.
// SIGPIPE ends it, as it ends tail -f.
func TestFollow_output_closed(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"directory":         {"--state-dir", dir},
		"missing directory": {"--state-dir", filepath.Join(dir, "missing")},
		"missing operand":   {filepath.Join(dir, "missing")},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := testCommand(append([]string{"show", "--follow"}, args...)...)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if name != "missing operand" { // wait for the first output
				if _, err := r.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			r.Close()
			err = cmd.Wait()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if status.Signal() != syscall.SIGPIPE {
				t.Errorf("show ended with %v; want SIGPIPE", err)
			}
		})
	}
}

// A descriptor that is also open for reading is not a closed output.
func TestFollow_output_readable(t *testing.T) {
	dir := t.TempDir()
	f := &follower{T: t, dir: dir}
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := testCommand("show", "--follow", dir)
	cmd.Stdout = out
	f.must(cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for i := range 3 {
		f.appendEvent(0, fmt.Sprint("event ", i))
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			text, _ := os.ReadFile(path)
			if strings.Contains(string(text), fmt.Sprint("event ", i)) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("show printed %q; want event %d", text, i)
			}
		}
	}
}

// show --follow shows no file that is not a log.
func TestFollow_not_a_log(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.json")
	writeFile(t, path, `{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00.123Z","message":"m","seq":3}`)
	_, stderr, code := environment{}.runAll("show", "--follow", path)
	if !strings.Contains(stderr, "--follow needs a directory or a log") || code != exitUsage {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// A log that is not a regular file is reported once.
func TestFollow_log_is_fifo(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "events.jsonl"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := environment{}.runAll("show", "--follow", dir)
	if want := "pika-cloud-lifecycle: " + dir + "/events.jsonl is not a regular file; remove it\n"; stderr != want || code != exitFailed {
		t.Errorf("exit %d, stderr %q; want %q", code, stderr, want)
	}
}
