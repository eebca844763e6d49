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

// goldenCases is the number of recorded cases. The test fails if one is missing.
const goldenCases = 78

// A goldenCase is a recorded use of the Python command in an empty directory.
type goldenCase struct {
	Name  string
	Steps []struct {
		Argv []string
		Exit int
	}
	Files map[string]string
}

// readGolden reads a file of testdata/golden, which has one JSON value per line.
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

// The one-shot commands write the same artifacts as the Python command, and have the same
// exit codes.
func TestOneshot_like_Python(t *testing.T) {
	cases := readGolden[goldenCase](t, "oneshot.jsonl")
	if len(cases) != goldenCases {
		t.Fatalf("%d recorded cases, want %d", len(cases), goldenCases)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { c.replay(t) })
	}
}

// replay runs the steps and compares the files that they wrote.
func (c *goldenCase) replay(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	rejected := strings.HasPrefix(c.Name, "rejected_")
	for _, step := range c.Steps {
		want := step.Exit
		if rejected {
			want = exitUsage // also where Python ended with a traceback
		}
		if code, stderr := runHere(step.Argv); code != want {
			t.Fatalf("%q exits with %d, want %d; on stderr: %s", step.Argv, code, want, stderr)
		}
	}
	if rejected && len(c.Files) > 0 {
		t.Fatalf("the recording has files %v", c.Files)
	}
	got := readTree(t, dir)
	for name := range got {
		if _, ok := c.Files[name]; !ok {
			t.Errorf("unexpected file %s", name)
		}
	}
	for name, want := range c.Files {
		compareArtifact(t, name, got[name], want)
	}
}

// runHere runs a command line in this process, with a fixed clock and boot ID, and
// returns its exit code and its output on stderr.
func runHere(argv []string) (code int, stderr string) {
	var output strings.Builder
	a := app{stdout: io.Discard, stderr: &output, getenv: func(string) string { return "" },
		clock:  func() ingest.Moment { return testMoment(testTime) },
		bootID: func() string { return testBoot }}
	return a.main(argv), output.String()
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

// compareArtifact compares the content of a file: in a log each line, otherwise the
// one object.
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

// decodeAll decodes all JSON values of a file.
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

// An ordered is a JSON value that keeps the order of its members: a scalar, or the
// values of an array, or the names and values of an object.
type ordered struct {
	kind   string // { for an object, [ for an array, otherwise the Go type
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

// The fields whose values differ each time, and those that the Python command did not
// write.
var (
	variable = []string{"updated_at", "timestamp", "finished_at", "boot_id"}
	added    = []string{"uptime_ms", "seq", "rejected", "boot_id"}
)

// sameArtifact compares two artifacts. They must have the same keys in the same order,
// except added ones, and values of the same type. Values must be equal unless they are
// variable.
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

// same compares two values, including the order of the keys of objects.
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

// sameFloat compares numbers that are not integers by value, because Python may write
// such a number with other digits than it read.
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
