package schema_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sledtools/pika-cloud-lifecycle/docs/schema"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// names are the schemas, without .json.
var names = []string{"directive", "events", "rejected", "result", "status"}

func TestSchemas_embedded(t *testing.T) {
	files, err := fs.Glob(schema.Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range names {
		want = append(want, name+".json")
	}
	if !slices.Equal(files, want) {
		t.Errorf("embedded are %q; expected %q", files, want)
	}
}

// A document is the part of a schema that the tests check.
type document struct {
	ID          string `json:"$id"`
	Title       string
	Description string
	Properties  map[string]property
	Required    []string
	Examples    []json.RawMessage
	Follows     map[artifact.State][]artifact.State `json:"x-follows"`
}

type property struct {
	Title       string
	Description string
	Enum        []any
	Const       any
}

func load(t *testing.T, name string) (doc document) {
	t.Helper()
	text, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc
}

// compile compiles a schema, and validates it against the meta-schema.
func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(name+".json", doc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiled, err := c.Compile(name + ".json")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return compiled
}

func validate(s *jsonschema.Schema, text []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func TestSchemas_descriptions_and_examples(t *testing.T) {
	for _, name := range names {
		doc, compiled := load(t, name), compile(t, name)
		if !strings.HasSuffix(doc.ID, "/docs/schema/"+name+".json") {
			t.Errorf("%s: $id is %q", name, doc.ID)
		}
		if doc.Title == "" || doc.Description == "" || len(doc.Examples) == 0 {
			t.Errorf("%s: expected a title, a description and examples", name)
		}
		for key, p := range doc.Properties {
			if p.Title == "" || p.Description == "" && p.Const == nil {
				t.Errorf("%s: %s has no title or no description", name, key)
			}
		}
		for _, example := range doc.Examples {
			if err := validate(compiled, example); err != nil {
				t.Errorf("%s: example %s: %v", name, example, err)
			}
		}
	}
}

// A vector is an artifact, or a directive, that a schema must accept or reject.
type vector struct {
	Name  string
	Value json.RawMessage
}

func vectors(t *testing.T, sort, name string) (all []vector) {
	t.Helper()
	for _, line := range readLines(t, filepath.Join("../../testdata/artifacts", sort+"_"+name+".jsonl")) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s_%s: %s: %v", sort, name, line, err)
		}
		all = append(all, v)
	}
	return all
}

// readLines returns the lines of a file, which must not be empty.
func readLines(t *testing.T, path string) [][]byte {
	t.Helper()
	text := testenv.ReadFile(t, path)
	if len(text) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return bytes.Split([]byte(strings.TrimSuffix(text, "\n")), []byte("\n"))
}

func TestSchemas_vectors(t *testing.T) {
	for _, name := range names {
		compiled := compile(t, name)
		for _, v := range vectors(t, "ok", name) {
			if err := validate(compiled, v.Value); err != nil {
				t.Errorf("ok_%s, %s: %v", name, v.Name, err)
			}
		}
		for _, v := range vectors(t, "bad", name) {
			if validate(compiled, v.Value) == nil {
				t.Errorf("bad_%s, %s: %s was accepted", name, v.Name, v.Value)
			}
		}
	}
}

// The decoder accepts and rejects the same directives as the schema.
func TestSchemas_directive_same_as_decoder(t *testing.T) {
	for sort, rejected := range map[string]uint64{"ok": 0, "bad": 1} {
		for _, v := range vectors(t, sort, "directive") {
			_, sum := replay(t, append(bytes.Clone(v.Value), '\n'))
			if sum.Lines != 1 || sum.Rejected != rejected {
				t.Errorf("%s_directive, %s: %+v", sort, v.Name, sum)
			}
		}
	}
}

func TestSchemas_states_and_outcomes(t *testing.T) {
	states, outcomes := words(artifact.States()), words(artifact.Outcomes())
	for _, c := range []struct {
		schema, key string
		want        []any
	}{
		{"status", "state", states},
		{"events", "kind", states},
		{"result", "status", outcomes},
		{"directive", "state", append(slices.Clone(states), nil)},
		{"directive", "kind", append(slices.Clone(states), nil)},
		{"directive", "status", append(slices.Clone(outcomes), nil)},
	} {
		if got := load(t, c.schema).Properties[c.key].Enum; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %s is one of %v; expected %v", c.schema, c.key, got, c.want)
		}
	}
}

func words[T ~string](list []T) (all []any) {
	for _, w := range list {
		all = append(all, string(w))
	}
	return all
}

func TestSchemas_policy_table(t *testing.T) {
	follows := load(t, "directive").Follows
	for _, last := range artifact.States() {
		for _, next := range artifact.States() {
			if got, want := slices.Contains(follows[last], next), next.Follows(last); got != want {
				t.Errorf("%s after %s: the schema has %v, the code %v", next, last, got, want)
			}
		}
	}
	if len(follows) != len(artifact.States()) {
		t.Errorf("x-follows has %d states; expected %d", len(follows), len(artifact.States()))
	}
}

// artifacts are the files of a state directory that have a schema. lines is set if
// each line must match it, and not the file as a whole.
var artifacts = []struct {
	file, schema string
	lines        bool
}{
	{writer.StatusName, "status", false},
	{writer.EventsName, "events", true},
	{writer.ResultName, "result", false},
	{writer.RejectedName, "rejected", true},
}

func TestSchemas_python_artifacts(t *testing.T) {
	checked := make(map[string]int)
	for _, line := range readLines(t, "../../testdata/golden/oneshot.jsonl") {
		var run struct {
			Name  string
			Files map[string]string
		}
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		for _, text := range run.Files {
			if name := schemaOf([]byte(text)); name != "" {
				checkSchema(t, run.Name, name, []byte(text))
				checked[name]++
			}
		}
	}
	if checked["status"] == 0 || checked["events"] == 0 || checked["result"] == 0 {
		t.Errorf("checked against the schemas: %v; expected some of each", checked)
	}
}

// schemaOf returns the name of the schema for a JSON text, from the keys of its
// first line, or "" if that is not an object.
func schemaOf(text []byte) string {
	var keys map[string]json.RawMessage
	if json.NewDecoder(bytes.NewReader(text)).Decode(&keys) != nil {
		return ""
	}
	for key, name := range map[string]string{"updated_at": "status", "seq": "events",
		"finished_at": "result", "error": "rejected"} {
		if _, ok := keys[key]; ok && (key != "seq" || keys["kind"] != nil) {
			return name
		}
	}
	return "directive"
}

// checkSchema validates a text, or each line of it, against a schema.
func checkSchema(t *testing.T, what, name string, text []byte) {
	t.Helper()
	compiled := compile(t, name)
	texts := [][]byte{text}
	if validJSON := json.Valid(text); !validJSON {
		texts = bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	}
	for _, one := range texts {
		if err := validate(compiled, one); err != nil {
			t.Errorf("%s: %s: %v", what, one, err)
		}
	}
}

var fenced = regexp.MustCompile("(?ms)^ *```jsonl?\n(.*?)^ *```$")

func TestSchemas_examples_in_docs(t *testing.T) {
	checked := make(map[string]int)
	for _, pattern := range []string{"../*.md", "../../README.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s finds nothing: %v", pattern, err)
		}
		for _, page := range pages {
			for _, example := range fenced.FindAllSubmatch([]byte(testenv.ReadFile(t, page)), -1) {
				name := schemaOf(example[1])
				if name == "" {
					t.Fatalf("%s: not an object: %s", page, example[1])
				}
				checkSchema(t, page, name, example[1])
				checked[name]++
			}
		}
	}
	for _, name := range names {
		if checked[name] == 0 {
			t.Errorf("the docs have no example of %s", name)
		}
	}
}

// bootID is a valid boot ID.
const bootID = "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11"

// replay feeds text to a stream and returns the state directory it wrote.
func replay(t *testing.T, text []byte) (dir string, sum ingest.Summary) {
	t.Helper()
	dir = t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		w.Write(text)
		w.Close()
	}()
	d := writer.In(dir)
	d.Rejects.MaxBytes = 1 << 20
	clock := func() ingest.Moment {
		return ingest.Moment{Time: time.Date(2026, 3, 25, 20, 0, 0, 123e6, time.UTC), Uptime: 2417 * time.Millisecond}
	}
	s := ingest.Stream{Dir: d, Clock: clock, In: int(r.Fd()), BootID: bootID, RequireResult: true}
	if sum, err = s.Run(); err != nil {
		t.Fatal(err)
	}
	return dir, sum
}

// mixed contains what no recorded run has: every form of directive, rejected lines
// with raw and with raw_base64, and details of every type.
const mixed = `{"type":"status","state":"booted","details":[1e308,123456789012345678901234567890]}
{"kind":"starting","details":"text","timestamp":"2026-03-25T20:00:00+02:00"}
STATE=ready DETAILS.a.b=c DETAILS.d:=null
STATE=ready MESSAGE=$'\xff' DETAILS=false
not a directive
` + "not UTF-8: \xff\n" + `{"status":"failed","exit_code":-1}
`

func TestSchemas_fresh_artifacts(t *testing.T) {
	texts := map[string][]byte{"mixed": []byte(mixed), "long": append(bytes.Repeat([]byte{'x'}, 5000), '\n')}
	for _, run := range callers(t) {
		texts[run.Name+".jsonl"] = []byte(testenv.ReadFile(t, "../../testdata/streams/"+run.Name+".jsonl"))
		texts[run.Name+".kv"] = []byte(testenv.ReadFile(t, "../../testdata/streams/"+run.Name+".kv"))
	}
	for name, text := range texts {
		dir, sum := replay(t, text)
		if clean := name != "mixed" && name != "long"; clean && sum.Rejected > 0 {
			t.Errorf("%s: %d lines rejected", name, sum.Rejected)
		}
		for _, a := range artifacts {
			if a.schema != "rejected" || sum.Rejected > 0 {
				checkArtifact(t, name, filepath.Join(dir, a.file), a.schema, a.lines)
			}
		}
	}
}

// A recorded is a run of a real guest program: the calls that it made.
type recorded struct {
	Name  string
	Calls [][]string
}

func callers(t *testing.T) (runs []recorded) {
	t.Helper()
	for _, line := range readLines(t, "../../testdata/golden/callers.jsonl") {
		var run recorded
		if err := json.Unmarshal(line, &run); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	return runs
}

// A report is the content of one call, without times and numbers.
type report struct {
	Word, Message string
	ExitCode      *int
	Details       any
}

// reports returns what the calls of a command report, in order.
func (r *recorded) reports(t *testing.T, command string) (all []report) {
	t.Helper()
	for _, argv := range r.Calls {
		flags := make(map[string]string)
		for i := 1; i+1 < len(argv); i += 2 {
			flags[argv[i]] = argv[i+1]
		}
		word := flags["--state"] + flags["--kind"] + flags["--status"]
		if argv[0] != command {
			continue
		}
		one := report{Word: word, Message: flags["--message"]}
		unmarshal(t, flags["--details-json"], &one.Details)
		unmarshal(t, flags["--exit-code"], &one.ExitCode)
		all = append(all, one)
	}
	return all
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// reportsIn returns the reports in an artifact.
func reportsIn(t *testing.T, path string) (all []report) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(testenv.ReadFile(t, path)))
	for d.More() {
		var a struct {
			State, Kind, Status, Message string
			ExitCode                     *int `json:"exit_code"`
			Details                      any
		}
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		all = append(all, report{a.State + a.Kind + a.Status, a.Message, a.ExitCode, a.Details})
	}
	return all
}

func TestStreams_same_as_recorded_callers(t *testing.T) {
	for _, run := range callers(t) {
		for _, form := range []string{".jsonl", ".kv"} {
			dir, _ := replay(t, []byte(testenv.ReadFile(t, "../../testdata/streams/"+run.Name+form)))
			events, want := reportsIn(t, filepath.Join(dir, writer.EventsName)), run.reports(t, "event")
			result, wantResult := reportsIn(t, filepath.Join(dir, writer.ResultName)), run.reports(t, "result")
			if len(wantResult) == 0 { // a run without a result: the stream added one
				events = events[:len(events)-1]
				result = nil
			}
			for i := range min(len(result), len(wantResult)) {
				wantResult[i].Details = result[i].Details // a transition's details are also in the result
			}
			if !reflect.DeepEqual(events, want) || !reflect.DeepEqual(result, wantResult) {
				t.Errorf("%s%s:\n events %v, result %v\nexpected %v, %v", run.Name, form, events, result, want, wantResult)
			}
		}
	}
}

// exactTime is the form of time that this program writes.
var exactTime = regexp.MustCompile(`^"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"$`)

// checkArtifact validates a file that this program wrote. It also checks the
// order of keys and the form of times, which a schema cannot express.
func checkArtifact(t *testing.T, what, path, name string, lines bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	texts := [][]byte{text}
	if lines {
		texts = bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	}
	compiled, order := compile(t, name), keysOf(t, propertiesOf(t, name))
	for _, one := range texts {
		if err := validate(compiled, one); err != nil {
			t.Errorf("%s: %s: %v", what, one, err)
		}
		last := -1
		for key, value := range members(t, one) {
			at := slices.Index(order, key)
			if at <= last {
				t.Errorf("%s: %s: %s is unknown or out of order; expected the order %v", what, one, key, order)
			}
			last = at
			if isTime := strings.HasSuffix(key, "_at") || key == "timestamp"; isTime && !exactTime.Match(value) {
				t.Errorf("%s: %s is %s", what, key, value)
			}
		}
	}
}

func propertiesOf(t *testing.T, name string) []byte {
	t.Helper()
	text, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Properties json.RawMessage }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Properties
}

func keysOf(t *testing.T, object []byte) (keys []string) {
	t.Helper()
	for key := range members(t, object) {
		keys = append(keys, key)
	}
	return keys
}

// members yields the members of an object in their order.
func members(t *testing.T, object []byte) func(yield func(string, json.RawMessage) bool) {
	t.Helper()
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(object))
		if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
			t.Errorf("not an object: %s", object)
			return
		}
		for d.More() {
			key, err := d.Token()
			var value json.RawMessage
			if err == nil {
				err = d.Decode(&value)
			}
			if err != nil {
				t.Errorf("%s: %v", object, err)
				return
			}
			if !yield(key.(string), value) {
				return
			}
		}
	}
}
