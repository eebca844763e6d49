package directive

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// utf8Locale returns the name of a UTF-8 locale of this machine.
func utf8Locale(t *testing.T) string {
	t.Helper()
	list, _ := exec.Command("locale", "-a").Output()
	for _, name := range []string{"C.UTF-8", "C.utf8", "en_US.UTF-8", "en_US.utf8"} {
		for have := range strings.Lines(string(list)) {
			if strings.TrimSpace(have) == name {
				return name
			}
		}
	}
	testenv.Missing(t, "a UTF-8 locale; see locale -a")
	return ""
}

// runBash returns what a script prints in a locale. It fails the test if bash
// prints anything on stderr.
func runBash(t *testing.T, locale, script string, stdin []byte) []byte {
	t.Helper()
	bash := testenv.Tool(t, "bash")
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(bash, "--norc", "--noprofile", path)
	cmd.Env = []string{"LC_ALL=" + locale, "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("bash: %v\n%s", err, stderr.Bytes())
	}
	return out
}

// forEachLocale runs a test in the C locale and in a UTF-8 locale, with the same
// seed.
func forEachLocale(t *testing.T, test func(t *testing.T, locale string, rnd *rand.Rand)) {
	for _, locale := range []string{"C", utf8Locale(t)} {
		t.Run(locale, func(t *testing.T) {
			const seed = 20260325
			t.Logf("seed %d", seed)
			test(t, locale, rand.New(rand.NewPCG(seed, seed)))
		})
	}
}

// The alphabets of random values. The empty one means all bytes or runes.
var alphabets = []string{
	"",
	`'"\$` + "`" + `ab `,
	"\x01\x02\x07\x08\t\n\v\f\r\x1b\x1f\x7f a\\'",
	"\u0080\u0085\u009b\u00a0\u00ad\u200b\u2028\ufeff\ufffd\ue000\U000e0001a'\\", // C1 and what is not printable
	"\xc2\xc3\xe2\x80\x82\xac\xed\xa0\xf0\x9f\x98\xff\xfea'\\",                   // parts of UTF-8, and never UTF-8
	";|&<>()#$`!~*?[]{}=:%,^+- \tab",
	"0123456789abcdefxuUc\\'\x01\xc3",
	"\n",
}

// randomValue returns a random value without NUL, which bash cannot store.
func randomValue(rnd *rand.Rand) string {
	n := rnd.IntN(24)
	if rnd.IntN(200) == 0 {
		n = rnd.IntN(20000)
	}
	alphabet := []byte(alphabets[rnd.IntN(len(alphabets))])
	runes := rnd.IntN(2) == 0
	var b []byte
	for len(b) < n {
		switch {
		case len(alphabet) > 0 && runes:
			b = append(b, string([]rune(string(alphabet))[rnd.IntN(len([]rune(string(alphabet))))])...)
		case len(alphabet) > 0:
			b = append(b, alphabet[rnd.IntN(len(alphabet))])
		case runes:
			b = fmt.Appendf(b, "%c", 1+rnd.IntN(0x10ffff))
		default:
			b = append(b, byte(1+rnd.IntN(255)))
		}
	}
	return string(b)
}

// everyByte returns values with each byte: alone, twice, and between others.
func everyByte() (values []string) {
	values = append(values, "")
	for c := 1; c < 256; c++ {
		b := string([]byte{byte(c)})
		values = append(values, b, b+b, "a"+b+"1", " "+b, b+" ", "é"+b+"é")
	}
	return values
}

// Bash quotes any value, with %q and with @Q, on one line, and the reader returns
// the same bytes, in each locale.
func TestPairs_quoted_by_bash(t *testing.T) {
	// Bash reads the values under LC_ALL=C. In UTF-8 it treats a NUL after an
	// incomplete character as part of the character, and so joins two values.
	const script = `
locale=$LC_ALL LC_ALL=C
mapfile -d '' -t values
LC_ALL=$locale
for m in "${values[@]}"; do
	printf 'STATE=failed MESSAGE=%q\n' "$m"
	printf '%s\n' "STATE=failed MESSAGE=${m@Q}"
	printf 'MESSAGE=%q DETAILS.m=%s STATE=failed\n' "$m" "${m@Q}"
done
`
	forEachLocale(t, func(t *testing.T, locale string, rnd *rand.Rand) {
		values := everyByte()
		for range 10000 {
			values = append(values, randomValue(rnd))
		}
		stdin := strings.Join(values, "\x00") + "\x00"
		lines := strings.Split(string(runBash(t, locale, script, []byte(stdin))), "\n")
		if len(lines) != 3*len(values)+1 || lines[len(lines)-1] != "" {
			t.Fatalf("%d lines for %d values, expected three for each", len(lines)-1, len(values))
		}
		for i, value := range values {
			checkLine(t, lines[3*i], "STATE=failed", "MESSAGE="+value)
			checkLine(t, lines[3*i+1], "STATE=failed", "MESSAGE="+value)
			checkLine(t, lines[3*i+2], "MESSAGE="+value, "DETAILS.m="+value, "STATE=failed")
		}
	})
}

// checkLine checks that a line has exactly these names and values.
func checkLine(t *testing.T, line string, want ...string) {
	t.Helper()
	all, r := readPairs(line)
	if r != nil {
		t.Fatalf("%q: %v", line, r)
	}
	var got []string
	for _, p := range all {
		got = append(got, string(p.name)+"="+string(p.value))
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("%q:\n%q, expected\n%q", line, got, want)
	}
}

// Bash and the reader unquote random values alike. The values have nothing that
// bash expands.
func TestPairs_same_as_bash(t *testing.T) {
	forEachLocale(t, func(t *testing.T, locale string, rnd *rand.Rand) {
		var quoted []string
		var script strings.Builder
		for range 20000 {
			q := randomQuoted(rnd, locale != "C")
			quoted = append(quoted, q)
			fmt.Fprintf(&script, "v=%s; printf '%%s\\0' \"$v\"\n", q)
		}
		values := strings.Split(string(runBash(t, locale, script.String(), nil)), "\x00")
		if len(values) != len(quoted)+1 {
			t.Fatalf("bash printed %d values of %d", len(values)-1, len(quoted))
		}
		for i, q := range quoted {
			if got := readValue(t, q); got != values[i] {
				t.Fatalf("%q: %q, but bash reads %q", q, got, values[i])
			}
		}
	})
}

// randomQuoted returns a random value in all forms of quoting. wide allows escapes
// for characters beyond ASCII, which bash leaves as text in the C locale.
func randomQuoted(rnd *rand.Rand, wide bool) string {
	var b strings.Builder
	for range rnd.IntN(6) {
		switch rnd.IntN(5) {
		case 0:
			b.WriteString(bytesBut(rnd, "\n \t'\"\\$`;|&<>()~"))
		case 1:
			b.WriteString("'" + bytesBut(rnd, "\n'") + "'")
		case 2:
			b.WriteString(`\` + oneBut(rnd, "\n"))
		case 3:
			b.WriteString(randomDouble(rnd))
		case 4:
			b.WriteString(randomANSI(rnd, wide))
		}
	}
	return b.String()
}

// marks are bytes with a meaning in the internal strings of bash. After a
// backslash inside quotes, bash 5.2 doubles or drops them, so these tests leave
// them out there.
const marks = "\x01\x7f"

func randomDouble(rnd *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('"')
	for range rnd.IntN(5) {
		b.WriteString(bytesBut(rnd, "\n\"\\$`"))
		b.WriteString(`\` + oneBut(rnd, "\n"+marks))
	}
	b.WriteByte('"')
	return b.String()
}

func randomANSI(rnd *rand.Rand, wide bool) string {
	var b strings.Builder
	b.WriteString("$'")
	for range rnd.IntN(5) {
		b.WriteString(bytesBut(rnd, "\n'\\"))
		if rnd.IntN(2) == 0 {
			b.WriteString(longEscape(rnd, wide))
		} else {
			b.WriteString(shortEscape(rnd, wide) + string("gz}. \""[rnd.IntN(6)]))
		}
	}
	if rnd.IntN(2) == 0 {
		b.WriteString(shortEscape(rnd, wide))
	}
	b.WriteByte('\'')
	return b.String()
}

// longEscape returns an escape with all the digits that it can have. Like
// shortEscape, it never returns an escape for NUL.
func longEscape(rnd *rand.Rand, wide bool) string {
	switch rnd.IntN(8) {
	case 0:
		return fmt.Sprintf(`\%03o`, 1+rnd.IntN(255)+rnd.IntN(2)<<8)
	case 1:
		return fmt.Sprintf(`\x%02X`, 1+rnd.IntN(255))
	case 2:
		return shortBraced(rnd) + "}"
	case 3:
		return fmt.Sprintf(`\u%04x`, codePoint(rnd, wide, 0xd7ff))
	case 4:
		return fmt.Sprintf(`\U%08X`, codePoint(rnd, wide, 0x10ffff))
	case 5:
		return `\c` + oneBut(rnd, "\n\\' @`\x80\xa0\xc0\xe0"+marks)
	case 6:
		return []string{`\c\\`, `\c\a`, `\c\'`}[rnd.IntN(3)]
	}
	return `\` + oneBut(rnd, "\n01234567xuUc"+marks)
}

// shortEscape returns an escape with fewer digits than it can have.
func shortEscape(rnd *rand.Rand, wide bool) string {
	switch rnd.IntN(6) {
	case 0:
		return fmt.Sprintf(`\%o`, 1+rnd.IntN(63))
	case 1:
		return fmt.Sprintf(`\x%X`, 1+rnd.IntN(15))
	case 2:
		return shortBraced(rnd)
	case 3:
		return fmt.Sprintf(`\u%X`, codePoint(rnd, wide, 0xfff))
	case 4:
		return fmt.Sprintf(`\U%x`, codePoint(rnd, wide, 0x10ffff))
	}
	return []string{`\x`, `\u`, `\U`}[rnd.IntN(3)]
}

// shortBraced returns \x{… without the closing brace.
func shortBraced(rnd *rand.Rand) string {
	return fmt.Sprintf(`\x{%x`, rnd.Uint64()>>rnd.IntN(64)<<8|uint64(1+rnd.IntN(255)))
}

// codePoint returns a random number for \u or \U: no surrogate, and only ASCII if
// wide is false.
func codePoint(rnd *rand.Rand, wide bool, max int) int {
	if !wide {
		max = 0x7f
	}
	c := 1 + rnd.IntN(max)
	if 0xd800 <= c && c <= 0xdfff {
		return 0xd7ff
	}
	return c
}

// bytesBut returns the bytes of a random value that are not in not.
func bytesBut(rnd *rand.Rand, not string) string {
	var b []byte
	for _, c := range []byte(randomValue(rnd)) {
		if strings.IndexByte(not, c) < 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

func oneBut(rnd *rand.Rand, not string) string {
	for {
		if c := string([]byte{byte(1 + rnd.IntN(255))}); !strings.Contains(not, c) {
			return c
		}
	}
}
