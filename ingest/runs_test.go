package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// existingFiles is a result from before the stream starts, and the status with
// it.
func existingFiles(state string, statusSeq int, boot string) map[string]string {
	return map[string]string{
		"result.json": fmt.Sprintf(`{"schema_version": 1, "status": "failed", "finished_at": "2026-03-24T00:00:00.000Z", "message": "old"%s, "seq": 7}`, boot),
		"status.json": fmt.Sprintf(`{"schema_version": 1, "state": %q, "updated_at": "2026-03-24T00:00:00.000Z", "message": "old"%s, "seq": %d}`, state, boot, statusSeq),
	}
}

const thisBoot, otherBoot = `, "boot_id": "` + testBoot + `"`, `, "boot_id": "other"`

func TestRequireResult(t *testing.T) {
	garbage := map[string]string{"result.json": "garbage"}
	for _, c := range []struct {
		what     string
		before   map[string]string
		input    string
		fallback bool
	}{
		{"nothing", nil, "", true},
		{"nothing that counts", nil, "# x\n\n", true},
		{"a run", nil, "STATE=starting\nSTATE=ready\n", true},
		{"completed", nil, "STATE=completed\n", false},
		{"failed", nil, "STATE=failed EXIT_CODE=3\n", false},
		{"a result alone", nil, "STATE=ready\nSTATUS=failed\n", false},
		{"an event alone", nil, "KIND=failed\n", true},
		{"a status alone", nil, "TYPE=status STATE=failed\n", true},
		{"a result that is rejected", nil, "STATE=completed EXIT_CODE=3\n", true},
		{"a result that is cut", nil, "STATE=ready\nSTATE=failed", true},
		{"a result in JSON without newline", nil, `{"state":"failed"}`, false},
		{"stopped", nil, "STATE=ready\nSTATE=stopped\n", false},
		{"destroyed", nil, "STATE=destroyed\n", false},
		{"a status that is stopped", nil, "TYPE=status STATE=stopped\n", false},
		{"an event of stopping", nil, "STATE=ready\nKIND=stopped\n", true},
		{"unreachable", nil, "STATE=unreachable\n", true},
		{"stopped, and started again", nil, "STATE=stopped\nSTATE=booted\n", true},

		{"a result of this boot", existingFiles("failed", 7, thisBoot), "", false},
		{"a result of this boot, and events", existingFiles("failed", 7, thisBoot), "KIND=ready\n", false},
		{"a result of this boot, then stopped", existingFiles("stopped", 8, thisBoot), "", false},
		{"a result of another boot", existingFiles("failed", 7, otherBoot), "", true},
		{"a result of no boot", existingFiles("failed", 7, ""), "", false},
		{"a result of this boot, and a new run", existingFiles("failed", 7, thisBoot), "STATE=booted\n", true},
		{"a crash before the result was moved", existingFiles("starting", 8, thisBoot), "", true},
		{"a result without its status, after a crash", existingFiles("ready", 6, thisBoot), "", false},
		{"a result that was reported again", existingFiles("failed", 8, thisBoot), "", false},
		{"a result that is garbage", garbage, "", true},
		{"stopped in this boot", map[string]string{"status.json": existingFiles("stopped", 8, thisBoot)["status.json"]}, "", false},
		{"stopped in another boot", map[string]string{"status.json": existingFiles("stopped", 8, otherBoot)["status.json"]}, "", true},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			g := newGuest(t)
			g.RequireResult = true
			for name, text := range c.before {
				g.write(name, text)
			}
			if sum := g.feed(c.input); sum.Fallback != c.fallback {
				t.Fatalf("fallback: %v; warnings:\n%s", sum.Fallback, g.warnings())
			}
			g.checkFallback(c.fallback, c.before["result.json"])
		})
	}
}

func (g *guest) checkFallback(fallback bool, before string) {
	g.t.Helper()
	result, status := g.read("result.json"), g.read("status.json")
	const message, details = `"message": "lifecycle stream ended without a result"`, `"details": {"reason":"stream_ended"}`
	if !fallback {
		if strings.Contains(result+status, "stream_ended") {
			g.t.Errorf("a result was added:\n%s%s", result, status)
		}
		return
	}
	for _, text := range []string{result, status} {
		if !strings.Contains(text, message) || !strings.Contains(text, details) || strings.Contains(text, "exit_code") {
			g.t.Error(text)
		}
	}
	if !strings.Contains(result, `"status": "failed"`) || !strings.Contains(status, `"state": "failed"`) {
		g.t.Error(result + status)
	}
	check(g.t, "the previous result", g.read("result.json.prev"), before)
	if !strings.Contains(g.warnings(), "the stream ended without a result; recorded it as failed") {
		g.t.Error(g.warnings())
	}
}

func TestRequireResult_off(t *testing.T) {
	g := newGuest(t)
	if sum := g.feed("STATE=ready\n"); sum.Fallback || g.read("result.json") != "" {
		t.Errorf("%+v", sum)
	}
}

func TestRun_start_moves_result(t *testing.T) {
	for _, s := range artifact.States() {
		for verb, line := range map[string]string{"transition": "STATE=", "status": "TYPE=status STATE=", "event": "KIND="} {
			g := newGuest(t)
			old := existingFiles("failed", 7, otherBoot)["result.json"]
			g.write("result.json", old)
			g.feed(line + string(s) + "\n")
			starts := verb == "transition" && strings.Contains("requested provisioning booted starting", string(s))
			ends := verb == "transition" && (s == artifact.Completed || s == artifact.Failed)
			what := verb + " " + string(s) + ": the result "
			switch {
			case starts:
				check(t, what, g.read("result.json"), "")
				check(t, what+"before", g.read("result.json.prev"), old)
			case ends:
				if g.read("result.json") == old {
					t.Errorf("%s is the old one", what)
				}
			default:
				check(t, what, g.read("result.json"), old)
				check(t, what+"before", g.read("result.json.prev"), "")
			}
		}
	}
}

// A run that starts and ends within one commit keeps the previous result, as a
// slower one does.
func TestRun_within_one_commit(t *testing.T) {
	for name, chunks := range map[string][]string{
		"at once":    {"STATE=starting\nSTATE=completed\n"},
		"bit by bit": {"STATE=starting\n", "KIND=ready\n", "STATE=completed\n"},
	} {
		g := newGuest(t)
		old := existingFiles("failed", 7, thisBoot)["result.json"]
		g.write("result.json", old)
		g.feedChunks(chunks...)
		check(t, name+": the result before", g.read("result.json.prev"), old)
		if !strings.Contains(g.read("result.json"), `"status": "completed"`) {
			t.Errorf("%s: %s", name, g.read("result.json"))
		}
	}
}

func TestResult_only_once(t *testing.T) {
	for _, result := range []string{"STATE=completed", "STATE=failed", "STATUS=completed", "STATUS=failed"} {
		for _, s := range artifact.States() {
			end := s == artifact.Stopped || s == artifact.Destroyed
			checkAfter(t, result, "STATE="+string(s), end)
			checkAfter(t, result, "TYPE=status STATE="+string(s), end)
			checkAfter(t, result, "KIND="+string(s), true)
		}
		checkAfter(t, result, "STATUS=completed", false)
		checkAfter(t, result, "STATUS=failed", false)
	}
}

func checkAfter(t *testing.T, first, line string, accepted bool) {
	t.Helper()
	g := newGuest(t)
	g.Transitions = Off // the policy would reject some of these lines
	if sum := g.feed(first + "\n" + line + "\n"); (sum.Rejected == 0) != accepted {
		t.Errorf("%s after %s: %s", line, first, g.warnings())
	}
	if result := g.read("result.json"); !strings.Contains(result, first[strings.IndexByte(first, '=')+1:]) {
		t.Errorf("%s after %s: %s", line, first, result)
	}
}

// A status or result has the seq of its own event, wherever the commit
// boundaries are, and none if no event was written for it.
func TestSeq_of_status_and_result(t *testing.T) {
	for _, c := range []struct {
		input          string
		status, result string
	}{
		{"STATE=booted\nSTATE=starting\nSTATE=ready\n", `"seq": 3`, ""},
		{"STATE=booted\nKIND=ready\nKIND=ready\n", `"seq": 1`, ""},
		{"KIND=ready\nSTATE=booted\nKIND=ready\nSTATE=failed\nKIND=ready\n", `"seq": 4`, `"seq": 4`},
		{"KIND=ready\nSTATE=failed\nKIND=ready\nSTATE=stopped\nKIND=ready\n", `"seq": 4`, `"seq": 2`},
		{"STATE=booted\nTYPE=status STATE=ready\n", "", ""},
		{"TYPE=status STATE=ready\nSTATE=booted\n", `"seq": 1`, ""},
		{"STATE=booted\nSTATUS=failed\n", `"seq": 1`, ""},
		{"STATE=booted\nnonsense\nSTATE=ready\n", `"seq": 2`, ""},
	} {
		lines := strings.SplitAfter(c.input, "\n")
		for _, chunks := range [][]string{{c.input}, lines} {
			g := newGuest(t)
			g.feedChunks(chunks...)
			for name, want := range map[string]string{"status.json": c.status, "result.json": c.result} {
				if text := g.read(name); !strings.Contains(text, want) || want == "" && strings.Contains(text, `"seq"`) {
					t.Errorf("%q: %s is %s", c.input, name, text)
				}
			}
		}
	}
}

func TestSeq_without_event(t *testing.T) {
	g := newGuest(t)
	g.feed("KIND=ready\n")
	g.feed("KIND=ready\nTYPE=status STATE=ready\nSTATUS=failed\nKIND=ready\n")
	if text := g.read("status.json") + g.read("result.json"); strings.Contains(text, `"seq"`) {
		t.Error(text)
	}
}

// Lines that are read later in a commit do not change the result.
func TestResult_later_lines_in_commit(t *testing.T) {
	for _, last := range []string{
		"KIND=ready MESSAGE=ANOTHER DETAILS.b=22", `{"kind":"ready","message":"ANOTHER","details":{"b":"22"}}`} {
		for _, result := range []string{
			"STATE=failed MESSAGE=first DETAILS.a=11", `{"state":"failed","message":"first","details":{"a":"11"}}`} {
			g := newGuest(t)
			g.feed(result + "\n" + last + "\n")
			g.checkModel()
			for _, name := range []string{"result.json", "status.json"} {
				if text := g.read(name); !strings.Contains(text, `"first"`) || !strings.Contains(text, `{"a":"11"}`) {
					t.Errorf("%s is %s", name, text)
				}
			}
		}
	}
}

// A result that another program writes after the run has started belongs to
// that run and is kept.
func TestResult_of_another_program(t *testing.T) {
	g := newGuest(t)
	g.RequireResult = true
	acks := g.withAcks()
	w := g.open()
	w.print("STATE=starting\n")
	awaitAck(t, acks.r, 1)
	result := existingFiles("ready", 7, thisBoot)["result.json"]
	g.write("result.json", result)
	w.print("KIND=ready\n")
	if sum := w.close(); sum.Fallback {
		t.Error("a result was added")
	}
	check(t, "the result", g.read("result.json"), result)
}

// A status counts the lines that were rejected before it.
func TestStatus_rejected_count(t *testing.T) {
	for input, want := range map[string]string{
		"STATE=ready\nbad\n":                     "",
		"bad\nSTATE=ready\n":                     `"rejected": 1`,
		"bad\nSTATE=ready\nbad\nKIND=ready\n":    `"rejected": 1`,
		"bad\n{}\n\nSTATE=ready\nbad\n":          `"rejected": 2`,
		"bad\nSTATE=ready\nbad\nSTATE=stopped\n": `"rejected": 2`,
	} {
		for _, chunks := range [][]string{{input}, strings.SplitAfter(input, "\n")} {
			g := newGuest(t)
			g.feedChunks(chunks...)
			if text := g.read("status.json"); !strings.Contains(text, want) || want == "" && strings.Contains(text, "rejected") {
				t.Errorf("%q: %s", input, text)
			}
		}
	}
}

func TestExitOnResult(t *testing.T) {
	g := newGuest(t)
	g.ExitOnResult = true
	w := g.open()
	w.print("STATE=starting\n")
	w.print("STATE=failed EXIT_CODE=2\n")
	w.wait() // though the pipe is open
	if !strings.Contains(g.read("result.json"), `"exit_code": 2`) {
		t.Error(g.read("result.json"))
	}
}

func TestStop_input_within_grace(t *testing.T) {
	g := newGuest(t)
	g.warn = make(chan string, 100)
	w := g.open()
	w.requestStop()
	w.print("STATE=failed\n{\"state\":\"stopped\"}") // the grace is long enough for EOF
	w.close()
	if !strings.Contains(g.read("status.json"), `"state": "stopped"`) {
		t.Error(g.read("status.json"))
	}
}

func TestStop_twice(t *testing.T) {
	g := newGuest(t)
	g.Grace = 1 << 60
	acks := newPipe(t)
	g.Ack = int(acks.w.Fd())
	w := g.open()
	w.print("STATE=ready\nSTATE=fai")
	awaitAck(t, acks.r, 1)
	w.requestStop()
	w.requestStop()
	sum := w.wait()
	if sum.Lines != 2 || sum.Rejected != 1 {
		t.Errorf("the partial line is lost: %+v", sum)
	}
}

func TestStop_grace_ends(t *testing.T) {
	g := newGuest(t)
	g.Grace = 20 * time.Millisecond
	w := g.open()
	w.requestStop()
	w.wait() // though the pipe is open
}

func TestStream_unreadable_input(t *testing.T) {
	g := newGuest(t)
	g.RequireResult = true
	dir, err := os.Open(g.path)
	testenv.Must(t, err)
	defer dir.Close()
	s := g.Stream
	s.In = int(dir.Fd())
	sum, err := s.Run()
	if err == nil || err.Error() != "read input: is a directory" {
		t.Errorf("error %v", err)
	}
	if !sum.Fallback {
		t.Error("no result was added")
	}
}

// A closed directory holds no descriptor and can be used again.
func TestDir_closed(t *testing.T) {
	g := newGuest(t)
	for range 2 {
		g.feed("STATE=starting\nbad\nSTATE=failed\n") // which closes the directory
		if n := g.descriptors(); n != 0 {
			t.Errorf("%d descriptors are open", n)
		}
	}
	g.checkSeqs(4)
	_, err := g.Dir.Status.Read()
	testenv.Must(t, err)
	if g.descriptors() == 0 {
		t.Error("descriptors does not find open ones")
	}
	g.Dir.Close()
}

// descriptors counts what is open in the state directory.
func (g *guest) descriptors() (open int) {
	links, err := filepath.Glob("/proc/self/fd/*")
	testenv.Must(g.t, err)
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, g.path) {
			open++
		}
	}
	return open
}

func TestReject_warning_limit(t *testing.T) {
	g := newGuest(t)
	g.feed(strings.Repeat("bad\n", 150))
	if len(g.warned) != maxWarnings+1 || g.warned[maxWarnings] != "more lines are rejected; see "+g.file("rejected.jsonl") {
		t.Errorf("%d warnings, the last is %s", len(g.warned), g.warned[len(g.warned)-1])
	}
	if n := strings.Count(g.read("rejected.jsonl"), "\n"); n != 150 {
		t.Errorf("%d lines are kept", n)
	}
}

func TestDirective_timestamp(t *testing.T) {
	g := newGuest(t)
	g.feed("KIND=ready\nKIND=ready TIMESTAMP=2020-01-01T00:00:00Z\n")
	first, second, _ := strings.Cut(g.read("events.jsonl"), "\n")
	if !strings.Contains(first, `"uptime_ms":12345`) || !strings.Contains(first, "20:00:00.123Z") {
		t.Error(first)
	}
	if strings.Contains(second, "uptime_ms") || !strings.Contains(second, `"2020-01-01T00:00:00.000Z"`) {
		t.Errorf("an uptime that does not fit the time: %s", second)
	}
}
