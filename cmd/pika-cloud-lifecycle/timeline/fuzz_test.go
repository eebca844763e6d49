package timeline

import (
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzPrintable prints any text in any width.
func FuzzPrintable(f *testing.F) {
	for _, text := range []string{"", "one two  three", "日本語", "e" + strings.Repeat("\u0301", 900), strings.Repeat("👩\u200d", 40), "\x1b[31m\u202e\u2066\u009b\xff\ufffe\r\n",
		strings.Repeat("\u200b", 200), "\u0600\u0600a", "🇩🇪🇫🇷", "\u1100\u1161\u1161", "⸻", "\u0915\u094d\u0915", strings.Repeat("\U000e0041", 60)} {
		f.Add(text, uint8(1))
		f.Add(text, uint8(8))
		f.Add(text, uint8(80))
	}
	f.Fuzz(func(t *testing.T, text string, width uint8) {
		text = text[:min(len(text), 2000)]
		shown := Printable(text)
		if !utf8.ValidString(shown) || len(shown) > 10*len(text) {
			t.Fatalf("%q is shown as %q", text, shown)
		}
		for _, r := range shown {
			if r < ' ' || 0x7f <= r && r < 0xa0 || 0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0xfffe || r == 0xffff {
				t.Fatalf("%q is shown with %U", text, r)
			}
		}
		columns := int(width)
		head := cut(shown, columns)
		if n := Columns(head); n > max(columns, 1) || len(head) > (columns+2)*2*maxRun {
			t.Fatalf("%q is cut to %q, of %d columns and %d bytes", shown, head, n, len(head))
		}
		if before, whole := strings.CutSuffix(head, "…"); head != shown && (!whole || !strings.HasPrefix(shown, before)) {
			t.Fatalf("%q is cut to %q", shown, head)
		}
		columns = max(columns, 8)
		lines := wrap(shown, columns)
		for _, line := range lines {
			if Columns(line) > columns {
				t.Fatalf("%q has %d columns of %d", line, Columns(line), columns)
			}
		}
		if joined := strings.Join(lines, ""); strings.ReplaceAll(joined, " ", "") != strings.ReplaceAll(shown, " ", "") {
			t.Fatalf("%q is wrapped to %q", shown, lines)
		}
	})
}

// FuzzSpan compares spans with those of big numbers.
func FuzzSpan(f *testing.F) {
	start, end := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()
	for _, at := range []int64{0, 1, 999, 1000, 9999, 59999, 3599999, 86399999, 86400000, 86400000*1000 - 1, 31556952000*1000 - 1, start, end} {
		f.Add(start, at)
		f.Add(at, end)
		f.Add(end, at)
		f.Add(int64(0), at)
	}
	f.Fuzz(func(t *testing.T, from, to int64) {
		most := end - start + 1
		from, to = start+((from-start)%most+most)%most, start+((to-start)%most+most)%most
		got := Between(time.UnixMilli(from), time.UnixMilli(to))
		ms := new(big.Int).Sub(big.NewInt(to), big.NewInt(from))
		if want := new(big.Int).Mul(ms, big.NewInt(1000)); want.Cmp(big.NewInt(int64(got))) != 0 {
			t.Fatalf("from %d to %d: %d, want %d", from, to, got, want)
		}
		text := got.String()
		if got < 0 != (text[0] == '-') || strings.TrimPrefix(text, "-") != strings.TrimPrefix((-got).String(), "-") || len(strings.TrimPrefix(text, "-")) > 7 {
			t.Fatalf("%d is %q, and negative %q", got, text, -got)
		}
		b := boot{moments: []moment{{kind: "booted", time: time.UnixMilli(from)}, {kind: "ready", uptime: second, time: time.UnixMilli(to)},
			{kind: "ready", uptime: 3 * second, time: time.UnixMilli(to)}, {kind: "completed", time: time.UnixMilli(from)}}}
		b.place()
		s := newScale(&b)
		last := float64(chartLeft)
		for _, m := range append(b.moments, moment{at: s.end}) {
			x := s.x(m.at)
			if !(x >= last-.01 && x < chartRight+.01) {
				t.Fatalf("from %d to %d: %v is drawn at %v, after %v", from, to, m.at, x, last)
			}
			last = x
		}
		ticks := s.ticks()
		if len(ticks) == 0 || len(ticks) > 20 {
			t.Fatalf("from %d to %d: lines at %v", from, to, ticks)
		}
	})
}
