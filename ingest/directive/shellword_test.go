package directive

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// readWords reads all words of a line.
func readWords(line string) (all []word, r *Error) {
	w := words{line: []byte(line)}
	for {
		var wd word
		ok, r := w.next(&wd)
		if r != nil || !ok {
			return all, r
		}
		all = append(all, wd)
	}
}

// readValue reads a line of one word with the name A.
func readValue(t *testing.T, quoted string) string {
	t.Helper()
	all, r := readWords("A=" + quoted)
	if r != nil {
		t.Fatalf("%q: %v", quoted, r)
	}
	if len(all) != 1 || string(all[0].name) != "A" || all[0].json {
		t.Fatalf("%q: %d words, expected A=value alone", quoted, len(all))
	}
	return string(all[0].value)
}

func showWords(all []word) string {
	var b strings.Builder
	for _, wd := range all {
		fmt.Fprintf(&b, "%d %s json=%t %d %q\n", wd.at, wd.name, wd.json, wd.valueAt, wd.value)
	}
	return b.String()
}

func TestWords(t *testing.T) {
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
		all, r := readWords(c.line)
		if got := showWords(all); r != nil || got != c.want {
			t.Errorf("%q: %v\n%sexpected\n%s", c.line, r, got, c.want)
		}
	}
}

func TestWords_values(t *testing.T) {
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

func TestWords_rejected(t *testing.T) {
	const (
		noKey  = "expected KEY=value"
		quotes = "expected KEY=value; a value with spaces needs quotes, as in KEY='two words'"
		cut    = "expected an escape other than NUL, at which bash would silently cut the value"
	)
	for _, c := range []struct {
		line string
		at   int
		why  string
	}{
		{"ready", 0, noKey},
		{"  ready now", 2, noKey},
		{"=a", 0, noKey},
		{":=a", 0, noKey},
		{"STATE =ready", 0, noKey},
		{`'STATE=ready'`, 0, noKey},
		{`"STATE"=ready`, 0, noKey},
		{`ST\ATE=ready`, 0, noKey},
		{`A='b' c`, 6, noKey},
		{`A="b" c`, 6, noKey},
		{"A=b :=c", 4, quotes},
		{"MESSAGE=disk full", 13, quotes},
		{"MESSAGE=disk \t full A=1", 15, quotes},
		{`MESSAGE='it's done'`, 14, quotes},
		{`A='b`, 2, "expected a closing '"},
		{`A=b'`, 3, "expected a closing '"},
		{`A='b\'`, 0, ""}, // a backslash does not count in '…'
		{`A="b`, 2, `expected a closing "`},
		{`A="b\"`, 2, `expected a closing "`},
		{`A="b\`, 2, `expected a closing "`},
		{`A=$'b`, 3, "expected a closing '"},
		{`A=$'b\'`, 3, "expected a closing '"},
		{`A=$'\c\'`, 3, "expected a closing '"},
		{`A=$'b\`, 3, "expected a closing '"},
		{`A=b\`, 3, "expected a character after the backslash"},
		{`A=\\\`, 4, "expected a character after the backslash"},
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
		_, r := readWords(c.line)
		switch {
		case c.why == "" && r != nil:
			t.Errorf("%q: %v, expected no error", c.line, r)
		case c.why != "" && (r == nil || *r != Error{c.at, c.why}):
			t.Errorf("%q: %v, expected %v", c.line, r, &Error{c.at, c.why})
		}
	}
}

// Growing the buffer changes no earlier value. An append to a value changes
// neither the line nor a later value.
func TestWords_buffer_grows(t *testing.T) {
	var line strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&line, "A='value %d' B=bare%d ", i, i)
	}
	w := words{line: []byte(line.String())}
	var all []word
	for {
		var wd word
		ok, r := w.next(&wd)
		if r != nil {
			t.Fatal(r)
		}
		if !ok {
			break
		}
		all = append(all, wd)
		_ = append(wd.value, "!!!!"...)
	}
	if len(all) != 2000 {
		t.Fatalf("%d words, expected 2000", len(all))
	}
	for _, wd := range all {
		_ = append(wd.value, "!!!!"...)
	}
	for i := range 1000 {
		quoted, bare := all[2*i].value, all[2*i+1].value
		if string(quoted) != fmt.Sprintf("value %d", i) || string(bare) != fmt.Sprintf("bare%d", i) {
			t.Fatalf("word %d: %q and %q", 2*i, quoted, bare)
		}
	}
}

func TestWords_allocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, line := range []string{
		"STATE=ready",
		"STATE=failed MESSAGE='the guest is out of memory' EXIT_CODE=137",
		`STATE=failed MESSAGE=$'it\'s \303\251\n\u20ac' DETAILS.port:=8080`,
		`KIND=ready MESSAGE=two\ words DETAILS="{\"a\": [1, 2]}"`,
	} {
		text := []byte(line)
		n := testing.AllocsPerRun(100, func() {
			w := words{line: text, buf: buf[:0]}
			for ok := true; ok; {
				ok, _ = w.next(new(word))
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, expected none", line, n)
		}
	}
}

// requote and requoteHex quote any value, as a caller without bash may.
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

func FuzzWords(f *testing.F) {
	for _, line := range []string{
		"STATE=ready", "A=b c", ` A:='b'\''c'  B="d\"e" `, `A=$'\e\x{41}\u00e9\c\\\777\0'`, `A=$'\c\`, "A=\"b",
		"A=$'\\\xff\\c\x00\\x\x11'",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		w := words{line: line}
		var all []word
		for {
			last := w.pos
			var wd word
			ok, r := w.next(&wd)
			if r != nil && (ok || r.Offset < 0 || r.Offset >= len(line)) {
				t.Fatalf("%q: ok %t with an error at %d", line, ok, r.Offset)
			}
			if !ok {
				break
			}
			if w.pos <= last || w.pos > len(line) {
				t.Fatalf("%q: cursor went from %d to %d", line, last, w.pos)
			}
			checkWord(t, line, wd)
			all = append(all, wd)
		}
		if again, _ := readWords(string(line)); showWords(again) != showWords(all) {
			t.Fatalf("%q: read twice:\n%s%s", line, showWords(all), showWords(again))
		}
		if !bytes.Equal(before, line) {
			t.Fatalf("%q became %q", before, line)
		}
	})
}

// checkWord checks the properties of every word that was read from a line.
func checkWord(t *testing.T, line []byte, wd word) {
	t.Helper()
	sep := "="
	if wd.json {
		sep = ":="
	}
	head := string(wd.name) + sep
	if len(wd.name) == 0 || wd.valueAt != wd.at+len(head) || !bytes.HasPrefix(line[wd.at:], []byte(head)) {
		t.Fatalf("%q: name %q at %d, value at %d", line, wd.name, wd.at, wd.valueAt)
	}
	if got := readValue(t, requote(wd.value)); got != string(wd.value) {
		t.Fatalf("%q came back as %q", wd.value, got)
	}
	if bytes.IndexByte(wd.value, 0) >= 0 {
		return
	}
	if got := readValue(t, requoteHex(wd.value)); got != string(wd.value) {
		t.Fatalf("%q came back as %q", wd.value, got)
	}
}
