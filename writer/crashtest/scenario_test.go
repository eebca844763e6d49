//go:build linux && amd64

package crashtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A scenario is one use of the program on a prepared directory.
type scenario struct {
	name    string
	args    []string // DIR stands for the state directory
	prepare func(dir string) error
	feed    [][]line // what ingest reads; each part is acknowledged before the next is written

	// backstop is run after each point, as ExecStopPost= would, and must
	// leave a verdict.
	backstop bool

	code  int // with which it exits if nothing goes wrong
	calls int // how many are counted at the least; keeps the sweep from hollowing out
}

// A line is one directive, or what a one-shot command writes.
type line struct {
	text                  string
	event, status, result bool
	refused               bool
	message               string
}

func (s *scenario) ingests() bool { return s.args[0] == "ingest" }

// lines returns all that is written, in order. The verdict that ingest
// supplies is the last.
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

const suppliedMessage = "lifecycle stream ended without a result"

// transition is a line that writes the event, the status and, for a verdict,
// the result.
func transition(state, message string) line {
	verdict := state == "completed" || state == "failed"
	return line{event: true, status: true, result: verdict, message: message,
		text: fmt.Sprintf(`{"state":%q,"message":%q,"details":{"n":1}}`, state, message)}
}

func eventLine(message string) line {
	return line{event: true, message: message, text: "KIND=booted MESSAGE=" + message}
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

// many makes parts of the sizes given, events and transitions by turns.
func many(sizes ...int) (parts [][]line) {
	n := 0
	for _, size := range sizes {
		var part []line
		for range size {
			n++
			if n%10 == 0 {
				part = append(part, transition("ready", fmt.Sprintf("line-%d", n)))
			} else {
				part = append(part, eventLine(fmt.Sprintf("line-%d", n)))
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// The one-shot commands, and what they write.
func statusArgs() []string {
	return []string{"status", "--state-dir=DIR", "--state=ready", "--message=line-1"}
}
func eventArgs() []string {
	return []string{"event", "--state-dir=DIR", "--kind=ready", "--message=line-1"}
}
func resultArgs() []string {
	return []string{"result", "--state-dir=DIR", "--status=failed", "--exit-code=7", "--message=line-1"}
}

func ingestArgs(flags ...string) []string {
	return append([]string{"ingest", "--state-dir=DIR", fmt.Sprintf("--ack-fd=%d", ackFD)}, flags...)
}

// scenarios are all that is swept.
func scenarios() []scenario {
	status := [][]line{{{status: true, message: "line-1"}}}
	event := [][]line{{{event: true, message: "line-1"}}}
	result := [][]line{{{result: true, message: "line-1"}}}
	run := each(transition("starting", "line-1"), transition("ready", "line-2"), transition("completed", "line-3"))
	return []scenario{
		{name: "status/new", calls: 38, args: statusArgs(), prepare: missing, feed: status},
		{name: "status/standing", calls: 29, args: statusArgs(), prepare: filled(3), feed: status},
		{name: "status/sweeps", calls: 39, args: statusArgs(), prepare: littered, feed: status},
		{name: "event/new", calls: 30, args: eventArgs(), prepare: missing, feed: event},
		{name: "event/standing", calls: 20, args: eventArgs(), prepare: filled(3), feed: event},
		{name: "event/more digits", calls: 22, args: eventArgs(), prepare: filled(9), feed: event},
		{name: "event/torn tail", calls: 32, args: eventArgs(), prepare: tail(`{"schema_version":1,"kind":"rea`), feed: event},
		{name: "event/lacks newline", calls: 23, args: eventArgs(), prepare: tail(strings.TrimSuffix(eventText(4, "old-4"), "\n")), feed: event},
		{name: "event/low seq file", calls: 20, args: eventArgs(), prepare: seqFile("1\n"), feed: event},
		{name: "event/high seq file", calls: 23, args: eventArgs(), prepare: seqFile("20\n"), feed: event},
		{name: "event/no seq file", calls: 20, args: eventArgs(), prepare: seqFile(""), feed: event},
		{name: "event/no log", calls: 22, args: eventArgs(), prepare: onlySeqFile, feed: event},
		{name: "result/new", calls: 38, args: resultArgs(), prepare: missing, feed: result},
		{name: "result/standing", calls: 29, args: resultArgs(), prepare: filled(3), feed: result},
		{name: "ingest/one directive", calls: 62, args: ingestArgs(), prepare: missing, feed: each(transition("starting", "line-1"))},
		{name: "ingest/three directives", calls: 138, args: ingestArgs(), prepare: withoutResult(8), feed: run},
		{name: "ingest/200 directives", calls: 126, args: ingestArgs(), prepare: withoutResult(3), feed: many(1, 39, 60, 100)},
		{name: "ingest/rotation", calls: 86, args: ingestArgs("--max-events=700"), prepare: withoutResult(3),
			feed: each(transition("ready", "line-1"), eventLine("line-2"), eventLine("line-3"))},
		{name: "ingest/run start", calls: 84, args: ingestArgs(), prepare: filled(3),
			feed: each(transition("starting", "line-1"), transition("ready", "line-2"))},
		{name: "ingest/run in one commit", calls: 107, args: ingestArgs(), prepare: filled(3),
			feed: [][]line{{transition("starting", "line-1"), transition("completed", "line-2")}}},
		{name: "ingest/rejects", calls: 70, args: ingestArgs(), prepare: withoutResult(3), code: 3,
			feed: [][]line{{badLine("bad-1"), transition("ready", "line-1")}, {badLine("bad-2")}}},
		{name: "ingest/torn tails", calls: 57, args: ingestArgs(), prepare: tornTails, code: 3,
			feed: [][]line{{badLine("bad-1"), eventLine("line-1")}}},
		{name: "ingest/supplied verdict", calls: 117, args: ingestArgs("--require-result"), prepare: missing, backstop: true,
			feed: [][]line{{transition("starting", "line-1")}, {supplied()}}},
	}
}

// supplied is the verdict that comes without being asked for, at the end of
// the input.
func supplied() line {
	return line{event: true, status: true, result: true, message: suppliedMessage}
}

// What stands before.

const stamp = "2026-03-25T20:00:00.123Z"

func eventText(seq int, message string) string {
	return fmt.Sprintf(`{"schema_version":1,"kind":"ready","timestamp":%q,"message":%q,"seq":%d}`+"\n", stamp, message, seq)
}

func statusText(seq int) string {
	return fmt.Sprintf("{\n  \"schema_version\": 1,\n  \"state\": \"ready\",\n  \"updated_at\": %q,\n"+
		"  \"message\": \"old-%d\",\n  \"seq\": %d\n}\n", stamp, seq, seq)
}

func resultText(seq int) string {
	return fmt.Sprintf("{\n  \"schema_version\": 1,\n  \"status\": \"completed\",\n  \"exit_code\": 0,\n"+
		"  \"finished_at\": %q,\n  \"message\": \"old-%d\",\n  \"seq\": %d\n}\n", stamp, seq, seq)
}

func logText(n int) (text string) {
	for i := range n {
		text += eventText(i+1, fmt.Sprintf("old-%d", i+1))
	}
	return text
}

// missing leaves even the state directory to be made.
func missing(string) error { return nil }

// put writes files as an earlier writer left them.
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

// standing is a directory in which n events were committed, the last with a
// status and a verdict.
func standing(n int) map[string]string {
	return map[string]string{
		"events.jsonl":     logText(n),
		"events.jsonl.seq": fmt.Sprintf("%d\n", n),
		"status.json":      statusText(n),
		"result.json":      resultText(n),
	}
}

func filled(n int) func(string) error {
	return func(dir string) error { return put(dir, standing(n)) }
}

func withoutResult(n int) func(string) error {
	return func(dir string) error {
		files := standing(n)
		delete(files, "result.json")
		return put(dir, files)
	}
}

// tail is a log of three events with something behind them.
func tail(rest string) func(string) error {
	return func(dir string) error {
		files := standing(3)
		files["events.jsonl"] += rest
		files["events.jsonl.seq"] = "4\n"
		return put(dir, files)
	}
}

// seqFile is a log of three events beside a seq file that says something else;
// no seq file if it is empty.
func seqFile(text string) func(string) error {
	return func(dir string) error {
		files := standing(3)
		files["events.jsonl.seq"] = text
		if text == "" {
			delete(files, "events.jsonl.seq")
		}
		return put(dir, files)
	}
}

func onlySeqFile(dir string) error {
	return put(dir, map[string]string{"events.jsonl.seq": "41\n"})
}

// littered holds temporaries that crashed writers left.
func littered(dir string) error {
	files := standing(3)
	files[".status.json1234567890123456789"] = "{"
	files[".status.json2234567890123456789"] = ""
	return put(dir, files)
}

func tornTails(dir string) error {
	files := standing(3)
	files["events.jsonl"] += `{"schema_version":1,`
	files["rejected.jsonl"] = `{"schema_version":1,"line":1,"offset":0,"timestamp":"` + stamp +
		`","error":"bad-0","raw":"x"}` + "\n" + `{"schema_vers`
	files["events.jsonl.torn"] = "an earlier tail\n"
	return put(dir, files)
}
