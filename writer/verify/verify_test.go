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
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

const (
	bootA = "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11"
	bootB = "88059f83-9637-4953-a507-8aac6f3477ee"
)

var when = time.Date(2026, 3, 25, 20, 0, 0, 123e6, time.UTC)

// A guest is a state directory, and what a test does to it.
type guest struct {
	*testing.T
	dir string
}

// newGuest makes a sound one: four events, the last of which is the verdict.
func newGuest(t *testing.T) guest {
	t.Helper()
	g := guest{t, filepath.Join(t.TempDir(), "run")}
	seq := g.appends("booted", "starting", "ready", "completed")
	dir, message := writer.In(g.dir), strictjson.AppendText(nil, "completed")
	defer dir.Close()
	err := errors.Join(dir.Result.Replace(&writer.Result{Outcome: "completed", ExitCode: new(int32), Time: when, Message: message, BootID: bootA, Seq: seq}),
		dir.Status.Replace(&writer.Status{State: "completed", Time: when, Message: message, BootID: bootA, Seq: seq}))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// appends appends an event of each kind, as a writer does, and returns the last seq.
func (g guest) appends(kinds ...writer.State) uint64 {
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
		batch.Add(&writer.Event{Kind: kind, Time: when, Message: strictjson.AppendText(nil, kind), BootID: bootA, Uptime: time.Duration(i+1) * time.Second})
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

// told returns findings as text, those that can be mended with a mark.
func told(findings []verify.Finding) (all []string) {
	for _, f := range findings {
		text := fmt.Sprintf("%s:%d %s", f.File, f.Line, f.What)
		if f.Mendable {
			text = "+" + text
		}
		all = append(all, text)
	}
	return all
}

// damages are what may be wrong with a directory, and what is said of each.
var damages = []struct {
	name string
	do   func(g guest)
	want []string
}{
	{"nothing", func(guest) {}, nil},
	{"a seq is missing", func(g guest) { l := g.lines(); g.setLines(l[0], l[2], l[3]) },
		[]string{"events.jsonl:2 seq 2 is missing before 3"}},
	{"two are", func(g guest) { l := g.lines(); g.setLines(l[0], l[3]) },
		[]string{"events.jsonl:2 seq 2 to 3 are missing before 4"}},
	{"a line twice", func(g guest) { l := g.lines(); g.setLines(l[0], l[1], l[1], l[2], l[3]) },
		[]string{"+events.jsonl:3 seq 2 stands twice"}},
	{"seq falls", func(g guest) { l := g.lines(); g.setLines(append(l, l[0], l[1])...) },
		[]string{"+events.jsonl:5 seq falls from 4 to 1", "+events.jsonl.seq:0 names 4; the last event has seq 2"}},
	{"a line that is none", func(g guest) { l := g.lines(); g.setLines(l[0], "half of {\n", l[1], "\n", l[2], l[3]) },
		[]string{"+events.jsonl:2 column 1: expected a value", "+events.jsonl:4 the line is blank"}},
	{"a line of another kind", func(g guest) { l := g.lines(); g.setLines(l[0], l[1], `{"schema_version":1}`+"\n", l[2], l[3]) },
		[]string{"+events.jsonl:3 kind is missing"}},
	{"a BOM", func(g guest) { g.write("events.jsonl", "\ufeff"+g.read("events.jsonl")) },
		[]string{"+events.jsonl:1 column 1: expected a value"}},
	{"invalid UTF-8", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, "\"message\":\"\xff\"") },
		[]string{"+events.jsonl:3 invalid UTF-8"}},
	{"a lone surrogate", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, `"message":"\ud800"`) },
		[]string{"+events.jsonl:3 a lone surrogate"}},
	{"a repeated name", func(g guest) { g.replace("events.jsonl", `"message":"ready"`, `"message":"","message":"m"`) },
		[]string{"+events.jsonl:3 a name that stands twice in an object"}},
	{"a torn line", func(g guest) { g.write("events.jsonl", g.read("events.jsonl")+`{"schema_version":1,"ki`) },
		[]string{"+events.jsonl:5 the file ends within the line: its newline is missing"}},
	{"a newline missing", func(g guest) { g.write("events.jsonl", strings.TrimSuffix(g.read("events.jsonl"), "\n")) },
		[]string{"+events.jsonl:4 the file ends within the line: its newline is missing", "+events.jsonl.seq:0 names 4; the last event has seq 3",
			"status.json:0 tells of event 4; the log ends with 3", "result.json:0 tells of event 4; the log ends with 3"}},
	{"a seq file that is low", func(g guest) { g.write("events.jsonl.seq", "3\n") },
		[]string{"+events.jsonl.seq:0 names 3; the last event has seq 4"}},
	{"garbage", func(g guest) { g.write("events.jsonl.seq", "4\n\x00\n") },
		[]string{`+events.jsonl.seq:0 "4\n\x00\n"; expected a number and a newline`}},
	{"nothing in it", func(g guest) { g.write("events.jsonl.seq", "") },
		[]string{`+events.jsonl.seq:0 ""; expected a number and a newline`}},
	{"no seq file, as in a copy", func(g guest) { g.must(os.Remove(g.path("events.jsonl.seq"))) }, nil},
	{"no log and no seq", func(g guest) {
		g.must(os.Remove(g.path("events.jsonl")))
		g.must(os.Remove(g.path("events.jsonl.seq")))
	}, nil},
	{"a seq twice over a rotation", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0]+l[1]+l[2])
		g.setLines(l[2], l[3])
	}, []string{"+events.jsonl:1 seq 3 stands twice"}},
	{"a gap at a rotation", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0])
		g.setLines(l[2], l[3])
	}, nil},
	{"an old log that is torn", func(g guest) {
		l := g.lines()
		g.write("events.jsonl.1", l[0]+"x")
		g.setLines(l[1:]...)
	}, []string{"events.jsonl.1:2 the file ends within the line: its newline is missing"}},
	{"a boot that comes back", func(g guest) {
		l := g.lines()
		g.setLines(l[0], strings.ReplaceAll(l[1], bootA, bootB), l[2], l[3])
	}, []string{"events.jsonl:3 boot \"" + bootA + "\" comes back: it began at line 1, and another one since"}},
	{"a status that is none", func(g guest) { g.write("status.json", "{}\n") }, []string{"status.json:0 schema_version is missing"}},
	{"a status that is cut", func(g guest) { g.write("status.json", strings.TrimSuffix(g.read("status.json"), "\n")) },
		[]string{"status.json:0 no newline at the end"}},
	{"a status of another event", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 3`) },
		[]string{"+status.json:0 says completed; event 3, of which it tells, is ready"}},
	{"a status of no event of its boot", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 3`, bootA, bootB) },
		[]string{"status.json:0 says completed; event 3, of which it tells, is ready"}},
	{"a status before the verdict", func(g guest) {
		g.replace("status.json", `"seq": 4`, `"seq": 3`, `"state": "completed"`, `"state": "ready"`)
	},
		[]string{"status.json:0 says ready, of event 3; the verdict is of event 4, after it"}},
	{"a status of no event", func(g guest) {
		g.replace("status.json", `"seq": 4`, `"seq": 3`, `"state": "completed"`, `"state": "failed"`)
	},
		[]string{"status.json:0 says failed; event 3, of which it tells, is ready"}},
	{"a status ahead of the log", func(g guest) { g.replace("status.json", `"seq": 4`, `"seq": 5`) },
		[]string{"+status.json:0 tells of event 5; the log ends with 4"}},
	{"a status of an event that is gone", func(g guest) {
		l := g.lines()
		g.setLines(l[0], l[1], l[3])
		g.replace("status.json", `"seq": 4`, `"seq": 3`)
		g.replace("result.json", `"seq": 4`, `"seq": 3`)
	}, []string{"events.jsonl:3 seq 3 is missing before 4", "+status.json:0 tells of event 3, which is not in the log",
		"+result.json:0 tells of event 3, which is not in the log"}},
	{"a status of another boot", func(g guest) { g.replace("status.json", bootA, bootB) },
		[]string{"status.json:0 has another boot_id than event 4, of which it tells"}},
	{"no result", func(g guest) { g.must(os.Remove(g.path("result.json"))) }, []string{"result.json:0 missing; the status says completed"}},
	{"another outcome", func(g guest) { g.replace("result.json", `"completed",`, `"failed",`) },
		[]string{"result.json:0 says failed; event 4, of which it tells, is completed"}},
	{"a verdict of another event", func(g guest) {
		g.appends("failed")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "failed"`)
	}, []string{"result.json:0 says completed; the status says failed"}},
	{"a verdict of the run before", func(g guest) {
		g.appends("booted")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "booted"`)
	}, []string{"result.json:0 is the verdict of event 4; the status says booted, of event 5, after it"}},
	{"stopped after the verdict", func(g guest) {
		g.appends("stopped")
		g.replace("status.json", `"seq": 4`, `"seq": 5`, `"state": "completed"`, `"state": "stopped"`)
	}, nil},
	{"an old verdict that is none", func(g guest) { g.write("result.json.prev", "[]\n") }, []string{"result.json.prev:0 expected an object"}},
	{"rejects that are none", func(g guest) {
		g.write("rejected.jsonl", `{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}`+"\nx\ny")
	}, []string{"+rejected.jsonl:2 column 1: expected a value", "+rejected.jsonl:3 the file ends within the line: its newline is missing"}},
	{"temporaries", func(g guest) {
		g.write(".status.json123456789012345678", "x")
		g.write(".result.json.prev123456789012345678", "x")
	},
		[]string{"+.result.json.prev123456789012345678:0 a temporary that a crash left", "+.status.json123456789012345678:0 a temporary that a crash left"}},
	{"modes", func(g guest) {
		for _, name := range []string{"events.jsonl", "events.jsonl.seq", "status.json"} {
			g.must(os.Chmod(g.path(name), 0o640))
		}
	}, []string{"+status.json:0 mode is 0640; expected 0644", "+events.jsonl:0 mode is 0640; expected 0644", "+events.jsonl.seq:0 mode is 0640; expected 0600"}},
	{"a second link", func(g guest) { g.must(os.Link(g.path("status.json"), g.path("other"))) }, []string{"status.json:0 the file has a second link"}},
	{"a link", func(g guest) {
		g.must(os.Remove(g.path("result.json")))
		g.must(os.Symlink("status.json", g.path("result.json")))
	},
		[]string{"result.json:0 not a regular file: remove it, and see who may write to the directory", "result.json:0 missing; the status says completed"}},
	{"a FIFO", func(g guest) { g.must(unix.Mkfifo(g.path("rejected.jsonl"), 0o600)) },
		[]string{"rejected.jsonl:0 not a regular file: remove it, and see who may write to the directory"}},
	{"everybody's directory", func(g guest) { g.must(os.Chmod(g.dir, 0o777)) },
		[]string{":0 everybody may write to the directory, and so delete or forge what stands there"}},
	{"a group's directory", func(g guest) { g.must(os.Chmod(g.dir, 0o775)) },
		[]string{":0 a group may write to the directory, and so delete or forge what stands there"}},
	{"files of somebody else", func(g guest) { g.chown("status.json") },
		[]string{"events.jsonl:0 user 0 owns the file; status.json is user 1000's", "result.json:0 user 0 owns the file; status.json is user 1000's",
			"events.jsonl.seq:0 user 0 owns the file; status.json is user 1000's"}},
	{"a directory of somebody else", func(g guest) { g.chown("") },
		[]string{":0 user 1000 owns the directory, and so may delete or forge what user 0 wrote there"}},
	{"something of its own", func(g guest) { g.write("notes.txt", "x"); g.must(os.Mkdir(g.path("logs"), 0o777)) }, nil},
}

// chown gives a file to a user who is not root.
func (g guest) chown(name string) {
	g.Helper()
	if os.Getuid() != 0 {
		g.Skip("only root gives files away")
	}
	g.must(os.Chown(g.path(name), 1000, 1000))
}

func TestWhatIsFound(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			g := newGuest(t)
			d.do(g)
			before := g.all()
			report, err := verify.Dir(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := told(report.Findings); !slices.Equal(got, d.want) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(d.want, "\n"))
			}
			if after := g.all(); !slices.Equal(after, before) {
				t.Errorf("verify has changed the directory:\n%s\n%s", before, after)
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

// What can be mended is, not a byte is lost, and the next writer goes on.
func TestRepair(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			g := newGuest(t)
			d.do(g)
			before := g.texts("events.jsonl", "rejected.jsonl")
			r, err := verify.Repair(g.dir)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, want := range d.want {
				if want[0] != '+' && !(d.name == "a newline missing") {
					left = append(left, want)
				}
			}
			if got := told(r.Findings); !slices.Equal(got, left) {
				t.Errorf("left is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(left, "\n"))
			}
			if mended, want := len(r.Mended), len(d.want)-len(left); mended != want && d.name != "a newline missing" {
				t.Errorf("%d mended, want %d: %q", mended, want, told(r.Mended))
			}
			after := g.texts("events.jsonl", "events.jsonl.torn", "events.jsonl.unsound1", "rejected.jsonl", "rejected.jsonl.torn", "rejected.jsonl.unsound1")
			for line := range strings.Lines(before) {
				if !strings.Contains(after, strings.TrimSuffix(line, "\n")) {
					t.Errorf("lost: %s", line)
				}
			}
			for _, name := range r.Kept {
				if g.read(name) == "" {
					t.Errorf("%s is empty", name)
				}
			}
			if len(left) > 0 || d.name == "no log and no seq" { // which tell where to go on
				return
			}
			g.appends("ready")
			if report, err := verify.Dir(g.dir); err != nil || !report.Sound() {
				t.Errorf("not sound after an append: %q, %v", told(report.Findings), err)
			}
			if names, _ := filepath.Glob(g.path(".*")); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

// texts returns the contents of those files that are there.
func (g guest) texts(names ...string) string {
	var all bytes.Buffer
	for _, name := range names {
		if info, err := os.Lstat(g.path(name)); err == nil && info.Mode().IsRegular() {
			all.WriteString(g.read(name) + "\n")
		}
	}
	return all.String()
}

func TestARepairedLogHasEveryEventOnce(t *testing.T) {
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
	if got := g.read("events.jsonl.unsound1") + g.read("events.jsonl.torn"); got != strings.TrimSuffix(old, "torn")+"torn\n" {
		t.Errorf("kept is\n%s", got)
	}
	if got := g.read("events.jsonl.seq"); got != "6\n" {
		t.Errorf("seq file %q", got)
	}
	if want := []string{"events.jsonl.torn", "events.jsonl.unsound1"}; !slices.Equal(r.Kept, want) {
		t.Errorf("kept in %q, want %q", r.Kept, want)
	}
	for _, name := range []string{"status.json", "result.json"} {
		if got := g.read(name); !strings.Contains(got, "\n  \"seq\": 6\n") {
			t.Errorf("%s tells of another event:\n%s", name, got)
		}
	}
	g.write("events.jsonl", g.read("events.jsonl")+"x\n")
	if r, err = verify.Repair(g.dir); err != nil || !slices.Equal(r.Kept, []string{"events.jsonl.unsound2"}) {
		t.Errorf("kept in %q, %v: expected a name of its own", r.Kept, err)
	}
}

// Of two events that a status may tell of, it goes on telling of the one whose seq it has.
func TestARepairedStatusTellsOfItsEvent(t *testing.T) {
	g := newGuest(t)
	l := g.lines()
	twice := strings.Replace(l[0], "booted", "requested", 1)
	g.setLines(l[0], twice, l[1], l[2], l[3])
	g.appends("completed")
	if r, err := verify.Repair(g.dir); err != nil || !r.Sound() || r.LastSeq != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := g.read("status.json"); !strings.Contains(got, "\n  \"seq\": 5\n") {
		t.Errorf("%s", got)
	}
}

// A status of another writer may have any form.
func TestRepairRenumbersAStatusOnOneLine(t *testing.T) {
	g := newGuest(t)
	l := g.lines()
	g.setLines(l[0], strings.Replace(l[0], "booted", "requested", 1), l[1], l[2], l[3])
	g.appends("completed")
	var line bytes.Buffer
	g.must(json.Compact(&line, []byte(g.read("status.json"))))
	text := strings.Replace(line.String(), `"seq":4`, `"details":{"seq":4},"seq" : 4`, 1) + "\n"
	g.write("status.json", text)
	if r, err := verify.Repair(g.dir); err != nil || !r.Sound() || r.LastSeq != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := strings.Replace(text, `"seq" : 4`, `"seq" : 5`, 1)
	if got := g.read("status.json"); got != want || got == text {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestARepairWaitsForTheLockOfAllWriters(t *testing.T) {
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
		t.Errorf("repaired beside a writer: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While somebody holds the lock what stands there is under way; the look waits.
func TestALookWaitsForTheWriters(t *testing.T) {
	g := newGuest(t)
	whole := g.read("events.jsonl")
	dir := writer.In(g.dir)
	unlock, err := dir.Events.Lock()
	g.must(err)
	g.write("events.jsonl", whole+"half")
	done := make(chan *verify.Report, 1)
	go func() {
		report, _ := verify.Dir(g.dir)
		done <- report
	}()
	time.Sleep(50 * time.Millisecond)
	g.write("events.jsonl", whole)
	unlock()
	if report := <-done; !report.Sound() {
		t.Errorf("found %q", told(report.Findings))
	}
}

// Beside a writer that is busy all is sound at every look.
func TestABusyWriterIsSound(t *testing.T) {
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
		dir.Events.MaxBytes = 4 << 10
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
			batch.Add(&writer.Event{Kind: "stopped", Time: when, Message: message, BootID: bootA})
			err = errors.Join(dir.Events.Append(&batch),
				dir.Status.Replace(&writer.Status{State: "stopped", Time: when, Message: message, BootID: bootA, Seq: seq}))
			unlock()
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 300 {
		if report, err := verify.Dir(g.dir); err != nil || !report.Sound() {
			t.Fatalf("found %q, %v", told(report.Findings), err)
		}
	}
}

func TestWhatTheReportSays(t *testing.T) {
	g := newGuest(t)
	r, err := verify.Dir(g.dir)
	if err != nil || r.Events != 4 || r.Boots != 1 || r.FirstSeq != 1 || r.LastSeq != 4 || r.State != "completed" || r.Outcome != "completed" {
		t.Errorf("%+v, %v", r, err)
	}
	g.write("events.jsonl", strings.Repeat("x\n", verify.MaxFindings+500))
	r, err = verify.Dir(g.dir)
	if err != nil || len(r.Findings) != verify.MaxFindings || r.Omitted != 500+2 { // and what status and result tell of
		t.Errorf("%d findings, %d omitted, %v", len(r.Findings), r.Omitted, err)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
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
		t.Errorf("made %v, %v", names, err)
	}
}

// What was recorded from the Python command itself is sound.
func TestTheRecordedArtifactsAreSound(t *testing.T) {
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
		if r, err := verify.Dir(g.dir); err != nil || !r.Sound() {
			t.Errorf("%s: %q, %v", run.Name, told(r.Findings), err)
		}
	}
	if verified < 40 {
		t.Errorf("%d directories", verified)
	}
}

// What the Python command writes is sound, whatever the umask.
func TestThePythonCommandsArtifactsAreSound(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("python3 is not installed")
	}
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
	if err != nil || !r.Sound() || r.Events != 2 {
		t.Errorf("%d events, %q, %v", r.Events, told(r.Findings), err)
	}
	g.must(os.Chmod(g.path("events.jsonl"), 0o620))
	if r, err = verify.Dir(g.dir); err != nil || r.Sound() {
		t.Errorf("a log that a group may write is sound: %v", err)
	}
}
