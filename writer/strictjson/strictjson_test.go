package strictjson

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

var accepted = []struct{ text, normal string }{
	{"null", "null"},
	{" \t\r\ntrue \n", "true"},
	{"false", "false"},
	{"[ ]", "[]"},
	{"{ }", "{}"},
	{" [ 1 , 2 ,\n[ ] , { } ] ", "[1,2,[],{}]"},
	{` { "a" : 1 , "b" : { "c" : [ null ] } } `, `{"a":1,"b":{"c":[null]}}`},
	{`""`, `""`},
	{`"no <b>HTML</b> & 'quotes'"`, `"no <b>HTML</b> & 'quotes'"`},

	// Escapes: each short one, and every other way to write the same character.
	{`"\"\\\/\b\f\n\r\t"`, `"\"\\/\b\f\n\r\t"`},
	{`"\u0022\u005c\u005C\u002f\u0008\u000c\u000a\u000d\u0009"`, `"\"\\\\/\b\f\n\r\t"`},
	{`"\u0000\u0001\u001f\u001F\u000B\u007f\u0080"`, "\"\\u0000\\u0001\\u001f\\u001f\\u000b\x7f\u0080\""},
	{`"\u0061\u00E9\u20ac\uFFFF"`, "\"aé€\uffff\""},
	{`"\\u0061"`, `"\\u0061"`},
	{"\"\u0085\u2028\u2029\"", `"\u0085\u2028\u2029"`},
	{`"\u0085\u2028\u2029"`, `"\u0085\u2028\u2029"`},
	{"{\"\u2028\":1,\"a\":2,\"\\u2028\":3}", `{"\u2028":3,"a":2}`},
	{"\"\u0084\u0086\u2027\u202a\"", "\"\u0084\u0086\u2027\u202a\""},
	{"\"\ufeffinside\"", "\"\ufeffinside\""},

	// Surrogates: pairs, and all kinds of lone ones.
	{`"\ud83d\ude00"`, `"😀"`},
	{`"\uD800\uDC00\udbff\udfff"`, "\"\U00010000\U0010ffff\""},
	{`"\ud800"`, `"�"`},
	{`"\udfff"`, `"�"`},
	{`"a\ud800b"`, `"a�b"`},
	{`"\ud800\n"`, `"�\n"`},
	{`"\ud800\u0041"`, `"�A"`},
	{`"\ud800\ud800\udc00"`, "\"�\U00010000\""},
	{`"\udc00\ud800"`, `"��"`},
	{`"\ud800\ud800"`, `"��"`},
	{`"\ud800\\udc00"`, `"�\\udc00"`},
	{`{"\ud800":"\udead"}`, `{"�":"�"}`},

	// Bytes that are not UTF-8, one U+FFFD each.
	{"\"\xff\"", `"�"`},
	{"\"a\x80b\xfec\"", `"a�b�c"`},
	{"\"\xc3\"", `"�"`},
	{"\"\xe2\x82\"", `"��"`},
	{"\"\xf0\x9f\x98\"", `"���"`},
	{"\"\xc0\xaf\"", `"��"`},
	{"\"\xe0\x80\xaf\"", `"���"`},
	{"\"\xed\xa0\x80\"", `"���"`},
	{"\"\xed\xa0\xbd\xed\xb8\x80\"", `"������"`},
	{"\"\xf4\x90\x80\x80\"", `"����"`},
	{"\"\xe2\x82\\n\"", `"��\n"`},

	// Numbers keep their digits.
	{"0", "0"},
	{"-0", "-0"},
	{"-0.0e-0", "-0.0e-0"},
	{"1E+2", "1E+2"},
	{"1.10", "1.10"},
	{"123456789012345678901234567890.10", "123456789012345678901234567890.10"},
	{"1e-999", "1e-999"},
	{"-1e-99999999999999999999999", "-1e-99999999999999999999999"},
	{"0e99999999999999999999999", "0e99999999999999999999999"},
	{"-0.000E+400", "-0.000E+400"},
	{"1e308", "1e308"},
	{"1e00000000000000000000000000000308", "1e00000000000000000000000000000308"},
	{"1.7976931348623157e308", "1.7976931348623157e308"},
	{"-1.7976931348623157e+308", "-1.7976931348623157e+308"},
	{"17976931348623157e292", "17976931348623157e292"},
	{"0.00017976931348623157E312", "0.00017976931348623157E312"},
	{"1.79769313486231570e308", "1.79769313486231570e308"},
	{"1.797693134862315599e308", "1.797693134862315599e308"},

	// Repeated names: the first position and the last value are kept, however the name is written.
	{`{"a":1,"a":2}`, `{"a":2}`},
	{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
	{`{"a":1,"\u0061":[true]}`, `{"a":[true]}`},
	{`{"\ud800":1,"b":2,"\udfff":3}`, `{"�":3,"b":2}`},
	{"{\"\xff\":1,\"\\ud800\":2}", `{"�":2}`},
	{`{"":1,"":2,"":3}`, `{"":3}`},
	{`{"a":{"x":1,"x":2},"b":0,"a":{"y":1,"z":[{"q":1,"q":2}],"y":3}}`, `{"a":{"y":3,"z":[{"q":2}]},"b":0}`},
	{`{"a":"longer than its new value","b":1,"a":0,"b":"longer than its old value"}`,
		`{"a":0,"b":"longer than its old value"}`},
	{`{"a":1,"A":2,"aa":3}`, `{"a":1,"A":2,"aa":3}`},
	{`[{"a":1},{"a":2}]`, `[{"a":1},{"a":2}]`},
	{`{"a":{"a":{"a":1}}}`, `{"a":{"a":{"a":1}}}`},
}

func TestNormalise_accepted(t *testing.T) {
	for _, c := range accepted {
		if got, ok := check(t, []byte(c.text)); !ok || string(got) != c.normal {
			t.Errorf("%q: got %q, %v, want %q", c.text, got, ok, c.normal)
		}
	}
}

const (
	value   = "expected a JSON value"
	str     = "expected a key in double quotes"
	quote   = "expected a closing quote"
	digit   = "expected a digit"
	colon   = "expected a colon"
	bracket = "expected a comma or a closing bracket"
	brace   = "expected a comma or a closing brace"
	control = "expected a control character to be escaped"
	escape  = `expected one of "\/bfnrtu after the backslash`
	hex     = `expected four hex digits after \u`
	double  = "expected a number in the range of an IEEE 754 double; write a larger one as a string"
	nothing = "expected nothing after the value"
	shallow = "expected arrays and objects to nest at most 64 deep"
)

var rejected = []struct {
	text   string
	offset int
	why    string
}{
	{"", 0, value},
	{"  ", 2, value},
	{"\ufeff1", 0, value},
	{"\x001", 0, value},
	{"\v1", 0, value},
	{"\u00a01", 0, value},
	{"# comment", 0, value},
	{"// comment", 0, value},
	{"1 // comment", 2, nothing},
	{"1 2", 2, nothing},
	{"1\x00", 1, nothing},
	{"{}}", 2, nothing},
	{"[]]", 2, nothing},
	{`""x`, 2, nothing},
	{"nul", 0, value},
	{"nulL", 0, value},
	{"nulll", 4, nothing},
	{"tru", 0, value},
	{"truth", 0, value},
	{"True", 0, value},
	{"fals", 0, value},
	{"falsify", 0, value},
	{"NaN", 0, value},
	{"Infinity", 0, value},
	{"-Infinity", 1, digit},
	{"'a'", 0, value},
	{"undefined", 0, value},

	{"-", 1, digit},
	{"--1", 1, digit},
	{"+1", 0, value},
	{".5", 0, value},
	{"-.5", 1, digit},
	{"1.", 2, digit},
	{"1.e5", 2, digit},
	{"1e", 2, digit},
	{"1e+", 3, digit},
	{"1E-x", 3, digit},
	{"01", 1, nothing},
	{"-012", 2, nothing},
	{"0x10", 1, nothing},
	{"1_000", 1, nothing},
	{"1e5.5", 3, nothing},
	{"1.2.3", 3, nothing},
	{"１", 0, value},

	{"1e309", 0, double},
	{"[1e999]", 1, double},
	{"-1e999", 0, double},
	{"1.8e308", 0, double},
	{"1.7976931348623158e308", 0, double},
	{"1.797693134862315700e308", 0, double},
	{"1.7976931348623156001e308", 0, double},
	{"10e308", 0, double},
	{"0.1e310", 0, double},
	{"0.001e312", 0, double},
	{"1e99999999999999999999999", 0, double},
	{"0.1e99999999999999999999999", 0, double},
	{"1e18446744073709551617", 0, double},
	{"1e4294967296", 0, double},

	{`"`, 1, quote},
	{`"abc`, 4, quote},
	{`"abc def ghi`, 12, quote},
	{`"\"`, 3, quote},
	{`"\`, 2, escape},
	{`"\x41"`, 2, escape},
	{`"\'"`, 2, escape},
	{`"\0"`, 2, escape},
	{`"\U0041"`, 2, escape},
	{"\"\\\n\"", 2, escape},
	{`"\u"`, 3, hex},
	{`"\u004`, 6, hex},
	{`"\u004"`, 6, hex},
	{`"\u00g0"`, 5, hex},
	{`"\u+041"`, 3, hex},
	{`"\u 041"`, 3, hex},
	{`"\ud800\u"`, 9, hex},
	{`"\ud800\udc0"`, 12, hex},
	{`"\ud800\`, 8, escape},
	{`"\ud800\x"`, 8, escape},
	{"\"\n\"", 1, control},
	{"\"a\tb\"", 2, control},
	{"\"\x00\"", 1, control},
	{"\"\x1f\"", 1, control},
	{"\"abcdefghi\x1f\"", 10, control},

	{"[", 1, value},
	{"[1", 2, bracket},
	{"[1,", 3, value},
	{"[1,]", 3, value},
	{"[,1]", 1, value},
	{"[,]", 1, value},
	{"[1,,2]", 3, value},
	{"[1 2]", 3, bracket},
	{"[1}", 2, bracket},
	{`["a":1]`, 4, bracket},
	{"]", 0, value},
	{`["a`, 3, quote},
	{"{", 1, str},
	{"{,}", 1, str},
	{`{"a"`, 4, colon},
	{`{"a" 1}`, 5, colon},
	{`{"a",1}`, 4, colon},
	{`{"a":`, 5, value},
	{`{"a":}`, 5, value},
	{`{"a"::1}`, 5, value},
	{`{"a":1`, 6, brace},
	{`{"a":1 "b":2}`, 7, brace},
	{`{"a":1]`, 6, brace},
	{`{"a":1,}`, 7, str},
	{`{"a":1,,"b":2}`, 7, str},
	{`{1:2}`, 1, str},
	{`{a:1}`, 1, str},
	{`{'a':1}`, 1, str},
	{`{null:1}`, 1, str},
	{`{"\x":1}`, 3, escape},
	{`{"a":1e999}`, 5, double},
	{`{"a":1,"a":1e999}`, 11, double},
	{"}", 0, value},
	{nested(65), 64, shallow},
	{strings.Repeat("[", 65), 64, shallow},
	{strings.Repeat(`{"":`, 65), 4 * 64, shallow},
}

func TestNormalise_rejected(t *testing.T) {
	for _, c := range rejected {
		if got, ok := check(t, []byte(c.text)); ok {
			t.Errorf("%.80q: accepted as %.80q", c.text, got)
		}
		_, err := new(Normaliser).Normalise(nil, []byte(c.text))
		var e *Error
		if !errors.As(err, &e) || e.Offset != c.offset || e.Why != c.why {
			t.Errorf("%.80q: %v, want offset %d: %s", c.text, err, c.offset, c.why)
		}
	}
}

// The words for numbers that are not finite are errors, or null with NonFinite.
func TestNormalise_not_finite(t *testing.T) {
	for text, want := range map[string]string{
		"NaN": "null", "Infinity": "null", "-Infinity": "null", " [NaN , -Infinity,1] ": "[null,null,1]",
		`{"a":NaN,"b":{"c":[Infinity]}}`:     `{"a":null,"b":{"c":[null]}}`,
		`{"a":1,"a":NaN}`:                    `{"a":null}`,
		`{"a":NaN,"b":-Infinity,"\u0061":2}`: `{"a":2,"b":null}`,
		`"NaN"`:                              `"NaN"`,
		"nan":                                "", "NAN": "", "-NaN": "", "+Infinity": "", "infinity": "", "Inf": "", "-inf": "", "Infinit": "", "-Infinit": "", "NaNN": "", "NaN1": "",
		`{NaN:1}`: "", "1e999": "", "-1e999": "", "-": "", "[NaN": "",
	} {
		n := Normaliser{NonFinite: true}
		got, err := n.Normalise(nil, []byte(text))
		if (err == nil) != (want != "") || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
		var buf []byte
		at := SkipSpace([]byte(text), 0)
		if value, _, err := n.Value(&buf, []byte(text), at); err == nil && want != "" && string(value) != want {
			t.Errorf("%s as a value: %s, want %s", text, value, want)
		}
		if _, err := new(Normaliser).Normalise(nil, []byte(text)); err == nil && want != text {
			t.Errorf("%s: accepted without NonFinite", text)
		}
	}
}

func TestError(t *testing.T) {
	_, err := new(Normaliser).Normalise(nil, []byte(`{"a":tru}`))
	if got := err.Error(); got != "offset 5: expected a JSON value" {
		t.Error(got)
	}
}

// A text that is cut short at any byte is rejected.
func TestNormalise_cut_text(t *testing.T) {
	whole := `{"a\n\u00e9\ud83d\ude00é":[1.5e-3,true,false,null,{"b":"c"},[]],"é":{}}`
	for end := range whole {
		if got, ok := check(t, []byte(whole[:end])); ok {
			t.Errorf("accepted %q as %q", whole[:end], got)
		}
	}
	if _, ok := check(t, []byte(whole)); !ok {
		t.Error("rejected the whole text")
	}
}

func TestDepth(t *testing.T) {
	for _, depth := range []int{1, 63, 64, 65, 127, 128, 10000} {
		objects := strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
		mixed := strings.Repeat(`[{"a":`, depth/2) + "[]" + strings.Repeat("}]", depth/2)
		if _, ok := check(t, []byte(nested(depth))); ok != (depth <= 64) {
			t.Errorf("%d arrays: accepted %v", depth, ok)
		}
		if _, ok := check(t, []byte(objects)); ok != (depth <= 64) {
			t.Errorf("%d objects: accepted %v", depth, ok)
		}
		if _, ok := check(t, []byte(mixed)); ok != (depth/2*2+1 <= 64) {
			t.Errorf("%d of both: accepted %v", depth/2*2+1, ok)
		}
	}
	if _, ok := check(t, []byte("["+strings.Repeat("[[]],", 1000)+nested(63)+"]")); !ok {
		t.Error("closed arrays were counted as levels")
	}
}

func TestDepth_custom(t *testing.T) {
	for _, c := range []struct{ depth, limit int }{{0, 64}, {1, 1}, {63, 63}, {65, 65}} {
		n := Normaliser{Depth: c.depth}
		for _, deep := range []int{c.limit, c.limit + 1} {
			objects := strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep)
			_, err := n.Normalise(nil, []byte(nested(deep)))
			_, err2 := n.Normalise(nil, []byte(objects))
			if (err == nil) != (deep <= c.limit) || (err2 == nil) != (deep <= c.limit) {
				t.Errorf("Depth %d, %d levels: arrays %v, objects %v", c.depth, deep, err, err2)
			}
		}
	}
}

// Append reads a value from the middle of a text, counts levels from that value,
// and ignores the text after it.
func TestAppend(t *testing.T) {
	var n Normaliser
	for _, c := range []struct {
		src  string
		at   int
		out  string
		next int
	}{
		{`{"details" : {"b" : 1, "b":2} , "x"`, 13, `{"b":2}`, 29},
		{`01`, 0, `0`, 1},
		{`truest`, 0, `true`, 4},
		{`""""`, 0, `""`, 2},
		{`[]]`, 0, `[]`, 2},
		{`-1-1`, 0, `-1`, 2},
		{"[[" + nested(64) + "]]", 2, nested(64), 130},
	} {
		out, next, err := n.Append([]byte("x"), []byte(c.src), c.at)
		if string(out) != "x"+c.out || next != c.next || err != nil {
			t.Errorf("%s: got %s, %d, %v", c.src, out, next, err)
		}
	}
	for _, src := range []string{"", " 1", "[1,x", `{"a":1,"a":2,"b"`, `"ab`} {
		if out, _, err := n.Append([]byte("x"), []byte(src), 0); string(out) != "x" || err == nil {
			t.Errorf("%s: got %s, %v", src, out, err)
		}
	}
	if _, _, err := n.Append(nil, []byte("1"), 2); err == nil {
		t.Error("accepted an offset after the end of the text")
	}
}

// After an error, the members of the unfinished objects are forgotten.
func TestAppend_after_error(t *testing.T) {
	var n Normaliser
	if _, _, err := n.Append(nil, []byte(`{"a":1,"b":{"c":1,"d":x`), 0); err == nil {
		t.Fatal("accepted invalid JSON")
	}
	if out, _, err := n.Append(nil, []byte(`{"a":2,"c":3}`), 0); string(out) != `{"a":2,"c":3}` {
		t.Error(string(out), err)
	}
	if len(n.members) != 0 {
		t.Error("members left:", n.members)
	}
}

// Value does not copy a value that is in normal form, and never changes the text.
func TestValue(t *testing.T) {
	var n Normaliser
	buf := make([]byte, 0, 100)
	for _, c := range []struct {
		src   string
		at    int
		value string
		next  int
		same  bool // part of src
	}{
		{`{"k":"é\u0065"}`, 5, `"ée"`, 15, false},
		{`{"k":{"a":[1,"é",{}],"b":{}} }`, 5, `{"a":[1,"é",{}],"b":{}}`, 29, true},
		{`[1, 2]`, 0, `[1,2]`, 6, false},
		{`{ }`, 0, `{}`, 3, false},
		{`{"a":1,"b":2,"a":3}`, 0, `{"a":3,"b":2}`, 19, false},
		{`{"a":{"b":1,"\u0062":2},"\u0061":0,"c":1,"c":2}`, 0, `{"a":0,"c":2}`, 47, false},
		{"12 ", 0, "12", 2, true},
	} {
		src := []byte(c.src)
		value, next, err := n.Value(&buf, src, c.at)
		if string(value) != c.value || next != c.next || err != nil || string(src) != c.src {
			t.Errorf("%s: got %s, %d, %v", c.src, value, next, err)
		}
		if same := &value[0] == &src[c.at]; same != c.same || !same && &value[0] != &buf[0] {
			t.Errorf("%s: the value is a part of src: %v, of buf: %v", c.src, same, &value[0] == &buf[0])
		}
		if cap(value) > len(value) && c.same {
			t.Errorf("%s: appending to the value would overwrite the text", c.src)
		}
	}
	if value, at, err := n.Value(&buf, []byte(`[1,x`), 0); value != nil || at != 0 || err == nil {
		t.Errorf("got %s, %d, %v", value, at, err)
	}
}

func TestSkipSpace(t *testing.T) {
	for _, c := range []struct {
		src      string
		at, next int
	}{{"", 0, 0}, {" \t\r\n1", 0, 4}, {"1 ", 0, 0}, {"1 ", 1, 2}, {"\v", 0, 0}, {"\f", 0, 0}, {"\x00", 0, 0}, {"\u00a0", 0, 0}, {"ab", 2, 2}} {
		if got := SkipSpace([]byte(c.src), c.at); got != c.next {
			t.Errorf("%q at %d: %d, want %d", c.src, c.at, got, c.next)
		}
	}
}

// Many characters, and every byte at each of the eight positions in a machine
// word.
func TestText_every_character(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r < 0x3000 || r&0xfff < 2 || r&0xfff == 0xfff {
			checkText(t, string(r))
		}
	}
	for b := range 256 {
		for before := range 9 {
			text := strings.Repeat("a", before) + string([]byte{byte(b)})
			checkText(t, text)
			checkText(t, text+"\"\\bcdefgh")
		}
	}
}

func checkText(t *testing.T, text string) {
	t.Helper()
	want := quoted(text) // range also yields one U+FFFD for each invalid byte
	if got := AppendText([]byte("x"), text); string(got) != "x"+want {
		t.Fatalf("%q: %s, want %s", text, got, want)
	}
	if got := AppendText([]byte("x"), []byte(text)); string(got) != "x"+want {
		t.Fatalf("bytes %q: %s, want %s", text, got, want)
	}
	if size := textSize([]byte(text)); size != len(want) {
		t.Fatalf("%q: textSize is %d, want %d", text, size, len(want))
	}
	checkNormal(t, []byte(want))
	end := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r >= utf8.RuneSelf })
	if got := plainEnd([]byte(text), 0); got != end && (end >= 0 || got != len(text)) {
		t.Fatalf("%q: plainEnd is %d, want %d", text, got, end)
	}
	plain := IsPlain([]byte(text))
	if plain != (end < 0) {
		t.Fatalf("%q: IsPlain is %v", text, plain)
	}
	if plain {
		if got := AppendPlain([]byte("x"), []byte(text)); string(got) != "x"+want {
			t.Fatalf("%q as plain text: %s, want %s", text, got, want)
		}
	}
}

// Text is for strings, but must not panic on any other bytes.
func TestText_not_a_string(t *testing.T) {
	for _, v := range []string{``, `"`, `null`, `1`, `{}`, `["a"]`, `"a`, `"\"`, `"\u00`, `"a"b"`, `"\q"`, `"a" `} {
		if text, ok := Value(v).Text(); ok {
			t.Errorf("%s: %q", v, text)
		}
	}
}

// The product in serde_json does not decrease when the digits increase. So if the
// largest accepted number of each length is finite there, all are. The bounds are
// exact: if the last digit of one were larger, serde_json would reject some numbers.
func TestNumber_bounds(t *testing.T) {
	largest := func(bound string, count int) string {
		digits := bound + strings.Repeat("9", 60)
		return fmt.Sprintf("%s.%se308", digits[:1], digits[1:count])
	}
	for count := 2; count <= 60; count++ {
		bound := boundShort
		if count > 18 {
			bound = boundLong
		}
		if text := largest(bound, count); serdeRejects([]byte(text)) != "" {
			t.Errorf("%s: within the bound, but serde_json rejects it", text)
		} else if _, ok := check(t, []byte(text)); !ok {
			t.Errorf("%s: rejected", text)
		}
	}
	for _, text := range []string{"1.7976931348623158e308", "1.7976931348623156999e308", "1.797693134862315699e308"} {
		if serdeRejects([]byte(text)) == "" {
			t.Errorf("%s: above the bound, but serde_json accepts it", text)
		}
	}
}

// The same number is accepted or rejected in every notation: with a point, with
// zeros, with an exponent.
func TestNumber_forms(t *testing.T) {
	for _, digits := range []string{"1", "9", "17", "18", "1797", "1798", boundShort, boundLong, "17976931348623156", "17976931348623158", boundShort + "00", boundLong + "99999"} {
		for _, zeros := range []int{0, 1, 200, 310, 400} {
			for point := range len(digits) {
				for power := 305; power <= 311; power++ {
					whole, fraction := digits[:point], digits[point:]
					for _, form := range []string{
						fmt.Sprintf("-%s%se%d", digits, strings.Repeat("0", zeros), power-len(digits)-zeros),
						fmt.Sprintf("0.%s%sE+%d", strings.Repeat("0", zeros), digits, power+zeros),
						fmt.Sprintf("%s.%s%se%d", whole+"0", fraction, strings.Repeat("0", zeros), power-point-1),
						fmt.Sprintf("%s%s.0", digits, strings.Repeat("0", max(0, power-len(digits)))),
					} {
						if form[0] != '0' || form[1] == '.' {
							check(t, []byte(form))
						}
					}
				}
			}
		}
	}
}
