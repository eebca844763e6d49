package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
)

// The guest that is looked at: two boots, the first of which failed.
const lookDir = "../../testdata/look"

// A looker runs the program in this process, as a person would with this environment.
type looker map[string]string

// run returns what a command writes to standard output and its exit code.
func (l looker) run(args ...string) (stdout string, code int) {
	var out bytes.Buffer
	a := app{stdout: &out, stderr: io.Discard, getenv: func(name string) string { return l[name] },
		clock:  func() ingest.Moment { return ingest.Moment{Time: time.Date(2026, 3, 26, 1, 0, 5, 0, time.UTC)} },
		bootID: func() string { return "88059f83-9637-4953-a507-8aac6f3477ee" }}
	code = a.main(args)
	return out.String(), code
}

// golden holds text against a file of testdata, or writes it with -u.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(lookDir, name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; -u writes it:\n%s", name, text)
	}
}

func TestShow_widths(t *testing.T) {
	for _, columns := range []string{"80", "200"} {
		text, code := looker{"COLUMNS": columns}.run("show", "--utc", "--state-dir", lookDir+"/guest")
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		golden(t, "show-"+columns+".txt", text)
	}
	whole, _ := looker{}.run("show", "--utc", lookDir+"/guest")
	golden(t, "show-whole.txt", whole)
}

func TestShow_copied_files(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	for from, to := range map[string]string{"events.jsonl": "a", "status.json": "b", "result.json": "c"} {
		text, err := os.ReadFile(filepath.Join(lookDir, "guest", from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, filepath.Join(dir, to))
	}
	want, _ := looker{}.run("show", "--utc", lookDir+"/guest")
	if got, code := (looker{}).run(append([]string{"show", "--utc"}, copies...)...); got != want || code != 0 {
		t.Errorf("exit %d\n%s\nwant\n%s", code, got, want)
	}
}

func TestShow_earlier_boot(t *testing.T) {
	for boot, want := range map[string]string{"88059f83-9637-4953-a507-8aac6f3477ee": "completed since 2026-03-26 01:00:00 UTC, for 5.000s\n",
		"other": "completed since 2026-03-26 01:00:00 UTC, in an earlier boot\n"} {
		var out bytes.Buffer
		a := app{stdout: &out, stderr: io.Discard, getenv: func(string) string { return "" }, bootID: func() string { return boot },
			clock: func() ingest.Moment { return ingest.Moment{Time: time.Date(2026, 3, 26, 1, 0, 5, 0, time.UTC)} }}
		if code := a.main([]string{"show", "--utc", "--state-dir", lookDir + "/guest"}); code != 0 || !strings.HasPrefix(out.String(), want) {
			t.Errorf("exit %d, %s", code, out.String())
		}
	}
}

func TestShow_local_time(t *testing.T) {
	zone := time.Local
	defer func() { time.Local = zone }()
	time.Local = time.FixedZone("HERE", 3600)
	if text, _ := (looker{}).run("show", lookDir+"/guest"); !strings.HasPrefix(text, "completed since 2026-03-26 02:00:00 HERE") ||
		!strings.Contains(text, "\n2026-03-25 HERE, boot") || !strings.Contains(text, "\n21:00:00.123 ") {
		t.Error(text)
	}
	if text, _ := (looker{}).run("show", "--utc", lookDir+"/guest"); !strings.HasPrefix(text, "completed since 2026-03-26 01:00:00 UTC") {
		t.Error(text)
	}
}

// manyEvents writes a log of so many events.
func manyEvents(t *testing.T, n int) (path string) {
	t.Helper()
	var log strings.Builder
	kinds := []string{"booted", "starting", "ready", "starting", "unreachable", "ready"}
	for i := range n {
		kind := kinds[i%len(kinds)]
		if i%701 == 700 {
			kind = "failed"
		}
		fmt.Fprintf(&log, `{"schema_version":1,"kind":"%s","timestamp":"%s","message":"step %d of <%d> & \"more\" 日本語",`+
			`"boot_id":"%08d-0000-4000-8000-000000000000","details":{"n":%d},"uptime_ms":%d,"seq":%d}`+"\n",
			kind, time.Date(2026, 3, 25, 20, 0, i, 0, time.UTC).Format("2006-01-02T15:04:05.000Z"), i, n, i*3/n, i, 2000+i%1000*(i%37+10), i+1)
	}
	path = filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wildEvents writes a log whose times are as far apart as they can be, and whose texts
// are as hostile.
func wildEvents(t *testing.T) (path string) {
	t.Helper()
	var log strings.Builder
	for i, when := range []string{"9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "2026-03-25T20:00:00Z", "0000-01-01T00:00:00Z"} {
		for _, uptime := range []string{"", `"uptime_ms":1,`, `"uptime_ms":18446744073709551615,`, `"uptime_ms":1099511627776,`} {
			fmt.Fprintf(&log, `{"schema_version":1,"kind":"%s","timestamp":"%s","message":"]]>\u0000\ufffe</title><script>&lt;%s","boot_id":"<%d>",%s"details":{"</g>":"--"},"seq":1}`+"\n",
				[]string{"ready", "failed"}[i%2], when, strings.Repeat("日W", 100), i/2, uptime)
		}
	}
	path = filepath.Join(t.TempDir(), "wild<&>.jsonl")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// plotted returns the pictures that are looked at, by name.
func plotted(t *testing.T) map[string]string {
	t.Helper()
	three := filepath.Join(lookDir, "three.jsonl")
	all := make(map[string]string)
	for name, path := range map[string]string{"guest": lookDir + "/guest", "three": three, "many": manyEvents(t, 3000), "python": filepath.Join(lookDir, "python.jsonl"), "wild": wildEvents(t)} {
		text, code := looker{}.run("plot", path)
		if code != 0 {
			t.Fatalf("%s: exit %d", name, code)
		}
		all[name] = strings.ReplaceAll(text, path, name)
	}
	return all
}

func TestPlot_self_contained_XML(t *testing.T) {
	for name, text := range plotted(t) {
		var titles []string
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			start, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			switch start.Name.Local {
			case "script", "image", "foreignObject", "use", "a", "link":
				t.Errorf("%s has a %s", name, start.Name.Local)
			case "title":
				var title string
				if err := d.DecodeElement(&title, &start); err != nil {
					t.Fatal(err)
				}
				titles = append(titles, title)
			}
		}
		if without := strings.Replace(text, "http://www.w3.org/2000/svg", "", 1); strings.Contains(without, "http") || strings.Contains(without, "@import") {
			t.Errorf("%s refers to something outside", name)
		}
		if len(titles) < 3 {
			t.Errorf("%s has the titles %q", name, titles)
		}
		if name == "guest" && !strings.Contains(strings.Join(titles, "\n"), "failed at 20m21s, 2026-03-26T00:20:14.018Z\nservice exited with 3: panic: \\u001b[31mindex out of range") {
			t.Errorf("titles %q", titles)
		}
		if most := 400_000; len(text) > most {
			t.Errorf("%s has %d bytes; expected %d at most", name, len(text), most)
		}
	}
	golden(t, "plot.svg", plotted(t)["guest"])
}

func TestPlot_wall_clock_set(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(lookDir, "three.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	bent := filepath.Join(t.TempDir(), "bent.jsonl")
	if err := os.WriteFile(bent, bytes.Replace(text, []byte("T20:00:01.007Z"), []byte("T23:59:59.007Z"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	straight, _ := looker{}.run("plot", filepath.Join(lookDir, "three.jsonl"))
	after, _ := looker{}.run("plot", bent)
	rects := func(svg string) (all []string) {
		for line := range strings.Lines(svg) {
			if strings.HasPrefix(line, "<rect") || strings.HasPrefix(line, "<path") {
				all = append(all, line)
			}
		}
		return all
	}
	if got, want := rects(after), rects(straight); strings.Join(got, "") != strings.Join(want, "") || len(want) < 5 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// An endless log is shown as it comes: nothing waits for its end.
func TestShow_endless_log(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		for seq := 1; err == nil; seq++ {
			_, err = fmt.Fprintf(f, `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00Z","message":"m","seq":%d}`+"\n", seq)
		}
		written <- err
	}()
	from, to := io.Pipe()
	shown := make(chan int, 1)
	go func() {
		a := app{stdout: to, stderr: io.Discard, getenv: func(string) string { return "" }}
		shown <- a.main([]string{"show", "--utc", fifo})
	}()
	lines := bufio.NewScanner(from)
	for n := range 5000 {
		if !lines.Scan() {
			t.Fatalf("only %d lines are shown", n)
		}
	}
	from.CloseWithError(errors.New("gone"))
	if code := <-shown; code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if err := <-written; !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
}
