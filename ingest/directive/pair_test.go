package directive

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// readPairs reads all pairs of a line.
func readPairs(line string) (all []pair, r *Error) {
	w := pairReader{line: []byte(line)}
	for {
		var p pair
		ok, r := w.next(&p)
		if r != nil || !ok {
			return all, r
		}
		all = append(all, p)
	}
}

// readValue returns the value of the line A=quoted.
func readValue(t *testing.T, quoted string) string {
	t.Helper()
	all, r := readPairs("A=" + quoted)
	if r != nil {
		t.Fatalf("%q: %v", quoted, r)
	}
	if len(all) != 1 || string(all[0].name) != "A" || all[0].json {
		t.Fatalf("%q: %d pairs; expected only A=value", quoted, len(all))
	}
	return string(all[0].value)
}

func showPairs(all []pair) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%d %s json=%t %d %q\n", p.at, p.name, p.json, p.valueAt, p.value)
	}
	return b.String()
}

func TestPairs(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", ""},
		{" \t ", ""},
		{"STATE=ready", "0 STATE json=false 6 \"ready\"\n"},
		{"\t A=1 \tB:='2' ", "2 A json=false 4 \"1\"\n7 B json=true 10 \"2\"\n"},
		{"A=b\tB='c'\tD=e", "0 A json=false 2 \"b\"\n4 B json=false 6 \"c\"\n10 D json=false 12 \"e\"\n"},
		{"A= B=", "0 A json=false 2 \"\"\n3 B json=false 5 \"\"\n"},
		{"A='' B=''", "0 A json=false 2 \"\"\n5 B json=false 7 \"\"\n"},
		{"A=b=c", "0 A json=false 2 \"b=c\"\n"},
		{"A==", "0 A json=false 2 \"=\"\n"},
		{"A=:=b", "0 A json=false 2 \":=b\"\n"},
		{"A::=b", "0 A: json=true 4 \"b\"\n"},
		{"A:b=c", "0 A:b json=false 4 \"c\"\n"},
		{"DETAILS.a.b-c/ü$#=1", "0 DETAILS.a.b-c/ü$# json=false 19 \"1\"\n"},
		{`A='x y'"z w"\ v$'\tu' B=2`, "0 A json=false 2 \"x yz w v\\tu\"\n22 B json=false 24 \"2\"\n"},
	} {
		all, r := readPairs(c.line)
		if got := showPairs(all); r != nil || got != c.want {
			t.Errorf("%q: %v\n%sexpected\n%s", c.line, r, got, c.want)
		}
	}
}

func TestPairs_values(t *testing.T) {
	for _, c := range []struct{ quoted, want string }{
		// Bare bytes.
		{"a;b|c&d<e>f(g)h#i", "a;b|c&d<e>f(g)h#i"},
		{"#a", "#a"},
		{"~", "~"},
		{"!*?[a]{b,c}", "!*?[a]{b,c}"},
		{"$HOME", "$HOME"},
		{"${a}$(b)`c`", "${a}$(b)`c`"},
		{"$", "$"},
		{"a$", "a$"},
		{"$$'a'", "$a"},
		{"\xff\x85\x00\x01\x7f\r", "\xff\x85\x00\x01\x7f\r"},
		// Backslash.
		{`\a\'\"\\\$\ x`, `a'"\$ x`},
		{`\$'a\n'`, `$a\n`},
		// Single quotes.
		{`'a\n"$HOME" \'`, `a\n"$HOME" \`},
		{`'a'\''b'`, `a'b`},
		// Double quotes.
		{`"a'b c"`, `a'b c`},
		{"\"\\$\\`\\\"\\\\\"", "$`\"\\"},
		{`"\a\n\'\!"`, `\a\n\'\!`},
		{"\"$HOME `id` $(id)\"", "$HOME `id` $(id)"},
		{`"$'a'"`, `$'a'`},
		{`$"a"`, `$a`},
		// Escapes in $'…'.
		{`$''`, ""},
		{`$'"a b` + "`" + `$HOME'`, "\"a b`$HOME"},
		{`$'\a\b\e\E\f\n\r\t\v\\\'\"\?'`, "\a\b\x1b\x1b\f\n\r\t\v\\'\"?"},
		{`$'\1\12\123\1234'`, "\x01\nSS4"},
		{`$'\777\501'`, "\xffA"},
		{`$'\19'`, "\x019"},
		{`$'\x4\x41\x414\xfF\xAg'`, "\x04AA4\xff\ng"},
		{`$'\x{41}\x{4}\x{12345678941}\x{41z\x{41'`, "A\x04AAzA"},
		{`$'\u41\u20ac\u00e94\u7f\uD7fF'`, "A€é4\x7f\ud7ff"},
		{`$'\U41\U1f600\U0001F6001\U10ffff'`, "A😀😀1\U0010ffff"},
		{`$'\ud800\udfff\U110000\Uffffffff'`, "\ufffd\ufffd\ufffd\ufffd"},
		{`$'\ca\cA\c[\c1\c?\c~'`, "\x01\x01\x1b\x11\x7f\x1e"},
		{`$'\c\\a\c\a\c\'b'`, "\x1ca\x1ca\x1c'b"},
		{`$'\cé'`, "\x03\xa9"},
		{`$'\c'`, `\c`},
		{`$'\q\8\9\z\ '`, `\q\8\9\z\ `},
		{`$'\x'$'\xg\u\ug\U\Ug'`, `\x\xg\u\ug\U\Ug`},
		{"$'a\x00\\\x00b'", "a\x00\\\x00b"},
		{"$'\\x\x11\\u\x12'", "\\x\x11\\u\x12"},
	} {
		if got := readValue(t, c.quoted); got != c.want {
			t.Errorf("%s: %q, expected %q", c.quoted, got, c.want)
		}
	}
}

func TestPairs_rejected(t *testing.T) {
	const (
		noKey     = `no key before "="; write KEY=value`
		single    = `no closing ' on this line; write an apostrophe in double quotes, as in "it's"`
		ansi      = "no closing ' on this line; a value cannot continue on the next line"
		double    = `no closing " on this line; a value cannot continue on the next line`
		backslash = "a backslash at the end of the line; a directive cannot continue on the next line"
		cut       = "this escape is a NUL byte, at which bash cuts the value; remove it"
	)
	for _, c := range []struct {
		line string
		at   int
		why  string
	}{
		{"=a", 0, noKey},
		{":=a", 0, noKey},
		{"A=b :=c", 4, noKey},
		{"MESSAGE=disk \t full A=1", 15, `"full" is not KEY=value; quote a value that has spaces, as in MESSAGE='two words'`},
		{`A='b`, 2, single},
		{`A=b'`, 3, single},
		{`A='b\'`, 0, ""}, // a backslash does not count in '…'
		{`A="b`, 2, double},
		{`A="b\"`, 2, double},
		{`A="b\`, 2, double},
		{`A=$'b`, 3, ansi},
		{`A=$'b\'`, 3, ansi},
		{`A=$'\c\'`, 3, ansi},
		{`A=$'b\`, 3, ansi},
		{`A=b\`, 3, backslash},
		{`A=\\\`, 4, backslash},
		{`A=$'\0'`, 4, cut},
		{`A=$'a\n\000'`, 7, cut},
		{`A=b$'\400'`, 5, cut},
		{`A=$'\x00'`, 4, cut},
		{`A=$'\x0g'`, 4, cut},
		{`A=$'\x{}'`, 4, cut},
		{`A=$'\x{g'`, 4, cut},
		{`A=$'\x{'`, 4, cut},
		{`A=$'\x{100}'`, 4, cut},
		{`A=$'\u0000'`, 4, cut},
		{`A=$'\U0'`, 4, cut},
		{`A=$'\c@'`, 4, cut},
		{"A=$'\\c`'", 4, cut},
		{`A=$'\c '`, 4, cut},
	} {
		_, r := readPairs(c.line)
		switch {
		case c.why == "" && r != nil:
			t.Errorf("%q: %v, expected no error", c.line, r)
		case c.why != "" && (r == nil || *r != Error{c.at, c.why}):
			t.Errorf("%q: %v, expected %v", c.line, r, &Error{c.at, c.why})
		}
	}
}

// A value does not change when the buffer grows. An append to a value changes
// neither the line nor another value.
func TestPairs_buffer_grows(t *testing.T) {
	var line strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&line, "A='value %d' B=bare%d ", i, i)
	}
	w := pairReader{line: []byte(line.String())}
	var all []pair
	for {
		var p pair
		ok, r := w.next(&p)
		if r != nil {
			t.Fatal(r)
		}
		if !ok {
			break
		}
		all = append(all, p)
		_ = append(p.value, "!!!!"...)
	}
	if len(all) != 2000 {
		t.Fatalf("%d pairs; expected 2000", len(all))
	}
	for _, p := range all {
		_ = append(p.value, "!!!!"...)
	}
	for i := range 1000 {
		quoted, bare := all[2*i].value, all[2*i+1].value
		if string(quoted) != fmt.Sprintf("value %d", i) || string(bare) != fmt.Sprintf("bare%d", i) {
			t.Fatalf("pair %d: %q and %q", 2*i, quoted, bare)
		}
	}
}

func TestPairs_allocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, line := range []string{
		"STATE=ready",
		"STATE=failed MESSAGE='the guest is out of memory' EXIT_CODE=137",
		`STATE=failed MESSAGE=$'it\'s \303\251\n\u20ac' DETAILS.port:=8080`,
		`KIND=ready MESSAGE=two\ words DETAILS="{\"a\": [1, 2]}"`,
	} {
		text := []byte(line)
		n := testing.AllocsPerRun(100, func() {
			w := pairReader{line: text, buf: buf[:0]}
			for ok := true; ok; {
				ok, _ = w.next(new(pair))
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, expected none", line, n)
		}
	}
}

// requote and requoteHex quote any value, as a caller without bash does.
func requote(value []byte) string {
	return "'" + strings.ReplaceAll(string(value), "'", `'\''`) + "'"
}

func requoteHex(value []byte) string {
	var b strings.Builder
	for _, c := range value {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return "$'" + b.String() + "'"
}

func FuzzPairs(f *testing.F) {
	for _, line := range []string{
		"STATE=ready", "A=b c", ` A:='b'\''c'  B="d\"e" `, `A=$'\e\x{41}\u00e9\c\\\777\0'`, `A=$'\c\`, "A=\"b",
		"A=$'\\\xff\\c\x00\\x\x11'",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		w := pairReader{line: line}
		var all []pair
		for {
			last := w.pos
			var p pair
			ok, r := w.next(&p)
			if r != nil && (ok || r.Offset < 0 || r.Offset >= len(line)) {
				t.Fatalf("%q: ok %t with an error at %d", line, ok, r.Offset)
			}
			if !ok {
				break
			}
			if w.pos <= last || w.pos > len(line) {
				t.Fatalf("%q: cursor went from %d to %d", line, last, w.pos)
			}
			checkPair(t, line, p)
			all = append(all, p)
		}
		if again, _ := readPairs(string(line)); showPairs(again) != showPairs(all) {
			t.Fatalf("%q: read twice:\n%s%s", line, showPairs(all), showPairs(again))
		}
		if !bytes.Equal(before, line) {
			t.Fatalf("%q became %q", before, line)
		}
	})
}

// checkPair checks that a pair is at its offsets in the line, and that its value is
// read back after it is quoted.
func checkPair(t *testing.T, line []byte, p pair) {
	t.Helper()
	sep := "="
	if p.json {
		sep = ":="
	}
	head := string(p.name) + sep
	if len(p.name) == 0 || p.valueAt != p.at+len(head) || !bytes.HasPrefix(line[p.at:], []byte(head)) {
		t.Fatalf("%q: name %q at %d, value at %d", line, p.name, p.at, p.valueAt)
	}
	if got := readValue(t, requote(p.value)); got != string(p.value) {
		t.Fatalf("%q came back as %q", p.value, got)
	}
	if bytes.IndexByte(p.value, 0) >= 0 {
		return
	}
	if got := readValue(t, requoteHex(p.value)); got != string(p.value) {
		t.Fatalf("%q came back as %q", p.value, got)
	}
}
