package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// goldenCases is how many cases were recorded, so that none gets lost.
const goldenCases = 78

// A goldenCase is what the Python command did in an empty directory.
type goldenCase struct {
	Name  string
	Steps []struct {
		Argv []string
		Exit int
	}
	Files map[string]string
}

// readGolden reads a file of testdata/golden, one value a line.
func readGolden[T any](t *testing.T, name string) (all []T) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/golden/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range linesOf(string(text)) {
		var one T
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, one)
	}
	return all
}

func TestOneshotIsADropInForThePythonCommand(t *testing.T) {
	cases := readGolden[goldenCase](t, "oneshot.jsonl")
	if len(cases) != goldenCases {
		t.Fatalf("%d recorded cases, want %d", len(cases), goldenCases)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { c.replay(t) })
	}
}

// replay runs the steps and compares what they left.
func (c *goldenCase) replay(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	refused := strings.HasPrefix(c.Name, "refused_")
	for _, step := range c.Steps {
		want := step.Exit
		if refused {
			want = exitUsage // also where Python ended with a traceback
		}
		if code, said := runHere(step.Argv); code != want {
			t.Fatalf("%q exits %d, want %d; said: %s", step.Argv, code, want, said)
		}
	}
	if refused && len(c.Files) > 0 {
		t.Fatalf("the recording has files %v", c.Files)
	}
	got := readTree(t, dir)
	for name := range got {
		if _, ok := c.Files[name]; !ok {
			t.Errorf("%s was made", name)
		}
	}
	for name, want := range c.Files {
		compareArtifact(t, name, got[name], want)
	}
}

// runHere runs a command line in this process, with a fixed clock and boot ID.
func runHere(argv []string) (code int, said string) {
	var stderr strings.Builder
	a := app{stdout: io.Discard, stderr: &stderr, getenv: func(string) string { return "" },
		clock:  func() ingest.Moment { return testMoment(testTime) },
		bootID: func() string { return testBoot }}
	return a.main(argv), stderr.String()
}

// readTree returns the content of every file below dir.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// compareArtifact demands that got says what want says: line for line in a
// log, else as a whole.
func compareArtifact(t *testing.T, name, got, want string) {
	t.Helper()
	gotValues, wantValues := decodeAll(t, name, got), decodeAll(t, name, want)
	if len(gotValues) != len(wantValues) {
		t.Fatalf("%s: got %d values, want %d:\n%s", name, len(gotValues), len(wantValues), got)
	}
	for i := range wantValues {
		if err := sameArtifact(gotValues[i], wantValues[i]); err != nil {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, want)
		}
	}
}

// decodeAll decodes JSON values, of which a log has many.
func decodeAll(t *testing.T, name, text string) (values []ordered) {
	t.Helper()
	if !strings.HasSuffix(text, "\n") {
		t.Fatalf("%s does not end in a newline: %q", name, text)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	for {
		v, err := decodeOrdered(dec)
		if err == io.EOF {
			return values
		}
		if err != nil {
			t.Fatalf("%s: %v in %q", name, err, text)
		}
		values = append(values, v)
	}
}

// An ordered is a JSON value: a scalar, or the names (of an object) and values
// of what it holds, in order.
type ordered struct {
	kind   string // the type, or for containers { and [
	scalar any
	names  []string
	values []ordered
}

func decodeOrdered(dec *json.Decoder) (ordered, error) {
	token, err := dec.Token()
	if err != nil {
		return ordered{}, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return ordered{kind: fmt.Sprintf("%T", token), scalar: token}, nil
	}
	v := ordered{kind: delim.String()}
	for dec.More() {
		if delim == '{' {
			name, err := dec.Token()
			if err != nil {
				return v, err
			}
			v.names = append(v.names, name.(string))
		}
		item, err := decodeOrdered(dec)
		if err != nil {
			return v, err
		}
		v.values = append(v.values, item)
	}
	_, err = dec.Token()
	return v, err
}

// The fields of an artifact whose values differ from run to run, and those
// that the Python command did not write.
var (
	variable = []string{"updated_at", "timestamp", "finished_at", "boot_id"}
	added    = []string{"uptime_ms", "seq", "rejected", "boot_id"}
)

// sameArtifact compares two artifacts: the same keys in the same order, but
// for those that were added, of the same types and values.
func sameArtifact(got, want ordered) error {
	if got.kind != "{" || want.kind != "{" {
		return same(got, want)
	}
	var kept ordered
	for i, name := range got.names {
		if slices.Contains(added, name) && !slices.Contains(want.names, name) {
			continue
		}
		kept.names = append(kept.names, name)
		kept.values = append(kept.values, got.values[i])
	}
	if !slices.Equal(kept.names, want.names) {
		return fmt.Errorf("keys %q, want %q", kept.names, want.names)
	}
	for i, name := range want.names {
		g, w := kept.values[i], want.values[i]
		if slices.Contains(variable, name) && g.kind == "string" && w.kind == "string" {
			continue
		}
		if err := same(g, w); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// same compares two values, objects with their order.
func same(got, want ordered) error {
	if got.kind != want.kind || got.scalar != want.scalar && !sameFloat(got.scalar, want.scalar) {
		return fmt.Errorf("%s %v, want %s %v", got.kind, got.scalar, want.kind, want.scalar)
	}
	if !slices.Equal(got.names, want.names) || len(got.values) != len(want.values) {
		return fmt.Errorf("%q of %d values, want %q of %d", got.names, len(got.values), want.names, len(want.values))
	}
	for i := range want.values {
		if err := same(got.values[i], want.values[i]); err != nil {
			return err
		}
	}
	return nil
}

// sameFloat compares numbers that are no integers by value: Python writes what
// it read in digits of its own.
func sameFloat(got, want any) bool {
	g, ok1 := got.(json.Number)
	w, ok2 := want.(json.Number)
	if !ok1 || !ok2 || !strings.ContainsAny(string(g), ".eE") || !strings.ContainsAny(string(w), ".eE") {
		return false
	}
	x, err1 := g.Float64()
	y, err2 := w.Float64()
	return err1 == nil && err2 == nil && x == y
}
