package timeline

import (
	"bufio"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

func TestColumns(t *testing.T) {
	for text, want := range map[string]int{"": 0, "plain": 5, "日本": 4, "e\u0301": 1, "👩\u200d🔬": 2, "ｱ": 1, "한글": 4, "⚠\ufe0f": 2, "é": 1} {
		if got := Columns(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

func TestCut_wide_characters(t *testing.T) {
	const text = "a日本語e\u0301👩\u200d🔬z"
	for columns, want := range map[int]string{0: "…", 1: "…", 2: "a…", 3: "a…", 4: "a日…", 8: "a日本語…", 9: "a日本語e\u0301…", 10: "a日本語e\u0301…", 11: text} {
		if got := cut(text, columns); got != want {
			t.Errorf("%d columns: %q, want %q", columns, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"":                   {""},
		"one two three":      {"one two", "three"},
		"one  two threefour": {"one  two", "threefou", "r"},
		"日本語日本語":             {"日本語日", "本語"},
		"12345678 x":         {"12345678", "x"},
	} {
		if got := wrap(text, 8); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// The message of a failure may be as long as a line of the log. It would take
	// minutes if wrap measured the rest of the text for each line.
	if got := wrap(strings.Repeat("é", 1<<20), 8); len(got) != 1<<17 || got[len(got)-1] != strings.Repeat("é", 8) {
		t.Errorf("a long text takes %d lines", len(got))
	}
	if got := wrap("日", 1); !slices.Equal(got, []string{"日"}) {
		t.Errorf("%q; want one line although it does not fit", got)
	}
}

// Text that is cut to a number of columns has a limited number of bytes, even if most of
// its characters have no width.
func TestPrintable_zero_width_characters(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"marks":                {"e" + strings.Repeat("\u0301", 30), "e" + strings.Repeat("\u0301", 30)},
		"more marks":           {"xe" + strings.Repeat("\u0301", 300) + "日", "xe" + strings.Repeat(`\u0301`, 300) + "日"},
		"four joined people":   {"👨🏽\u200d👩🏽\u200d👧🏽\u200d👦🏽", "👨🏽\u200d👩🏽\u200d👧🏽\u200d👦🏽"},
		"thirty joined people": {strings.Repeat("👨\u200d", 30), strings.Repeat(`\U0001f468\u200d`, 30)},
	} {
		if got := Printable(c.text); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for name, text := range map[string]string{"marks": "\u0301", "joiners": "\u2060", "no letters": "\u200b", "tags": "\U000e0041", "jamos": "\u1161", "prepended": "\u0600"} {
		if got := cut(Printable("x"+strings.Repeat(text, 100_000)), 20); len(got) > 20*2*maxRun || Columns(got) > 20 {
			t.Errorf("%s: %d bytes in %d columns", name, len(got), Columns(got))
		}
	}
}

func TestPad(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{{"日", 4, "日  "}, {"日", -4, "  日"}, {"long", 2, "long"}} {
		if got := pad(c.text, c.columns); got != c.want {
			t.Errorf("%q to %d: %q", c.text, c.columns, got)
		}
	}
}

func TestSpan_text(t *testing.T) {
	date := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	for s, want := range map[Span]string{
		0: "0ms", 999 * millisecond: "999ms", 1001 * millisecond: "1.001s", 59900 * millisecond: "59.9s",
		hour - 1: "59m59s", 25*hour - 1: "1d00h", 23*hour + 59*minute: "23h59m", -90 * second: "-1m30s", -999: "0ms", -millisecond: "-1ms",
		999*day + 23*hour: "999d23h", 1000 * day: "2.7y", -1000 * day: "-2.7y", 10*year - 1: "9.9y", 1000*year - 1: "999.9y", 1000 * year: "1000y",
		Between(date(2026), date(0)): "-2026y", Between(date(0), date(9999)): "9999y",
		Between(date(0), date(10000).Add(-time.Millisecond)): "9999y", Between(date(0), date(10000)): "10000y", Between(date(10000), date(0)): "-10000y",
		Between(date(1601), date(2001)): "400.0y",
		math.MaxInt64:                   "292277y", math.MinInt64: "-292277y",
	} {
		if got := s.String(); got != want || len(strings.TrimPrefix(got, "-")) > 7 {
			t.Errorf("%d: %q, want %q", int64(s), got, want)
		}
	}
}

func TestFold(t *testing.T) {
	for details, want := range map[string]string{
		"": "", `{}`: "", `[1,"a"]`: `[1,"a"]`, `"x"`: `"x"`,
		`{"a":"b","c":1,"d":"two words","e":"","f":{"g":[1]},"h i":"x=y","j":null}`: `a=b c=1 d="two words" e="" f={"g":[1]} "h i"="x=y" j=null`,
		`{"a":"\u001b[31m"}`: `a="\u001b[31m"`,
	} {
		if got := Fold(strictjson.Value(details)); got != want {
			t.Errorf("%s: %s, want %s", details, got, want)
		}
	}
}

// The window contains the offset, at the column that Window returns, however long the
// text before it is.
func TestWindow(t *testing.T) {
	long := strings.Repeat("日", 100)
	for _, c := range []struct {
		text string
		at   int
	}{{"STATE=redy x", 6}, {"STATE=redy", 10}, {long + "HERE" + long, len(long)}, {"HERE" + long, 0}, {long + "HERE", len(long)}, {long, len(long)}} {
		window, column := Window(c.text, c.at, 30)
		if Columns(window) > 31 || column > 30 {
			t.Errorf("%q: %q of %d columns, mark at %d", c.text, window, Columns(window), column)
		}
		before, after := window, ""
		for g := uniseg.NewGraphemes(window); g.Next() && column > 0; column -= g.Width() {
			_, to := g.Positions()
			before, after = window[:to], window[to:]
		}
		if c.at == 0 {
			before, after = "", window
		}
		if !strings.HasSuffix(c.text[:c.at], strings.TrimPrefix(before, "…")) || !strings.HasPrefix(c.text[c.at:], strings.TrimSuffix(after, "…")) {
			t.Errorf("%q: %q before the mark, %q after it", c.text, before, after)
		}
	}
}

func TestText_colours(t *testing.T) {
	var out strings.Builder
	text := Text{To: bufio.NewWriter(&out), Colour: true, Width: 80}
	text.Current(&Current{Status: &artifact.Status{State: "failed", Message: strictjson.Value(`"m"`)}})
	text.Event(&artifact.Event{Kind: "ready", Message: strictjson.Value(`"m"`), Details: strictjson.Value(`{"a":1}`)})
	if err := text.Flush(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if on, off := strings.Count(line, "\x1b["), strings.Count(line, "\x1b[m"); on != 2*off || !strings.Contains(line, "\x1b") && strings.Contains(line, "ready") {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(out.String(), "\x1b[1;31mfailed\x1b[m since") || !strings.Contains(out.String(), "\x1b[32mready       \x1b[m m") {
		t.Errorf("%q", out.String())
	}
}

// A scale begins at the boot if that is near, has few lines, and stays within the chart.
func TestScale(t *testing.T) {
	for _, c := range []struct {
		first, last Span
		start       Span
		step        Span
	}{
		{2 * second, 11 * second, 0, 2 * second},
		{2 * millisecond, 4 * millisecond, 0, millisecond},
		{hour, hour + minute, hour, 10 * second},
		{40 * 24 * hour, 90 * 24 * hour, 0, 10 * 24 * hour},
		{second, second, 0, 200 * millisecond},
	} {
		b := boot{moments: []moment{{kind: "booted", at: c.first}, {kind: "completed", at: c.last}}}
		s := newScale(&b)
		if s.start != c.start || s.step() != c.step {
			t.Errorf("%v to %v: starts at %v, a line each %v", c.first, c.last, s.start, s.step())
		}
		if x := s.x(c.last); x < s.x(c.first) || x > chartRight-10 {
			t.Errorf("%v to %v: ends at %v", c.first, c.last, x)
		}
	}
}

// A stretch that would make everything else invisible is drawn short. Everything else
// keeps its proportions, and the stretch has no lines of the grid.
func TestScale_long_stretches(t *testing.T) {
	var b boot
	for _, at := range []Span{2, 3, 5, 9, 3600, 3604, 3605} {
		b.moments = append(b.moments, moment{kind: "completed", at: at * second})
	}
	s := newScale(&b)
	if want := []stretch{{9 * second, 3600 * second}}; !slices.Equal(s.breaks, want) {
		t.Fatalf("drawn short: %v", s.breaks)
	}
	width := s.x(3*second) - s.x(2*second)
	for from, to := range map[Span]Span{5: 9, 0: 2, 3600: 3604} {
		if got := (s.x(to*second) - s.x(from*second)) / float64(to-from); got < width*.999 || got > width*1.001 {
			t.Errorf("a second from %d on takes %v, not %v", from, got, width)
		}
	}
	if short := s.x(3600*second) - s.x(9*second); short < 3*width || short > 10*width {
		t.Errorf("the short stretch takes %v, a second %v", short, width)
	}
	ticks := s.ticks()
	if want := []Span{0, 2, 4, 6, 8, 3600, 3602, 3604}; len(ticks) != len(want) {
		t.Errorf("lines at %v", ticks)
	}
	for i := range ticks[1:] {
		if ticks[i] >= ticks[i+1] || ticks[i] > 9*second && ticks[i] < hour {
			t.Errorf("lines at %v", ticks)
		}
	}
	even := boot{moments: []moment{{kind: "booted", at: 2 * second}, {kind: "ready", at: 3 * second}, {kind: "completed", at: 25 * second}}}
	if s := newScale(&even); s.breaks != nil {
		t.Errorf("drawn short without need: %v", s.breaks)
	}
	for range 100 { // only a few stretches are drawn short
		b.moments = append(b.moments, moment{kind: "completed", at: b.moments[len(b.moments)-1].at * 10 / 9 * 8})
	}
	slices.SortFunc(b.moments, func(a, b moment) int { return int(a.at - b.at) })
	if s = newScale(&b); len(s.breaks) > maxBreaks {
		t.Errorf("%d are drawn short", len(s.breaks))
	}
}

func TestTick(t *testing.T) {
	for d, want := range map[Span]string{0: "0s", 10 * second: "10s", 1500 * millisecond: "1.5s", minute: "1m",
		90 * second: "1m30s", hour: "1h", 90 * minute: "1h30m", 25*hour + 30*minute: "25h30m", 90_000*hour + 5*second: "90000h5s", 4_000_000 * day: "4000000d", hour + 1500*millisecond: "1h1.5s", 48 * hour: "2d", 10 * minute: "10m"} {
		if got := tick(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
