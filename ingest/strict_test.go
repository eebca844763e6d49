package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The strict reader of these tests accepts only texts that every JSON reader accepts. It is
// built on the tokens of encoding/json, and also rejects some texts that Go accepts:
// invalid UTF-8, lone surrogates, repeated names, numbers outside the range of a double,
// deep nesting.

// A strictReader reads one JSON text.
type strictReader struct {
	*json.Decoder
	replaced int // U+FFFD in strings
}

// strict returns why a strict reader does not load a text.
func strict(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("not UTF-8: %q", text)
	}
	r := &strictReader{Decoder: json.NewDecoder(bytes.NewReader(text))}
	r.UseNumber()
	if err := r.value(0); err != nil {
		return fmt.Errorf("%v in %q", err, text)
	}
	if _, err := r.Token(); err != io.EOF {
		return fmt.Errorf("more than one value in %q", text)
	}
	if r.replaced != strings.Count(string(text), "\ufffd") {
		return fmt.Errorf("a lone surrogate in %q", text)
	}
	return nil
}

func (r *strictReader) value(depth int) error {
	token, err := r.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case json.Number:
		_, err = strconv.ParseFloat(v.String(), 64)
	case string:
		r.replaced += strings.Count(v, "\ufffd")
	case json.Delim:
		if depth++; depth >= 127 {
			return fmt.Errorf("nested %d deep", depth)
		}
		return r.members(v == '{', depth)
	}
	return err
}

func (r *strictReader) members(named bool, depth int) error {
	names := map[string]bool{}
	for r.More() {
		if named {
			token, err := r.Token()
			if err != nil {
				return err
			}
			name := token.(string)
			if names[name] {
				return fmt.Errorf("%q is given twice", name)
			}
			names[name] = true
			r.replaced += strings.Count(name, "\ufffd")
		}
		if err := r.value(depth); err != nil {
			return err
		}
	}
	_, err := r.Token()
	return err
}

// A fieldModel describes the values of a key of an artifact.
type fieldModel struct {
	name     string
	form     string // of its JSON, a regular expression
	optional bool
}

const (
	stateForm  = `"(requested|provisioning|booted|starting|ready|completed|failed|unreachable|stopped|destroyed)"`
	timeForm   = `"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`
	stringForm = `(?s)".*"`
	countForm  = `[1-9]\d*`
	anyForm    = `(?s)[^n].*`
)

var (
	eventModel = []fieldModel{{"schema_version", "1", false}, {"kind", stateForm, false}, {"timestamp", timeForm, false},
		{"message", stringForm, false}, {"boot_id", stringForm, true}, {"details", anyForm, true},
		{"uptime_ms", countForm, true}, {"transition", "false", true}, {"seq", countForm, false}}
	statusModel = []fieldModel{{"schema_version", "1", false}, {"state", stateForm, false}, {"updated_at", timeForm, false},
		{"message", stringForm, false}, {"boot_id", stringForm, true}, {"details", anyForm, true},
		{"seq", countForm, true}, {"rejected", countForm, true}}
	resultModel = []fieldModel{{"schema_version", "1", false}, {"status", `"(completed|failed)"`, false},
		{"exit_code", `0|-?[1-9]\d*`, true}, {"finished_at", timeForm, false}, {"message", stringForm, false},
		{"details", anyForm, true}, {"boot_id", stringForm, true}, {"seq", countForm, true}}
	rejectModel = []fieldModel{{"schema_version", "1", false}, {"line", countForm, false}, {"offset", `0|` + countForm, false},
		{"timestamp", timeForm, false}, {"error", stringForm, false}, {"raw", stringForm, true}, {"raw_base64", stringForm, true},
		{"length", countForm, true}, {"truncated", "true", true}}
)

// conform checks an artifact, or a line of one, against its model: the keys in
// their order, each value in its form. It returns the values as JSON.
func conform(t testing.TB, text string, model []fieldModel) map[string]string {
	t.Helper()
	testenv.Must(t, strict([]byte(text)))
	var fields map[string]json.RawMessage
	testenv.Must(t, json.Unmarshal([]byte(text), &fields))
	values := map[string]string{}
	for _, f := range model {
		value, ok := fields[f.name]
		if !ok && !f.optional || ok && !formed(f.form, string(value)) {
			t.Fatalf("%s is %q in %s", f.name, value, text)
		}
		if ok {
			values[f.name] = string(value)
		}
	}
	if len(values) != len(fields) || !inOrder(text, model, values) {
		t.Fatalf("other keys, or in another order, in %s", text)
	}
	return values
}

var forms = map[string]*regexp.Regexp{}

func formed(form, value string) bool {
	if forms[form] == nil {
		forms[form] = regexp.MustCompile("^(?:" + form + ")$")
	}
	return forms[form].MatchString(value)
}

// inOrder reports whether the keys are in the order of the model.
func inOrder(text string, model []fieldModel, values map[string]string) bool {
	var want, got []string
	for _, f := range model {
		if _, ok := values[f.name]; ok {
			want = append(want, f.name)
		}
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.Token()
	for d.More() {
		name, _ := d.Token()
		got = append(got, name.(string))
		var skipped json.RawMessage
		d.Decode(&skipped)
	}
	return slices.Equal(got, want)
}

// checkModel checks all artifacts of a guest whose directory was empty before,
// and returns its events and rejected lines.
func (g *guest) checkModel() (events, rejects []map[string]string) {
	t := g.t
	t.Helper()
	for i, line := range lines0(t, g.read("events.jsonl")) {
		events = append(events, conform(t, line, eventModel))
		check(t, "the seq of an event", events[i]["seq"], strconv.Itoa(i+1))
	}
	for _, line := range lines0(t, g.read("rejected.jsonl")) {
		rejects = append(rejects, conform(t, line, rejectModel))
	}
	if len(events) > 0 {
		check(t, "the seq file", g.read("events.jsonl.seq"), strconv.Itoa(len(events))+"\n")
	}
	g.checkWhole("status.json", "state", statusModel, events)
	g.checkWhole("result.json", "status", resultModel, events)
	return events, rejects
}

// lines0 returns the lines of a file that is empty or ends in a newline.
func lines0(t testing.TB, text string) []string {
	t.Helper()
	if text == "" {
		return nil
	}
	body, ok := strings.CutSuffix(text, "\n")
	if !ok {
		t.Fatalf("no newline at the end of %s", clip(text))
	}
	return strings.Split(body, "\n")
}

// checkWhole checks a status or result, and that it agrees with the event that has its seq.
func (g *guest) checkWhole(name, word string, model []fieldModel, events []map[string]string) {
	t := g.t
	t.Helper()
	text := g.read(name)
	if text == "" {
		return
	}
	fields := conform(t, text, model)
	if fields["seq"] == "" {
		return
	}
	seq, err := strconv.Atoi(fields["seq"])
	testenv.Must(t, err)
	if seq > len(events) {
		t.Fatalf("%s has seq %d of %d", name, seq, len(events))
	}
	event := events[seq-1]
	check(t, name+": "+word, fields[word], event["kind"])
	check(t, name+": message", fields["message"], event["message"])
	check(t, name+": details", fields["details"], event["details"])
	check(t, name+": boot_id", fields["boot_id"], event["boot_id"])
}

func TestStrictReader(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, ok := range map[string]bool{
		`{"a":[1,"x",null,true,{"a":-0}]}`: true, deep(126): true, deep(127): false, "1 2": false, "": false,
		`{"a":1,"a":2}`: false, `{"b":{"a":1,"\u0061":2}}`: false, "1e999": false, "1e-999": true, `"\ud800"`: false,
		"\"\ufffd\"": true, `"\ud83d\ude00"`: true, "\"\xff\"": false, "NaN": false, "01": false, "[1,]": false, "\ufeff1": false,
	} {
		if err := strict([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
