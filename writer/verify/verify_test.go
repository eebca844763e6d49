package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

const (
	bootA = "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11"
	bootB = "88059f83-9637-4953-a507-8aac6f3477ee"
)

var when = time.Date(2026, 3, 25, 20, 0, 0, 123e6, time.UTC)

func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }

// A guest is a state directory, and what a test does to it.
type guest struct {
	*testing.T
	dir string
}

// newGuest makes a valid state directory: four events, the last of which is completed.
func newGuest(t *testing.T) guest {
	t.Helper()
	g := guest{t, filepath.Join(t.TempDir(), "run")}
	seq := g.appendEvents("booted", "starting", "ready", "completed")
	dir, message := writer.In(g.dir), strictjson.AppendText(nil, "completed")
	defer dir.Close()
	err := errors.Join(dir.Result.Replace(&artifact.Result{Outcome: "completed", ExitCode: new(int32), Time: when, Message: message, BootID: bootA, Seq: seq}),
		dir.Status.Replace(&artifact.Status{State: "completed", Time: when, Message: message, BootID: bootA, Seq: seq}))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// appendEvents appends an event of each kind, as a writer does, and returns the last seq.
func (g guest) appendEvents(kinds ...artifact.State) uint64 {
	g.Helper()
	dir := writer.In(g.dir)
	defer dir.Close()
	unlock, err := dir.Events.Lock()
	if err != nil {
		g.Fatal(err)
	}
	defer unlock()
	var batch writer.Batch
	for i, kind := range kinds {
		batch.Add(&artifact.Event{Kind: kind, Time: when, Message: strictjson.AppendText(nil, kind), BootID: bootA, Uptime: time.Duration(i+1) * time.Second})
	}
	if err := dir.Events.Append(&batch); err != nil {
		g.Fatal(err)
	}
	return batch.Seq(batch.Len() - 1)
}

func (g guest) path(name string) string { return filepath.Join(g.dir, name) }

func (g guest) read(name string) string {
	g.Helper()
	text, err := os.ReadFile(g.path(name))
	g.must(err)
	return string(text)
}

func (g guest) write(name, text string) {
	g.Helper()
	mode := fs.FileMode(0o644)
	if name == "events.jsonl.seq" {
		mode = 0o600
	}
	g.must(os.WriteFile(g.path(name), []byte(text), mode))
}

func (g guest) replace(name string, oldnew ...string) {
	g.Helper()
	text := g.read(name)
	changed := strings.NewReplacer(oldnew...).Replace(text)
	if changed == text {
		g.Fatalf("%s has no %q", name, oldnew)
	}
	g.write(name, changed)
}

func (g guest) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// lines returns the lines of the log, their newlines with them.
func (g guest) lines() []string { return slices.Collect(strings.Lines(g.read("events.jsonl"))) }

func (g guest) setLines(lines ...string) { g.write("events.jsonl", strings.Join(lines, "")) }

// texts returns findings as text; those that can be repaired begin with a plus.
func texts(findings []verify.Finding) (all []string) {
	for _, f := range findings {
		text := fmt.Sprintf("%s:%d %s", f.File, f.Line, f.What)
		if f.Repairable {
			text = "+" + text
		}
		all = append(all, text)
	}
	return all
}

// A problem is what may be wrong with a state directory.
type problem struct {
	name   string
	create func(g guest)
	want   []string // the findings
}

var problems = []problem{
	{"valid directory", func(guest) {}, nil},
	{"missing seq", func(g guest) { l := g.lines(); g.setLines(l[0], l[2], l[3]) },
		[]string{"events.jsonl:2 seq 2 is missing before 3"}},
	{"two missing seqs", func(g guest) { l := g.lines(); g.setLines(l[0], l[3]) },
		[]string{"events.jsonl:2 seq 2 to 3 are missing before 4"}},
	{"repeated line", func(g guest) { l := g.lines(); g.setLines(l[0], l[1], l[1], l[2], l[3]) },
		[]string{"+events.jsonl:3 seq 2 occurs twice"}},
	{"decreasing seq", func(g guest) { l := g.lines(); g.setLines(append(l, l[0], l[1])...) },
		[]string{"+events.jsonl:5 seq goes down from 4 to 1", "+events.jsonl.seq:0 content is 4, but the last event has seq 2"}},
	{"invalid line", func(g guest) { l := g.lines(); g.setLines(l[0], "half of {\n", l[1], "\n", l[2], l[3]) },
		[]string{"+events.jsonl:2 column 1: expected a JSON value", "+events.jsonl:4 the line is blank"}},
	{"line without a kind", func(g guest) { l := g.lines(); g.setLines(l[0], l[1], `{"schema_version":1}`+"\n", l[2], l[3]) },
		[]string{"+events.jsonl:3 kind is missing"}},
	{"BOM", func(g guest) { g.write("events.jsonl", "\ufeff"+g.read("events.jsonl")) },
		[]string{"+events.jsonl:1 column 1: expected a JSON value"}},
	{"invalid UTF-8", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, "\"message\":\"\xff\"") },
		[]string{"+events.jsonl:3 invalid UTF-8"}},
	{"lone surrogate", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, `"message":"\ud800"`) },
		[]string{"+events.jsonl:3 a lone surrogate"}},
	{"repeated name", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, `"message":"","message":"m"`) },
		[]string{"+events.jsonl:3 a name that occurs twice in an object"}},
	{"torn line", func(g guest) { g.write("events.jsonl", g.read("events.jsonl")+`{"schema_version":1,"ki`) },
		[]string{"+events.jsonl:5 the line is incomplete: the file ends before its newline"}},
	{"missing newline after the last event", func(g guest) { g.write("events.jsonl", strings.TrimSuffix(g.read("events.jsonl"), "\n")) },
		[]string{"+events.jsonl:4 the line is incomplete: the file ends before its newline", "+events.jsonl.seq:0 content is 4, but the last event has seq 3",
			"status.json:0 seq is 4, but the last event has seq 3", "result.json:0 seq is 4, but the last event has seq 3"}},
	{"low seq file", func(g guest) { g.write("events.jsonl.seq", "3\n") },
		[]string{"+events.jsonl.seq:0 content is 3, but the last event has seq 4"}},
	{"seq file with garbage", func(g guest) { g.write("events.jsonl.seq", "4\n\x00\n") },
		[]string{`+events.jsonl.seq:0 content is "4\n\x00\n"; expected a number and a newline`}},
	{"empty seq file", func(g guest) { g.write("events.jsonl.seq", "") },
		[]string{`+events.jsonl.seq:0 content is ""; expected a number and a newline`}},
	{"no seq file, as in a copy", func(g guest) { g.must(os.Remove(g.path("events.jsonl.seq"))) }, nil},
	{"no log and no seq", func(g guest) {
		g.must(os.Remove(g.path("events.jsonl")))
		g.must(os.Remove(g.path("events.jsonl.seq")))
	}, nil},
	{"repeated seq after a rotation", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0]+l[1]+l[2])
		g.setLines(l[2], l[3])
	}, []string{"+events.jsonl:1 seq 3 occurs twice"}},
	{"gap at a rotation", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0])
		g.setLines(l[2], l[3])
	}, nil},
	{"torn old log", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0]+"x")
		g.setLines(l[1:]...)
	}, []string{"events.jsonl.1:2 the line is incomplete: the file ends before its newline"}},
	{"interrupted boot", func(g guest) {
		l := g.lines()
		g.setLines(l[0], strings.ReplaceAll(l[1], bootA, bootB), l[2], l[3])
	}, []string{"events.jsonl:3 boot \"" + bootA + "\", which began on line 1, continues after another boot"}},
	{"invalid status", func(g guest) { g.write("status.json", "{}\n") }, []string{"status.json:0 schema_version is missing; remove it, or wait until a writer replaces it"}},
	{"status without its newline", func(g guest) { g.write("status.json", strings.TrimSuffix(g.read("status.json"), "\n")) },
		[]string{"status.json:0 the newline at the end is missing"}},
	{"status with the seq of another event", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 3`) },
		[]string{"+status.json:0 seq is 3, but event 3 is ready, not completed"}},
	{"status with the seq of another event and another boot", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 3`, bootA, bootB) },
		[]string{"status.json:0 seq is 3, but event 3 is ready, not completed"}},
	{"status older than the result", func(g guest) {
		g.replace("status.json", `"seq": 4`, `"seq": 3`, `"state": "completed"`, `"state": "ready"`)
	},
		[]string{"status.json:0 the state ready is from event 3, but result.json is from the later event 4"}},
	{"status that matches no event", func(g guest) {
		g.replace("status.json", `"seq": 4`, `"seq": 3`, `"state": "completed"`, `"state": "failed"`)
	},
		[]string{"status.json:0 seq is 3, but event 3 is ready, not failed"}},
	{"status ahead of the log", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 5`) },
		[]string{"+status.json:0 seq is 5, but the last event has seq 4"}},
	{"status of a missing event", func(g guest) {
		l := g.lines()
		g.setLines(l[0], l[1], l[3])
		g.replace("status.json", `"seq": 4`, `"seq": 3`)
		g.replace("result.json", `"seq": 4`, `"seq": 3`)
	}, []string{"events.jsonl:3 seq 3 is missing before 4", "+status.json:0 seq is 3, but the log has no event 3",
		"+result.json:0 seq is 3, but the log has no event 3"}},
	{"status of another boot", func(g guest) { g.replace("status.json", bootA, bootB) },
		[]string{"status.json:0 seq is 4, but event 4 has another boot_id"}},
	{"no result", func(g guest) { g.must(os.Remove(g.path("result.json"))) }, []string{"result.json:0 the file is missing, but the state in status.json is completed; in the same boot, recreate it with ingest --require-result </dev/null"}},
	{"result with another outcome", func(g guest) { g.replace("result.json", `"completed",`, `"failed",`) },
		[]string{"result.json:0 seq is 4, but event 4 is completed, not failed"}},
	{"result with the outcome of an earlier event", func(g guest) {
		g.appendEvents("failed")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "failed"`)
	}, []string{"result.json:0 status is completed, but the state in status.json is failed"}},
	{"result of the previous run", func(g guest) {
		g.appendEvents("booted")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "booted"`)
	}, []string{"result.json:0 the result is from event 4, but status.json has the state booted from the later event 5"}},
	{"stopped after the result", func(g guest) {
		g.appendEvents("stopped")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "stopped"`)
	}, nil},
	{"invalid previous result", func(g guest) { g.write("result.json.prev", "[]\n") }, []string{"result.json.prev:0 expected an object; remove it, or wait until a writer replaces it"}},
	{"invalid rejected lines", func(g guest) {
		g.write("rejected.jsonl", `{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}`+"\nx\ny")
	}, []string{"+rejected.jsonl:2 column 1: expected a JSON value", "+rejected.jsonl:3 the line is incomplete: the file ends before its newline"}},
	{"temporary files", func(g guest) {
		g.write(".status.json123456789012345678", "x")
		g.write(".result.json.prev123456789012345678", "x")
	},
		[]string{"+.result.json.prev123456789012345678:0 a crash left this temporary file", "+.status.json123456789012345678:0 a crash left this temporary file"}},
	{"wrong modes", func(g guest) {
		for _, name := range []string{"events.jsonl", "events.jsonl.seq", "status.json"} {
			g.must(os.Chmod(g.path(name), 0o640))
		}
	}, []string{"+status.json:0 mode is 0640; expected 0644", "+events.jsonl:0 mode is 0640; expected 0644", "+events.jsonl.seq:0 mode is 0640; expected 0600"}},
	{"second link", func(g guest) { g.must(os.Link(g.path("status.json"), g.path("other"))) }, []string{"status.json:0 the file has a second hard link, perhaps outside the directory"}},
	{"symbolic link", func(g guest) {
		g.must(os.Remove(g.path("result.json")))
		g.must(os.Symlink("status.json", g.path("result.json")))
	},
		[]string{"result.json:0 a symbolic link; remove it", "result.json:0 the file is missing, but the state in status.json is completed; in the same boot, recreate it with ingest --require-result </dev/null"}},
	{"FIFO", func(g guest) { g.must(unix.Mkfifo(g.path("rejected.jsonl"), 0o600)) },
		[]string{"rejected.jsonl:0 not a regular file; remove it"}},
	{"directory writable by all users", func(g guest) { g.must(os.Chmod(g.dir, 0o777)) },
		[]string{":0 every user may write to the directory, and can delete or forge its files"}},
	{"directory writable by a group", func(g guest) { g.must(os.Chmod(g.dir, 0o775)) },
		[]string{fmt.Sprintf(":0 group %d may write to the directory, and can delete or forge its files", os.Getgid())}},
	{"files of two users", func(g guest) { g.chown("status.json") },
		[]string{"events.jsonl:0 user 0 owns the file, but user 1000 owns status.json", "result.json:0 user 0 owns the file, but user 1000 owns status.json",
			"events.jsonl.seq:0 user 0 owns the file, but user 1000 owns status.json"}},
	{"directory of another user", func(g guest) { g.chown("") },
		[]string{":0 user 1000 may write to the directory, and can delete or forge its files"}},
	{"directory of another user, without a log", func(g guest) {
		g.chown("")
		g.must(errors.Join(os.Remove(g.path("events.jsonl")), os.Remove(g.path("events.jsonl.seq"))))
	}, []string{":0 user 1000 may write to the directory, and can delete or forge its files"}},
	{"files of another program", func(g guest) { g.write("notes.txt", "x"); g.must(os.Mkdir(g.path("logs"), 0o777)) }, nil},
}

// chown gives a file to an ordinary user.
func (g guest) chown(name string) {
	g.Helper()
	testenv.Root(g)
	g.must(os.Chown(g.path(name), 1000, 1000))
}

func TestDir(t *testing.T) {
	for _, d := range problems {
		t.Run(d.name, func(t *testing.T) {
			g := newGuest(t)
			d.create(g)
			before := g.all()
			report, err := verify.Dir(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := texts(report.Findings); !slices.Equal(got, d.want) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(d.want, "\n"))
			}
			if after := g.all(); !slices.Equal(after, before) {
				t.Errorf("Dir has changed the directory:\n%s\n%s", before, after)
			}
		})
	}
}

// all returns the names, modes and contents of all files.
func (g guest) all() (all []string) {
	g.Helper()
	entries, err := os.ReadDir(g.dir)
	g.must(err)
	for _, e := range entries {
		info, err := e.Info()
		g.must(err)
		text := ""
		if info.Mode().IsRegular() {
			text = g.read(e.Name())
		}
		all = append(all, fmt.Sprintf("%s %v %q", e.Name(), info.Mode(), text))
	}
	return all
}

// TestRepair checks that a repair reports the problems that are not repairable, loses no
// byte, and that the next writer continues.
func TestRepair(t *testing.T) {
	for _, d := range problems {
		t.Run(d.name, func(t *testing.T) {
			g := newGuest(t)
			d.create(g)
			before := g.readAll("events.jsonl", "rejected.jsonl")
			r, err := verify.Repair(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, want := range d.want {
				if want[0] != '+' && !(d.name == "missing newline after the last event") {
					left = append(left, want)
				}
			}
			if got := texts(r.Findings); !slices.Equal(got, left) {
				t.Errorf("the repair reports\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(left, "\n"))
			}
			if repaired, want := len(r.Repaired), len(d.want)-len(left); repaired != want && d.name != "missing newline after the last event" {
				t.Errorf("%d repaired, want %d: %q", repaired, want, texts(r.Repaired))
			}
			after := g.readAll("events.jsonl", "events.jsonl.torn", "events.jsonl.damaged1", "rejected.jsonl", "rejected.jsonl.torn", "rejected.jsonl.damaged1")
			for line := range strings.Lines(before) {
				if !strings.Contains(after, strings.TrimSuffix(line, "\n")) {
					t.Errorf("lost: %s", line)
				}
			}
			for _, name := range r.KeptFiles {
				if g.read(name) == "" {
					t.Errorf("%s is empty", name)
				}
			}
			if len(left) > 0 || d.name == "no log and no seq" { // the next seq is unknown
				return
			}
			g.appendEvents("ready")
			if report, err := verify.Dir(g.dir); err != nil || !report.Valid() {
				t.Errorf("invalid after an append: %q, %v", texts(report.Findings), err)
			}
			if names, _ := filepath.Glob(g.path(".*")); len(names) > 0 {
				t.Errorf("temporary files are left: %q", names)
			}
		})
	}
}

// readAll returns the contents of those files that exist.
func (g guest) readAll(names ...string) string {
	var all bytes.Buffer
	for _, name := range names {
		if info, err := os.Lstat(g.path(name)); err == nil && info.Mode().IsRegular() {
			all.WriteString(g.read(name) + "\n")
		}
	}
	return all.String()
}

func TestRepair_log(t *testing.T) {
	g := newGuest(t)
	l := g.lines()
	bad := strings.Replace(l[2], `"message":"ready"`, "\"message\":\"\xff\"", 1)
	other := strings.Replace(l[1], "starting", "booted", 1)
	g.setLines(l[0], l[1], l[1], other, "{}\n", bad, l[0], l[3], "torn")
	old := g.read("events.jsonl")
	r, err := verify.Repair(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	renumbered := func(line string, from, to string) string { return strings.Replace(line, `"seq":`+from, `"seq":`+to, 1) }
	want := l[0] + l[1] + renumbered(other, "2", "3") +
		renumbered(strings.Replace(l[2], `"message":"ready"`, "\"message\":\"\ufffd\"", 1), "3", "4") + renumbered(l[0], "1", "5") + renumbered(l[3], "4", "6")
	if got := g.read("events.jsonl"); got != want {
		t.Errorf("the log is\n%s\nwant\n%s", got, want)
	}
	if got := g.read("events.jsonl.damaged1") + g.read("events.jsonl.torn"); got != strings.TrimSuffix(old, "torn")+"torn\n" {
		t.Errorf("the removed lines are\n%s", got)
	}
	if got := g.read("events.jsonl.seq"); got != "6\n" {
		t.Errorf("seq file %q", got)
	}
	if want := []string{"events.jsonl.torn", "events.jsonl.damaged1"}; !slices.Equal(r.KeptFiles, want) {
		t.Errorf("kept files %q, want %q", r.KeptFiles, want)
	}
	for _, name := range []string{"status.json", "result.json"} {
		if got := g.read(name); !strings.Contains(got, "\n  \"seq\": 6\n") {
			t.Errorf("%s has not seq 6:\n%s", name, got)
		}
	}
	g.write("events.jsonl", g.read("events.jsonl")+"x\n")
	if r, err = verify.Repair(g.dir); err != nil || !slices.Equal(r.KeptFiles, []string{"events.jsonl.damaged2"}) {
		t.Errorf("kept files %q, %v: expected a new name", r.KeptFiles, err)
	}
}

// If two events match the status, its seq decides which of them it belongs to.
func TestRepair_status_matches_two_events(t *testing.T) {
	g := newGuest(t)
	l := g.lines()
	twice := strings.Replace(l[0], "booted", "requested", 1)
	g.setLines(l[0], twice, l[1], l[2], l[3])
	g.appendEvents("completed")
	if r, err := verify.Repair(g.dir); err != nil || !r.Valid() || r.LastSeq != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := g.read("status.json"); !strings.Contains(got, "\n  \"seq\": 5\n") {
		t.Errorf("%s", got)
	}
}

// A status of another writer may have any form.
func TestRepair_status_on_one_line(t *testing.T) {
	g := newGuest(t)
	l := g.lines()
	g.setLines(l[0], strings.Replace(l[0], "booted", "requested", 1), l[1], l[2], l[3])
	g.appendEvents("completed")
	var line bytes.Buffer
	g.must(json.Compact(&line, []byte(g.read("status.json"))))
	text := strings.Replace(line.String(), `"seq":4`, `"details":{"seq":4},"seq" : 4`, 1) + "\n"
	g.write("status.json", text)
	if r, err := verify.Repair(g.dir); err != nil || !r.Valid() || r.LastSeq != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := strings.Replace(text, `"seq" : 4`, `"seq" : 5`, 1)
	if got := g.read("status.json"); got != want || got == text {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRepair_lock_held(t *testing.T) {
	g := newGuest(t)
	g.write("events.jsonl", g.read("events.jsonl")+"x\n")
	dir := writer.In(g.dir)
	unlock, err := dir.Events.Lock()
	g.must(err)
	done := make(chan error, 1)
	go func() {
		_, err := verify.Repair(g.dir)
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("repaired while a writer held the lock: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

func TestDir_lock_held(t *testing.T) {
	g := newGuest(t)
	whole := g.read("events.jsonl")
	dir := writer.In(g.dir)
	unlock, err := dir.Events.Lock()
	g.must(err)
	g.write("events.jsonl", whole+"half")
	done := make(chan error, 1)
	go func() {
		report, err := verify.Dir(g.dir)
		if err == nil && !report.Valid() {
			err = fmt.Errorf("found %q", texts(report.Findings))
		}
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	g.write("events.jsonl", whole)
	unlock()
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

// receive returns what a call returned on another goroutine.
func receive(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the call does not return")
		return nil
	}
}

func TestDir_during_writes(t *testing.T) {
	g := newGuest(t)
	stop, done := make(chan struct{}), make(chan struct{})
	defer func() {
		close(stop)
		<-done
	}()
	go func() {
		defer close(done)
		dir, message := writer.In(g.dir), strictjson.AppendText(nil, "m")
		defer dir.Close()
		dir.Events.RotateAt = 4 << 10
		for seq := uint64(5); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			unlock, err := dir.Events.Lock()
			if err != nil {
				t.Error(err)
				return
			}
			var batch writer.Batch
			batch.Add(&artifact.Event{Kind: "stopped", Time: when, Message: message, BootID: bootA})
			err = errors.Join(dir.Events.Append(&batch),
				dir.Status.Replace(&artifact.Status{State: "stopped", Time: when, Message: message, BootID: bootA, Seq: seq}))
			unlock()
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 300 {
		if report, err := verify.Dir(g.dir); err != nil || !report.Valid() {
			t.Fatalf("found %q, %v", texts(report.Findings), err)
		}
	}
}

func TestReport(t *testing.T) {
	g := newGuest(t)
	r, err := verify.Dir(g.dir)
	if err != nil || r.Events != 4 || r.Boots != 1 || r.FirstSeq != 1 || r.LastSeq != 4 || r.State != "completed" || r.Outcome != "completed" {
		t.Errorf("%+v, %v", r, err)
	}
	g.write("events.jsonl", strings.Repeat("x\n", verify.MaxFindings+500))
	r, err = verify.Dir(g.dir)
	if err != nil || len(r.Findings) != verify.MaxFindings || r.Omitted != 500+2 { // and those of status and result
		t.Errorf("%d findings, %d omitted, %v", len(r.Findings), r.Omitted, err)
	}
}

// becomeOrdinaryUser lets this test access files as user 1000, without capabilities
// (setfsuid(2), credentials(7)), if it runs as root.
func (g guest) becomeOrdinaryUser() {
	g.Helper()
	if os.Geteuid() != 0 {
		return
	}
	testenv.Root(g)
	parent := filepath.Dir(g.dir)
	g.must(errors.Join(os.Chmod(parent, 0o755), os.Chmod(filepath.Dir(parent), 0o755)))
	testenv.OpenToAll(g.T, parent)
	runtime.LockOSThread()
	g.Cleanup(runtime.UnlockOSThread)
	g.must(unix.Setfsuid(1000))
	g.Cleanup(func() { unix.Setfsuid(0) })
}

// TestDir_unchecked checks that a file which the user may not read is reported, and that
// the other files are checked.
func TestDir_unchecked(t *testing.T) {
	seqMode := []string{"+events.jsonl.seq:0 mode is 0644; expected 0600"}
	for name, c := range map[string]struct {
		hide     string // its mode is 0
		want     []string
		findings []string
	}{
		"seq_file": {"events.jsonl.seq", []string{"events.jsonl.seq its number was not checked, and the other files were read without its lock"}, nil},
		"status":   {"status.json", []string{"status.json its content was not checked"}, seqMode},
		"log":      {"events.jsonl", []string{"events.jsonl its content was not checked"}, nil},
		"result":   {"result.json", []string{"result.json its content was not checked"}, seqMode}, // it is not missing
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.must(os.Chmod(g.path("events.jsonl.seq"), 0o644)) // which is a finding
			g.must(os.Chmod(g.path(c.hide), 0))
			g.becomeOrdinaryUser()
			r, err := verify.Dir(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range r.Unchecked {
				got = append(got, u.File+" "+u.Effect)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("unchecked %q, want %q", got, c.want)
			}
			if got := texts(r.Findings); !slices.Equal(got, c.findings) {
				t.Errorf("found %q, want %q", got, c.findings)
			}
		})
	}
	t.Run("directory_not_readable", func(t *testing.T) {
		g := newGuest(t)
		g.must(errors.Join(os.Chmod(g.path("events.jsonl.seq"), 0o644), os.Chmod(g.dir, 0o711)))
		if os.Geteuid() != 0 {
			g.must(os.Chmod(g.dir, 0o311))
			g.Cleanup(func() { os.Chmod(g.dir, 0o755) })
		}
		g.becomeOrdinaryUser()
		r, err := verify.Dir(g.dir)
		if want := (verify.Unchecked{Effect: "temporary files were not looked for"}); err != nil || !slices.Equal(r.Unchecked, []verify.Unchecked{want}) {
			t.Errorf("unchecked %q, %v; want %q", r.Unchecked, err, want)
		}
	})
	t.Run("directory_mode_0", func(t *testing.T) {
		g := newGuest(t)
		g.must(os.Chmod(g.dir, 0))
		g.Cleanup(func() { os.Chmod(g.dir, 0o755) })
		g.becomeOrdinaryUser()
		r, err := verify.Dir(g.dir)
		var pathErr *fs.PathError
		if !errors.As(err, &pathErr) || pathErr.Path != g.dir || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%+v, %v; want an error about the directory", r, err)
		}
	})
}

func TestDir_rejected_lines(t *testing.T) {
	g := newGuest(t)
	const line = `{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}` + "\n"
	g.write("rejected.jsonl", line+line)
	if r, err := verify.Dir(g.dir); err != nil || r.Rejected != 2 || !r.Valid() {
		t.Errorf("%+v, %v; want 2 rejected lines", r, err)
	}
}

func TestDir_unreadable_path(t *testing.T) {
	g := newGuest(t)
	empty := t.TempDir()
	for _, path := range []string{filepath.Join(g.dir, "none"), g.path("status.json"), empty} {
		if r, err := verify.Dir(path); err == nil {
			t.Errorf("%s: %+v", path, r)
		}
		if r, err := verify.Repair(path); err == nil {
			t.Errorf("repair of %s: %+v", path, r)
		}
	}
	if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
		t.Errorf("created %v, %v", names, err)
	}
}

// The artifacts that were recorded from the Python command are valid.
func TestDir_recorded_Python_artifacts(t *testing.T) {
	text, err := os.ReadFile("../../testdata/golden/oneshot.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	for line := range bytes.Lines(text) {
		var run struct {
			Name  string
			Files map[string]string
		}
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		g, known := guest{t, t.TempDir()}, false
		for _, name := range []string{"status.json", "events.jsonl", "events.jsonl.seq", "result.json"} {
			if text, ok := run.Files[name]; ok {
				g.write(name, text)
				known = true
			}
		}
		if !known {
			continue
		}
		verified++
		if r, err := verify.Dir(g.dir); err != nil || !r.Valid() {
			t.Errorf("%s: %q, %v", run.Name, texts(r.Findings), err)
		}
	}
	if verified < 40 {
		t.Errorf("%d directories", verified)
	}
}

// The files of the Python command are valid, whatever the umask.
func TestDir_Python_command(t *testing.T) {
	python := testenv.Python(t)
	g := guest{t, t.TempDir()}
	for _, args := range [][]string{{"event", g.path("events.jsonl"), "one", "é 😀"}, {"status", g.path("status.json"), "ready", "m"},
		{"result", g.path("result.json"), "failed", "3", "m"}} {
		out, err := exec.Command(python, append([]string{"../../testdata/python_writer.py"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	g.must(os.Chmod(g.path("events.jsonl"), 0o600))
	r, err := verify.Dir(g.dir)
	if err != nil || !r.Valid() || r.Events != 2 {
		t.Errorf("%d events, %q, %v", r.Events, texts(r.Findings), err)
	}
	g.must(os.Chmod(g.path("events.jsonl"), 0o620))
	if r, err = verify.Dir(g.dir); err != nil || r.Valid() {
		t.Errorf("a log that a group may write is valid: %v", err)
	}
}

// A repair does not wait long for another process that holds a lock on the log, and
// reports it.
func TestRepair_log_locked(t *testing.T) {
	g := newGuest(t)
	g.write("events.jsonl", g.read("events.jsonl")+"x\n")
	f, err := os.Open(g.path("events.jsonl"))
	g.must(err)
	defer f.Close()
	g.must(unix.Flock(int(f.Fd()), unix.LOCK_SH))
	r, err := verify.Repair(g.dir)
	g.must(err)
	if got := texts(r.Findings); len(got) != 1 || !strings.Contains(got[0], "events.jsonl: held by process ") {
		t.Errorf("%q", got)
	}
	if r.Events != 4 {
		t.Errorf("%d events", r.Events)
	}
}

// On a file system that ignores chmod, a repair completes, and does not report again that
// it could repair the modes.
func TestRepair_chmod_ignored(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	g := newGuest(t)
	mounted := t.TempDir()
	testenv.Bindfs(t, g.dir, mounted, "--chmod-ignore", "--perms=0755")
	g.write("events.jsonl", g.read("events.jsonl")+"x\n")
	r, err := verify.Repair(mounted)
	g.must(err)
	if got := texts(r.Repaired); len(got) != 1 || !strings.Contains(got[0], "events.jsonl:5 ") {
		t.Errorf("repaired %q", got)
	}
	if len(r.Findings) == 0 {
		t.Error("the modes are not reported")
	}
	for _, f := range r.Findings {
		if f.Repairable || !strings.HasPrefix(f.What, "mode is 0755; ") {
			t.Errorf("%+v", f)
		}
	}
}

// On a FUSE file system without RENAME_EXCHANGE, a repair replaces the log by a rename.
func TestRepair_FUSE(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	g := newGuest(t)
	mounted := t.TempDir()
	testenv.Bindfs(t, g.dir, mounted)
	old := g.read("events.jsonl") + "x\n"
	g.write("events.jsonl", old)
	r, err := verify.Repair(mounted)
	g.must(err)
	if !r.Valid() || r.Events != 4 || !slices.Equal(r.KeptFiles, []string{"events.jsonl.damaged2"}) {
		t.Errorf("%+v", r)
	}
	if got := g.read("events.jsonl.damaged2"); got != old {
		t.Errorf("%s", got)
	}
}

// A check reports what a newer version wrote, and a repair keeps it.
func TestRepair_newer_version(t *testing.T) {
	const newer = `{"schema_version":2,"kind":"paused","when":"now","seq":5}` + "\n"
	newerReject := `{"schema_version":2,"what":"?"}` + "\n"
	g := newGuest(t)
	g.appendEvents("stopped") // 5
	g.appendEvents("starting")
	lines := g.lines()
	lines[4] = newer
	g.setLines(append(lines, "garbage\n")...)
	g.write("rejected.jsonl", newerReject+"garbage\n")
	status := strings.Replace(g.read("status.json"), ":1,", ":2,", 1)
	status = strings.Replace(status, `"schema_version": 1`, `"schema_version": 2`, 1)
	result := strings.Replace(strings.Replace(g.read("result.json"), ":1,", ":2,", 1), `"schema_version": 1`, `"schema_version": 2`, 1)
	g.write("status.json", status)
	g.write("result.json", result)
	r, err := verify.Repair(g.dir)
	g.must(err)
	const words = ": was written by a newer version; update pika-cloud-lifecycle"
	want := []string{"status.json" + words, "result.json" + words, "events.jsonl:5" + words, "rejected.jsonl:1" + words}
	var got []string
	for _, f := range r.Findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", place, f.Line)
		}
		got = append(got, place+": "+f.What)
		if f.Repairable {
			t.Errorf("%+v is repairable", f)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	if after := g.read("events.jsonl"); after != strings.Join(lines, "") {
		t.Errorf("the log is now\n%s", after)
	}
	if after := g.read("rejected.jsonl"); after != newerReject {
		t.Errorf("rejected.jsonl is now %q", after)
	}
	if g.read("status.json") != status || g.read("result.json") != result {
		t.Error("the repair changed the status or the result")
	}
}
