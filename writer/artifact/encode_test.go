package artifact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

var testTime = time.Date(2026, 3, 25, 20, 0, 0, 123e6, time.UTC)

// A part is the expected text of one optional member of an artifact.
type part struct {
	text string
	set  bool
}

// subsets calls f with every subset of the optional parts.
func subsets(texts []string, f func(parts []part)) {
	for bits := range 1 << len(texts) {
		parts := make([]part, len(texts))
		for i, text := range texts {
			if parts[i].set = bits>>i&1 == 1; parts[i].set {
				parts[i].text = text
			}
		}
		f(parts)
	}
}

// when returns v if set, else the zero value.
func when[T any](set bool, v T) (_ T) {
	if set {
		return v
	}
	return
}

const (
	goldenTime    = `"2026-03-25T20:00:00.123Z"`
	goldenDetails = `{"b":[1,2.50],"a":"é\n"}`
)

func TestEvent_encoding(t *testing.T) {
	subsets([]string{
		`,"boot_id":"id \"1\""`, `,"details":` + goldenDetails, `,"uptime_ms":4200`, `,"transition":false`,
	}, func(p []part) {
		e := Event{Kind: Ready, Time: testTime, Message: strictjson.AppendText(nil, "a\tb"),
			BootID: when(p[0].set, `id "1"`), Details: when(p[1].set, strictjson.Value(goldenDetails)),
			Uptime: when(p[2].set, 4200*time.Millisecond+999*time.Microsecond), Plain: p[3].set}
		want := `{"schema_version":1,"kind":"ready","timestamp":` + goldenTime + `,"message":"a\tb"` +
			p[0].text + p[1].text + p[2].text + p[3].text + `,"seq":18446744073709551615}` + "\n"
		enc := new(EventEncoder)
		got := enc.AppendSeq(enc.Append([]byte("kept"), &e), math.MaxUint64)
		if string(got) != "kept"+want {
			t.Errorf("\n%sexpected\n%s", got, want)
		}
	})
}

func TestStatus_encoding(t *testing.T) {
	subsets([]string{
		",\n  \"boot_id\": \"id\"", ",\n  \"details\": " + goldenDetails, ",\n  \"seq\": 7", ",\n  \"rejected\": 2",
	}, func(p []part) {
		s := Status{State: Unreachable, Time: testTime, Message: strictjson.AppendText(nil, "m"),
			BootID: when(p[0].set, "id"), Details: when(p[1].set, strictjson.Value(goldenDetails)),
			Seq: when(p[2].set, uint64(7)), Rejected: when(p[3].set, uint64(2))}
		want := "{\n  \"schema_version\": 1,\n  \"state\": \"unreachable\",\n  \"updated_at\": " + goldenTime +
			",\n  \"message\": \"m\"" + p[0].text + p[1].text + p[2].text + p[3].text + "\n}\n"
		if got := s.Append([]byte("kept")); string(got) != "kept"+want {
			t.Errorf("\n%sexpected\n%s", got, want)
		}
	})
}

func TestResult_encoding(t *testing.T) {
	code := int32(math.MinInt32)
	subsets([]string{
		",\n  \"exit_code\": -2147483648", ",\n  \"details\": " + goldenDetails, ",\n  \"boot_id\": \"id\"", ",\n  \"seq\": 7",
	}, func(p []part) {
		r := Result{Outcome: OutcomeFailed, Time: testTime, Message: strictjson.AppendText(nil, "m"),
			ExitCode: when(p[0].set, &code), Details: when(p[1].set, strictjson.Value(goldenDetails)),
			BootID: when(p[2].set, "id"), Seq: when(p[3].set, uint64(7))}
		want := "{\n  \"schema_version\": 1,\n  \"status\": \"failed\"" + p[0].text +
			",\n  \"finished_at\": " + goldenTime + ",\n  \"message\": \"m\"" + p[1].text + p[2].text + p[3].text + "\n}\n"
		if got := r.Append([]byte("kept")); string(got) != "kept"+want {
			t.Errorf("\n%sexpected\n%s", got, want)
		}
	})
}

// An exit code of 0 is written; only nil is left out.
func TestResult_exit_code_zero(t *testing.T) {
	r := Result{Outcome: OutcomeCompleted, Time: testTime, Message: strictjson.AppendText(nil, "m"), ExitCode: new(int32)}
	if got := string(r.Append(nil)); !strings.Contains(got, "\n  \"exit_code\": 0,\n") {
		t.Errorf("%s", got)
	}
}

// A rejected line is encoded as text if it is valid UTF-8, and otherwise as base64.
// A truncated line has its length and the member truncated.
func TestReject_encoding(t *testing.T) {
	long := strings.Repeat("x", MaxRaw+1)
	split := strings.Repeat("x", MaxRaw-1) + "é" // will be truncated inside the é
	base64ed := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		raw    string
		length uint64
		want   string
	}{
		{"", 0, `"raw":""`},
		{"a\"\x01é\u2028", 8, `"raw":"a\"\u0001é\u2028"`},
		{"\u0085\u2029", 5, `"raw":"\u0085\u2029"`},
		{"a\xff", 2, `"raw_base64":"Yf8="`},
		{"\xed\xa0\x80", 3, `"raw_base64":"7aCA"`},
		{long[1:], MaxRaw, `"raw":"` + long[1:] + `"`},
		{long, MaxRaw + 1, `"raw":"` + long[1:] + `","length":4097,"truncated":true`},
		{long, 1 << 40, `"raw":"` + long[1:] + `","length":1099511627776,"truncated":true`},
		{long[:3], 9, `"raw":"xxx","length":9,"truncated":true`},
		{split, MaxRaw + 1, `"raw_base64":"` + base64ed(split[:MaxRaw]) + `","length":4097,"truncated":true`},
		{long[1:MaxRaw] + "\xff", MaxRaw, `"raw_base64":"` + base64ed(long[1:MaxRaw]+"\xff") + `"`},
	} {
		r := Reject{Line: 3, Offset: 1 << 33, Time: testTime, Error: "column 1: expected \"a\"", Raw: []byte(c.raw), Length: c.length}
		want := `{"schema_version":1,"line":3,"offset":8589934592,"timestamp":` + goldenTime +
			`,"error":"column 1: expected \"a\"",` + c.want + "}\n"
		got := string(r.Append([]byte("kept")))
		if got != "kept"+want {
			t.Errorf("%.40q:\n%sexpected\n%s", c.raw, got, want)
		}
		if err := testenv.StrictJSON(strings.TrimPrefix(got, "kept")); err != nil {
			t.Errorf("%.40q: %v", c.raw, err)
		}
	}
}

// appendTime agrees with time.Format for all years of RFC 3339, and all time
// zones.
func TestTime_encoding(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	first := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	last := time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	one := func(at time.Time) {
		t.Helper()
		want := at.UTC().Format(`"2006-01-02T15:04:05.000Z"`)
		if got := string(appendTime([]byte("kept"), at)); got != "kept"+want {
			t.Fatalf("%v: %s, expected %s", at, got, want)
		}
	}
	one(first)
	one(last)
	one(time.Date(2024, 2, 29, 23, 59, 59, 999999999, time.FixedZone("", 14*3600)))
	for range 100000 {
		at := time.Unix(first.Unix()+rnd.Int64N(last.Unix()-first.Unix()), rnd.Int64N(1e9))
		one(at.In(time.FixedZone("", rnd.IntN(2*86400)-86400)))
	}
}

// The parsers accept exactly the words of States and Outcomes.
func TestParseState_words(t *testing.T) {
	words := strings.Fields("requested provisioning booted starting ready completed failed unreachable stopped destroyed")
	if got := fmt.Sprint(States()); got != fmt.Sprint(words) {
		t.Fatalf("%s", got)
	}
	for _, word := range words {
		s, ok := ParseState(word)
		outcome, isOutcome := s.Outcome()
		want := word == "completed" || word == "failed"
		if !ok || string(s) != word || isOutcome != want || (isOutcome && string(outcome) != word) {
			t.Errorf("%s: state %q, %t; outcome %q, %t", word, s, ok, outcome, isOutcome)
		}
	}
	if got := fmt.Sprint(Outcomes()); got != "[completed failed]" {
		t.Errorf("%s", got)
	}
	for _, word := range []string{"", "Ready", "ready ", "running", "READY", "complete"} {
		if s, ok := ParseState([]byte(word)); ok || s != "" {
			t.Errorf("%q was parsed as the state %s", word, s)
		}
		if o, ok := ParseOutcome(word); ok || o != "" {
			t.Errorf("%q was parsed as the outcome %s", word, o)
		}
	}
}

// A status is indented as encoding/json indents it.
func TestStatus_indentation(t *testing.T) {
	s := Status{State: Ready, Time: testTime, Message: strictjson.AppendText(nil, "m"), BootID: "id", Seq: 1}
	var b bytes.Buffer
	testenv.Must(t, json.Indent(&b, s.Append(nil), "", "  "))
	if b.String() != string(s.Append(nil)) {
		t.Errorf("%s", b.String())
	}
}
