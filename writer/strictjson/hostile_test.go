package strictjson

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

const mebibyte = 1 << 20

// fill returns a list of the elements 0, 1, 2, … that has about the given size in
// bytes.
func fill(size int, opening, closing string, element func(i int) string) string {
	var b strings.Builder
	b.WriteString(opening)
	for i := 0; ; i++ {
		next := element(i)
		if b.Len()+len(next)+len(closing) >= size {
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(next)
	}
	return b.String() + closing
}

// members returns count members of an object, whose names repeat after names
// members.
func members(count, names int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `"%d":%d,`, i%names, i)
	}
	return b.String()
}

// wrapped puts inner into nested objects. Each has the same members before and
// after the inner object, so all their names occur twice.
func wrapped(levels int, members, inner string) string {
	for range levels {
		inner = "{" + members + `"in":0,"in":` + inner + "," + members + `"z":1}`
	}
	return inner
}

func hostileTexts(size int) map[string]string {
	fill := func(opening, closing string, element func(i int) string) string {
		return fill(size, opening, closing, element)
	}
	one := func(s string) func(int) string { return func(int) string { return s } }
	long := strings.Repeat("k", 1000)
	return map[string]string{
		"one name":             fill("{", "}", one(`"a":1`)),
		"empty name":           fill("{", "}", one(`"":1`)),
		"bad name":             fill("{", "}", one("\"\xff\":1")),
		"distinct rising":      fill("{", "}", func(i int) string { return fmt.Sprintf(`"%06d":1`, i) }),
		"distinct falling":     fill("{", "}", func(i int) string { return fmt.Sprintf(`"%06d":1`, 999999-i) }),
		"distinct scattered":   fill("{", "}", func(i int) string { return fmt.Sprintf(`"%x":1`, uint32(i)*2654435761) }),
		"distinct zigzag":      fill("{", "}", func(i int) string { return fmt.Sprintf(`"%d":1`, i*(i%2*2-1)) }),
		"pairs":                fill("{", "}", func(i int) string { return fmt.Sprintf(`"%d":1`, i%50000) }),
		"long prefix":          fill("{", "}", func(i int) string { return fmt.Sprintf(`"%s%06d":1`, long, i) }),
		"long prefix, twice":   fill("{", "}", func(i int) string { return fmt.Sprintf(`"%s%06d":1`, long, i/2) }),
		"16 long names":        fill("[", "]", func(i int) string { return `{"` + strings.Repeat(long, 4) + `":1,"` + strings.Repeat(long, 4) + `":2}` }),
		"big value in the way": `{"a":0,"b":"` + strings.Repeat("x", size/2) + `"` + strings.Repeat(`,"a":1`, size/12) + "}",
		"objects of 17":        fill("[", "]", one("{"+members(17, 17)+`"16":""}`)),
		"a copy a level":       wrapped(64, members(size/1100, size/2200), `""`),
		"a big copy a level":   wrapped(63, members(18, 9), fill("{", "}", one(`"b":1`))),
		"scratch at each":      wrapped(64, members(size/800, size/800), `""`),
		"arrays":               fill("[", "]", one(nested(63))),
		"open brackets":        strings.Repeat("[", size),
		"open braces":          strings.Repeat(`{"":`, size/4),
		"bad bytes":            `"` + strings.Repeat("\xff", size-2) + `"`,
		"cut characters":       `"` + strings.Repeat("\xf0\x9f\x98", size/3) + `"`,
		"NUL":                  `"` + strings.Repeat(`\u0000`, size/6) + `"`,
		"lone surrogates":      `"` + strings.Repeat(`\ud800`, size/6) + `"`,
		"no closing quote":     `"` + strings.Repeat("a", size),
		"white space":          strings.Repeat(" ", size),
		"digits":               strings.Repeat("9", size),
		"fraction":             "0." + strings.Repeat("0", size) + "1",
		"long fraction":        "0." + strings.Repeat("123456789", size/9),
		"exponent":             "1e" + strings.Repeat("9", size),
		"falling exponent":     "1e-" + strings.Repeat("9", size),
		"exponent of zeros":    "1e" + strings.Repeat("0", size),
		"far and back":         "1" + strings.Repeat("0", size/2) + fmt.Sprintf("e-%d", size/2),
		"small and back":       "0." + strings.Repeat("0", size/2) + fmt.Sprintf("1e%d", size/2+1),
		"powers":               fill("[", "]", one("1e308")),
		"edges":                fill("[", "]", one("1.7976931348623157e308")),
		"400 digits":           strings.Repeat("1234567890", 40),
	}
}

var hostileRejected = []string{
	"open brackets", "open braces", "no closing quote", "white space", "digits", "exponent",
	"falling exponent", "exponent of zeros", "far and back", "small and back", "400 digits",
}

// A quadratic algorithm takes a minute for 1 MiB, and a linear one a few hundredths
// of a second. The limit is far from both, to allow for slow machines and the race
// detector.
func TestNormalise_hostile(t *testing.T) {
	for name, text := range hostileTexts(mebibyte) {
		t.Run(name, func(t *testing.T) {
			var n Normaliser
			start := time.Now()
			out, err := n.Normalise(nil, []byte(text))
			took := time.Since(start)
			held := cap(n.members)*int(unsafe.Sizeof(member{})) + cap(out)
			t.Logf("%d bytes to %d in %v, %d KiB held, error %v", len(text), len(out), took, held>>10, err)
			if took > 3*time.Second || held > 16*mebibyte {
				t.Errorf("took %v, holds %d bytes", took, held)
			}
			if (err != nil) != slices.Contains(hostileRejected, name) {
				t.Error(err)
			}
		})
	}
	for _, text := range hostileTexts(mebibyte / 32) {
		check(t, []byte(text))
	}
}

// A Normaliser that is used again does not allocate, neither for common texts nor
// for texts that need slow code.
func TestNormalise_allocations(t *testing.T) {
	for _, text := range []string{
		`{"step": "boot", "elapsed_ms": 1234.5, "host": "worker-17.example"}`,
		`{"a": {"b": [1, true, null, {"c": -0}]}, "a": "\u00e9\ud83d\ude00\n` + "é\xff" + `"}`,
		`[1.7976931348623157e308, 1e-999, ` + strings.Repeat("1", 308) + `]`,
		fill(mebibyte, "{", "}", func(i int) string { return fmt.Sprintf(`"%x":1`, uint32(i)*2654435761) }),
	} {
		var n Normaliser
		src, dst := []byte(text), []byte(nil)
		if got := testing.AllocsPerRun(10, func() {
			var err error
			if dst, err = n.Normalise(dst[:0], src); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%.60s: %v allocations", text, got)
		}
	}
	text, dst := strings.Repeat("text with \"quotes\"\n", 100), make([]byte, 0, 10000)
	if got := testing.AllocsPerRun(10, func() { dst = AppendText(dst[:0], text) }); got != 0 {
		t.Errorf("AppendText of a string: %v allocations", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	large := fill(mebibyte, "[", "]", func(i int) string {
		return fmt.Sprintf(`{"step": "boot", "elapsed_ms": %d, "host": "worker-%d.example", "tags": ["a", "b\n"]}`, i, i)
	})
	for _, c := range []struct{ name, text string }{
		{"string", `"guest agent is ready and takes work"`},
		{"small", `{"step":"boot","elapsed_ms":1234,"host":"worker-17.example.internal"}`},
		{"spaced", `{ "step" : "boot", "elapsed_ms" : 1234, "host" : "worker-17.example.internal" }`},
		{"escapes", `{"step":"\"\u00e9\n","path":"C:\\a\\b","wait":1.5e-3}`},
		{"utf8", `{"step":"Überprüfung läuft","host":"日本語のホスト名"}`},
		{"large", large},
		{"names", fill(mebibyte, "{", "}", func(i int) string { return fmt.Sprintf(`"%x":1`, uint32(i)*2654435761) })},
	} {
		b.Run(c.name, func(b *testing.B) {
			var n Normaliser
			src, dst := []byte(c.text), []byte(nil)
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				dst, _, _ = n.Append(dst[:0], src, 0)
			}
		})
	}
}

func BenchmarkAppendText(b *testing.B) {
	text, dst := bytes.Repeat([]byte("the guest said \"ready\" at 12:00\n"), 4), []byte(nil)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		dst = AppendText(dst[:0], text)
	}
}
