package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A reference builds the normal form of a text from the tokens of encoding/json,
// and notes the reasons to reject it.
type reference struct {
	tokens     *json.Decoder
	depth      int
	outOfRange bool // the text has a number that some reader cannot convert to a double
	nearLimit  bool // the text has a number near the limit, which may be accepted or rejected: see inRange
	deep       bool
}

func makeReference(t testing.TB, text []byte) (normal string, r *reference) {
	r = &reference{tokens: json.NewDecoder(bytes.NewReader(text))}
	r.tokens.UseNumber()
	return r.value(t, r.token(t)), r
}

func (r *reference) token(t testing.TB) json.Token {
	token, err := r.tokens.Token()
	if err != nil {
		t.Fatalf("tokens of a valid text: %v", err)
	}
	return token
}

func (r *reference) value(t testing.TB, token json.Token) string {
	switch token := token.(type) {
	case json.Delim:
		if r.depth++; r.depth > 64 {
			r.deep = true
		}
		defer func() { r.depth-- }()
		if token == '[' {
			return r.array(t)
		}
		return r.object(t)
	case string:
		return quoted(token)
	case json.Number:
		return r.number(string(token))
	case nil:
		return "null"
	}
	return fmt.Sprint(token)
}

func (r *reference) array(t testing.TB) string {
	var elements []string
	for r.tokens.More() {
		elements = append(elements, r.value(t, r.token(t)))
	}
	r.token(t)
	return "[" + strings.Join(elements, ",") + "]"
}

func (r *reference) object(t testing.TB) string {
	var names, members []string
	place := map[string]int{}
	for r.tokens.More() {
		name := quoted(r.token(t).(string))
		member := name + ":" + r.value(t, r.token(t))
		if at, repeated := place[name]; repeated {
			members[at] = member
			continue
		}
		place[name] = len(names)
		names, members = append(names, name), append(members, member)
	}
	r.token(t)
	return "{" + strings.Join(members, ",") + "}"
}

func (r *reference) number(literal string) string {
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || serdeRejects([]byte(literal)) != "" {
		r.outOfRange = true
	}
	r.nearLimit = r.nearLimit || math.Abs(f) >= 1.7976931348623155e308
	if len(literal) > maxLenWithExponent && strings.ContainsAny(literal, "eE") {
		r.nearLimit = true
	}
	return literal
}

// quoted returns text as a JSON string in normal form. It is a slow and simple
// implementation.
func quoted(text string) string {
	var b strings.Builder
	for _, c := range text {
		if at := strings.IndexRune("\"\\\b\f\n\r\t", c); at >= 0 {
			b.WriteString(`\` + `"\bfnrt`[at:at+1])
		} else if c < 0x20 || strings.ContainsRune("\u0085\u2028\u2029", c) {
			fmt.Fprintf(&b, `\u%04x`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return `"` + b.String() + `"`
}

// check normalises a text, checks all properties that are true for every text, and
// returns the normal form. ok is false if the text was rejected.
func check(t testing.TB, text []byte) (normal []byte, ok bool) {
	t.Helper()
	var n Normaliser
	before := slices.Clone(text)
	checkPlain(t, text)
	normal, err := n.Normalise([]byte("kept"), text)
	if !bytes.Equal(before, text) {
		t.Fatalf("the input was changed from %q to %q", before, text)
	}
	if !bytes.HasPrefix(normal, []byte("kept")) {
		t.Fatalf("%.200q: the old content of dst became %.200q", text, normal)
	}
	if normal = normal[len("kept"):]; err != nil {
		checkRejection(t, text, normal, err)
		return nil, false
	}
	if !json.Valid(text) {
		t.Fatalf("accepted %.200q, which encoding/json rejects", text)
	}
	want, r := makeReference(t, text)
	if r.deep || r.outOfRange {
		t.Fatalf("accepted %.200q; too deep: %v, out of range: %v", text, r.deep, r.outOfRange)
	}
	if string(normal) != want {
		t.Fatalf("%.200q:\n got %.400s\nwant %.400s", text, normal, want)
	}
	checkNormal(t, normal)
	var buf []byte
	if value, _, err := n.Value(&buf, text, SkipSpace(text, 0)); err != nil || string(value) != want || !bytes.Equal(before, text) {
		t.Fatalf("%.200q as a value:\n got %.400s, %v\nwant %.400s", text, value, err, want)
	}
	return normal, true
}

// checkPlain checks that the Normaliser accepts and does not change what the fast path
// accepts. plain reports whether it accepts text.
func checkPlain(t testing.TB, text []byte) (plain bool) {
	t.Helper()
	at := SkipSpace(text, 0)
	next, plain := plainObject(text, at, MaxDepth-1)
	if !plain {
		return false
	}
	n := Normaliser{from: at}
	want, err := n.readValue(text, at, MaxDepth)
	if err != nil || want != next || len(n.dst) > 0 {
		t.Fatalf("%.200q is plain up to %d, but the Normaliser reads up to %d and changes it to %q, %v", text, next, want, n.dst, err)
	}
	return true
}

func checkRejection(t testing.TB, text, appended []byte, err error) {
	t.Helper()
	if e, ok := err.(*Error); !ok || e.Offset < 0 || e.Offset > len(text) || e.Why == "" {
		t.Fatalf("%.200q: error %#v", text, err)
	}
	if len(appended) > 0 {
		t.Fatalf("%.200q: rejected, but %q was appended", text, appended)
	}
	if !json.Valid(text) {
		return
	}
	if _, r := makeReference(t, text); !r.deep && !r.outOfRange && !r.nearLimit {
		t.Fatalf("rejected %.200q: %v", text, err)
	}
}

// checkNormal checks that encoding/json and the model of serde_json accept a text
// in normal form, and that it is its own normal form.
func checkNormal(t testing.TB, normal []byte) {
	t.Helper()
	var loaded any
	if err := json.Unmarshal(normal, &loaded); err != nil {
		t.Fatalf("%.200q does not load in encoding/json: %v", normal, err)
	}
	if why := serdeRejects(slices.Concat([]byte(`{"details":`), normal, []byte(`}`))); why != "" {
		t.Fatalf("%.200q does not load in serde_json: %s", normal, why)
	}
	again, err := new(Normaliser).Normalise(nil, normal)
	if err != nil || !bytes.Equal(again, normal) {
		t.Fatalf("the normal form of %.200q is %.200q (%v), want the same text", normal, again, err)
	}
	if text, ok := loaded.(string); ok {
		if got, ok := Value(normal).Text(); !ok || got != text {
			t.Fatalf("text of %.200q: %.200q, %v", normal, got, ok)
		}
	} else if got, ok := Value(normal).Text(); ok {
		t.Fatalf("text of %.200q: %.200q", normal, got)
	}
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}
