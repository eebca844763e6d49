package directive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// decodeLine decodes a line and describes the directive in one text, or returns
// the error.
func decodeLine(text string) string {
	var dec Decoder
	return dec.describe(text, false)
}

func (dec *Decoder) describe(text string, cut bool) string {
	d, rejected := dec.Decode([]byte(text), cut)
	if rejected != nil {
		return rejected.Error()
	}
	s := fmt.Sprintf("%s %s%s %s", d.Type, d.State, d.outcomeAlone(), d.Message)
	if d.HasExitCode {
		s += fmt.Sprintf(" exit=%d", d.ExitCode)
	}
	if len(d.Details) > 0 {
		s += " details=" + string(d.Details)
	}
	if !d.Time.IsZero() {
		s += " at=" + d.Time.UTC().Format(time.RFC3339Nano)
	}
	return s
}

// outcomeAlone is the outcome of a directive that has no state.
func (d *Directive) outcomeAlone() artifact.Outcome {
	if d.State != "" {
		return ""
	}
	return d.Outcome
}

type meaning struct{ line, want string }

func checkMeanings(t *testing.T, table []meaning) {
	t.Helper()
	var warm Decoder
	for _, c := range table {
		check(t, "the meaning of "+c.line, decodeLine(c.line), c.want)
		check(t, "the meaning, to a decoder in use, of "+c.line, warm.describe(c.line, false), c.want)
	}
}

const (
	theStates   = "requested, provisioning, booted, starting, ready, completed, failed, unreachable, stopped, destroyed"
	theOutcomes = "completed, failed"
	theVerbs    = "transition, status, event, result"
	theKeys     = "type, state, kind, status, message, exit_code, details, timestamp"
	theNames    = "TYPE, STATE, KIND, STATUS, MESSAGE, EXIT_CODE, DETAILS, TIMESTAMP or DETAILS.name"
	noMeaning   = "expected one of state, kind and status, to tell what the line means"
	manyMeaning = "expected one of state, kind and status, not several; state alone writes event, status and result"
	noNumber    = "expected an integer from -2147483648 to 2147483647"
	noTime      = "expected RFC 3339, such as 2026-03-25T20:00:00.123Z"
)

func TestDecoder_type(t *testing.T) {
	checkMeanings(t, []meaning{
		{`{"state":"ready"}`, `transition ready "ready"`},
		{`{"kind":"ready"}`, `event ready "ready"`},
		{`{"status":"failed"}`, `result failed "failed"`},
		{`{"type":"transition","state":"ready"}`, `transition ready "ready"`},
		{`{"type":"status","state":"ready"}`, `status ready "ready"`},
		{`{"state":"ready","type":"status"}`, `status ready "ready"`},
		{`{"type":"event","kind":"ready"}`, `event ready "ready"`},
		{`{"type":"result","status":"failed"}`, `result failed "failed"`},
		{`{"type":null,"state":"ready"}`, `transition ready "ready"`},
		{`{"type":"event","kind":"ready","state":null,"status":null,"exit_code":null}`, `event ready "ready"`},
		{`{"state":"ready","kind":null}`, `transition ready "ready"`},
		{`STATE=ready`, `transition ready "ready"`},
		{`KIND=ready`, `event ready "ready"`},
		{`STATUS=failed`, `result failed "failed"`},
		{`TYPE=transition STATE=ready`, `transition ready "ready"`},
		{`STATE=ready TYPE=status`, `status ready "ready"`},
		{`TYPE=event KIND=ready`, `event ready "ready"`},
		{`TYPE=result STATUS=failed`, `result failed "failed"`},

		{`{}`, "column 1: " + noMeaning},
		{`  {}`, "column 3: " + noMeaning},
		{`{"state":null}`, "column 1: " + noMeaning},
		{`MESSAGE=x`, "column 1: " + noMeaning},
		{`{"state":"ready","kind":"ready"}`, "column 1: " + manyMeaning},
		{`{"state":"ready","status":"failed"}`, "column 1: " + manyMeaning},
		{`KIND=ready STATUS=failed`, "column 1: " + manyMeaning},
		{`{"type":"transition"}`, "column 1: transition has no state; expected one of " + theStates},
		{`{"type":"status"}`, "column 1: status has no state; expected one of " + theStates},
		{`{"type":"event"}`, "column 1: event has no kind; expected one of " + theStates},
		{`{"type":"result"}`, "column 1: result has no status; expected one of " + theOutcomes},
		{`{"type":"event","kind":null}`, "column 1: event has no kind; expected one of " + theStates},
		{`TYPE=event STATE=ready`, "column 1: event has no kind; expected one of " + theStates},
		{`{"type":"transition","state":"ready","kind":"ready"}`, "column 45: transition takes no kind; give it as state"},
		{`{"type":"transition","state":"failed","status":"failed"}`, "column 48: transition takes no status; give it as state"},
		{`{"type":"status","state":"ready","kind":"ready"}`, "column 41: status takes no kind; give it as state"},
		{`{"type":"event","kind":"ready","state":"ready"}`, "column 40: event takes no state; give it as kind"},
		{`{"type":"event","kind":"ready","status":"failed"}`, "column 41: event takes no status; give it as kind"},
		{`{"type":"result","status":"failed","state":"failed"}`, "column 44: result takes no state; give it as status"},
		{`TYPE=result STATUS=failed KIND=failed`, "column 32: result takes no kind; give it as status"},
	})
}

func TestDecoder_every_state_and_outcome(t *testing.T) {
	for _, s := range strings.Split(theStates, ", ") {
		checkMeanings(t, []meaning{
			{`{"kind":"` + s + `"}`, fmt.Sprintf("event %s %q", s, s)},
			{`TYPE=status STATE=` + s, fmt.Sprintf("status %s %q", s, s)},
		})
	}
	for _, o := range strings.Split(theOutcomes, ", ") {
		want := fmt.Sprintf("result %s %q", o, o)
		if o == "completed" {
			want += " exit=0"
		}
		checkMeanings(t, []meaning{{`{"status":"` + o + `"}`, want}, {`STATUS=` + o, want}})
	}
}

func TestDecoder_unknown_state_or_outcome(t *testing.T) {
	checkMeanings(t, []meaning{
		{`{"state":"redy"}`, `column 10: state is "redy"; expected ` + theStates + "; did you mean ready?"},
		{`{"kind":"READY"}`, `column 9: kind is "READY"; expected ` + theStates + "; did you mean ready?"},
		{`{"kind":"stoped"}`, `column 9: kind is "stoped"; expected ` + theStates + "; did you mean stopped?"},
		{`{"status":"ready"}`, `column 11: status is "ready"; expected ` + theOutcomes},
		{`{"status":"fail"}`, `column 11: status is "fail"; expected ` + theOutcomes + "; did you mean failed?"},
		{`{"type":"transitions"}`, `column 9: type is "transitions"; expected ` + theVerbs + "; did you mean transition?"},
		{`{"state":""}`, `column 10: state is ""; expected ` + theStates},
		{`{"state":" ready"}`, `column 10: state is " ready"; expected ` + theStates + "; did you mean ready?"},
		{`{"state":7}`, `column 10: state is "7"; expected a string`},
		{`{"state": true}`, `column 11: state is "true"; expected a string`},
		{`{"type":["event"]}`, `column 9: type is "[\"event\"]"; expected a string`},
		{`{"state":"ready","message":{}}`, `column 28: message is "{}"; expected a string`},
		{`{"timestamp":1}`, `column 14: timestamp is "1"; expected a string`},
		{`STATE=`, `column 7: state is ""; expected ` + theStates},
		{`MESSAGE=x STATE='dead'`, `column 17: state is "dead"; expected ` + theStates + "; did you mean ready?"},
		{`STATE=$'\e[2J'`, `column 7: state is "\x1b[2J"; expected ` + theStates},
		{`STATE=` + strings.Repeat("é", 30), `column 7: state is "` + strings.Repeat(`\u00e9`, 20) + `"…; expected ` + theStates},
	})
}

func TestDecoder_keys(t *testing.T) {
	checkMeanings(t, []meaning{
		{"{\"state\":\"ready\",\"\\u006bind\":null}", `transition ready "ready"`},
		{`sTaTe=ready message=Hi`, `transition ready "Hi"`},
		{`type=event kind=ready`, `event ready "ready"`},
		{`status=failed exit_code=1 timestamp=2026-01-01T00:00:00Z details=1`, `result failed "failed" exit=1 details=1 at=2026-01-01T00:00:00Z`},

		{`{"State":"ready"}`, `column 2: unknown key "State"; expected ` + theKeys + "; did you mean state?"},
		{`{"state":"ready", "mesage":"x"}`, `column 19: unknown key "mesage"; expected ` + theKeys + "; did you mean message?"},
		{`{"state":"ready","exit":1}`, `column 18: unknown key "exit"; expected ` + theKeys},
		{`{"":1}`, `column 2: unknown key ""; expected ` + theKeys},
		{`{"state":"ready","details.a":1}`, `column 18: unknown key "details.a"; expected ` + theKeys + "; did you mean details?"},
		{`STAET=ready`, `column 1: unknown key "STAET"; expected ` + theNames + "; did you mean STATE?"},
		{`STATE=ready EXITCODE=1`, `column 13: unknown key "EXITCODE"; expected ` + theNames + "; did you mean EXIT_CODE?"},
		{`STATE=ready DETAILS.=1`, `column 13: unknown key "DETAILS."; expected ` + theNames + "; did you mean DETAILS?"},
		{`{=1`, "column 2: expected a key in double quotes"},
		{`export STATE=ready`, "column 1: expected KEY=value"},

		{`{"state":"ready","state":"ready"}`, `column 18: "state" is given twice; give each key once`},
		{`{"state":"ready","message":null,"message":"x"}`, `column 33: "message" is given twice; give each key once`},
		{`{"state":"ready","details":null,"details":null}`, `column 33: "details" is given twice; give each key once`},
		{`{"state":"ready","exit_code":null,"exit_\u0063ode":1}`, `column 35: "exit_code" is given twice; give each key once`},
		{`STATE=ready state=ready`, `column 13: "state" is given twice; give each key once`},
		{`STATE=ready MESSAGE= MESSAGE=x`, `column 22: "MESSAGE" is given twice; give each key once`},
		{`STATE=ready STATE:=1`, `column 13: "STATE" is given twice; give each key once`},
		{`STATE:=ready`, `column 1: "STATE" takes =, not :=, which is for DETAILS.name`},
		{`STATE=ready MESSAGE:='"x"'`, `column 13: "MESSAGE" takes =, not :=, which is for DETAILS.name`},
	})
}

func TestDecoder_JSON(t *testing.T) {
	checkMeanings(t, []meaning{
		{" \t{ \"state\" : \"ready\" , \"message\" : \"x\" } \t", `transition ready "x"`},
		{"\r{\"state\":\"ready\"}\r", `transition ready "ready"`},
		{`{"state":"ready"`, "column 17: the line ends inside the object; expected }"},
		{`{`, "column 2: the line ends inside the object; expected }"},
		{`{"state":"ready",`, "column 18: the line ends inside the object; expected }"},
		{`{"state":"ready",}`, "column 18: expected another key after the comma"},
		{`{,"state":"ready"}`, "column 2: expected a key in double quotes"},
		{`{"state":"ready" "kind":"ready"}`, "column 18: expected , or } after a value"},
		{`{"state"}`, "column 9: expected : after a key"},
		{`{"state" "ready"}`, "column 10: expected : after a key"},
		{`{"state":`, "column 10: expected a value after :"},
		{`{"state":}`, "column 10: expected a value"},
		{`{"state":ready}`, "column 10: expected a value"},
		{`{'state':'ready'}`, "column 2: expected a key in double quotes"},
		{`{"state`, "column 8: expected a closing quote"},
		{`{"state":"ready`, "column 16: expected a closing quote"},
		{`{"state":"ready"} x`, "column 19: expected nothing after the object; print one object a line"},
		{`{"state":"ready"}{"state":"ready"}`, "column 18: expected nothing after the object; print one object a line"},
		{`{"state":"ready","exit_code":01}`, "column 31: expected , or } after a value"},
		{`["state"]`, "column 1: expected KEY=value"},
		{`"state"`, "column 1: expected KEY=value"},
		{"\ufeff{\"state\":\"ready\"}", "column 1: expected KEY=value"},
	})
}

func TestDecoder_message(t *testing.T) {
	checkMeanings(t, []meaning{
		{`{"state":"ready","message":""}`, `transition ready ""`},
		{`{"state":"ready","message":null}`, `transition ready "ready"`},
		{`{"state":"ready","message":"\u00e9\/\ud800\u0000"}`, `transition ready "é/` + "\ufffd" + `\u0000"`},
		{"{\"state\":\"ready\",\"message\":\"a\xff\u2028\ufeff\"}", "transition ready \"a\ufffd\u2028\ufeff\""},
		{`STATE=ready MESSAGE=`, `transition ready ""`},
		{`STATE=ready MESSAGE=null`, `transition ready "null"`},
		{`STATE=ready MESSAGE='{"a": 1}'`, `transition ready "{\"a\": 1}"`},
		{"STATE=ready MESSAGE=a\xffb\x00", "transition ready \"a\ufffdb\\u0000\""},
		{`MESSAGE='a line' STATE=ready`, `transition ready "a line"`},
		{"{\"state\":\"ready\",\"message\":\"a\tb\"}", "column 30: expected a control character to be escaped"},
		{`{"state":"ready","message":"\x"}`, `column 30: expected one of "\/bfnrtu after the backslash`},
	})
}

func TestDecoder_exit_code(t *testing.T) {
	exits := "a transition to ready takes no exit_code; only completed and failed have one"
	only := " takes no exit_code; only a result, or a transition to completed or failed, has one"
	contradiction := "completed with exit_code 3 contradicts itself; completed means 0, say failed for any other"
	checkMeanings(t, []meaning{
		{`{"state":"completed"}`, `transition completed "completed" exit=0`},
		{`{"state":"completed","exit_code":null}`, `transition completed "completed" exit=0`},
		{`{"state":"completed","exit_code":0}`, `transition completed "completed" exit=0`},
		{`{"status":"completed"}`, `result completed "completed" exit=0`},
		{`{"state":"failed"}`, `transition failed "failed"`},
		{`{"state":"failed","exit_code":0}`, `transition failed "failed" exit=0`},
		{`{"state":"failed","exit_code":-0}`, `transition failed "failed" exit=0`},
		{`{"status":"failed","exit_code":2147483647}`, `result failed "failed" exit=2147483647`},
		{`{"status":"failed","exit_code":-2147483648}`, `result failed "failed" exit=-2147483648`},
		{`STATE=failed EXIT_CODE=137`, `transition failed "failed" exit=137`},
		{`STATE=failed EXIT_CODE=-1`, `transition failed "failed" exit=-1`},
		{`STATE=failed EXIT_CODE=007`, `transition failed "failed" exit=7`},

		{`{"state":"failed","exit_code":2147483648}`, `column 31: exit_code is "2147483648"; ` + noNumber},
		{`{"state":"failed","exit_code":-2147483649}`, `column 31: exit_code is "-2147483649"; ` + noNumber},
		{`{"state":"failed","exit_code":1.0}`, `column 31: exit_code is "1.0"; ` + noNumber},
		{`{"state":"failed","exit_code":1e0}`, `column 31: exit_code is "1e0"; ` + noNumber},
		{`{"state":"failed","exit_code":true}`, `column 31: exit_code is "true"; ` + noNumber},
		{`{"state":"failed","exit_code":[7]}`, `column 31: exit_code is "[7]"; ` + noNumber},
		{`{"state":"failed","exit_code":"7"}`, `column 31: exit_code is a string; expected an integer without quotes`},
		{`{"state":"failed","exit_code":+7}`, "column 31: expected a value"},
		{`STATE=failed EXIT_CODE=`, `column 24: exit_code is ""; ` + noNumber},
		{`STATE=failed EXIT_CODE=+7`, `column 24: exit_code is "+7"; ` + noNumber},
		{`STATE=failed EXIT_CODE='7 '`, `column 24: exit_code is "7 "; ` + noNumber},
		{`STATE=failed EXIT_CODE=1.0`, `column 24: exit_code is "1.0"; ` + noNumber},
		{`STATE=failed EXIT_CODE=0x7`, `column 24: exit_code is "0x7"; ` + noNumber},
		{`STATE=failed EXIT_CODE=1_0`, `column 24: exit_code is "1_0"; ` + noNumber},
		{`STATE=failed EXIT_CODE=2147483648`, `column 24: exit_code is "2147483648"; ` + noNumber},

		{`{"state":"ready","exit_code":0}`, "column 30: " + exits},
		{`STATE=ready EXIT_CODE=0`, "column 23: " + exits},
		{`{"type":"status","state":"failed","exit_code":1}`, "column 47: status" + only},
		{`KIND=failed EXIT_CODE=1`, "column 23: event" + only},
		{`{"state":"completed","exit_code":3}`, "column 34: " + contradiction},
		{`STATUS=completed EXIT_CODE=3`, "column 28: " + contradiction},
	})
}

func TestDecoder_timestamp(t *testing.T) {
	for text, want := range map[string]string{
		"2026-03-25T20:00:00Z":               "2026-03-25T20:00:00Z",
		"2026-03-25T20:00:00.123456789Z":     "2026-03-25T20:00:00.123456789Z",
		"2026-03-25T20:00:00.5+05:45":        "2026-03-25T14:15:00.5Z",
		"2026-03-25T20:00:00-00:00":          "2026-03-25T20:00:00Z",
		"2024-02-29T00:00:00Z":               "2024-02-29T00:00:00Z",
		"0000-01-01T00:00:00Z":               "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999Z":           "9999-12-31T23:59:59.999Z",
		"2026-03-25T20:00:00.1234567890123Z": "2026-03-25T20:00:00.123456789Z",
		"":                                   "",
		"2026-03-25":                         "",
		"2026-03-25T20:00:00":                "", // no zone
		"2026-03-25T20:00Z":                  "",
		"2026-03-25T20:00:00,5Z":             "", // ISO 8601, not RFC 3339
		"2026-03-25t20:00:00z":               "",
		"2026-03-25 20:00:00Z":               "",
		"2026-03-25T20:00:60Z":               "", // the clocks that are compared have no leap seconds
		"2026-03-25T24:00:00Z":               "",
		"2026-02-29T00:00:00Z":               "",
		"2026-13-01T00:00:00Z":               "",
		"2026-03-25T2:00:00Z":                "",
		"2026-03-25T20:00:00+0200":           "",
		"2026-03-25T20:00:00+00:60":          "",
		"2026-03-25T20:00:00+23:59":          "2026-03-24T20:01:00Z",
		"2026-03-25T20:00:00+24:00":          "",
		"10000-01-01T00:00:00Z":              "",
		"9999-12-31T23:59:59-01:00":          "", // the year 10000 in UTC
		"0000-01-01T00:00:00+01:00":          "", // the year before 0
		"-001-01-01T00:00:00Z":               "",
		"1774468800":                         "",
		"٢٠٢٦-٠٣-٢٥T20:00:00Z":               "",
		"0001-01-01T00:00:00Z":               "", // Go's zero time, which would mean no time
		"Wed, 25 Mar 2026 20:00:00 GMT":      "",
		"2026-03-25T20:00:00.Z":              "",
	} {
		for line, column := range map[string]int{
			`{"kind":"ready","timestamp":"` + text + `"}`: 29,
			`KIND=ready TIMESTAMP='` + text + `'`:         22,
		} {
			expect := `event ready "ready" at=` + want
			if want == "" {
				expect = fmt.Sprintf("column %d: timestamp is %s; %s", column, show([]byte(text)), noTime)
			}
			check(t, line, decodeLine(line), expect)
		}
	}
}

func TestDecoder_details(t *testing.T) {
	notJSON := func(name, why string) string { return `the value of "` + name + `" is not JSON: ` + why }
	checkMeanings(t, []meaning{
		{`{"state":"ready","details":{ "a" : [1, 2.50, -0], "b": null }}`, `transition ready "ready" details={"a":[1,2.50,-0],"b":null}`},
		{`{"state":"ready","details":null}`, `transition ready "ready"`},
		{`{"state":"ready","details":0}`, `transition ready "ready" details=0`},
		{`{"state":"ready","details":"text"}`, `transition ready "ready" details="text"`},
		{`{"state":"ready","details":{"a":1,"b":2,"a":3}}`, `transition ready "ready" details={"a":3,"b":2}`},
		{`{"state":"ready","details":{"n":1e-999}}`, `transition ready "ready" details={"n":1e-999}`},
		{`STATE=ready DETAILS='{ "a" : 1 }'`, `transition ready "ready" details={"a":1}`},
		{`STATE=ready DETAILS=null`, `transition ready "ready"`},
		{`STATE=ready DETAILS=' null '`, `transition ready "ready"`},
		{`STATE=ready DETAILS:=[1]`, `transition ready "ready" details=[1]`},
		{`STATE=ready DETAILS.port=80`, `transition ready "ready" details={"port":"80"}`},
		{`STATE=ready DETAILS.port:=80 DETAILS.a=`, `transition ready "ready" details={"port":80,"a":""}`},
		{`STATE=ready DETAILS.x:=null`, `transition ready "ready" details={"x":null}`},
		{`STATE=ready details.a.b=1 DETAILS.A.b=2`, `transition ready "ready" details={"a.b":"1","A.b":"2"}`},
		{`STATE=ready DETAILS.naïve=1`, `transition ready "ready" details={"naïve":"1"}`},
		{"STATE=ready DETAILS.a\xff=1", "transition ready \"ready\" details={\"a\ufffd\":\"1\"}"},
		{`STATE=ready DETAILS.a:b:='"1"'`, `transition ready "ready" details={"a:b":"1"}`},
		{`DETAILS.a=1 STATE=ready DETAILS.b=2`, `transition ready "ready" details={"a":"1","b":"2"}`},

		{`{"state":"ready","details":{"n":1e999}}`, "column 33: expected a number in the range of an IEEE 754 double"},
		{`{"state":"ready","details":NaN}`, "column 28: expected a value"},
		{`{"state":"ready","details":{"a":1}`, "column 35: the line ends inside the object; expected }"},
		{`STATE=ready DETAILS=`, `column 21: ` + notJSON("DETAILS", "offset 0: expected a value")},
		{`STATE=ready DETAILS='{"a":x}'`, `column 21: ` + notJSON("DETAILS", "offset 5: expected a value")},
		{`STATE=ready DETAILS=text`, `column 21: ` + notJSON("DETAILS", "offset 0: expected a value")},
		{`STATE=ready DETAILS='1 2'`, `column 21: ` + notJSON("DETAILS", "offset 2: expected nothing after the value")},
		{`STATE=ready DETAILS.n:=1e999`, `column 24: ` + notJSON("DETAILS.n", "offset 0: expected a number in the range of an IEEE 754 double")},
		{`STATE=ready DETAILS=1 DETAILS=1`, `column 23: "DETAILS" is given twice; give each key once`},
		{`STATE=ready DETAILS=1 DETAILS.a=1`, "column 23: DETAILS.name and DETAILS are both given; give one or the other"},
		{`STATE=ready DETAILS=null DETAILS.a=1`, "column 26: DETAILS.name and DETAILS are both given; give one or the other"},
		{`STATE=ready DETAILS.a=1 DETAILS=1`, "column 25: DETAILS and DETAILS.name are both given; give one or the other"},
		{`STATE=ready DETAILS.a=1 DETAILS=null`, "column 25: DETAILS and DETAILS.name are both given; give one or the other"},
		{`STATE=ready DETAILS.a=1 details.a=2`, `column 25: "details.a" is given twice; give each key once`},
		{"STATE=ready DETAILS.\xff=1 DETAILS.\xfe=2", `column 25: "DETAILS.\xfe" is given twice; give each key once`},
	})
}

func TestDecoder_details_depth(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for _, c := range []struct {
		form  string
		depth int // that the form adds
	}{
		{`{"state":"ready","details":%s}`, 0},
		{`STATE=ready DETAILS=%s`, 0},
		{`STATE=ready DETAILS.x:=%s`, 1},
		{`STATE=ready DETAILS.w:=[] DETAILS.x:=%s`, 1},
	} {
		for depth := 60; depth <= 66; depth++ {
			line := fmt.Sprintf(c.form, nested(depth-c.depth))
			got := decodeLine(line)
			if taken := !strings.HasPrefix(got, "column"); taken != (depth <= 64) {
				t.Errorf("details %d deep in %s: %s", depth, c.form, got)
			}
		}
	}
	for _, depth := range []int{127, 10000} {
		got := decodeLine(`{"state":"ready","details":` + nested(depth) + `}`)
		check(t, "deep details", got, "column 92: expected arrays and objects to nest at most 64 deep")
	}
	var dec Decoder // what one syntax limits does not limit the other
	dec.describe("STATE=ready DETAILS.x:=1", false)
	if got := dec.describe(`STATE=ready DETAILS=`+nested(64), false); strings.HasPrefix(got, "column") {
		t.Error(got)
	}
}

func TestDecoder_details_too_many_names(t *testing.T) {
	var line, details strings.Builder
	line.WriteString("STATE=ready")
	for i := range 256 {
		fmt.Fprintf(&line, " DETAILS.%d=x", i)
		fmt.Fprintf(&details, `,"%d":"x"`, i)
	}
	check(t, "256 names", decodeLine(line.String()), `transition ready "ready" details={`+details.String()[1:]+"}")
	want := fmt.Sprintf("column %d: more than 256 DETAILS.name words; print JSON for more", line.Len()+2)
	check(t, "257 names", decodeLine(line.String()+" DETAILS.y=x"), want)
}

func TestDecoder_cut_line(t *testing.T) {
	var dec Decoder
	cut := "the input ended before this line's newline, so its last value may be cut; end every line with a newline"
	for _, c := range []meaning{
		{`{"state":"ready"}`, `transition ready "ready"`},
		{`{"state":"ready"`, "column 17: the line ends inside the object; expected }"},
		{`STATE=ready`, "column 12: " + cut},
		{`STATE=ready MESSAGE='x'`, "column 24: " + cut},
		{`garbage`, "column 8: " + cut},
	} {
		check(t, c.line, dec.describe(c.line, true), c.want)
	}
}

func TestDecoder_skipped_line(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, " ": true, "\t \r": true, "#": true, "# x": true, "  \t#{": true,
		"x": false, "{": false, " x#": false, "\v": false, "\x00": false, "\u00a0": false,
	} {
		if got := IsBlank([]byte(text)); got != want {
			t.Errorf("%q: skipped %v", text, got)
		}
	}
}

func TestDecoder_suggestion(t *testing.T) {
	states := strings.Split(theStates, ", ")
	for word, want := range map[string]string{
		"ready": "ready", "Ready": "ready", "readyy": "ready", "raedy": "ready", "redi": "ready",
		"running": "", "ok": "", "": "", "complete": "completed", "compelted": "completed", "done": "",
		"failure": "", "boot": "booted", "start": "", "destroy": "destroyed",
		strings.Repeat("ready", 9): "",
	} {
		check(t, "nearest to "+word, Nearest(word, states), want)
	}
	check(t, "nearest to ab", Nearest("ab", []string{"cd", "ax"}), "ax")
	check(t, "nearest to a", Nearest("a", []string{"b"}), "")
}
