package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// The fuzz targets of this file read valid artifacts with extreme values. The input of a
// target is a seed, from which the values are chosen, and the times of the first two
// events. It has no byte strings, because the fuzzer spends up to a minute on making each
// new one shorter.

// oneOf returns one of the values, chosen by r.
func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// An extremeEvent has the values of one line of the log.
type extremeEvent struct {
	kind   string
	time   time.Time
	boot   string // empty if the line has none
	uptime int64  // in milliseconds; 0 if the line has none, or one of more than 34 years
	seq    uint64
}

// An extremeGuest has the artifacts of a guest.
type extremeGuest struct {
	*rand.Rand
	first []int64 // times of the first events, in milliseconds from 1970 on
	text  string  // of any characters

	log    []byte
	events []extremeEvent
	status []byte // nil if there is none
	state  string // of the status
	result []byte // nil if there is none
}

var states = func() (all []string) {
	for _, s := range artifact.States() {
		all = append(all, string(s))
	}
	return all
}()

const mostUptime = 1 << 40 // milliseconds; a longer uptime counts as missing

// The values that are chosen most often. Others are random.
var (
	extremeTimes = []string{"", "", "", "2026-03-25T20:00:00.123Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z",
		"0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-23:59", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.9999Z",
		"1677-09-21T00:12:43.145224192Z", "2262-04-11T23:47:16.854775807Z", "0001-01-01T00:00:00Z", "2024-02-29T23:59:59.999+00:00"}
	extremeUptimes = []string{"", "", "any", "any", "any", "1", "999", "4200", "59999", "3600000", "86399999", strconv.Itoa(mostUptime), strconv.Itoa(mostUptime + 1),
		"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", strings.Repeat("9", 300)}
	extremeBoots = []string{"88059f83-9637-4953-a507-8aac6f3477ee", "", "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11", "x", "\x1b]0;\u202e<&>\x00", strings.Repeat("日", 45)}
	extremeTexts = []string{"", "guest booted", "two words", "\x1b[31m\x07\r\n\t\u0085\u009b2J\x7f", "\u202eright\u2066to\u2069left\u200f",
		strings.Repeat("日本語", 9), "e" + strings.Repeat("\u0301", 70), strings.Repeat("👩\u200d", 20) + "🔬", "]]></title><script>&lt;&amp;--><![CDATA[",
		"\ufffe\uffff\U0001ffff\ufffd\u2028\u2029\ufeff\u200b", strings.Repeat("\u200b", 50), strings.Repeat("a", 120), strings.Repeat("one two ", 15),
		"12:00:00.000  +1.000s  1.000s  ready  forged"}
	extremeDetails = []string{"", "", `{"port":8080,"tags":["é","👩‍🔬"]}`, strings.Repeat("[", 64) + strings.Repeat("]", 64),
		strings.Repeat(`{"a":`, 63) + "{}" + strings.Repeat("}", 63), "1e308", "-0", "true", `""`, "[]", "{}", "1" + strings.Repeat("0", 300),
		`{"":"","\u0000":"\u001b[2J","a b":{"c":[null]}}`}
)

// The first and the last time that a timestamp in UTC can have.
var (
	startOfTime = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	endOfTime   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() - 1
)

// newExtremeGuest makes a guest from an input.
func newExtremeGuest(seed uint64, first, second int64) *extremeGuest {
	g := &extremeGuest{Rand: rand.New(rand.NewPCG(seed, 0)), first: []int64{first, second}}
	for range g.IntN(30) {
		g.text += string(rune(g.IntN(1 << g.IntN(21)))) // a surrogate is U+FFFD
	}
	if g.IntN(2) == 0 {
		g.addStatus()
	}
	if g.IntN(2) == 0 {
		g.addResult()
	}
	for range g.IntN(5) { // more events have not found more problems
		g.addEvent()
	}
	return g
}

func (g *extremeGuest) addEvent() {
	e := extremeEvent{kind: oneOf(g.Rand, states...), seq: 1}
	if n := len(g.events); n > 0 && g.IntN(4) > 0 {
		e.boot = g.events[n-1].boot
	} else {
		e.boot = g.bootID()
	}
	when := g.time(&e.time)
	uptime := oneOf(g.Rand, extremeUptimes...)
	if uptime == "any" {
		uptime = strconv.FormatInt(1+g.Int64N(1<<g.IntN(40)), 10)
	}
	if ms, err := strconv.ParseInt(uptime, 10, 64); err == nil && ms <= mostUptime {
		e.uptime = ms
	}
	if n := len(g.events); n > 0 {
		e.seq = g.events[n-1].seq + 1
	}
	if g.IntN(8) == 0 || e.seq == 0 {
		e.seq = oneOf[uint64](g.Rand, 1, 2, 1<<63-1, 1<<63, 1<<64-2, 1<<64-1, 1<<53+1, 1+g.Uint64N(1000))
	}
	line := fmt.Appendf(nil, `{"schema_version":1,"kind":%q,"timestamp":%q,"message":%s`, e.kind, when, g.message())
	line = g.optional(line, "boot_id", jsonText(e.boot))
	line = g.optional(line, "details", g.details())
	line = g.optional(line, "uptime_ms", uptime)
	line = g.optional(line, "transition", oneOf(g.Rand, "", "", "false", "true"))
	g.log = fmt.Appendf(append(g.log, line...), `,"seq":%d}`+"\n", e.seq)
	g.events = append(g.events, e)
}

func (g *extremeGuest) addStatus() {
	g.state = oneOf(g.Rand, states...)
	g.status = fmt.Appendf(nil, `{"schema_version":1,"state":%q,"updated_at":%q,"message":%s`, g.state, g.time(nil), g.message())
	g.status = g.optional(g.status, "boot_id", jsonText(g.bootID()))
	g.status = g.optional(g.status, "details", g.details())
	count := func() string { return oneOf(g.Rand, "", "1", "9223372036854775808", "18446744073709551615") }
	g.status = g.optional(g.status, "seq", count())
	g.status = append(g.optional(g.status, "rejected", count()), "}\n"...)
}

func (g *extremeGuest) addResult() {
	g.result = fmt.Appendf(nil, `{"schema_version":1,"status":%q`, oneOf(g.Rand, "completed", "failed"))
	g.result = g.optional(g.result, "exit_code", oneOf(g.Rand, "", "0", "-2147483648", "2147483647", "-1"))
	g.result = fmt.Appendf(g.result, `,"finished_at":%q,"message":%s`, g.time(nil), g.message())
	g.result = g.optional(g.result, "details", g.details())
	g.result = g.optional(g.result, "boot_id", jsonText(g.bootID()))
	g.result = append(g.optional(g.result, "seq", oneOf(g.Rand, "", "1", "18446744073709551615")), "}\n"...)
}

// optional appends a member that has a value.
func (g *extremeGuest) optional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return fmt.Appendf(dst, `,"%s":%s`, name, value)
}

// jsonText returns a text as a JSON string; "" if it is empty.
func jsonText(text string) string {
	if text == "" {
		return ""
	}
	return string(strictjson.AppendText(nil, text))
}

const millis = "2006-01-02T15:04:05.000Z07:00"

// time returns a timestamp, and sets *when to it if when is not nil.
func (g *extremeGuest) time(when *time.Time) string {
	text := oneOf(g.Rand, extremeTimes...)
	n := len(g.events)
	if when != nil && n < len(g.first) {
		at := startOfTime + int64(uint64(g.first[n]-startOfTime)%uint64(endOfTime-startOfTime+1))
		text = time.UnixMilli(at).UTC().Format(millis)
	} else if text == "" && n > 0 { // not long after the previous event
		at := g.events[n-1].time.UnixMilli() + g.Int64N(1<<g.IntN(40))
		text = time.UnixMilli(max(startOfTime, min(at, endOfTime))).UTC().Format(millis)
	} else if text == "" {
		text = time.UnixMilli(startOfTime + g.Int64N(endOfTime-startOfTime)).UTC().Format(millis)
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	if when != nil {
		*when = t
	}
	return text
}

func (g *extremeGuest) bootID() string { return oneOf(g.Rand, append(extremeBoots, g.text)...) }

// message returns a JSON string.
func (g *extremeGuest) message() string {
	return string(strictjson.AppendText(nil, oneOf(g.Rand, append(extremeTexts, g.text)...)))
}

// details returns any JSON value, or "".
func (g *extremeGuest) details() string {
	text := string(strictjson.AppendText(nil, g.text))
	return oneOf(g.Rand, append(extremeDetails, text, "{"+text+":"+text+"}", "["+text+"]")...)
}

// write writes the artifacts to a directory, and removes those of other guests.
func (g *extremeGuest) write(t *testing.T, dir string) {
	t.Helper()
	for name, text := range map[string][]byte{writer.StatusName: g.status, writer.ResultName: g.result, writer.EventsName: g.log} {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, text, 0o644)
		if err == nil && text == nil && name != writer.EventsName { // a directory without any file is an error
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (g *extremeGuest) size() int { return len(g.log) + len(g.status) + len(g.result) }

// checkPrintable checks that a text has no characters that control a terminal.
func checkPrintable(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Fatalf("not UTF-8: %q", text)
	}
	for _, r := range text {
		if r < ' ' && r != '\n' || 0x7f <= r && r < 0xa0 || 0x2028 <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0xfffe || r == 0xffff {
			t.Fatalf("%U is not escaped: %q", r, text)
		}
	}
}

// checkSpan checks that a text is a number of milliseconds, cut to its last digit.
func checkSpan(t *testing.T, what, text string, ms int64) {
	t.Helper()
	const (
		minute = 60_000
		hour   = 60 * minute
		day    = 24 * hour
		year   = 146097 * day / 400
	)
	units := map[string]int64{"ms": 1, "s": 1000, "m": minute, "h": hour, "d": day, "y": year}
	length, negative := strings.CutPrefix(text, "-")
	if negative {
		ms = -ms
	}
	from, unit := int64(0), int64(0) // the milliseconds in text, and the unit of its last digit
	for rest := length; rest != ""; {
		number := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789."))]
		name := rest[len(number) : len(rest)-len(strings.TrimLeft(rest[len(number):], "msdhy"))]
		whole, fraction, _ := strings.Cut(number, ".")
		n, err := strconv.ParseInt(whole+fraction, 10, 64)
		if err != nil || units[name] == 0 {
			t.Fatalf("%s is %q; want %d ms", what, text, ms)
		}
		unit = units[name]
		for range fraction {
			unit /= 10
		}
		from, rest = from+n*unit, rest[len(number)+len(name):]
	}
	if ms < from || ms >= from+unit || negative && ms == 0 || len(length) > 7 {
		t.Fatalf("%s is %q; want %d ms", what, text, ms)
	}
}

// step returns the milliseconds between two events.
func step(a, b *extremeEvent) int64 {
	if a.uptime > 0 && b.uptime > 0 && a.boot == b.boot {
		return b.uptime - a.uptime
	}
	return b.time.UnixMilli() - a.time.UnixMilli()
}

// A row has the columns of the line of an event.
type row struct{ time, step, uptime, kind string }

// rowColumns returns which columns a terminal of a width has between time and state,
// and whether the message follows the state.
func rowColumns(width int) (step, uptime, message bool) {
	return width == 0 || width >= 35, width == 0 || width >= 44, width == 0 || width >= 60
}

// rowOf returns the columns of a line, and whether it is the line of an event.
func rowOf(line string, width int) (r row, ok bool) {
	if len(line) < 12 || line[2] != ':' || line[5] != ':' || line[8] != '.' {
		return r, false
	}
	r.time, line = line[:12], line[12:]
	cell := func(size int) (text string) {
		size = min(size, len(line))
		text, line = strings.Trim(line[:size], " "), line[size:]
		return text
	}
	step, uptime, message := rowColumns(width)
	if step {
		r.step = cell(9)
	}
	if uptime {
		r.uptime = cell(9)
	}
	ok = strings.HasPrefix(line, "  ")
	r.kind = cell(14)
	if message {
		return r, ok && strings.HasPrefix(line, " ")
	}
	return r, ok && line == ""
}

// isContinuation reports whether a line is a heading, or continues the line above it.
func isContinuation(line string, width int) bool {
	indent := 45
	if _, _, message := rowColumns(width); !message {
		indent = 4
	}
	return strings.Trim(line, " ") == "" || strings.HasPrefix(line, strings.Repeat(" ", indent)) || strings.Contains(line[:min(len(line), 20)], " UTC, ")
}

// checkRows checks that a text has a row for each event, in their order.
func checkRows(t *testing.T, g *extremeGuest, text string, width int) {
	t.Helper()
	const narrowest = 12 + 14 // time and state
	hasStep, hasUptime, _ := rowColumns(width)
	next := 0
	for _, line := range strings.Split(text, "\n") {
		if columns := timeline.Columns(line); width > 0 && columns > max(width, narrowest) {
			t.Fatalf("a line has %d columns; the terminal has %d: %q", columns, width, line)
		}
		r, ok := rowOf(line, width)
		if !ok {
			if width != 1 && next > 0 && !isContinuation(line, width) {
				t.Fatalf("neither a row nor a heading: %q", line)
			}
			continue
		}
		if next == len(g.events) {
			t.Fatalf("more rows than events: %q", line)
		}
		e := &g.events[next]
		if r.time != e.time.UTC().Format("15:04:05.000") || r.kind != e.kind || (r.step == "") != (next == 0 || !hasStep) || (r.uptime == "") != (e.uptime == 0 || !hasUptime) {
			t.Fatalf("row %d is %q; want %+v", next, line, e)
		}
		if r.step != "" {
			ms := step(&g.events[next-1], e)
			length, plus := strings.CutPrefix(r.step, "+")
			if plus != (ms >= 0) {
				t.Fatalf("row %d is %q; want %d ms", next, line, ms)
			}
			checkSpan(t, "a step", length, ms)
		}
		if r.uptime != "" {
			checkSpan(t, "an uptime", r.uptime, e.uptime)
		}
		if width > 0 && len(line) > 300*max(width, narrowest) {
			t.Fatalf("row %d has %d bytes", next, len(line))
		}
		next++
	}
	if next != len(g.events) {
		t.Fatalf("%d rows for %d events:\n%s", next, len(g.events), text)
	}
}

// extremeSeeds adds inputs to a target.
func extremeSeeds(f *testing.F) {
	now := time.Date(2026, 3, 25, 20, 0, 0, 0, time.UTC).UnixMilli()
	for seed := range uint64(30) {
		f.Add(seed, now, now+1000)
	}
	f.Add(uint64(166), now, startOfTime) // booted, then ready 2026 years earlier
	f.Add(uint64(166), startOfTime, endOfTime)
	f.Add(uint64(166), endOfTime, startOfTime)
}

func FuzzShow(f *testing.F) {
	dir := f.TempDir()
	extremeSeeds(f)
	f.Fuzz(func(t *testing.T, seed uint64, first, second int64) {
		g := newExtremeGuest(seed, first, second)
		g.write(t, dir)
		width := oneOf(g.Rand, 0, 80, 1, 52, 200, 26, 40)
		shown, code := environment{"COLUMNS": strconv.Itoa(width)}.run("show", "--utc", "--state-dir", dir)
		if code != exitOK || len(shown) > 10_000+100*g.size() {
			t.Fatalf("exit %d; %d bytes of output for files of %d bytes:\n%s", code, len(shown), g.size(), shown)
		}
		checkPrintable(t, shown)
		checkRows(t, g, shown, width)

		if g.IntN(4) > 0 {
			return
		}
		shown, code = environment{}.run("show", "--format", "json", dir)
		if code != exitOK {
			t.Fatalf("exit %d: %s", code, shown)
		}
		var seqs []uint64
		for line := range strings.Lines(shown) {
			var object struct {
				Event *struct{ Seq uint64 }
				Error string
			}
			if err := json.Unmarshal([]byte(line), &object); err != nil || object.Error != "" {
				t.Fatalf("%v: %q", err, line)
			}
			if object.Event != nil {
				seqs = append(seqs, object.Event.Seq)
			}
		}
		if !slices.EqualFunc(seqs, g.events, func(seq uint64, e extremeEvent) bool { return seq == e.seq }) {
			t.Fatalf("seqs %d; want those of %+v", seqs, g.events)
		}
	})
}

// lastBoot returns how long the last boot lasted, in milliseconds, and how many events
// it has.
func (g *extremeGuest) lastBoot() (ms int64, n int) {
	first := len(g.events) - 1
	for first > 0 && g.events[first-1].boot == g.events[first].boot {
		first--
	}
	boot := g.events[first:]
	anchor := boot[max(0, slices.IndexFunc(boot, func(e extremeEvent) bool { return e.uptime > 0 }))]
	var all []int64
	for _, e := range boot {
		if e.uptime > 0 {
			anchor = e
		}
		all = append(all, anchor.uptime+e.time.UnixMilli()-anchor.time.UnixMilli())
	}
	return slices.Max(all) - slices.Min(all), len(boot)
}

var lastsFor = regexp.MustCompile(`(\d+) events? in (\S+)( · by the wall clock: no uptime is known)?$`)

func FuzzPlot(f *testing.F) {
	dir := f.TempDir()
	extremeSeeds(f)
	f.Fuzz(func(t *testing.T, seed uint64, first, second int64) {
		g := newExtremeGuest(seed, first, second)
		g.write(t, dir)
		picture, code := environment{}.run("plot", dir)
		if len(g.events) == 0 {
			if code != exitFailed || picture != "" {
				t.Fatalf("exit %d without events: %q", code, picture)
			}
			return
		}
		if code != exitOK || len(picture) > 100_000+10_000*len(g.events) {
			t.Fatalf("exit %d; %d bytes for %d events", code, len(picture), len(g.events))
		}
		checkPrintable(t, picture)
		about := checkPicture(t, picture)
		if !strings.HasPrefix(about[0], fmt.Sprintf("%d event", len(g.events))) {
			t.Fatalf("%q; want %d events", about[0], len(g.events))
		}
		ms, n := g.lastBoot()
		m := lastsFor.FindStringSubmatch(about[len(about)-1])
		if m == nil || m[1] != strconv.Itoa(n) {
			t.Fatalf("%q; want %d events", about, n)
		}
		checkSpan(t, "a boot", m[2], ms)
	})
}

// checkPicture checks that a picture is XML, has only the elements that plot draws, that
// boxes and texts are on the page, and bars in order. It returns the subtitles: of the
// picture, and of each boot.
func checkPicture(t *testing.T, picture string) (about []string) {
	t.Helper()
	elements := []string{"svg", "title", "style", "defs", "linearGradient", "stop", "rect", "text", "path", "g"}
	left := -1.0 // of the last bar in a lane
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return about
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, picture)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !slices.Contains(elements, start.Name.Local) {
			t.Fatalf("unexpected element %s", start.Name.Local)
		}
		class, x := "", -1.0
		for _, a := range start.Attr {
			switch name := a.Name.Local; name {
			case "class":
				class = a.Value
			case "x", "y", "width", "height":
				n, err := strconv.ParseFloat(a.Value, 64)
				if err != nil || !(n >= 0) || name == "x" && n > 1200 || name == "width" && n > 1200 {
					t.Fatalf("%s of a %s is %q", name, start.Name.Local, a.Value)
				}
				if name == "x" {
					x = n
				}
			case "d":
				if strings.Trim(a.Value, " MVHlmz-.0123456789") != "" {
					t.Fatalf("unexpected path %q", a.Value)
				}
			}
		}
		switch {
		case class == "lane":
			left = -1
		case class == "bar" && x < left:
			t.Fatalf("a bar at %v after one at %v", x, left)
		case class == "bar":
			left = x
		case class == "sub":
			var sub string
			if err := d.DecodeElement(&sub, &start); err != nil {
				t.Fatal(err)
			}
			about = append(about, sub)
		}
	}
}

func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	extremeSeeds(f)
	f.Fuzz(func(t *testing.T, seed uint64, first, second int64) {
		g := newExtremeGuest(seed, first, second)
		g.write(t, dir)
		shown, code := environment{}.run("verify", "--state-dir", dir)
		if code != exitOK && code != exitFailed || len(shown) > 10_000+400*len(g.events) {
			t.Fatalf("exit %d: %q", code, shown)
		}
		checkPrintable(t, shown)
		shown, code = environment{}.run("verify", "--format", "json", "--state-dir", dir)
		var report struct {
			Valid    bool
			Events   int
			FirstSeq uint64 `json:"first_seq"`
			LastSeq  uint64 `json:"last_seq"`
			State    string
			Findings []struct {
				File, What string
				Line       int
			}
		}
		if err := json.Unmarshal([]byte(shown), &report); err != nil || report.Valid != (code == exitOK) || report.Valid != (len(report.Findings) == 0) {
			t.Fatalf("exit %d, %v: %q", code, err, shown)
		}
		if report.Events != len(g.events) || report.State != g.state {
			t.Fatalf("want %d events; verify prints %q", len(g.events), shown)
		}
		if n := len(g.events); n > 0 && (report.FirstSeq != g.events[0].seq || report.LastSeq != g.events[n-1].seq) {
			t.Fatalf("want the seqs of %+v; verify prints %q", g.events, shown)
		}
		var lines []int
		for _, finding := range report.Findings {
			if finding.File == writer.EventsName && finding.Line > 0 {
				lines = append(lines, finding.Line)
			}
		}
		if want := g.outOfOrder(); !slices.Equal(lines, want) {
			t.Fatalf("findings on lines %d; want %d: %q", lines, want, shown)
		}
	})
}

// outOfOrder returns the lines with a wrong seq, or with a boot that continues after another.
func (g *extremeGuest) outOfOrder() (lines []int) {
	seen, boot := make(map[string]bool), ""
	for i, e := range g.events {
		if i > 0 && e.seq-g.events[i-1].seq != 1 {
			lines = append(lines, i+1)
		}
		if e.boot != "" && e.boot != boot {
			if seen[e.boot] {
				lines = append(lines, i+1)
			}
			seen[e.boot], boot = true, e.boot
		}
	}
	return lines
}

func FuzzWait(f *testing.F) {
	dir := f.TempDir()
	extremeSeeds(f)
	f.Fuzz(func(t *testing.T, seed uint64, first, second int64) {
		g := newExtremeGuest(seed, first, second)
		g.write(t, dir)
		want := oneOf(g.Rand, states...)
		if g.IntN(2) == 0 && g.status != nil {
			want = g.state
		}
		wait := func(format string) (string, int) { // without a watch for changes, which the kernel needs 10 ms to end
			current, err := history.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			w := waiter{states: []artifact.State{artifact.State(want)}}
			done, err := w.decide(&observation{files: current})
			var out strings.Builder
			(&app{stdout: &out}).printStatus(current, format)
			switch {
			case !done:
				return out.String(), exitTimeout
			case err != nil:
				return out.String(), exitFailed
			}
			return out.String(), exitOK
		}
		shown, code := wait("text")
		checkPrintable(t, shown)
		_, isEnd := artifact.State(want).Outcome()
		switch {
		case g.status == nil:
			if code != exitTimeout || shown != "" {
				t.Fatalf("exit %d without a status: %q", code, shown)
			}
			return
		case want == g.state && !isEnd && code != exitOK,
			isEnd && g.result == nil && code != exitTimeout:
			t.Fatalf("exit %d for %s: %q", code, want, shown)
		case !strings.HasPrefix(shown, g.state+": ") || strings.Count(shown, "\n") != 1:
			t.Fatalf("wait prints %q for %s", shown, g.status)
		}
		shown, again := wait("json")
		var status, wanted any
		if err := json.Unmarshal([]byte(shown), &status); err != nil || again != code {
			t.Fatalf("exit %d, then %d, %v: %q", code, again, err, shown)
		}
		if err := json.Unmarshal(g.status, &wanted); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(status) != fmt.Sprint(wanted) {
			t.Fatalf("wait prints %q for %q", shown, g.status)
		}
	})
}

// 100,000 events at one time make a small picture, and a row of text for each.
func TestViews_many_events_at_one_time(t *testing.T) {
	const n = 100_000
	var g extremeGuest
	for i := range n {
		e := extremeEvent{kind: states[i%10], time: time.Date(2026, 3, 25, 20, 0, 0, 0, time.UTC), boot: "x", uptime: 1000, seq: uint64(i + 1)}
		g.events = append(g.events, e)
		g.log = fmt.Appendf(g.log, `{"schema_version":1,"kind":%q,"timestamp":"2026-03-25T20:00:00Z","message":"m","boot_id":"x","uptime_ms":1000,"seq":%d}`+"\n", e.kind, e.seq)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, writer.EventsName), g.log, 0o644); err != nil {
		t.Fatal(err)
	}
	text, code := environment{"COLUMNS": "80"}.run("show", "--utc", dir)
	if code != exitOK {
		t.Errorf("show exits %d", code)
	}
	checkRows(t, &g, text, 80)
	picture, code := environment{}.run("plot", dir)
	checkPicture(t, picture)
	if code != exitOK || len(picture) > 10_000 || !strings.Contains(picture, "10000 × ready, from 1.000s to 1.000s") {
		t.Errorf("plot exits %d, %d bytes", code, len(picture))
	}
}
