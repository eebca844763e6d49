//go:build linux && amd64

package powerloss

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A scenario is one use of the program on a prepared directory.
type scenario struct {
	name  string
	args  []string
	stood standing
	feed  [][]line // each part is acknowledged before the next is written
	code  int      // with which it exits
	calls int      // that change the directory, at the least
}

// A line is one directive, or what a one-shot writes.
type line struct {
	text                           string // "" for what is written unasked
	event, status, result, refused bool
	message                        string
	state                          string
}

// A standing is what the directory holds before.
type standing struct {
	missing bool
	events  int
	seq     int    // of the seq file
	torn    string // behind the last event
	verdict bool
}

func (s *scenario) lines() (all []line) {
	for _, part := range s.feed {
		all = append(all, part...)
	}
	return all
}

func (s *scenario) ingests() bool { return s.args[0] == "ingest" }

// argv returns the command line for the state directory at dir.
func (s *scenario) argv(program, dir string) []string {
	return append([]string{program, s.args[0], "--state-dir=" + dir}, s.args[1:]...)
}

func transition(state, message string) line {
	verdict := state == "completed" || state == "failed"
	return line{event: true, status: true, result: verdict, message: message, state: state,
		text: fmt.Sprintf(`{"state":%q,"message":%q,"details":{"n":1}}`, state, message)}
}

func eventLine(message string) line {
	return line{event: true, message: message, state: "booted", text: "KIND=booted MESSAGE=" + message}
}

func badLine(message string) line {
	return line{refused: true, message: message, text: "STATE=" + message}
}

// each makes every line a part of its own.
func each(lines ...line) (parts [][]line) {
	for _, l := range lines {
		parts = append(parts, []line{l})
	}
	return parts
}

// bursts makes parts of the sizes given: events, and every tenth a transition.
func bursts(sizes ...int) (parts [][]line) {
	n := 0
	for _, size := range sizes {
		var part []line
		for range size {
			n++
			if message := fmt.Sprintf("line-%d", n); n%10 == 0 {
				part = append(part, transition("ready", message))
			} else {
				part = append(part, eventLine(message))
			}
		}
		parts = append(parts, part)
	}
	return parts
}

func ingestArgs(flags ...string) []string { return append([]string{"ingest", "--ack-fd=3"}, flags...) }

const suppliedMessage = "lifecycle stream ended without a result"

// scenarios are all that is tried.
func scenarios() []scenario {
	status := []string{"status", "--state=ready", "--message=line-1"}
	event := []string{"event", "--kind=ready", "--message=line-1"}
	result := []string{"result", "--status=failed", "--exit-code=7", "--message=line-1"}
	wrote := func(l line) [][]line { l.message = "line-1"; return each(l) }
	aStatus, anEvent := wrote(line{status: true, state: "ready"}), wrote(line{event: true, state: "ready"})
	aResult := wrote(line{result: true, state: "failed"})
	supplied := line{event: true, status: true, result: true, message: suppliedMessage, state: "failed"}
	return []scenario{
		{"status, no directory", status, standing{missing: true}, aStatus, 0, 7},
		{"status", status, standing{events: 3, seq: 3}, aStatus, 0, 5},
		{"event, no directory", event, standing{missing: true}, anEvent, 0, 10},
		{"event, empty directory", event, standing{}, anEvent, 0, 8},
		{"event", event, standing{events: 3, seq: 3}, anEvent, 0, 4},
		{"event, more digits", event, standing{events: 9, seq: 9}, anEvent, 0, 6},
		{"event, high seq file", event, standing{events: 3, seq: 20}, anEvent, 0, 6},
		{"event, seq file alone", event, standing{seq: 9}, anEvent, 0, 7},
		{"event, torn tail", event, standing{events: 3, seq: 3, torn: `{"schema_version":1,"kind":"rea`}, anEvent, 0, 10},
		{"result, no directory", result, standing{missing: true}, aResult, 0, 7},
		{"result", result, standing{events: 3, seq: 3, verdict: true}, aResult, 0, 5},
		{"run in an empty directory", ingestArgs(), standing{},
			each(transition("starting", "line-1"), transition("ready", "line-2"), transition("completed", "line-3")), 0, 36},
		{"bursts", ingestArgs(), standing{events: 3, seq: 3}, bursts(1, 39, 60), 0, 20},
		{"rotation", ingestArgs("--max-events=600"), standing{events: 3, seq: 3},
			each(transition("ready", "line-1"), eventLine("line-2"), eventLine("line-3")), 0, 18},
		{"run start", ingestArgs(), standing{events: 3, seq: 3, verdict: true},
			each(transition("starting", "line-1"), transition("ready", "line-2")), 0, 18},
		{"run in one commit", ingestArgs(), standing{events: 3, seq: 3, verdict: true},
			[][]line{{transition("starting", "line-1"), transition("completed", "line-2")}}, 0, 16},
		{"rejects", ingestArgs(), standing{events: 3, seq: 3},
			[][]line{{badLine("bad-1"), transition("ready", "line-1")}, {badLine("bad-2")}}, 3, 12},
		{"supplied verdict", ingestArgs("--require-result"), standing{},
			[][]line{{transition("starting", "line-1")}, {supplied}}, 0, 24},
	}
}

const stamp = "2026-03-25T20:00:00.123Z"

// prepare makes the directory as it stands before.
func (st *standing) prepare(dir string) error {
	if st.missing {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range st.files() {
		mode := os.FileMode(0o644)
		if name == "events.jsonl.seq" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// state is that of the last event.
func (st *standing) state() string {
	if st.verdict {
		return "failed"
	}
	return "ready"
}

func (st *standing) files() map[string]string {
	files := map[string]string{}
	if st.seq > 0 {
		files["events.jsonl.seq"] = fmt.Sprintln(st.seq)
	}
	if st.events == 0 {
		return files
	}
	var log strings.Builder
	for i, l := range st.lines() {
		fmt.Fprintf(&log, `{"schema_version":1,"kind":%q,"timestamp":%q,"message":%q,"seq":%d}`+"\n", l.state, stamp, l.message, i+1)
	}
	state := st.state()
	if st.verdict {
		files["result.json"] = fmt.Sprintf(`{"schema_version":1,"status":"failed","finished_at":%q,"message":"old-%d","seq":%d}`+"\n",
			stamp, st.events, st.events)
	}
	files["events.jsonl"] = log.String() + st.torn
	files["status.json"] = fmt.Sprintf(`{"schema_version":1,"state":%q,"updated_at":%q,"message":"old-%d","seq":%d}`+"\n",
		state, stamp, st.events, st.events)
	return files
}

// lines are the lines that would have written what stands.
func (st *standing) lines() (all []line) {
	for i := range st.events {
		all = append(all, line{event: true, message: fmt.Sprintf("old-%d", i+1), state: "ready"})
	}
	if n := len(all); n > 0 {
		all[n-1].status, all[n-1].result, all[n-1].state = true, st.verdict, st.state()
	}
	return all
}
