//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A scenario is one use of the program on a prepared directory.
type scenario struct {
	name    string
	args    []string // DIR is replaced by the state directory
	prepare func(dir string) error
	feed    [][]line // the input of ingest; each part is acknowledged before the next is written

	// After each point, run ingest --require-result, as ExecStopPost= of a unit does.
	// There must be a result afterwards.
	fallback bool

	denied map[string]unix.Errno // calls that the file system does not support, by name

	code int // the exit code without a fault

	// The minimum number of calls, and of calls that change the directory. If there
	// are fewer, the tracer misses some.
	calls, changes int
}

// A line is one directive, or what a one-shot command writes.
type line struct {
	text                            string // "" for the fallback result and for a one-shot command
	event, status, result, rejected bool   // the artifacts that it writes
	word                            string // the state, kind or outcome
	message                         string // for a rejected line, part of the error
}

// wrote reports whether the line writes a.
func (l *line) wrote(a *artifact) bool { return a.message == l.message && a.word == l.word }

func (s *scenario) ingests() bool { return s.args[0] == "ingest" }

// streams reports whether the scenario retries a write error until its write timeout.
func (s *scenario) streams() bool { return s.ingests() || s.args[0] == "run" }

// lines returns all lines, in order.
func (s *scenario) lines() (all []line) {
	for _, part := range s.feed {
		all = append(all, part...)
	}
	return all
}

// argv returns the arguments for the state directory at dir.
func (s *scenario) argv(dir string) (args []string) {
	for _, arg := range s.args {
		args = append(args, strings.ReplaceAll(arg, "DIR", dir))
	}
	return args
}

// transition returns a line that writes an event, the status and, if the state is final,
// the result.
func transition(state, message string) line {
	isFinal := state == "completed" || state == "failed"
	return line{event: true, status: true, result: isFinal, word: state, message: message,
		text: fmt.Sprintf(`{"state":%q,"message":%q,"details":{"n":1}}`, state, message)}
}

func eventLine(message string) line {
	return line{event: true, word: "booted", message: message, text: "KIND=booted MESSAGE=" + message}
}

func badLine(message string) line {
	return line{rejected: true, message: message, text: "STATE=" + message}
}

// fallbackResult returns the line that ingest --require-result adds at the end of the
// input.
func fallbackResult() line {
	return line{event: true, status: true, result: true, word: "failed", message: "lifecycle stream ended without a result"}
}

// each puts each line into a separate part.
func each(lines ...line) (parts [][]line) {
	for _, l := range lines {
		parts = append(parts, []line{l})
	}
	return parts
}

// many returns parts with the given numbers of lines. Every tenth line is a transition;
// the others are events.
func many(sizes ...int) (parts [][]line) {
	n := 0
	for _, size := range sizes {
		var part []line
		for range size {
			n++
			message := fmt.Sprintf("line-%d", n)
			if n%10 == 0 {
				part = append(part, transition("ready", message))
			} else {
				part = append(part, eventLine(message))
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// scenarios returns all scenarios.
func scenarios() []scenario {
	status := []string{"status", "--state-dir=DIR", "--state=ready", "--message=line-1"}
	event := []string{"event", "--state-dir=DIR", "--kind=ready", "--message=line-1"}
	result := []string{"result", "--state-dir=DIR", "--status=failed", "--exit-code=7", "--message=line-1"}
	ingest := func(flags ...string) []string {
		return append([]string{"ingest", "--state-dir=DIR", fmt.Sprintf("--ack-fd=%d", ackFD)}, flags...)
	}
	aStatus := each(line{status: true, word: "ready", message: "line-1"})
	anEvent := each(line{event: true, word: "ready", message: "line-1"})
	aResult := each(line{result: true, word: "failed", message: "line-1"})
	return []scenario{
		{name: "status/new", calls: 38, changes: 7, args: status, prepare: noDirectory, feed: aStatus},
		{name: "status/existing", calls: 29, changes: 5, args: status, prepare: ended(3), feed: aStatus},
		{name: "status/temporaries", calls: 39, changes: 5, args: status, prepare: withTemporaries, feed: aStatus},
		{name: "event/new", calls: 30, changes: 10, args: event, prepare: noDirectory, feed: anEvent},
		{name: "event/empty directory", calls: 20, changes: 8, args: event, prepare: empty, feed: anEvent},
		{name: "event/existing", calls: 19, changes: 4, args: event, prepare: ended(3), feed: anEvent},
		{name: "event/more digits", calls: 21, changes: 6, args: event, prepare: ended(9), feed: anEvent},
		{name: "event/torn line", calls: 31, changes: 10, args: event, prepare: tornLog(`{"schema_version":1,"kind":"rea`), feed: anEvent},
		{name: "event/newline missing", calls: 22, changes: 6, args: event, prepare: tornLog(strings.TrimSuffix(eventText(4, "ready"), "\n")), feed: anEvent},
		{name: "event/low seq file", calls: 19, changes: 4, args: event, prepare: seqFile("1\n"), feed: anEvent},
		{name: "event/high seq file", calls: 22, changes: 6, args: event, prepare: seqFile("20\n"), feed: anEvent},
		{name: "event/no seq file", calls: 20, changes: 4, args: event, prepare: seqFile(""), feed: anEvent},
		{name: "event/only seq file", calls: 23, changes: 7, args: event, prepare: onlySeqFile, feed: anEvent},
		{name: "result/new", calls: 38, changes: 7, args: result, prepare: noDirectory, feed: aResult},
		{name: "result/existing", calls: 29, changes: 5, args: result, prepare: ended(3), feed: aResult},
		{name: "ingest/one directive", calls: 62, changes: 7, args: ingest(), prepare: noDirectory, feed: each(transition("starting", "line-1"))},
		{name: "ingest/three directives", calls: 138, changes: 30, args: ingest(), prepare: running(8),
			feed: each(transition("starting", "line-1"), transition("ready", "line-2"), transition("completed", "line-3"))},
		{name: "ingest/200 directives", calls: 126, changes: 20, args: ingest(), prepare: running(3), feed: many(1, 39, 60, 100)},
		{name: "ingest/rotation", calls: 86, changes: 18, args: ingest("--max-events=700"), prepare: running(3),
			feed: each(transition("ready", "line-1"), eventLine("line-2"), eventLine("line-3"))},
		{name: "ingest/one rotation", calls: 60, changes: 12, args: ingest("--max-events=900"), prepare: running(8),
			feed: each(transition("ready", "line-1"), eventLine("line-2"))},
		{name: "ingest/run start", calls: 84, changes: 18, args: ingest(), prepare: ended(3),
			feed: each(transition("starting", "line-1"), transition("ready", "line-2"))},
		{name: "ingest/run in one commit", calls: 107, changes: 16, args: ingest(), prepare: ended(3),
			feed: [][]line{{transition("starting", "line-1"), transition("completed", "line-2")}}},
		{name: "ingest/rejects", calls: 70, changes: 12, args: ingest(), prepare: running(3), code: 3,
			feed: [][]line{{badLine("bad-1"), transition("ready", "line-1")}, {badLine("bad-2")}}},
		{name: "ingest/torn lines", calls: 57, changes: 12, args: ingest(), prepare: tornLogs, code: 3,
			feed: [][]line{{badLine("bad-1"), eventLine("line-1")}}},
		{name: "ingest/fallback result", calls: 117, changes: 24, args: ingest("--require-result"), prepare: noDirectory, fallback: true,
			feed: [][]line{{transition("starting", "line-1")}, {fallbackResult()}}},
		{name: "run/exit 4", calls: 20, changes: 10, args: []string{"run", "--state-dir=DIR", "--", "/bin/sh", "-c", "exit 4"},
			prepare: running(9), code: 4, feed: each(byRun("starting", "starting sh"), byRun("failed", "sh exited with 4"))},
	}
}

// byRun returns a line that run itself writes.
func byRun(state, message string) line {
	l := transition(state, message)
	l.text = ""
	return l
}

func scenarioNamed(t *testing.T, name string) *scenario {
	t.Helper()
	all := scenarios()
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no scenario %s", name)
	}
	return &all[i]
}

// The content of the state directory before a scenario.

const stamp = "2026-03-25T20:00:00.123Z"

func eventText(seq int, kind string) string {
	return fmt.Sprintf(`{"schema_version":1,"kind":%q,"timestamp":%q,"message":"old-%d","seq":%d}`+"\n", kind, stamp, seq, seq)
}

func statusText(seq int, state string) string {
	return fmt.Sprintf("{\n  \"schema_version\": 1,\n  \"state\": %q,\n  \"updated_at\": %q,\n"+
		"  \"message\": \"old-%d\",\n  \"seq\": %d\n}\n", state, stamp, seq, seq)
}

func resultText(seq int) string {
	return fmt.Sprintf("{\n  \"schema_version\": 1,\n  \"status\": \"completed\",\n  \"exit_code\": 0,\n"+
		"  \"finished_at\": %q,\n  \"message\": \"old-%d\",\n  \"seq\": %d\n}\n", stamp, seq, seq)
}

// noDirectory does nothing, so the program has to create the state directory.
func noDirectory(string) error { return nil }

func empty(dir string) error { return put(dir, nil) }

// put writes files with the modes that an earlier writer would have given them.
func put(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		path, mode := filepath.Join(dir, name), os.FileMode(0o644)
		if name == "events.jsonl.seq" {
			mode = 0o600
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}

// events returns the files after n events, the last of which has the given state.
func events(n int, state string) map[string]string {
	log := ""
	for i := 1; i < n; i++ {
		log += eventText(i, "ready")
	}
	return map[string]string{
		"events.jsonl":     log + eventText(n, state),
		"events.jsonl.seq": fmt.Sprintf("%d\n", n),
		"status.json":      statusText(n, state),
	}
}

// endedRun returns the files after n events, the last of which completed the run.
func endedRun(n int) map[string]string {
	files := events(n, "completed")
	files["result.json"] = resultText(n)
	return files
}

func running(n int) func(string) error {
	return func(dir string) error { return put(dir, events(n, "ready")) }
}

func ended(n int) func(string) error {
	return func(dir string) error { return put(dir, endedRun(n)) }
}

// tornLog prepares a log of three events, followed by text.
func tornLog(text string) func(string) error {
	return func(dir string) error {
		files := endedRun(3)
		files["events.jsonl"] += text
		files["events.jsonl.seq"] = "4\n"
		return put(dir, files)
	}
}

// seqFile prepares a log of three events and a seq file with another number; no seq file
// if text is "".
func seqFile(text string) func(string) error {
	return func(dir string) error {
		files := endedRun(3)
		files["events.jsonl.seq"] = text
		if text == "" {
			delete(files, "events.jsonl.seq")
		}
		return put(dir, files)
	}
}

// onlySeqFile prepares a seq file whose next number has one more digit.
func onlySeqFile(dir string) error {
	return put(dir, map[string]string{"events.jsonl.seq": "9\n"})
}

// withTemporaries prepares two temporary files, as of writers that were killed.
func withTemporaries(dir string) error {
	files := endedRun(3)
	files[".status.json1234567890123456789"] = "{"
	files[".status.json2234567890123456789"] = ""
	return put(dir, files)
}

func tornLogs(dir string) error {
	files := endedRun(3)
	files["events.jsonl"] += `{"schema_version":1,`
	files["rejected.jsonl"] = `{"schema_version":1,"line":1,"offset":0,"timestamp":"` + stamp +
		`","error":"bad-0","raw":"x"}` + "\n" + `{"schema_vers`
	files["events.jsonl.torn"] = "an earlier torn line\n"
	return put(dir, files)
}
