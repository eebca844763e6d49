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
		{"a status alone", nil, "TYPE=status STATE=failed\n", false},
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

// A writer that died after it had replaced the result, and before it replaced the status,
// leaves an old status. The next stream with --require-result replaces it.
func TestRequireResult_status_finished(t *testing.T) {
	status := func(state string, seq int, boot string) string {
		return fmt.Sprintf(`{"schema_version": 1, "state": %q, "updated_at": "2026-03-24T00:00:00.000Z", "message": "m"%s, "seq": %d}`, state, boot, seq)
	}
	result := existingFiles("failed", 7, thisBoot)["result.json"]
	finished := []string{`"state": "failed"`, `"seq": 7`, `"boot_id": "` + testBoot}
	for _, c := range []struct {
		what, status, result string
		want                 []string // in the status; none if it does not change
	}{
		{"starting", status("starting", 5, thisBoot), result, finished},
		{"no status", "", result, finished},
		{"invalid status", "{", result, finished},
		{"a result without seq", status("starting", 5, thisBoot), strings.Replace(result, `"seq": 7`, `"new": 7`, 1), nil},
		{"stopped", status("stopped", 5, thisBoot), result, nil},
		{"completed", status("completed", 7, thisBoot), result, nil},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			g := newGuest(t)
			g.RequireResult = true
			g.write("result.json", c.result)
			if c.status != "" {
				g.write("status.json", c.status)
			}
			g.feed("")
			check(t, "the result", g.read("result.json"), c.result)
			check(t, "the events", g.read("events.jsonl"), "")
			after := g.read("status.json")
			if c.want == nil {
				check(t, "the status", after, c.status)
				check(t, "the warnings", g.warnings(), "")
				return
			}
			for _, part := range c.want {
				if !strings.Contains(after, part) {
					t.Errorf("no %s in\n%s", part, after)
				}
			}
			if !strings.Contains(g.warnings(), "added the status of the result") {
				t.Error(g.warnings())
			}
		})
	}
}

// If the status is final and the result was lost, the result is recreated from the status,
// and no event is added.
func TestRequireResult_recreated(t *testing.T) {
	const failed, completed = `"status": "failed"`, `"status": "completed"`
	status := func(state string, seq string, boot string) map[string]string {
		return map[string]string{"status.json": fmt.Sprintf(`{"schema_version": 1, "state": %q, "updated_at": "2026-03-24T00:00:00.000Z", "message": "mine", "details": {"a":1}%s%s}`, state, boot, seq)}
	}
	with := func(files map[string]string, result string) map[string]string {
		files["result.json"] = result
		return files
	}
	old := existingFiles("failed", 7, thisBoot)["result.json"]
	for _, c := range []struct {
		what    string
		before  map[string]string
		input   string
		want    string // "" if there is no result
		seq     string
		prev    string
		warning string
	}{
		{"completed, and the result was removed", status("completed", `, "seq": 9`, thisBoot), "", completed, `"seq": 9`, "", "the status is completed, but result.json is missing; recreated it from the status"},
		{"failed, and the result was removed", status("failed", `, "seq": 9`, thisBoot), "", failed, `"seq": 9`, "", "the status is failed, but result.json is missing; recreated it from the status"},
		{"a status without seq", status("completed", "", thisBoot), "", completed, "", "", "recreated"},
		{"events after it", status("completed", `, "seq": 9`, thisBoot), "KIND=ready\n", completed, `"seq": 9`, "", "recreated"},
		{"a status from the stream", nil, "STATE=ready\nTYPE=status STATE=completed MESSAGE=mine DETAILS.a:=1\n", completed, "", "", "recreated"},
		{"the result of a run before", with(status("completed", `, "seq": 9`, thisBoot), old), "", completed, `"seq": 9`, old, "the status is completed, but result.json belongs to another run; recreated it from the status"},
		{"the result of another boot", with(status("failed", `, "seq": 9`, thisBoot), existingFiles("failed", 9, otherBoot)["result.json"]), "", failed, `"seq": 9`, existingFiles("failed", 9, otherBoot)["result.json"], "recreated"},
		{"an invalid result", with(status("completed", `, "seq": 9`, thisBoot), "{"), "", completed, `"seq": 9`, "", "the status is completed, but result.json is invalid; recreated it from the status"},
		{"an empty result", with(status("completed", `, "seq": 9`, thisBoot), ""), "", completed, `"seq": 9`, "", "recreated"},
		{"a new run", status("completed", `, "seq": 9`, thisBoot), "STATE=booted\n", failed, `"seq": 2`, "", "the stream ended without a result; recorded it as failed"},
		{"completed in another boot", status("completed", `, "seq": 9`, otherBoot), "", failed, `"seq": 1`, "", "the stream ended without a result; recorded it as failed"},
		{"completed in an unknown boot", status("completed", `, "seq": 9`, ""), "", failed, `"seq": 1`, "", "the stream ended without a result; recorded it as failed"},
		{"stopped after it", status("stopped", `, "seq": 9`, thisBoot), "", "", "", "", ""},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "_"), func(t *testing.T) {
			g := newGuest(t)
			g.RequireResult = true
			for name, text := range c.before {
				g.write(name, text)
			}
			sum := g.feed(c.input)
			result, prev := g.read("result.json"), g.read("result.json.prev")
			if c.want == "" {
				check(t, "the result", result, "")
				check(t, "the warnings", g.warnings(), "")
				return
			}
			recreated := strings.Contains(c.warning, "recreated")
			if sum.Fallback == recreated {
				t.Errorf("%+v", sum)
			}
			if !strings.Contains(result, c.want) || !strings.Contains(result, c.seq) || strings.Contains(result, "seq") != (c.seq != "") || prev != c.prev {
				t.Errorf("result.json\n%sresult.json.prev\n%s", result, prev)
			}
			if !strings.Contains(g.warnings(), c.warning) {
				t.Errorf("warnings\n%s", g.warnings())
			}
			if !recreated {
				return
			}
			for _, part := range []string{`"message": "mine"`, `"details": {"a":1}`, `"boot_id": "` + testBoot} {
				if !strings.Contains(result, part) {
					t.Errorf("no %s in\n%s", part, result)
				}
			}
			if strings.Contains(result, "exit_code") != (c.want == completed) || (c.want == completed && !strings.Contains(result, `"exit_code": 0`)) {
				t.Error(result)
			}
			if status, ok := c.before["status.json"]; ok {
				check(t, "the status", g.read("status.json"), status)
			}
			if strings.Contains(g.read("events.jsonl"), "completed") || strings.Contains(g.read("events.jsonl"), "failed") {
				t.Errorf("an event was added:\n%s", g.read("events.jsonl"))
			}
			decodedStatus, err := g.Dir.Status.Read()
			testenv.Must(t, err)
			decodedResult, err := g.Dir.Result.Read()
			testenv.Must(t, err)
			defer g.Dir.Close()
			if _, ok := artifact.RunOutcome(decodedStatus, decodedResult); !ok || !decodedResult.Time.Equal(decodedStatus.Time) {
				t.Errorf("the files do not agree:\n%s%s", g.read("status.json"), result)
			}
			again := g.feed("")
			if again.Fallback || g.read("result.json") != result {
				t.Errorf("%+v, a second time:\n%s", again, g.read("result.json"))
			}
		})
	}
}

// A one-shot command may change the status while the stream runs.
func TestRequireResult_status_of_another_program(t *testing.T) {
	for state, want := range map[string]string{"completed": `"status": "completed"`, "stopped": ""} {
		g := newGuest(t)
		g.RequireResult = true
		acks := g.withAcks()
		w := g.open()
		w.print("STATE=starting\n")
		awaitAck(t, acks.r, 1)
		g.write("status.json", existingFiles(state, 2, thisBoot)["status.json"])
		if sum := w.close(); sum.Fallback || !strings.Contains(g.read("result.json"), want) || (want == "" && g.read("result.json") != "") {
			t.Errorf("%s: %+v\n%s", state, sum, g.read("result.json"))
		}
	}
}

// A dry run prints what the stream would write after the lines that it has printed.
func TestRequireResult_dry_run(t *testing.T) {
	const fallback, recreated = "stream_ended", "==> result.json\n"
	for _, c := range []struct{ what, state, result, input, want string }{
		{"a lost result", "failed", "", "", recreated},
		{"a new run after a lost result", "failed", "", "STATE=starting\n", fallback},
		{"a new run after another", "failed", existingFiles("failed", 7, thisBoot)["result.json"], "STATE=starting\n", fallback},
		{"a status", "starting", "", "TYPE=status STATE=completed\n", recreated},
	} {
		g := newGuest(t)
		g.RequireResult = true
		g.write("status.json", existingFiles(c.state, 7, thisBoot)["status.json"])
		if c.result != "" {
			g.write("result.json", c.result)
		}
		var out strings.Builder
		g.DryRun = &out
		g.feed(c.input)
		if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), fallback) != (c.want == fallback) {
			t.Errorf("%s:\n%s", c.what, out.String())
		}
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
