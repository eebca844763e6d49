package writer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// validLog returns the text of a log that has events with and without each optional
// field.
func validLog(t testing.TB) string {
	t.Helper()
	l := logIn(testenv.TempDir(t))
	b := new(Batch)
	for i, message := range []string{"", "plain", "é\u2028😀", "a\"\\\n\x00", strings.Repeat("long ", 9), `{"seq":9}` + "\n"} {
		e := artifact.Event{Kind: artifact.States()[i], Time: testTime, Message: quoted(message)}
		b.Add(&e)
		e.BootID, e.Uptime = "88059f83-9637-4953-a507-8aac6f3477ee", 4200*time.Millisecond
		b.Add(&e)
		e.Details = strictjson.Value(`{"port":8080,"text":"}\n{","deep":[[[{}]]]}`)
		b.Add(&e)
	}
	testenv.Must(t, tryAppend(l, b))
	text := testenv.ReadIfExists(t, l.Path)
	if records, err := load(text); err != nil || len(records) != 18 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	return text
}

// A repairCase is a log after a crash, and the expected files after its repair.
type repairCase struct {
	dir  string
	log  string // the log after the crash
	kept string // the log after the repair
	torn string // the torn line in the .torn file; "" if there is none
	next uint64 // the seq of the next event
}

// run repairs the log and appends to it, with several writers one after the other.
// It checks the files after each.
func (c *repairCase) run(t testing.TB) {
	t.Helper()
	put(t, filepath.Join(c.dir, EventsName), c.log)
	torn := c.torn
	if torn != "" {
		torn += "\n"
	}
	log := c.kept
	for i := range uint64(3) {
		l := logIn(c.dir)
		if i%2 == 0 { // only repair; the second time, that must change nothing
			testenv.Must(t, tryAppend(l, new(Batch)))
		}
		if i > 0 {
			if seq := appendTo(t, l, "after"); seq != c.next {
				t.Fatalf("seq %d, expected %d", seq, c.next)
			}
			log += testLine(c.next, "after")
			c.next++
		}
		if got := testenv.ReadIfExists(t, l.Path); got != log {
			t.Fatalf("the log:\n%.2000q\nexpected\n%.2000q", got, log)
		}
		if got := testenv.ReadIfExists(t, l.Path+".torn"); got != torn {
			t.Fatalf("the .torn file:\n%.2000q\nexpected\n%.2000q", got, torn)
		}
		l.close()
	}
}

// close closes the descriptors of a log, because these tests open many logs.
func (l *EventLog) close() {
	l.lines.close()
	l.lines.Dir.Close()
	l.seq.close()
	l.seq.Dir.Close()
}

// A crash may cut the log at any byte. The complete events stay, the torn line is
// moved to the .torn file, and the seqs continue.
func TestEventLog_cut_at_every_byte(t *testing.T) {
	valid := validLog(t)
	dir := testenv.TempDir(t)
	for cut := range len(valid) + 1 {
		text := valid[:cut]
		whole := strings.LastIndexByte(text, '\n') + 1
		c := repairCase{dir: dir, log: text, kept: text[:whole], torn: text[whole:]}
		if cut < len(valid) && whole < cut && valid[cut] == '\n' {
			c.kept, c.torn = text+"\n", "" // only the newline is missing
		}
		c.next = uint64(strings.Count(c.kept, "\n")) + 1
		if c.next == 1 {
			c.next = 19 // the log is empty, so the seq comes from the seq file
		}
		testenv.Must(t, os.RemoveAll(filepath.Join(dir, EventsName+".torn")))
		put(t, filepath.Join(dir, EventsName+".seq"), "18\n")
		c.run(t)
		if _, err := load(testenv.ReadIfExists(t, filepath.Join(dir, EventsName))); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// Text after the last newline that is not a complete event is moved to the .torn
// file unchanged.
func TestEventLog_torn_tail(t *testing.T) {
	event := strings.TrimSuffix(testLine(4, "m"), "\n")
	with := func(old, new string) string {
		if !strings.Contains(event, old) {
			t.Fatalf("%s has no %s", event, old)
		}
		return strings.Replace(event, old, new, 1)
	}
	for name, tail := range map[string]string{
		"garbage":            "garbage",
		"a NUL":              "\x00",
		"NULs":               string(make([]byte, 4096)),
		"event after NULs":   "\x00\x00" + event,
		"NULs after event":   event + "\x00\x00",
		"longer than a page": strings.Repeat("x", page+1),
		"longer than chunk":  strings.Repeat("x", chunk+1),
		"just chunk":         strings.Repeat("x", chunk),
		"nested":             strings.Repeat("[", 1e6),
		"nested objects":     strings.Repeat(`{"a":`, 1e6),
		"nested details":     with(`"seq"`, `"details":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`,"seq"`),
		"a number":           "4",
		"a string":           `"ready"`,
		"null":               "null",
		"an array":           "[" + event + "]",
		"an empty object":    "{}",
		"other object":       `{"a":1}`,
		"two events":         event + event,
		"comma":              event + ",",
		"no seq":             with(`,"seq":4`, ``),
		"no kind":            with(`"kind":"ready",`, ``),
		"no message":         with(`"message":"m",`, ``),
		"no version":         with(`"schema_version":1,`, ``),
		"no time":            with(`"timestamp":"2026-03-25T20:00:00.123Z",`, ``),
		"kind unknown":       with(`ready`, `running`),
		"kind number":        with(`"ready"`, `1`),
		"version 2":          with(`:1`, `:2`),
		"version text":       with(`:1`, `:"1"`),
		"message number":     with(`"m"`, `1`),
		"message null":       with(`"m"`, `null`),
		"boot_id number":     with(`"seq"`, `"boot_id":1,"seq"`),
		"uptime text":        with(`"seq"`, `"uptime_ms":"1","seq"`),
		"time garbage":       with(`2026-03-25T20`, `yesterday`),
		"time comma":         with(`00.123Z`, `00,123Z`),
		"time short hour":    with(`T20`, `T2`),
		"time without zone":  with(`.123Z`, ``),
		"seq twice":          with(`"seq":4`, `"seq":4,"seq":4`),
		"seq twice, escaped": with(`"seq":4`, `"seq":4,"\u0073eq":4`),
		"boot_id twice":      with(`"seq"`, `"boot_id":"a","boot_id":"a","seq"`),
		"details twice":      with(`"seq"`, `"details":1,"details":2,"seq"`),
		"uptime twice":       with(`"seq"`, `"uptime_ms":1,"uptime_ms":1,"seq"`),
		"unknown twice":      with(`"seq"`, `"x":1,"x":1,"seq"`),
		"nested twice":       with(`"seq"`, `"details":[0,{"a":1,"b":2,"a":1}],"seq"`),
		"seq 4.0":            with(`:4`, `:4.0`),
		"seq 4e0":            with(`:4`, `:4e0`),
		"seq -4":             with(`:4`, `:-4`),
		"seq text":           with(`:4`, `:"4"`),
		"seq too large":      with(`:4`, `:18446744073709551616`),
		"number too large":   with(`"seq"`, `"details":1e999,"seq"`),
		"lone surrogate":     with(`"m"`, `"\uD800"`),
		"lone low surrogate": with(`"m"`, `"\udc00"`),
		"invalid UTF-8":      with(`"m"`, "\"\xff\""),
		"encoded surrogate":  with(`"m"`, "\"\xed\xa0\x80\""),
		"mark":               "\ufeff" + event,
		"control":            with(`"m"`, "\"\x01\""),
	} {
		t.Run(name, func(t *testing.T) {
			c := repairCase{dir: testenv.TempDir(t), kept: testLines(1, 3), torn: tail, next: 4}
			c.log = c.kept + tail
			c.run(t)
		})
	}
}

// A last event without a newline is kept, also if another program has encoded it.
func TestEventLog_tail_without_newline(t *testing.T) {
	for name, tail := range map[string]string{
		"Python": `{"schema_version": 1, "kind": "ready", "timestamp": "2026-11-22T22:00:08+00:00", "message": "\u00e9", "boot_id": "88059f83", "details": {"a": [1.0, null]}, "seq": 4}`,
		"field":  `{"seq":4,"new":{"a":1},"message":"m","kind":"failed","timestamp":"2026-11-22T22:00:08Z","schema_version":1}`,
		"spaces": " \t" + strings.TrimSuffix(testLine(4, "m"), "\n") + "\r",
	} {
		t.Run(name, func(t *testing.T) {
			c := repairCase{dir: testenv.TempDir(t), kept: testLines(1, 3) + tail + "\n", next: 5}
			c.log = testLines(1, 3) + tail
			c.run(t)
			mustLoad(t, filepath.Join(c.dir, EventsName))
		})
	}
}

// Moving a torn line of 48 MiB takes little memory and loses nothing.
func TestEventLog_torn_tail_huge(t *testing.T) {
	const size = 48 << 20
	l := logIn(testenv.TempDir(t))
	put(t, l.Path, testLines(1, 3))
	testenv.Must(t, os.Truncate(l.Path, int64(len(testLines(1, 3)))+size))
	if seq := appendTo(t, l, "after"); seq != 4 {
		t.Errorf("seq %d", seq)
	}
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 3)+testLine(4, "after") {
		t.Errorf("%.2000q", got)
	}
	torn, err := os.ReadFile(l.Path + ".torn")
	testenv.Must(t, err)
	if len(torn) != size+1 || bytes.Count(torn, []byte{0}) != size || torn[size] != '\n' {
		t.Errorf("%d bytes were moved to the .torn file", len(torn))
	}
}

// A torn line longer than any event is moved without being parsed.
func TestEventLog_torn_tail_long_line(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	tail := strings.TrimSuffix(testLine(4, strings.Repeat("x", artifact.MaxSize)), "\n")
	put(t, l.Path, testLines(1, 3)+tail)
	if seq := appendTo(t, l, "after"); seq != 4 {
		t.Errorf("seq %d", seq)
	}
	if got := testenv.ReadIfExists(t, l.Path+".torn"); got != tail+"\n" {
		t.Errorf("%d bytes were moved to the .torn file, expected %d", len(got), len(tail)+1)
	}
}

// The .torn file keeps several torn lines, up to a limit, so a writer that crashes
// repeatedly does not fill a tmpfs.
func TestEventLog_torn_file_limit(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	tear := func(tail string) {
		t.Helper()
		put(t, l.Path, testLines(1, 1)+tail)
		testenv.Must(t, tryAppend(l, new(Batch)))
	}
	tear("first")
	tear("second")
	if got := testenv.ReadIfExists(t, l.Path+".torn"); got != "first\nsecond\n" {
		t.Fatalf("%q", got)
	}
	testenv.Must(t, os.Truncate(l.Path+".torn", maxTorn))
	tear("third")
	if got := len(testenv.ReadIfExists(t, l.Path+".torn")); got != maxTorn+len("third\n") {
		t.Fatalf("%d bytes", got)
	}
	tear("fourth")
	if got := testenv.ReadIfExists(t, l.Path+".torn"); got != "fourth\n" {
		t.Fatalf("%d bytes: %.40q", len(got), got)
	}
}

// A torn line of rejected.jsonl is moved away, even if only its newline is missing.
// The file does not exceed its size limit.
func TestRejectLog_torn_tail(t *testing.T) {
	reject := func(n uint64) string {
		r := artifact.Reject{Line: n, Time: testTime, Error: "expected a word", Raw: []byte("x"), Length: 1}
		return string(r.Append(nil))
	}
	whole := reject(1) + reject(2)
	for cut := range len(whole) + 1 {
		d := In(testenv.TempDir(t))
		d.Rejects.MaxBytes = 4 * int64(len(reject(1)))
		put(t, d.Rejects.Path, whole[:cut])
		kept := strings.LastIndexByte(whole[:cut], '\n') + 1
		for range 2 {
			testenv.Must(t, d.Rejects.Append([]byte(reject(3)+reject(4)+reject(5))))
		}
		lines := strings.SplitAfter(whole[:kept]+strings.Repeat(reject(3)+reject(4)+reject(5), 2), "\n")
		want := strings.Join(lines[:4], "")
		if got := testenv.ReadIfExists(t, d.Rejects.Path); got != want {
			t.Fatalf("cut at %d:\n%sexpected\n%s", cut, got, want)
		}
		if got, want := testenv.ReadIfExists(t, d.Rejects.Path+".torn"), whole[kept:cut]; strings.TrimSuffix(got, "\n") != want {
			t.Fatalf("cut at %d: %q was moved to the .torn file, expected %q", cut, got, want)
		}
	}
}

// A limit of 0 bytes turns the reject log off.
func TestRejectLog_off(t *testing.T) {
	d := In(testenv.TempDir(t))
	testenv.Must(t, d.Rejects.Append([]byte("{}\n")))
	if _, err := os.Lstat(d.Rejects.Path); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// FuzzRepair appends to a valid log that is followed by any text. The events before
// that text and all complete lines in it stay. If all complete lines were valid,
// the log is valid afterwards.
func FuzzRepair(f *testing.F) {
	event := testLine(4, "m")
	for _, tail := range []string{
		"", "{", "\x00", event, event[:len(event)-1], event[:20], "garbage\n" + event[:30], "\n", "\r", "[[[[", "{}",
		strings.Replace(event, `"m"`, `"\ud83d\ude00"`, 1), event + event[:len(event)-1],
	} {
		f.Add([]byte(tail))
	}
	valid := testLines(1, 3)
	dir := testenv.TempDir(f)
	f.Fuzz(func(t *testing.T, tail []byte) {
		if bytes.Contains(tail, []byte(fmt.Sprint(uint64(1<<64-1)))) {
			return // the largest seq: no event can follow
		}
		l := logIn(dir)
		defer l.close()
		testenv.Must(t, os.RemoveAll(l.Path+".torn"))
		put(t, l.Path, valid+string(tail))
		seq := appendTo(t, l, "after")
		got, torn := testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.Path+".torn")
		kept, found := strings.CutSuffix(got, testLine(seq, "after"))
		ended := valid + string(tail[:bytes.LastIndexByte(tail, '\n')+1])
		rest := string(tail[bytes.LastIndexByte(tail, '\n')+1:])
		switch {
		case !found:
			t.Fatalf("%q", got)
		case torn == "" && rest != "":
			if kept != ended+rest+"\n" {
				t.Fatalf("%q", got)
			}
			if _, err := readRecord(rest); err != nil {
				t.Fatalf("kept as an event: %q: %v", rest, err)
			}
		case kept != ended || rest != "" && torn != rest+"\n":
			t.Fatalf("the log is %q, and the .torn file is %q", got, torn)
		}
		if records, err := load(kept); err == nil {
			if _, err := load(got); err != nil || seq != records[len(records)-1].seq+1 {
				t.Fatalf("seq %d: %v: %q", seq, err, got)
			}
		}
	})
}
