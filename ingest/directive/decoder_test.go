package directive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// decodeLine returns a description of the directive of a line, or the error.
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

// outcomeAlone returns the outcome of a directive that has no state.
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
		check(t, "the meaning to a used decoder of "+c.line, warm.describe(c.line, false), c.want)
	}
}

const (
	theStates   = "requested, provisioning, booted, starting, ready, completed, failed, unreachable, stopped, destroyed"
	theOutcomes = "completed, failed"
	theTypes    = "transition, status, event, result"
	theKeys     = "type, state, kind, status, message, exit_code, details, timestamp"
	theNames    = "TYPE, STATE, KIND, STATUS, MESSAGE, EXIT_CODE, DETAILS, TIMESTAMP, DETAILS.name"
	noMeaning   = "no state, kind or status; give state for a transition, kind for an event, status for a result"
	manyMeaning = "more than one of state, kind and status; give state alone to write event, status and result"
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
		{`{"state":"ready","kind":"ready"}`, "column 25: " + manyMeaning},
		{`{"state":"ready","status":"failed"}`, "column 27: " + manyMeaning},
		{`KIND=ready STATUS=failed`, "column 19: " + manyMeaning},
		{`{"type":"transition"}`, "column 1: type transition needs state; expected one of " + theStates},
		{`{"type":"status"}`, "column 1: type status needs state; expected one of " + theStates},
		{`{"type":"event"}`, "column 1: type event needs kind; expected one of " + theStates},
		{`{"type":"result"}`, "column 1: type result needs status; expected one of " + theOutcomes},
		{`{"type":"event","kind":null}`, "column 1: type event needs kind; expected one of " + theStates},
		{`TYPE=event STATE=ready`, "column 18: type event takes kind, not state"},
		{`{"type":"transition","state":"ready","kind":"ready"}`, "column 45: type transition takes state, not kind"},
		{`{"type":"transition","state":"failed","status":"failed"}`, "column 48: type transition takes state, not status"},
		{`{"type":"status","state":"ready","kind":"ready"}`, "column 41: type status takes state, not kind"},
		{`{"type":"event","kind":"ready","state":"ready"}`, "column 40: type event takes kind, not state"},
		{`{"type":"event","kind":"ready","status":"failed"}`, "column 41: type event takes kind, not status"},
		{`{"type":"result","status":"failed","state":"failed"}`, "column 44: type result takes status, not state"},
		{`TYPE=result STATUS=failed KIND=failed`, "column 32: type result takes status, not kind"},
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
		{`{"state":"redy"}`, `column 10: state is "redy"; expected one of ` + theStates + "; did you mean ready?"},
		{`{"kind":"READY"}`, `column 9: kind is "READY"; expected one of ` + theStates + "; did you mean ready?"},
		{`{"kind":"stoped"}`, `column 9: kind is "stoped"; expected one of ` + theStates + "; did you mean stopped?"},
		{`{"status":"ready"}`, `column 11: status is "ready"; expected one of ` + theOutcomes + `; for ready use the key state`},
		{`{"status":"fail"}`, `column 11: status is "fail"; expected one of ` + theOutcomes + "; did you mean failed?"},
		{`{"type":"transitions"}`, `column 9: type is "transitions"; expected one of ` + theTypes + "; did you mean transition?"},
		{`{"state":""}`, `column 10: state is ""; expected one of ` + theStates},
		{`{"state":" ready"}`, `column 10: state is " ready"; expected one of ` + theStates + "; did you mean ready?"},
		{`{"state":7}`, `column 10: state is a number; expected a string`},
		{`{"state": true}`, `column 11: state is a boolean; expected a string`},
		{`{"type":["event"]}`, `column 9: type is an array; expected a string`},
		{`{"state":"ready","message":{}}`, `column 28: message is an object; expected a string`},
		{`{"timestamp":1}`, `column 14: timestamp is "1"; expected RFC 3339, such as 2026-03-25T20:00:00.123Z`},
		{`STATE=`, `column 7: state is ""; expected one of ` + theStates},
		{`MESSAGE=x STATE='dead'`, `column 17: state is "dead"; expected one of ` + theStates + `; did you mean stopped?`},
		{`STATE=$'\e[2J'`, `column 7: state is "\x1b[2J"; expected one of ` + theStates},
		{`STATE=` + strings.Repeat("é", 30), `column 7: state is "` + strings.Repeat(`\u00e9`, 20) + `"…; expected one of ` + theStates},
	})
}

func TestDecoder_keys(t *testing.T) {
	checkMeanings(t, []meaning{
		{"{\"state\":\"ready\",\"\\u006bind\":null}", `transition ready "ready"`},
		{`sTaTe=ready message=Hi`, `transition ready "Hi"`},
		{`type=event kind=ready`, `event ready "ready"`},
		{`status=failed exit_code=1 timestamp=2026-01-01T00:00:00Z details=1`, `result failed "failed" exit=1 details=1 at=2026-01-01T00:00:00Z`},

		{`{"State":"ready"}`, `column 2: unknown key "State"; expected one of ` + theKeys + "; did you mean state?"},
		{`{"state":"ready", "mesage":"x"}`, `column 19: unknown key "mesage"; expected one of ` + theKeys + "; did you mean message?"},
		{`{"state":"ready","exit":1}`, `column 18: unknown key "exit"; expected one of ` + theKeys + `; did you mean exit_code?`},
		{`{"":1}`, `column 2: unknown key ""; expected one of ` + theKeys + `; put other values in details`},
		{`{"state":"ready","details.a":1}`, `column 18: unknown key "details.a"; expected one of ` + theKeys + "; did you mean details?"},
		{`STAET=ready`, `column 1: unknown key "STAET"; expected one of ` + theNames + "; did you mean STATE?"},
		{`STATE=ready EXITCODE=1`, `column 13: unknown key "EXITCODE"; expected one of ` + theNames + "; did you mean EXIT_CODE?"},
		{`STATE=ready DETAILS.=1`, `column 13: "DETAILS." has no name after the dot; write DETAILS.name=value`},
		{`{=1`, `column 2: expected a key in double quotes, as in {"state":"ready"}`},
		{`export STATE=ready`, `column 1: "export" is a command; write only the KEY=value pairs, as in STATE=ready`},

		{`{"state":"ready","state":"ready"}`, `column 18: "state" is given twice; give each key once`},
		{`{"state":"ready","message":null,"message":"x"}`, `column 33: "message" is given twice; give each key once`},
		{`{"state":"ready","details":null,"details":null}`, `column 33: "details" is given twice; give each key once`},
		{`{"state":"ready","exit_code":null,"exit_\u0063ode":1}`, `column 35: "exit_code" is given twice; give each key once`},
		{`STATE=ready state=ready`, `column 13: "state" is given twice; give each key once`},
		{`STATE=ready MESSAGE= MESSAGE=x`, `column 22: "MESSAGE" is given twice; give each key once`},
		{`STATE=ready STATE:=1`, `column 13: "STATE" is given twice; give each key once`},
		{`STATE:=ready`, `column 1: "STATE" takes "=", not ":="; only DETAILS and DETAILS.name take ":="`},
		{`STATE=ready MESSAGE:='"x"'`, `column 13: "MESSAGE" takes "=", not ":="; only DETAILS and DETAILS.name take ":="`},
	})
}

func TestDecoder_JSON(t *testing.T) {
	checkMeanings(t, []meaning{
		{" \t{ \"state\" : \"ready\" , \"message\" : \"x\" } \t", `transition ready "x"`},
		{"\r{\"state\":\"ready\"}\r", `transition ready "ready"`},
		{`{"state":"ready"`, `column 17: the line ends inside the object; write the whole object on one line`},
		{`{`, `column 2: the line ends inside the object; write the whole object on one line`},
		{`{"state":"ready",`, `column 18: the line ends inside the object; write the whole object on one line`},
		{`{"state":"ready",}`, `column 18: remove the comma before }`},
		{`{,"state":"ready"}`, `column 2: expected a key in double quotes, as in {"state":"ready"}`},
		{`{"state":"ready" "kind":"ready"}`, `column 18: expected a comma before the next key`},
		{`{"state"}`, `column 9: expected ":" after the key`},
		{`{"state" "ready"}`, `column 10: expected ":" after the key`},
		{`{"state":`, `column 10: the line ends after ":"; expected a value and }`},
		{`{"state":}`, `column 10: expected a JSON value`},
		{`{"state":ready}`, `column 10: "ready" is not JSON; put text in double quotes`},
		{`{'state':'ready'}`, `column 2: a single quote; expected a key in double quotes, as in {"state":"ready"}`},
		{`{"state`, "column 8: expected a closing quote"},
		{`{"state":"ready`, "column 16: expected a closing quote"},
		{`{"state":"ready"} x`, `column 19: text after the object; write each object on a separate line`},
		{`{"state":"ready"}{"state":"ready"}`, `column 18: text after the object; write each object on a separate line`},
		{`{"state":"ready","exit_code":01}`, `column 31: a JSON number has no leading zero`},
		{`["state"]`, `column 1: a JSON array is not a directive; write an object such as {"state":"ready"}`},
		{`"state"`, `column 1: a JSON string is not a directive; write an object such as {"state":"ready"}`},
		{"\ufeff{\"state\":\"ready\"}", `column 1: a byte order mark before the directive; remove it`},
	})
}

func TestDecoder_message(t *testing.T) {
	checkMeanings(t, []meaning{
		{`{"state":"ready","message":""}`, `transition ready ""`},
		{`{"state":"ready","message":null}`, `transition ready "ready"`},
		{`{"state":"ready","message":"\u00e9\/\ud800\u0000"}`, `transition ready "é/` + "\ufffd" + `\u0000"`},
		{"{\"state\":\"ready\",\"message\":\"a\xff\u2028\ufeff\"}", "transition ready \"a\ufffd\\u2028\ufeff\""},
		{"STATE=ready MESSAGE=a\u0085\u2028\u2029", `transition ready "a\u0085\u2028\u2029"`},
		{`STATE=ready MESSAGE=`, `transition ready ""`},
		{`STATE=ready MESSAGE=null`, `transition ready "null"`},
		{`STATE=ready MESSAGE='{"a": 1}'`, `transition ready "{\"a\": 1}"`},
		{"STATE=ready MESSAGE=a\xffb\x00", "transition ready \"a\ufffdb\\u0000\""},
		{`MESSAGE='a line' STATE=ready`, `transition ready "a line"`},
		{"{\"state\":\"ready\",\"message\":\"a\tb\"}", `column 30: a control character in a string; write it as \t`},
		{`{"state":"ready","message":"\x"}`, `column 30: JSON has no \x escape; write \u and four hex digits`},
	})
}

func TestDecoder_not_a_pair(t *testing.T) {
	checkMeanings(t, []meaning{
		// Other separators.
		{`STATE = ready`, `column 6: a space before "="; write STATE=ready without spaces`},
		{`STATE =ready`, `column 6: a space before "="; write STATE=ready without spaces`},
		{`state => "ready",`, `column 6: a space before "="; write STATE=ready without spaces`},
		{`STATE=ready Details.n := 5`, `column 22: a space before "="; write DETAILS.n=5 without spaces`},
		{`MESSAGE = 'two words'`, `column 8: a space before "="; write MESSAGE=value without spaces`},
		{`MESSAGE = $HOME`, `column 8: a space before "="; write MESSAGE=value without spaces`},
		{`MESSAGE = `, `column 8: a space before "="; write MESSAGE=value without spaces`},
		{`colour = blue`, `column 7: a space before "="; write KEY=blue without spaces`},
		{`STATE=ready MESSAGE=a b = c`, `column 23: "b" is not KEY=value; quote a value that has spaces, as in MESSAGE='two words'`},
		{`STATE= ready`, `column 7: a space after "="; write STATE=ready without spaces`},
		{`MESSAGE= x STATE=ready`, `column 9: a space after "="; write MESSAGE=x without spaces`},
		{`STATE=ready MESSAGE=a= b`, `column 24: "b" is not KEY=value; quote a value that has spaces, as in MESSAGE='two words'`},
		{`STATE= MESSAGE=x`, `column 7: state is ""; expected one of ` + theStates},
		{`state: ready`, `column 6: ":" instead of "="; write STATE=ready`},
		{`STATE:ready`, `column 6: ":" instead of "="; write STATE=ready`},
		{`state:`, `column 6: ":" instead of "="; write STATE=value`},
		{`STATE=ready MESSAGE: up`, `column 20: ":" instead of "="; write MESSAGE=up`},
		{`STATE ready`, `column 6: a space instead of "="; write STATE=ready`},
		{`STATE`, `column 1: STATE has no value; write STATE=value`},
		{`--state ready`, `column 1: "--state" is a flag; write STATE=ready`},
		{`=ready`, `column 1: no key before "="; write KEY=value`},
		{`STATE=ready,MESSAGE=x`, `column 7: state is "ready,MESSAGE=x"; expected one of ` + theStates + `; separate KEY=value pairs with spaces`},
		{`KIND=ready;MESSAGE=x`, `column 6: kind is "ready;MESSAGE=x"; expected one of ` + theStates + `; separate KEY=value pairs with spaces`},
		{`STATE=ready, MESSAGE=x`, `column 7: state is "ready,"; expected one of ` + theStates + `; did you mean ready?`},
		{`STATE=blue,MESSAGE=x`, `column 7: state is "blue,MESSAGE=x"; expected one of ` + theStates},

		// Other JSON than an object, and parts of an object.
		{`["ready"]`, `column 1: a JSON array is not a directive; write an object such as {"state":"ready"}`},
		{` "ready" `, `column 2: a JSON string is not a directive; write an object such as {"state":"ready"}`},
		{`42`, `column 1: a JSON number is not a directive; write an object such as {"state":"ready"}`},
		{`true`, `column 1: a JSON boolean is not a directive; write an object such as {"state":"ready"}`},
		{`null`, `column 1: a JSON null is not a directive; write an object such as {"state":"ready"}`},
		{`"state": "ready",`, `column 1: a JSON key outside an object; write a whole object on one line, as in {"state":"ready"}`},
		{`"état" : "ready",`, `column 1: a JSON key outside an object; write a whole object on one line, as in {"state":"ready"}`},
		{`},`, `column 1: "}" without an object; write a whole object on one line, as in {"state":"ready"}`},
		{`[` + strings.Repeat("1,", 3000) + `1]`, `column 1: "[` + strings.Repeat("1,", 19) + `1"… is not KEY=value; write a directive such as STATE=ready MESSAGE='two words'`},

		// Other text.
		{`ready`, `column 1: "ready" has no key; write STATE=ready`},
		{`Ready now`, `column 1: "Ready" has no key; did you mean STATE=ready?`},
		{`done`, `column 1: "done" has no key; did you mean STATE=completed?`},
		{`Hello world`, `column 1: "Hello" is not KEY=value; write a directive such as STATE=ready MESSAGE='two words'`},
		{`export STATE=ready`, `column 1: "export" is a command; write only the KEY=value pairs, as in STATE=ready`},
		{`echo`, `column 1: "echo" is not KEY=value; write a directive such as STATE=ready MESSAGE='two words'`},
		{`// note`, `column 1: a comment starts with "#"`},
		{`STATE=ready # up`, `column 13: a comment after a directive; put it on a separate line`},
		{`'STATE=ready'`, `column 1: a quote in the key; quote only the value, as in MESSAGE='two words'`},
		{`"STATE=ready"`, `column 1: a quote in the key; quote only the value, as in MESSAGE='two words'`},
		{`ST\ATE=ready`, `column 3: a backslash in the key; quote only the value, as in MESSAGE='two words'`},
		{`MESSAGE=two words STATE=ready`, `column 13: "words" is not KEY=value; quote a value that has spaces, as in MESSAGE='two words'`},
		{`MESSAGE='two words' x`, `column 21: "x" is not KEY=value; remove it or give it a key`},
		{`MESSAGE='it's done'`, `column 15: "done'" is not KEY=value; write ' inside '…' as '\''`},
		{"\ufeffSTATE=ready", `column 1: a byte order mark before the directive; remove it`},
		{"\x1b[2J", `column 1: "\x1b[2J" is not KEY=value; write a directive such as STATE=ready MESSAGE='two words'`},
	})
}

// DETAILS={"a":1} loses its double quotes, as in a shell.
func TestDecoder_details_without_quotes(t *testing.T) {
	checkMeanings(t, []meaning{
		{`STATE=ready DETAILS={"a":1}`, `column 21: the double quotes are removed, as in a shell; write DETAILS='{"a":1}'`},
		{`STATE=ready details={"a":1}`, `column 21: the double quotes are removed, as in a shell; write DETAILS='{"a":1}'`},
		{`STATE=ready DETAILS.x:=["a"]`, `column 24: the double quotes are removed, as in a shell; write DETAILS.x:='["a"]'`},
		{`STATE=ready DETAILS.ü:=["a"]`, `column 25: the double quotes are removed, as in a shell; put JSON in single quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS={"a": 1}`, `column 21: the double quotes are removed, as in a shell; put JSON in single quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS={"a":"` + strings.Repeat("x", 40) + `"}`, `column 21: the double quotes are removed, as in a shell; put JSON in single quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS={a:1}`, `column 22: expected a key in double quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS='{a:1}'`, `column 23: expected a key in double quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS="{a:1}"`, `column 21: expected a key in double quotes, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS="text"`, `column 21: "text" is not JSON; for text write DETAILS.name=text`},
		{`STATE=ready DETAILS.n:=text`, `column 24: "text" is not JSON; for text write "=" instead of ":="`},
		{`STATE=ready DETAILS.n:=True`, `column 24: "True" is not JSON; write true`},
		{`STATE=ready DETAILS.n:=`, `column 24: no value; expected JSON, as in DETAILS.n:='{"port":8080}'`},
		{`STATE=ready DETAILS_n=1`, `column 13: unknown key "DETAILS_n"; expected one of ` + theNames + `; did you mean DETAILS.name?`},
	})
}

func TestDecoder_invalid_JSON(t *testing.T) {
	for value, want := range map[string]string{
		`{port:8080}`:      `column 29: expected a key in double quotes, as in {"port":8080}`,
		`{'port':8080}`:    `column 29: a single quote; expected a key in double quotes, as in {"port":8080}`,
		`{"a":'b'}`:        `column 33: a single quote; JSON text needs double quotes`,
		`{"a":1,}`:         `column 35: remove the comma before }`,
		`[1 , ]`:           `column 33: remove the comma before ]`,
		`[1 2]`:            `column 31: expected a comma or a closing bracket`,
		`{"a":1 "b":2}`:    `column 35: expected a comma or a closing brace`,
		`None`:             `column 28: "None" is not JSON; write null`,
		`TRUE`:             `column 28: "TRUE" is not JSON; write true`,
		`nul`:              `column 28: "nul" is not JSON; write null`,
		`[yes]`:            `column 29: "yes" is not JSON; put text in double quotes`,
		`[nan]`:            `column 29: "nan" is not JSON; write null`,
		`[-inf]`:           `column 30: expected a digit`,
		`[007]`:            `column 30: a JSON number has no leading zero`,
		`0x1F`:             `column 29: a JSON number is decimal`,
		`+1`:               `column 28: a JSON number has no plus sign`,
		`.5`:               `column 28: a JSON number needs a digit before the point`,
		`"\x1b"`:           `column 30: JSON has no \x escape; write \u and four hex digits`,
		`"it\'s"`:          `column 32: remove the backslash; JSON does not escape '`,
		"\"a\tb\"":         `column 30: a control character in a string; write it as \t`,
		"\"a\x1bb\"":       `column 30: a control character in a string; write it as \u001b`,
		`"a"} # a comment`: `column 33: a comment after the object; put it on a separate line that starts with "#"`,
		`"a"} // comment`:  `column 33: a comment after the object; put it on a separate line that starts with "#"`,
		`"a"},`:            `column 32: remove the comma after the object`,
	} {
		line := `{"state":"ready","details":` + value + `}`
		check(t, line, decodeLine(line), want)
	}
}

// A hint follows from what the caller most likely did.
func TestDecoder_hints(t *testing.T) {
	for line, want := range map[string]string{
		"STATE=ready --message x":           `column 13: "--message" is a flag; write MESSAGE=x`,
		"READY=1":                           `column 1: unknown key "READY"; did you mean STATE=ready?`,
		"STATE=ready DETAIL.port=1":         "; did you mean DETAILS.name?",
		"STATE=$STATE":                      "; ingest replaces no variables, so use double quotes in the shell",
		"STATE=failed EXIT_CODE=$?":         "; ingest replaces no variables, so use double quotes in the shell",
		"STATE=“ready”":                     "; write ready without these quotes",
		"STATUS=succeded":                   "; did you mean completed?",
		"\xff\xfeS\x00T\x00A\x00T\x00E\x00": "column 4: a NUL byte, as in UTF-16 and in binary files; write UTF-8 text",
		"\x00{\x00\"\x00s\x00t":             "column 1: a NUL byte, as in UTF-16 and in binary files; write UTF-8 text",
		"{\x00\"\x00s\x00t":                 "column 2: a NUL byte, as in UTF-16 and in binary files; write UTF-8 text",
		"[":                                 `column 1: a JSON array is not a directive; write each object on a separate line, as in {"state":"ready"}`,
	} {
		_, err := new(Decoder).Decode([]byte(line), false)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

// ExplainJSON explains the value of a flag.
func TestExplainJSON(t *testing.T) {
	for value, want := range map[string]string{
		`{port:8080}`: `column 2: expected a key in double quotes, as in '{"port":8080}'`,
		`hello world`: `column 1: "hello world" is not JSON; for text write '"hello world"'`,
		`it's`:        `column 1: "it" is not JSON; put text in double quotes`,
		`True`:        `column 1: "True" is not JSON; write true`,
		`{"a":1`:      `column 7: expected a comma or a closing brace`,
		``:            `column 1: no value; expected JSON, such as '{"port":8080}'`,
		`@d.json`:     `column 1: "@d.json" is not JSON; to pass a file write "$(cat d.json)"`,
		`(1)`:         `column 1: "(1)" is not JSON; expected for example '{"port":8080}'`,
	} {
		var n strictjson.Normaliser
		_, err := n.Normalise(nil, []byte(value))
		check(t, value, ExplainJSON([]byte(value), err).Error(), want)
	}
}

func TestDecoder_status_is_not_an_outcome(t *testing.T) {
	checkMeanings(t, []meaning{
		{`STATUS=ready`, `column 8: status is "ready"; expected one of ` + theOutcomes + `; for ready use the key state`},
		{`STATUS=up`, `column 8: status is "up"; expected one of ` + theOutcomes + `; for ready use the key state`},
		{`STATUS=passed`, `column 8: status is "passed"; expected one of ` + theOutcomes + `; did you mean completed?`},
		{`STATUS=0`, `column 8: status is "0"; expected one of ` + theOutcomes + `; for a number use the key exit_code`},
		{`TYPE=ready`, `column 6: type is "ready"; expected one of ` + theTypes + `; for ready use the key state`},
	})
}

func TestDecoder_exit_code(t *testing.T) {
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
		{`{"state":"failed","exit_code":true}`, `column 31: exit_code is a boolean; expected an integer`},
		{`{"state":"failed","exit_code":[7]}`, `column 31: exit_code is an array; expected an integer`},
		{`{"state":"failed","exit_code":"7"}`, `column 31: exit_code is a string; expected an integer without quotes`},
		{`{"state":"failed","exit_code":+7}`, `column 31: a JSON number has no plus sign`},
		{`STATE=failed EXIT_CODE=`, `column 24: exit_code is ""; ` + noNumber},
		{`STATE=failed EXIT_CODE=+7`, `column 24: exit_code is "+7"; ` + noNumber},
		{`STATE=failed EXIT_CODE='7 '`, `column 24: exit_code is "7 "; ` + noNumber},
		{`STATE=failed EXIT_CODE=1.0`, `column 24: exit_code is "1.0"; ` + noNumber},
		{`STATE=failed EXIT_CODE=0x7`, `column 24: exit_code is "0x7"; ` + noNumber},
		{`STATE=failed EXIT_CODE=1_0`, `column 24: exit_code is "1_0"; ` + noNumber},
		{`STATE=failed EXIT_CODE=2147483648`, `column 24: exit_code is "2147483648"; ` + noNumber},

		{`{"state":"ready","exit_code":0}`, `column 30: state ready takes no exit_code; only completed and failed take one`},
		{`STATE=ready EXIT_CODE=0`, `column 23: state ready takes no exit_code; only completed and failed take one`},
		{`{"type":"status","state":"failed","exit_code":1}`, `column 47: type status takes no exit_code; only a result, or a transition to completed or failed, takes one`},
		{`KIND=failed EXIT_CODE=1`, `column 23: type event takes no exit_code; only a result, or a transition to completed or failed, takes one`},
		{`{"state":"completed","exit_code":3}`, `column 34: completed means exit code 0, but exit_code is 3; use failed`},
		{`STATE=failed EXIT_CODE=007`, `transition failed "failed" exit=7`},
		{`STATE=failed EXIT_CODE=-0000000000007`, `transition failed "failed" exit=-7`},
		{`STATE=failed EXIT_CODE=08`, `transition failed "failed" exit=8`},
		{`STATE=completed EXIT_CODE=00`, `transition completed "completed" exit=0`},
		{`{"state":"failed","exit_code":007}`, `column 32: a JSON number has no leading zero`},
		{`STATUS=completed EXIT_CODE=3`, `column 28: completed means exit code 0, but exit_code is 3; use failed`},
	})
}

func TestDecoder_timestamp(t *testing.T) {
	suggestions := map[string]string{
		"2026-03-25T20:00:00":      "; did you mean 2026-03-25T20:00:00Z?",
		"2026-03-25T20:00:00,5Z":   "; did you mean 2026-03-25T20:00:00.5Z?",
		"2016-12-31T23:59:60":      "; did you mean 2016-12-31T23:59:60Z?",
		"2016-12-31T23:59:60,5Z":   "; did you mean 2016-12-31T23:59:60.5Z?",
		"2026-03-25t20:00:00z":     "; did you mean 2026-03-25T20:00:00Z?",
		"2026-03-25 20:00:00Z":     "; did you mean 2026-03-25T20:00:00Z?",
		"2026-03-25T20:00:00+0200": "; did you mean 2026-03-25T20:00:00+02:00?",
		"1774468800":               "; did you mean 2026-03-25T20:00:00Z?",
		"1774468800123":            "; did you mean 2026-03-25T20:00:00.123Z?",
	}
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
		"2016-12-31T23:59:60Z":               "2016-12-31T23:59:59.999999999Z", // a leap second
		"2016-12-31T23:59:60.25Z":            "2016-12-31T23:59:59.999999999Z",
		"1990-12-31T15:59:60-08:00":          "1990-12-31T23:59:59.999999999Z",
		"2017-01-01T05:44:60.5+05:45":        "2016-12-31T23:59:59.999999999Z",
		"9999-12-31T23:59:60Z":               "9999-12-31T23:59:59.999999999Z",
		"2016-12-31T23:59:61Z":               "",
		"2016-12-31T23:58:60Z":               "",
		"2016-12-31T22:59:60Z":               "",
		"2016-12-31T23:59:60-08:00":          "", // 07:59:60 in UTC
		"2016-12-31T23:59:60":                "",
		"2016-12-31T23:59:60,5Z":             "",
		"2016-12-31T23:59:60.Z":              "",
		"2026-03-25T20:00:60Z":               "",
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
		"1774468800":                         "", // seconds since 1970
		"1774468800123":                      "", // milliseconds
		"17744688":                           "",
		"٢٠٢٦-٠٣-٢٥T20:00:00Z":               "",
		"0001-01-01T00:00:00Z":               "", // Go's zero time, which means no time here
		"Wed, 25 Mar 2026 20:00:00 GMT":      "",
		"2026-03-25T20:00:00.Z":              "",
	} {
		for line, column := range map[string]int{
			`{"kind":"ready","timestamp":"` + text + `"}`: 29,
			`KIND=ready TIMESTAMP='` + text + `'`:         22,
		} {
			expect := `event ready "ready" at=` + want
			if want == "" {
				expect = fmt.Sprintf("column %d: timestamp is %s; %s%s", column, show([]byte(text)), noTime, suggestions[text])
			}
			check(t, line, decodeLine(line), expect)
		}
	}
}

func TestDecoder_details(t *testing.T) {
	checkMeanings(t, []meaning{
		{`{"state":"ready","details":{ "a" : [1, 2.50, -0], "b": null }}`, `transition ready "ready" details={"a":[1,2.50,-0],"b":null}`},
		{`{"state":"ready","details":null}`, `transition ready "ready"`},
		{`{"state":"ready","details":0}`, `transition ready "ready" details=0`},
		{`{"state":"ready","details":"text"}`, `transition ready "ready" details="text"`},
		{`{"state":"ready","details":{"a":1,"b":2,"a":3}}`, `transition ready "ready" details={"a":3,"b":2}`},
		{`{"state":"ready","details":{"n":1e-999}}`, `transition ready "ready" details={"n":1e-999}`},
		{`{"state":"ready","details":{"a":NaN,"b":[-Infinity,Infinity]}}`, `transition ready "ready" details={"a":null,"b":[null,null]}`},
		{`{"state":"ready","details":NaN}`, `transition ready "ready"`},
		{`STATE=ready DETAILS='{"a":NaN}'`, `transition ready "ready" details={"a":null}`},
		{`STATE=ready DETAILS=-Infinity`, `transition ready "ready"`},
		{`STATE=ready DETAILS.a:=NaN DETAILS.b=NaN`, `transition ready "ready" details={"a":null,"b":"NaN"}`},
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

		{`{"state":"ready","details":{"n":1e999}}`, "column 33: expected a number in the range of an IEEE 754 double; write a larger one as a string"},
		{`{"state":"ready","message":NaN}`, `column 28: "NaN" is not JSON; write null`},
		{`{"state":"failed","exit_code":NaN}`, `column 31: "NaN" is not JSON; write null`},
		{`{"state":"failed","details":NaN,"exit_code":-Infinity}`, `column 46: "-Infinity" is not JSON; write null`},
		{`{"state":"failed","details":NaN,"timestamp":Infinity}`, `column 45: "Infinity" is not JSON; write null`},
		{`{"state":NaN}`, `column 10: "NaN" is not JSON; write null`},
		{`{"state":"ready","details":{NaN:1}}`, `column 29: expected a key in double quotes, as in {"port":8080}`},
		{`EXIT_CODE=NaN STATE=failed DETAILS.a:=NaN`, `column 11: exit_code is "NaN"; expected an integer from -2147483648 to 2147483647`},
		{`{"state":"ready","details":{"a":1}`, `column 35: the line ends inside the object; write the whole object on one line`},
		{`STATE=ready DETAILS=`, `column 21: no value; expected JSON, as in DETAILS='{"port":8080}'`},
		{`STATE=ready DETAILS='{"a":x}'`, `column 27: "x" is not JSON; put text in double quotes`},
		{`STATE=ready DETAILS=text`, `column 21: "text" is not JSON; for text write DETAILS.name=text`},
		{`STATE=ready DETAILS='1 2'`, `column 24: expected nothing after the value`},
		{`STATE=ready DETAILS.n:=1e999`, `column 24: expected a number in the range of an IEEE 754 double; write a larger one as a string`},
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
		depth int // levels that the form adds
	}{
		{`{"state":"ready","details":%s}`, 0},
		{`STATE=ready DETAILS=%s`, 0},
		{`STATE=ready DETAILS.x:=%s`, 1},
		{`STATE=ready DETAILS.w:=[] DETAILS.x:=%s`, 1},
	} {
		for depth := 60; depth <= 66; depth++ {
			line := fmt.Sprintf(c.form, nested(depth-c.depth))
			got := decodeLine(line)
			if accepted := !strings.HasPrefix(got, "column"); accepted != (depth <= 64) {
				t.Errorf("details %d deep in %s: %s", depth, c.form, got)
			}
		}
	}
	for _, depth := range []int{127, 10000} {
		got := decodeLine(`{"state":"ready","details":` + nested(depth) + `}`)
		check(t, "deep details", got, "column 92: expected arrays and objects to nest at most 64 deep")
	}
	var dec Decoder // a limit of one form must not remain for the next line
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
	want := fmt.Sprintf("column %d: more than 256 DETAILS.name pairs; write them as JSON in one DETAILS", line.Len()+2)
	check(t, "257 names", decodeLine(line.String()+" DETAILS.y=x"), want)
}

func TestDecoder_cut_line(t *testing.T) {
	var dec Decoder
	cut := "the input ends without a newline, so the last value may be cut; end every line with a newline"
	for _, c := range []meaning{
		{`{"state":"ready"}`, `transition ready "ready"`},
		{`{"state":"ready"`, "column 17: the line ends inside the object; write the whole object on one line"},
		{`STATE=ready`, "column 12: " + cut},
		{`STATE=ready MESSAGE='x'`, "column 24: " + cut},
		{`garbage`, "column 8: " + cut},
	} {
		check(t, c.line, dec.describe(c.line, true), c.want)
	}
}

func TestIsBlank(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, " ": true, "\t \r": true, "#": true, "# x": true, "  \t#{": true,
		"x": false, "{": false, " x#": false, "\v": false, "\x00": false, "\u00a0": false,
	} {
		if got := IsBlank([]byte(text)); got != want {
			t.Errorf("IsBlank(%q) is %v", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	states := strings.Split(theStates, ", ")
	for word, want := range map[string]string{
		"ready": "ready", "Ready": "ready", "readyy": "ready", "raedy": "ready", "redi": "ready",
		"": "", "compelted": "completed", "helo": "",
		"running": "ready", "up": "ready", "ok": "ready", "healthy": "ready", "OK": "ready",
		"error": "failed", "fail": "failed", "failure": "failed", "crashed": "failed",
		"done": "completed", "success": "completed", "succeeded": "completed", "finished": "completed",
		"passed": "completed", "complete": "completed",
		"boot": "booted", "start": "starting", "started": "starting",
		"stop": "stopped", "shutdown": "stopped", "dead": "stopped",
		"destroy": "destroyed", "terminated": "destroyed", "deleted": "destroyed",
		strings.Repeat("ready", 9): "",
	} {
		check(t, "nearest to "+word, Nearest(word, states), want)
	}
	check(t, "nearest to running of the outcomes", Nearest("running", []string{"completed", "failed"}), "")
	check(t, "nearest to outcome of the types", Nearest("outcome", []string{"event", "result"}), "result")
	check(t, "nearest to ab", Nearest("ab", []string{"cd", "ax"}), "ax")
	check(t, "nearest to a", Nearest("a", []string{"b"}), "")
}
