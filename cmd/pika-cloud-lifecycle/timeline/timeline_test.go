package timeline

import (
	"bufio"
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

func TestNothingIsCutInHalf(t *testing.T) {
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
	if got := wrap("日", 1); !slices.Equal(got, []string{"日"}) {
		t.Errorf("%q where nothing fits", got)
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

func TestSpanTakesSevenColumns(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ms", 999 * time.Millisecond: "999ms", 1001 * time.Millisecond: "1.001s", 59900 * time.Millisecond: "59.9s",
		time.Hour - 1: "59m59s", 25*time.Hour - 1: "1d00h", 23*time.Hour + 59*time.Minute: "23h59m", -90 * time.Second: "-1m30s",
		9999 * 24 * time.Hour: "9999d00h",
	} {
		if got := Span(d); got != want || d < 1000*time.Hour && len(got) > 7 {
			t.Errorf("%v: %q, want %q", d, got, want)
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

// However long what stands before it, the offset stays in sight, and at its column.
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

func TestColoursEndWhereTheyShould(t *testing.T) {
	var out strings.Builder
	text := Text{To: bufio.NewWriter(&out), Colour: true, Width: 80}
	text.Now(&Now{Status: &artifact.Status{State: "failed", Message: strictjson.Value(`"m"`)}})
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

// A scale begins at the boot where that is near, has no more than a few lines, and
// keeps to the chart.
func TestScales(t *testing.T) {
	for _, c := range []struct {
		first, last time.Duration
		start       time.Duration
		step        time.Duration
	}{
		{2 * time.Second, 11 * time.Second, 0, 2 * time.Second},
		{2 * time.Millisecond, 4 * time.Millisecond, 0, time.Millisecond},
		{time.Hour, time.Hour + time.Minute, time.Hour, 10 * time.Second},
		{40 * 24 * time.Hour, 90 * 24 * time.Hour, 0, 10 * 24 * time.Hour},
		{time.Second, time.Second, 0, 200 * time.Millisecond},
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

// What takes so long that nothing else would be seen is drawn short; all else keeps its
// proportions, and no line of the grid stands in what is short.
func TestLongStretchesAreDrawnShort(t *testing.T) {
	var b boot
	for _, at := range []time.Duration{2, 3, 5, 9, 3600, 3604, 3605} {
		b.moments = append(b.moments, moment{kind: "completed", at: at * time.Second})
	}
	s := newScale(&b)
	if want := []stretch{{9 * time.Second, 3600 * time.Second}}; !slices.Equal(s.breaks, want) {
		t.Fatalf("drawn short: %v", s.breaks)
	}
	second := s.x(3*time.Second) - s.x(2*time.Second)
	for from, to := range map[time.Duration]time.Duration{5: 9, 0: 2, 3600: 3604} {
		if got := (s.x(to*time.Second) - s.x(from*time.Second)) / float64(to-from); got < second*.999 || got > second*1.001 {
			t.Errorf("a second from %d on takes %v, not %v", from, got, second)
		}
	}
	if short := s.x(3600*time.Second) - s.x(9*time.Second); short < 3*second || short > 10*second {
		t.Errorf("what is short takes %v, a second %v", short, second)
	}
	ticks := s.ticks()
	if want := []time.Duration{0, 2, 4, 6, 8, 3600, 3602, 3604}; len(ticks) != len(want) {
		t.Errorf("lines at %v", ticks)
	}
	for i := range ticks[1:] {
		if ticks[i] >= ticks[i+1] || ticks[i] > 9*time.Second && ticks[i] < time.Hour {
			t.Errorf("lines at %v", ticks)
		}
	}
	even := boot{moments: []moment{{kind: "booted", at: 2 * time.Second}, {kind: "ready", at: 3 * time.Second}, {kind: "completed", at: 25 * time.Second}}}
	if s := newScale(&even); s.breaks != nil {
		t.Errorf("drawn short where all can be seen: %v", s.breaks)
	}
	for range 100 { // and not more than a few
		b.moments = append(b.moments, moment{kind: "completed", at: b.moments[len(b.moments)-1].at * 10 / 9 * 8})
	}
	slices.SortFunc(b.moments, func(a, b moment) int { return int(a.at - b.at) })
	if s = newScale(&b); len(s.breaks) > maxBreaks {
		t.Errorf("%d are drawn short", len(s.breaks))
	}
}

func TestTicks(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 10 * time.Second: "10s", 1500 * time.Millisecond: "1.5s", time.Minute: "1m",
		90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m", 48 * time.Hour: "2d", 10 * time.Minute: "10m"} {
		if got := tick(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
