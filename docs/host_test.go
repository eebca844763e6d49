package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	artifacts "github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The script of host.md reads what ingest has written, also after an interrupted
// append.
func TestHostPage_script(t *testing.T) {
	python, script := testenv.Tool(t, "python3"), oneBlock(t, "host.md", "python")
	state, empty := t.TempDir(), t.TempDir()
	if _, stderr, code := (command{state: state, input: testenv.ReadFile(t, "../testdata/streams/demo.jsonl")}).run(t, testenv.Program(t), "ingest"); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	log := filepath.Join(state, "events.jsonl")
	if err := os.WriteFile(log, []byte(testenv.ReadFile(t, log)+`{"sch`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ state, want string }{
		{state, "5 events\nthe guest is completed: 'openclaw_gateway_exited'\nthe run has completed, exit code 0\n"},
		{empty, "0 events\nthere is no status in " + empty + "\n"},
	} {
		if got, stderr, code := (command{state: c.state}).run(t, python, "-c", script); got != c.want || code != 0 {
			t.Errorf("exit code %d; the script prints\n%sexpected\n%s%s", code, got, c.want, stderr)
		}
	}
}

// The function outcome of the script follows the same rules as the program.
func TestHostPage_outcome(t *testing.T) {
	python, script := testenv.Tool(t, "python3"), oneBlock(t, "host.md", "python")
	functions, _, _ := strings.Cut(script, "\ndirectory = ")

	type pair struct {
		Status map[string]any `json:"status"`
		Result map[string]any `json:"result"`
	}
	var pairs []pair
	var want []string
	boots, seqs := []string{"", "a", "b"}, []int{0, 4, 5, 6}
	for _, state := range artifacts.States() {
		for _, outcome := range artifacts.Outcomes() {
			for i := range len(boots) * len(seqs) {
				status := &artifacts.Status{State: state, BootID: "a", Seq: 5}
				result := &artifacts.Result{Outcome: outcome, BootID: boots[i%len(boots)], Seq: uint64(seqs[i/len(boots)])}
				pairs = append(pairs, pair{
					present("state", string(state), status.BootID, status.Seq),
					present("status", string(outcome), result.BootID, result.Seq),
				})
				word := "None"
				if o, ok := artifacts.RunOutcome(status, result); ok {
					word = string(o)
				}
				want = append(want, word)
			}
		}
	}
	input, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := command{input: string(input)}.run(t, python, "-c", functions+`
for pair in json.load(sys.stdin):
    print(outcome(pair["status"], pair["result"]))
`)
	got := strings.Fields(stdout)
	if code != 0 || len(got) != len(want) {
		t.Fatalf("exit code %d; %d lines; expected %d\n%s", code, len(got), len(want), stderr)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v: outcome returns %s; expected %s", pairs[i], got[i], want[i])
		}
	}
}

// present returns the keys of a status or a result that have a value.
func present(key, word, boot string, seq uint64) map[string]any {
	keys := map[string]any{key: word}
	if boot != "" {
		keys["boot_id"] = boot
	}
	if seq != 0 {
		keys["seq"] = seq
	}
	return keys
}

func TestHostPage_states(t *testing.T) {
	_, section, _ := strings.Cut(testenv.ReadFile(t, "host.md"), "\n## The ten states\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var got []artifacts.State
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z]+) \|`).FindAllStringSubmatch(section, -1)[1:] {
		got = append(got, artifacts.State(m[1]))
	}
	if want := artifacts.States(); !slices.Equal(got, want) {
		t.Errorf("host.md lists %v; expected %v", got, want)
	}
}

// run and ingest need no capability, also as root.
func TestHostPage_capabilities(t *testing.T) {
	var without []string
	if testenv.IsRoot() {
		without = []string{testenv.Tool(t, "setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--"}
	}
	for name, c := range map[string]struct {
		argv []string
		want string
	}{
		"run":    {[]string{"run", "--", "grep", "CapEff:.0000000000000000", "/proc/self/status"}, "completed"},
		"ingest": {[]string{"ingest"}, "ready"},
	} {
		state := t.TempDir()
		argv := append(slices.Clone(without), append([]string{testenv.Program(t)}, c.argv...)...)
		_, stderr, code := (command{state: state, input: "STATE=ready\n"}).run(t, argv...)
		if code != 0 || stderr != "" {
			t.Fatalf("%s: exit code %d\n%s", name, code, stderr)
		}
		if got := readOne(t, state, "status.json").State; got != c.want {
			t.Errorf("%s: the status is %s; expected %s", name, got, c.want)
		}
	}
}
