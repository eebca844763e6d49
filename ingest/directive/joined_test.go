package directive

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// joinedAt decodes a line, and returns the part of it that is reported as a directive
// inside a value.
func joinedAt(t *testing.T, line string, cut bool) string {
	t.Helper()
	var dec Decoder
	d, r := dec.Decode([]byte(line), cut)
	if r == nil {
		warning, at := d.Joined([]byte(line))
		if warning == "" {
			return ""
		}
		return line[at:]
	}
	_, hint, _ := strings.Cut(r.Reason, "; the directive ")
	if hint == "" {
		return ""
	}
	return line[dec.pairs.joined:]
}

// A directive that dash or busybox has joined to a value is found, whether the whole line
// is accepted or rejected. Values that other programs print are not reported.
func TestJoined(t *testing.T) {
	for _, c := range []struct{ line, joined string }{
		// printf of dash and busybox, whose text ends at %q
		{"STATE=failed MESSAGE=STATE=ready", "STATE=ready"},
		{"STATE=failed EXIT_CODE=7 MESSAGE=STATE=completed EXIT_CODE=0", "STATE=completed EXIT_CODE=0"},
		{"STATE=starting DETAILS.a.b=KIND=ready MESSAGE=x", "KIND=ready MESSAGE=x"},
		{"STATE=starting DETAILS.n:=STATE=ready", "STATE=ready"},
		{"STATE=starting DETAILS=STATE=ready", "STATE=ready"},
		{"STATE=failed MESSAGE=STATUS=failed", "STATUS=failed"},
		{"STATE=STATE=ready", "STATE=ready"},
		{"MESSAGE=STATE=ready", "STATE=ready"},
		{"state=failed message=state=ready", "state=ready"},
		{"STATE=failed MESSAGE=STATE='ready'", "STATE='ready'"},
		{`STATE=failed MESSAGE=STATE="unreachable"`, `STATE="unreachable"`},
		{"STATE=starting MESSAGE=STATE=ready MESSAGE='a b'", "STATE=ready MESSAGE='a b'"},
		{"STATE=starting MESSAGE=STATE=ready MESSAGE=STATE=failed", "STATE=ready MESSAGE=STATE=failed"},
		{"STATE=starting DETAILS.a=a=b MESSAGE=STATE=ready", "STATE=ready"},
		{`STATE=failed MESSAGE=exit\ 7:\ STATE=ready`, "STATE=ready"},
		{"STATE=failed MESSAGE='exit 7: 'STATE=ready", "STATE=ready"},
		{"STATE=failed MESSAGE=(STATE=ready", "STATE=ready"},
		{`STATE=failed MESSAGE={"state":"ready","message":"a b=c"}`, `{"state":"ready","message":"a b=c"}`},
		{`STATE=failed MESSAGE={"state": "ready"}`, `{"state": "ready"}`},
		{`STATE=failed MESSAGE=exit\ 7:\ {"message":"m","state":"ready"}`, `{"message":"m","state":"ready"}`},

		// printf %q of bash, and other values
		{"STATE=failed", ""},
		{"STATE=failed MESSAGE=", ""},
		{"STATE=failed MESSAGE='STATE=ready'", ""},
		{`STATE=failed MESSAGE="STATE=ready"`, ""},
		{"STATE=failed MESSAGE=$'STATE=ready'", ""},
		{`STATE=failed MESSAGE=STATE\=ready`, ""},
		{"STATE=failed MESSAGE=STATE=redy", ""},
		{`STATE=failed MESSAGE=STATE=ready\ now`, ""},
		{"STATE=failed MESSAGE=STATE=", ""},
		{"STATE=failed MESSAGE=type=AVC\\ msg=audit", ""},
		{"STATE=failed MESSAGE=TYPE=event", ""},
		{"STATE=failed MESSAGE=STATUS=ready", ""},
		{"STATE=failed MESSAGE=ActiveState=failed", ""},
		{"STATE=failed MESSAGE=ACTIVE_STATE=failed", ""},
		{"STATE=failed MESSAGE=EXIT-STATUS=failed", ""},
		{`STATE=failed MESSAGE=unit\ a:\ status=failed`, ""},
		{"STATE=failed DETAILS.url=http://host/?state=ready", ""},
		{"STATE=failed DETAILS.x=a=b=c==", ""},
		{`STATE=failed MESSAGE=\{\"state\":\"ready\"\}`, ""},
		{`STATE=failed MESSAGE='{"state":"ready"}'`, ""},
		{`STATE=failed MESSAGE={"port":8080}`, ""},
		{`STATE=failed MESSAGE={"state"}`, ""},
		{`STATE=failed DETAILS={"message":"unquoted"}`, ""},
		{`STATE=failed DETAILS.x:={"message":"unquoted"}`, ""},
		{`{"state":"failed","message":"STATE=ready"}`, ""},
		{`{"state":"failed","message":"{\"state\":\"ready\"}",}`, ""},
	} {
		check(t, c.line, joinedAt(t, c.line, false), c.joined)
		if c.line[0] != '{' {
			check(t, c.line+" without a newline", joinedAt(t, c.line, true), c.joined)
		}
	}
}

// The decoder keeps nothing of a joined line for the next one.
func TestJoined_next_line(t *testing.T) {
	var dec Decoder
	for _, line := range []string{"STATE=ready", `{"state":"ready"}`, `{"state":"redy"}`, "STATE=redy"} {
		dec.Decode([]byte("STATE=failed MESSAGE=STATE=ready"), false)
		d, r := dec.Decode([]byte(line), false)
		if warning, _ := d.Joined([]byte(line)); warning != "" || (r != nil && strings.Contains(r.Reason, "inside a value")) {
			t.Errorf("%s: %q, %v", line, warning, r)
		}
	}
}

// A long line with many candidates takes as long as any other.
func TestJoined_long_line(t *testing.T) {
	for _, part := range []string{"STATE=x,", "=", "STATE=", "a.", `{"state"`, `{"`, "é=STATE='"} {
		line := "STATE=failed MESSAGE=" + strings.Repeat(part, 1<<20/len(part))
		var dec Decoder
		dec.Decode([]byte(line), false)
		dec.Decode([]byte(line), true)
	}
}

// Bash's %q and @Q of random text are never reported, unless the text itself is a
// directive.
func TestJoined_quoted_by_bash(t *testing.T) {
	const script = `
while IFS= read -r -d '' m; do
	printf 'STATE=failed MESSAGE=%q\n' "$m"
	printf '%s\n' "STATE=failed MESSAGE=${m@Q}"
done
`
	words := []string{"state", "status", "STATE", "ActiveState", "=", "=", "=", ":", " ", " ", "ready", "failed", `{"state":"ready"}`, "'", "\n", "é", "type", "message"}
	rnd := rand.New(rand.NewPCG(1, 2))
	var values []string
	for range 2000 {
		var b strings.Builder
		for range 1 + rnd.IntN(6) {
			b.WriteString(words[rnd.IntN(len(words))])
		}
		values = append(values, b.String())
	}
	lines := strings.Split(string(runBash(t, "C", script, []byte(strings.Join(values, "\x00")+"\x00"))), "\n")
	for i, value := range values {
		for _, line := range lines[2*i : 2*i+2] {
			joined := joinedAt(t, line, false)
			if joined != "" && !strings.HasSuffix(value, joined) {
				t.Errorf("%q: reported %q", line, joined)
			}
			if joined != "" && strings.ToLower(joined) == joined && joined != value && !strings.HasSuffix(value, "="+joined) {
				t.Errorf("%q: reported %q inside other text", line, joined)
			}
		}
	}
}
