package artifact_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sledtools/pika-cloud-lifecycle/docs/schema"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

const event = `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:01.007Z","message":"listening on 8080","boot_id":"6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11","details":{"port":8080},"uptime_ms":3301,"seq":2}`

// decoders decode each kind of artifact. The key is the name of its schema.
var decoders = map[string]func(text []byte) error{
	"events":   func(text []byte) error { _, err := new(artifact.Decoder).Event(text); return err },
	"status":   func(text []byte) error { _, err := new(artifact.Decoder).Status(text); return err },
	"result":   func(text []byte) error { _, err := new(artifact.Decoder).Result(text); return err },
	"rejected": func(text []byte) error { return new(artifact.Decoder).Reject(text) },
}

// vectors returns the artifacts in a file of testdata.
func vectors(t *testing.T, name string) (names []string, values [][]byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/artifacts", name+".jsonl"))
	if err != nil || len(text) == 0 {
		t.Fatalf("%s: %d bytes, %v", name, len(text), err)
	}
	for line := range bytes.Lines(text) {
		var v struct {
			Name  string
			Value json.RawMessage
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		names, values = append(names, v.Name), append(values, v.Value)
	}
	return names, values
}

func TestDecoder_vectors(t *testing.T) {
	for kind, decode := range decoders {
		names, values := vectors(t, "ok_"+kind)
		for i, value := range values {
			if err := decode(value); err != nil {
				t.Errorf("ok_%s, %s: %v", kind, names[i], err)
			}
		}
		names, values = vectors(t, "bad_"+kind)
		for i, value := range values {
			if decode(value) == nil {
				t.Errorf("bad_%s, %s: %s was accepted", kind, names[i], value)
			}
		}
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := schema.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(name+".json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// The decoder and the JSON Schema accept the same artifacts. The test tries many
// values for each key of each artifact, and leaves each key out.
func TestDecoder_agrees_with_schemas(t *testing.T) {
	tries := []string{"", "null", "true", "false", "0", "1", "2", "-1", "4", "1.5", "-2147483648", "-2147483649",
		"2147483647", "2147483648", "18446744073709551615", "18446744073709551616", `""`, `"x"`, `"1"`, `"ready"`,
		`"Ready"`, `"completed"`, `"failed"`, `"2026-03-25T20:00:00.123Z"`, `"2026-03-25T20:00:00+00:00"`,
		`"2026-03-25T20:00:00-23:59"`, `"2026-03-25T20:00:00+24:00"`, `"2026-03-25T20:00:00+01:60"`, `"2026-03-25T2:00:00Z"`,
		`"2026-03-25T20:00:00,5Z"`, `"2026-02-29T20:00:00Z"`, `"2026-03-25t20:00:00z"`, `"2026-03-25 20:00:00Z"`,
		`"2016-12-31T23:59:60Z"`, `"2016-12-31T15:59:60.5-08:00"`, `"2016-12-31T23:59:61Z"`, `"2016-12-31T23:58:60Z"`, `"2016-12-31T23:59:60+01:00"`,
		`"column 1: x"`, `"column 0: x"`, `"column : x"`, `"column 10:x"`, `"/w=="`, `"/w="`, `"/x=="`, `"` + strings.Repeat("é", 4096) + `"`,
		`"` + strings.Repeat("x", 4097) + `"`, `"` + strings.Repeat("AAAA", 1367) + `"`, "{}", "[]", `{"a":{"b":[1]}}`, `["a"]`}
	tried := 0
	for kind, decode := range decoders {
		compiled := compile(t, kind)
		_, values := vectors(t, "ok_"+kind)
		for key := range keysOf(t, values[0]) {
			for _, value := range tries {
				for _, whole := range values[:2] { // with all keys, and with only the required ones
					text := with(t, whole, key, value)
					parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
					if err != nil {
						t.Fatal(err)
					}
					tried++
					if got, want := decode(text), compiled.Validate(parsed); (got == nil) != (want == nil) {
						t.Errorf("%s, %s = %.60s: decoder %v, schema %v", kind, key, value, got, want)
					}
				}
			}
		}
	}
	if tried < 2000 {
		t.Errorf("only %d values were tried", tried)
	}
}

func keysOf(t *testing.T, object []byte) (keys map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(object, &keys); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"raw_base64", "length", "truncated", "unknown"} {
		keys[more] = nil
	}
	return keys
}

// with returns the object with another value for key, or without key if value is
// "".
func with(t *testing.T, object []byte, key, value string) []byte {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		t.Fatal(err)
	}
	if members[key] = json.RawMessage(value); value == "" {
		delete(members, key)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDecoder_event_fields(t *testing.T) {
	var d artifact.Decoder
	e, err := d.Event([]byte(event))
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != "ready" || !e.Time.Equal(time.Date(2026, 3, 25, 20, 0, 1, 7e6, time.UTC)) || string(e.Message) != `"listening on 8080"` || e.Uptime.Milliseconds() != 3301 ||
		e.BootID != "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11" || string(e.Details) != `{"port":8080}` || e.Seq != 2 {
		t.Errorf("%+v", e)
	}
	if from, to := d.SeqBounds(); string(d.Normal()[from:to]) != "2" || !d.UTC() {
		t.Errorf("seq is %q", d.Normal()[from:to])
	}
	python := `{"schema_version": 1, "kind": "ready", "timestamp": "2026-03-25T20:00:01+00:00", "message": "\u00e9", "boot_id": "7", "seq": 3}`
	if e, err = d.Event([]byte(python)); err != nil || e.Seq != 3 || d.UTC() || e.BootID != "7" || string(e.Message) != `"é"` {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err = d.Event([]byte(`{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:01.007Z","message":"m","seq":9}`)); err != nil || e.BootID != "" || e.Uptime != 0 || e.Details != nil {
		t.Errorf("fields of the previous line were kept: %+v, %v", e, err)
	}
}

func TestDecoder_quotes_and_brackets_in_strings(t *testing.T) {
	const message, details = `"a\"b\\"`, `{"a\"}":["]\\",{"b":"\\\",\""}],"c":[[],{}],"d":1.5e3}`
	line := strings.NewReplacer(`"listening on 8080"`, message, `{"port":8080}`, details).Replace(event)
	e, err := new(artifact.Decoder).Event([]byte(line))
	if err != nil || string(e.Message) != message || string(e.Details) != details || e.Seq != 2 {
		t.Fatalf("%s: %v", line, err)
	}
	var members []string
	strictjson.Members(e.Details, func(name, value strictjson.Value, _ int) { members = append(members, string(name)+" "+string(value)) })
	if want := []string{`"a\"}" ["]\\",{"b":"\\\",\""}]`, `"c" [[],{}]`, `"d" 1.5e3`}; !slices.Equal(members, want) {
		t.Errorf("%q, want %q", members, want)
	}
}

func TestDecoder_altered(t *testing.T) {
	for text, want := range map[string]string{
		"\xff":                    "invalid UTF-8",
		`\ud800`:                  "a lone surrogate",
		`\udc00`:                  "a lone surrogate",
		`\ud83dx`:                 "a lone surrogate",
		`\ud83d\u0041`:            "a lone surrogate",
		`\\\ud83d`:                "a lone surrogate",
		`","seq":2,"x":"`:         "a name that occurs twice in an object",
		`","x":{"a":1,"\u0061":2`: "a name that occurs twice in an object",
		`","x":"","x":"`:          "a name that occurs twice in an object",
		`\ud83d\ude00`:            "",
		`\ufffd\\ud83d`:           "",
		"\ufffd \\\"seq\\\":2":    "",
		`\u00e9\/\u003a`:          "",
	} {
		line := strings.Replace(event, "listening on 8080", text, 1)
		if strings.HasPrefix(text, `","x":{`) {
			line = strings.Replace(line, text+`"`, text+`}`, 1)
		}
		var altered *artifact.AlteredError
		e, err := new(artifact.Decoder).Event([]byte(line))
		isWanted := err == nil
		if want != "" {
			isWanted = errors.As(err, &altered) && altered.Why == want
		}
		if !isWanted || e == nil {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte(event))
	f.Add([]byte(`{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00.123Z","message":"\ud800","seq":4}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, decode := range decoders {
			_ = decode(text)
		}
		var d artifact.Decoder
		e, err := d.Event(text)
		if (err == nil) && e == nil {
			t.Fatal("neither an event nor an error")
		}
		if e == nil {
			return
		}
		normal := bytes.Clone(d.Normal())
		if _, err := d.Event(normal); err != nil {
			t.Fatalf("the normal form %q: %v", normal, err)
		}
		var event struct{ Seq uint64 }
		if err := json.Unmarshal(normal, &event); err != nil || event.Seq != e.Seq {
			t.Fatalf("%q: %v, seq %d and %d", normal, err, event.Seq, e.Seq)
		}
	})
}
