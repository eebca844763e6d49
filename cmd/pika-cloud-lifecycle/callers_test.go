package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// recordedRuns is how many runs were recorded.
const recordedRuns = 6

// A callerRun is the calls that a real guest program made, one process each.
type callerRun struct {
	Name  string
	Calls [][]string
}

// A transition is the directive that replaces the calls for one state: status, event and,
// at the end of the run, result.
type transition struct {
	State    string          `json:"state"`
	Message  string          `json:"message"`
	ExitCode json.Number     `json:"exit_code,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"`
}

// Directives write the same artifacts as the recorded calls of guest programs.
func TestCallers_same_artifacts(t *testing.T) {
	runs := readGolden[callerRun](t, "callers.jsonl")
	if len(runs) != recordedRuns {
		t.Fatalf("%d recorded runs, want %d", len(runs), recordedRuns)
	}
	for _, run := range runs {
		t.Run(run.Name, func(t *testing.T) {
			want := run.replayCalls(t)
			transitions := run.transitions(t)
			t.Run("json", func(t *testing.T) { compareRun(t, transitions, want, jsonLines(t, transitions)) })
			t.Run("key_value", func(t *testing.T) { compareRun(t, transitions, want, keyValueLines(t, transitions)) })
		})
	}
}

// replayCalls makes the recorded calls and returns the artifacts.
func (run *callerRun) replayCalls(t *testing.T) map[string]string {
	dir := t.TempDir()
	for _, call := range run.Calls {
		argv := slices.Clone(call)
		for i, arg := range argv {
			argv[i] = strings.Replace(arg, "/run/pika-cloud", dir, 1)
		}
		if code, output := runHere(argv); code != exitOK {
			t.Fatalf("%q exits %d: %s", argv, code, output)
		}
	}
	return readTree(t, dir)
}

// transitions returns the directives that replace the recorded calls.
func (run *callerRun) transitions(t *testing.T) (transitions []transition) {
	for _, call := range run.Calls {
		flags := make(map[string]string)
		for i := 1; i < len(call); i += 2 {
			flags[call[i]] = call[i+1]
		}
		switch call[0] {
		case "status":
			m := transition{State: flags["--state"], Message: flags["--message"]}
			if text, ok := flags["--details-json"]; ok {
				m.Details = json.RawMessage(text)
			}
			transitions = append(transitions, m)
		case "event":
			if last := transitions[len(transitions)-1]; flags["--kind"] != last.State || flags["--message"] != last.Message {
				t.Fatalf("%q does not belong to the previous call", call)
			}
		case "result":
			last := &transitions[len(transitions)-1]
			if flags["--status"] != last.State || flags["--message"] != last.Message {
				t.Fatalf("%q does not belong to the previous call", call)
			}
			last.ExitCode = json.Number(flags["--exit-code"])
		}
	}
	return transitions
}

func jsonLines(t *testing.T, transitions []transition) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, m := range transitions {
		if err := enc.Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// keyValueLines prints the transitions as a bash script does, with printf %q.
func keyValueLines(t *testing.T, transitions []transition) string {
	testenv.Tool(t, "bash")
	const print = `printf 'STATE=%q MESSAGE=%q' "$1" "$2"; [ -z "$3" ] || printf ' EXIT_CODE=%q' "$3"; [ -z "$4" ] || printf ' DETAILS=%q' "$4"; echo`
	var b strings.Builder
	for _, m := range transitions {
		line, err := limitedCommand("bash", "-c", print, "-", m.State, m.Message, string(m.ExitCode), string(m.Details)).Output()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
	}
	return b.String()
}

// compareRun feeds directives to the program and compares the artifacts with those
// of the recorded calls.
func compareRun(t *testing.T, transitions []transition, want map[string]string, directives string) {
	dir := t.TempDir()
	cmd := testCommand("ingest", "--state-dir", dir)
	cmd.Stdin = strings.NewReader(directives)
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Fatalf("%v: %s\n%s", err, output, directives)
	}
	got := readTree(t, dir)
	delete(got, writer.WriterLockName) // the recorded calls are one-shot
	if len(got) != len(want) {
		t.Errorf("got %d files, want %d", len(got), len(want))
	}
	for name, text := range want {
		if name == "result.json" {
			text = withDetails(t, text, transitions[len(transitions)-1].Details)
		}
		compareArtifact(t, filepath.Base(name), got[name], text)
	}
	checkSeqs(t, got, len(transitions))
}

// withDetails adds details to a result without them: the recorded program passed
// details only to the status and the event, a transition writes them to all three.
func withDetails(t *testing.T, result string, details json.RawMessage) string {
	if details == nil || strings.Contains(result, `"details"`) {
		return result
	}
	before, after, ok := strings.Cut(result, ",\n  \"boot_id\"")
	if !ok {
		t.Fatalf("no boot_id in %s", result)
	}
	return before + ",\n  \"details\": " + string(details) + ",\n  \"boot_id\"" + after
}

// checkSeqs checks that status, result and the last event have the same seq.
func checkSeqs(t *testing.T, files map[string]string, n int) {
	var last struct{ Seq int }
	lines := linesOf(files["events.jsonl"])
	for _, text := range []string{lines[len(lines)-1], files["status.json"], files["result.json"]} {
		if text == "" {
			continue // a run that was killed has no result
		}
		if err := json.Unmarshal([]byte(text), &last); err != nil || last.Seq != n {
			t.Errorf("seq %d, want %d in %s (%v)", last.Seq, n, text, err)
		}
	}
}
