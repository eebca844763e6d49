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
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/cmd/pika-cloud-lifecycle/timeline"
	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// lookDir has the guest that the tests show: it has two boots, and failed in the first.
const lookDir = "../../testdata/look"

// An environment runs the program in this process, with these environment variables.
type environment map[string]string

// run returns the standard output of a command and its exit code.
func (e environment) run(args ...string) (stdout string, code int) {
	stdout, _, code = e.runAll(args...)
	return stdout, code
}

// runAll returns the standard output and standard error of a command, and its exit code.
func (e environment) runAll(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	a := app{stdout: &out, stderr: &errs, getenv: func(name string) string { return e[name] },
		clock:  func() ingest.Moment { return ingest.Moment{Time: time.Date(2026, 3, 26, 1, 0, 5, 0, time.UTC)} },
		bootID: func() string { return "88059f83-9637-4953-a507-8aac6f3477ee" }}
	code = a.main(args)
	return out.String(), errs.String(), code
}

// golden compares text with a file of testdata/look, or writes the file with -u.
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
		t.Errorf("%s differs from this; -u writes it:\n%s", name, text)
	}
}

func TestShow_widths(t *testing.T) {
	for _, columns := range []string{"40", "59", "80", "200"} {
		text, code := environment{"COLUMNS": columns}.run("show", "--utc", "--state-dir", lookDir+"/guest")
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		golden(t, "show-"+columns+".txt", text)
	}
	whole, _ := environment{}.run("show", "--utc", lookDir+"/guest")
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
	want, _ := environment{}.run("show", "--utc", lookDir+"/guest")
	if got, code := (environment{}).run(append([]string{"show", "--utc"}, copies...)...); got != want || code != 0 {
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
	if text, _ := (environment{}).run("show", lookDir+"/guest"); !strings.HasPrefix(text, "completed since 2026-03-26 02:00:00 HERE") ||
		!strings.Contains(text, "\n2026-03-25 HERE, boot") || !strings.Contains(text, "\n21:00:00.123 ") {
		t.Error(text)
	}
	if text, _ := (environment{}).run("show", "--utc", lookDir+"/guest"); !strings.HasPrefix(text, "completed since 2026-03-26 01:00:00 UTC") {
		t.Error(text)
	}
}

// manyEvents writes a log of n events.
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

// hostileEvents writes a log whose times are as far apart as possible, and whose texts
// contain markup and control characters.
func hostileEvents(t *testing.T) (path string) {
	t.Helper()
	var log strings.Builder
	for i, when := range []string{"9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "2026-03-25T20:00:00Z", "0000-01-01T00:00:00Z"} {
		for _, uptime := range []string{"", `"uptime_ms":1,`, `"uptime_ms":18446744073709551615,`, `"uptime_ms":1099511627776,`} {
			fmt.Fprintf(&log, `{"schema_version":1,"kind":"%s","timestamp":"%s","message":"]]>\u0000\ufffe</title><script>&lt;%s","boot_id":"<%d>",%s"details":{"</g>":"--"},"seq":1}`+"\n",
				[]string{"ready", "failed"}[i%2], when, strings.Repeat("日W", 100), i/2, uptime)
		}
	}
	path = filepath.Join(t.TempDir(), "hostile<&>.jsonl")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeRun writes a state directory with events of one boot, and with a result if an event
// is completed or failed. Each event is given as "uptime kind message", with the uptime in
// milliseconds.
func writeRun(t *testing.T, exitCode int, events ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	start := time.Date(2026, 3, 25, 20, 0, 0, 0, time.UTC)
	var log strings.Builder
	for i, event := range events {
		var uptime int
		var kind string
		_, err := fmt.Sscan(event, &uptime, &kind)
		fields := strings.SplitN(event, " ", 3)
		if err != nil || len(fields) != 3 {
			t.Fatalf("%q: %v", event, err)
		}
		when := start.Add(time.Duration(uptime) * time.Millisecond).Format("2006-01-02T15:04:05.000Z")
		fmt.Fprintf(&log, `{"schema_version":1,"kind":%q,"timestamp":%q,"message":%q,"boot_id":"b","uptime_ms":%d,"seq":%d}`+"\n", kind, when, fields[2], uptime, i+1)
		if kind == "completed" || kind == "failed" {
			result := fmt.Sprintf(`{"schema_version":1,"status":%q,"exit_code":%d,"finished_at":%q,"message":%q,"boot_id":"b","seq":%d}`+"\n",
				kind, exitCode, when, fields[2], i+1)
			writeFile(t, filepath.Join(dir, "result.json"), result)
		}
	}
	writeFile(t, filepath.Join(dir, "events.jsonl"), log.String())
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shortRun returns a run of 300 ms, two hours after the boot.
func shortRun(t *testing.T) (dir string) {
	return writeRun(t, 7, "7200000 starting starting make test", "7200300 failed make: *** [test] Error 7")
}

// crowdedRun returns a run with events that are too near each other for their messages.
func crowdedRun(t *testing.T) (dir string) {
	return writeRun(t, 0, "1000 starting one", "2000 ready two", "3600000 unreachable three", "3601000 ready four",
		"3601500 unreachable five", "3602000 ready six", "7200000 completed seven")
}

// plotted returns the pictures that the tests check, by name.
func plotted(t *testing.T) map[string]string {
	t.Helper()
	three := filepath.Join(lookDir, "three.jsonl")
	all := make(map[string]string)
	for name, path := range map[string]string{"guest": lookDir + "/guest", "short": shortRun(t), "crowded": crowdedRun(t), "three": three, "many": manyEvents(t, 3000), "python": filepath.Join(lookDir, "python.jsonl"), "hostile": hostileEvents(t)} {
		text, code := environment{}.run("plot", path)
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
			t.Errorf("%s refers to another file", name)
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
	changed := filepath.Join(t.TempDir(), "changed.jsonl")
	if err := os.WriteFile(changed, bytes.Replace(text, []byte("T20:00:01.007Z"), []byte("T23:59:59.007Z"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	original, _ := environment{}.run("plot", filepath.Join(lookDir, "three.jsonl"))
	after, _ := environment{}.run("plot", changed)
	rects := func(svg string) (all []string) {
		for line := range strings.Lines(svg) {
			if strings.HasPrefix(line, "<rect") || strings.HasPrefix(line, "<path") {
				all = append(all, line)
			}
		}
		return all
	}
	if got, want := rects(after), rects(original); strings.Join(got, "") != strings.Join(want, "") || len(want) < 5 {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestShow_endless_log checks that show prints events while the log is still written.
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
			t.Fatalf("show printed only %d lines", n)
		}
	}
	from.CloseWithError(errors.New("closed"))
	if code := <-shown; code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if err := <-written; !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
}

// The picture shows the result and its exit code.
func TestPlot_result(t *testing.T) {
	for name, c := range map[string]struct{ dir, want string }{
		"failed":    {shortRun(t), ">result: failed, exit code 7, at 2026-03-25 22:00:00 UTC: make: *** [test] Error 7<"},
		"at_event":  {shortRun(t), ">exit code 7 · make: *** [test] Error 7<"},
		"completed": {crowdedRun(t), ">result: completed, exit code 0, at 2026-03-25 22:00:00 UTC: seven<"},
		"none":      {writeRun(t, 0, "1000 ready up"), ">no result<"},
	} {
		t.Run(name, func(t *testing.T) {
			if picture, code := (environment{}).run("plot", c.dir); code != exitOK || !strings.Contains(picture, c.want) {
				t.Errorf("exit %d; expected %q in\n%s", code, c.want, picture)
			}
		})
	}
	// A log that was copied without its result: nothing is known about a result.
	if picture, _ := (environment{}).run("plot", filepath.Join(shortRun(t), "events.jsonl")); strings.Contains(picture, "result:") || strings.Contains(picture, "no result") {
		t.Errorf("a result in\n%s", picture)
	}
}

// A mark replaces a message that does not fit. The head of the picture has the number of
// these messages.
func TestPlot_messages_left_out(t *testing.T) {
	picture, _ := environment{}.run("plot", crowdedRun(t))
	if marks := strings.Count(picture, `class="more"`); marks != 2 || !strings.Contains(picture, "5 messages left out at ▾; point there, or run show<") {
		t.Errorf("%d marks in\n%s", marks, picture)
	}
	for _, message := range []string{">one<", ">exit code 0 · seven<"} {
		if !strings.Contains(picture, strings.TrimPrefix(message, ">")) {
			t.Errorf("no message %q in\n%s", message, picture)
		}
	}
	if picture, _ := (environment{}).run("plot", shortRun(t)); strings.Contains(picture, "left out") || strings.Contains(picture, `class="more"`) {
		t.Errorf("a mark, although no message is left out, in\n%s", picture)
	}
}

// A short run fills the picture, and its axis begins at the first event.
func TestPlot_short_run(t *testing.T) {
	for name, c := range map[string]struct {
		dir  string
		want []string
	}{
		"300ms":  {shortRun(t), []string{">300ms · starting make test<", ">50ms<", ">since the first event, 2h00m after boot<"}},
		"single": {writeRun(t, 0, "7200000 starting up"), []string{">up<", ">0s<", ">since the first event, 2h00m after boot<"}},
	} {
		t.Run(name, func(t *testing.T) {
			picture, code := environment{}.run("plot", c.dir)
			for _, want := range c.want {
				if code != exitOK || !strings.Contains(picture, want) {
					t.Errorf("exit %d; expected %q in\n%s", code, want, picture)
				}
			}
			bar := regexp.MustCompile(`class="bar" x="[0-9.]+" y="[0-9]+" width="([0-9.]+)"`).FindStringSubmatch(picture)
			if width, _ := strconv.ParseFloat(bar[1], 64); width < 900 {
				t.Errorf("the bar is %v pixels wide; expected 900", width)
			}
		})
	}
}

// copyGuest copies the guest, and changes the copy.
func copyGuest(t *testing.T, change func(dir string) error) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "guest")
	err := os.CopyFS(dir, os.DirFS(lookDir+"/guest"))
	if err == nil {
		err = change(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// If a file cannot be read, show and plot report an error, and show everything else.
func TestViews_unreadable_file(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		stderr string
	}{
		"garbage": {func(dir string) error { return os.WriteFile(dir+"/status.json", []byte("x"), 0o644) }, "status.json is not a valid status: column 1: expected a JSON value; remove it, or wait until a writer replaces it\n"},
		"directory": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/status.json"), os.Mkdir(dir+"/status.json", 0o755))
		}, ""},
		"symlink": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/status.json"), os.Symlink("result.json", dir+"/status.json"))
		}, ""},
		"too_large": {func(dir string) error { return os.Truncate(dir+"/status.json", 1<<30) }, "status.json: the file is too large; move it to another directory\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyGuest(t, c.change)
			for _, command := range []string{"show", "plot"} {
				stdout, stderr, code := environment{}.runAll(command, dir)
				if code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, dir+"/"+c.stderr) || !strings.Contains(stderr, "status.json") {
					t.Errorf("%s: exit %d, %s", command, code, stderr)
				}
				if !strings.Contains(stdout, "listening on 8080") || !strings.Contains(stdout, "result: completed, exit code 0") {
					t.Errorf("%s does not show the log and the result:\n%s", command, stdout)
				}
				if command == "show" && !strings.HasPrefix(stdout, "status unknown, because status.json cannot be read\n") {
					t.Errorf("show prints\n%s", stdout)
				}
			}
		})
	}
}

// If a file has no events, show and plot print one line on stderr.
func TestViews_no_events(t *testing.T) {
	dir := t.TempDir()
	const noEvents = "; name a state directory, or a status.json, result.json or events.jsonl\n"
	for name, c := range map[string]struct{ text, want string }{
		"passwd": {strings.Repeat("root:x:0:0:root:/root:/bin/bash\n", 30), " holds no events (line 1 is not an event: column 1: expected a JSON value)" + noEvents},
		"empty":  {"", " holds no events, because it is empty" + noEvents},
		"binary": {"\x7fELF\x00\x01", " holds no events (line 1 is incomplete after 6 bytes: " + interrupted + ")" + noEvents},
		"rejected": {`{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}` + "\n",
			" holds rejected lines, not events; read it with a pager or jq\n"},
	} {
		path := filepath.Join(dir, name)
		writeFile(t, path, c.text)
		for _, args := range [][]string{{"show"}, {"show", "--format", "json"}, {"plot"}} {
			stdout, stderr, code := environment{}.runAll(append(args, path)...)
			if want := "pika-cloud-lifecycle: " + path + c.want; stdout != "" || stderr != want || code != exitFailed {
				t.Errorf("%s %s: exit %d, %q, %q; expected %q", args, name, code, stdout, stderr, want)
			}
		}
	}
}

// show lists only the first invalid lines of a log that has events.
func TestShow_many_invalid_lines(t *testing.T) {
	dir := copyGuest(t, func(dir string) error {
		text, err := os.ReadFile(dir + "/events.jsonl")
		if err == nil {
			err = os.WriteFile(dir+"/events.jsonl", append(text, strings.Repeat("x\n", 30)...), 0o644)
		}
		return err
	})
	stdout, stderr, code := environment{}.runAll("show", dir)
	if n := strings.Count(stdout, "is not an event"); n != maxProblems || !strings.HasSuffix(stdout, "\nevents.jsonl has 20 more problems\n") || stderr != "" || code != exitOK {
		t.Errorf("exit %d, %d lines, %s\n%s", code, n, stderr, stdout)
	}
	stdout, _ = environment{}.run("show", "--format", "json", dir)
	if n := strings.Count(stdout, "is not an event"); n != maxProblems || !strings.HasSuffix(stdout, "\n"+`{"file":"events.jsonl","more_errors":20}`+"\n") {
		t.Errorf("%d lines\n%s", n, stdout)
	}
	_, stderr, code = environment{}.runAll("plot", dir)
	if want := "events.jsonl: 30 lines are not drawn; run show to see what is wrong\n"; !strings.HasSuffix(stderr, want) || code != exitOK {
		t.Errorf("plot: exit %d, %s", code, stderr)
	}
}

// If a directory is not a state directory, or cannot be read, each command prints one line
// with the cause on stderr.
func TestViews_directory(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"empty", "other", "rejected", "status"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d", "b", "a", "c"} {
		writeFile(t, filepath.Join(root, "other", name), "x")
	}
	const rejected = `{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}` + "\n"
	writeFile(t, filepath.Join(root, "rejected", "rejected.jsonl"), rejected+rejected)
	writeFile(t, filepath.Join(root, "status", "status.json"), `{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00Z","message":"m"}`+"\n")
	t.Chdir(root)
	const none = " has no status.json, events.jsonl or result.json"
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"show", "empty"}, "empty" + none + "; nothing has been recorded there yet, or it is not the state directory", exitFailed},
		{[]string{"plot", "empty"}, "empty" + none + "; nothing has been recorded there yet, or it is not the state directory", exitFailed},
		{[]string{"verify", "empty"}, "empty" + none + "; nothing has been recorded there yet, or it is not the state directory", exitRejected},
		{[]string{"show", "other"}, "other" + none + ", only a, b, c, …; name the state directory", exitFailed},
		{[]string{"verify", "other"}, "other" + none + ", only a, b, c, …; name the state directory", exitRejected},
		{[]string{"show", "rejected"}, "rejected: all 2 lines were rejected; see rejected/rejected.jsonl", exitFailed},
		{[]string{"plot", "status"}, "status has no events to draw; run show to see the status and the result", exitFailed},
		{[]string{"show", "none"}, "none: no such file or directory; name the state directory, or set PIKA_LIFECYCLE_DIR", exitFailed},
		{[]string{"verify", "none"}, "none: no such file or directory; name the state directory, or set PIKA_LIFECYCLE_DIR", exitRejected},
		{[]string{"verify", "status/status.json"}, "status/status.json is a file; verify checks a whole state directory, such as status", exitRejected},
		{[]string{"verify", "other/a"}, "other/a is a file; verify checks a whole state directory", exitRejected},
		{[]string{"verify", "empty", "other"}, "verify: expected one directory, not 2; run verify once for each", exitUsage},
		{[]string{"verify", "empty", "--state-dir", "other"}, `verify: "empty" and --state-dir are both given; give one of them`, exitUsage},
		{[]string{"show", "--state-dir=other", "empty"}, `show: "empty" and --state-dir are both given; give one of them`, exitUsage},
		{[]string{"show", ""}, "show: a path is empty; name a directory or a file", exitUsage},
	} {
		stdout, stderr, code := environment{}.runAll(c.args...)
		if stderr != "pika-cloud-lifecycle: "+c.want+"\n" || stdout != "" || code != c.code {
			t.Errorf("%q: exit %d, %q\n%swant %q", c.args, code, stdout, stderr, c.want)
		}
	}
}

// show prints the number of rejected lines, even if the status does not contain it.
func TestViews_rejected_lines(t *testing.T) {
	const line = `{"schema_version":1,"line":1,"offset":0,"timestamp":"2026-03-25T20:00:00.123Z","error":"column 1: x","raw":"x"}` + "\n"
	dir := copyGuest(t, func(dir string) error { return os.WriteFile(dir+"/rejected.jsonl", []byte(line+line+line), 0o644) })
	if text, code := (environment{}).run("show", dir); code != exitOK || !strings.Contains(text, ", 2 lines rejected, see rejected.jsonl\n") || strings.Contains(text, "3 lines") {
		t.Errorf("exit %d\n%s", code, text)
	}
	if err := os.Remove(dir + "/status.json"); err != nil {
		t.Fatal(err)
	}
	if text, code := (environment{}).run("show", dir); code != exitOK || !strings.Contains(text, "\n3 lines rejected, see rejected.jsonl\n") {
		t.Errorf("exit %d\n%s", code, text)
	}
	if text, _ := (environment{}).run("verify", dir); !strings.HasSuffix(text, "; 3 rejected lines in rejected.jsonl\n") {
		t.Errorf("verify prints\n%s", text)
	}
}

// No line is wider than a narrow terminal, and each message is below its event.
func TestShow_narrow(t *testing.T) {
	for columns := 26; columns < 60; columns++ {
		text, _ := environment{"COLUMNS": strconv.Itoa(columns)}.run("show", "--utc", lookDir+"/guest")
		for line := range strings.Lines(text) {
			if n := timeline.Columns(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns of %d: %q", n, columns, line)
			}
		}
		if !strings.Contains(text, "  unreachable\n    no answer for 30 s\n") {
			t.Errorf("%d columns:\n%s", columns, text)
		}
	}
}

// In a narrow terminal, a long message is cut after three lines, unless the event is a
// failure.
func TestShow_narrow_long_message(t *testing.T) {
	long := strings.Repeat("word ", 50) + "end"
	dir := writeRun(t, 1, "1000 ready "+long, "2000 failed "+long)
	text, _ := environment{"COLUMNS": "40"}.run("show", "--utc", filepath.Join(dir, "events.jsonl"))
	ready, failed, _ := strings.Cut(text, "failed")
	if n := strings.Count(ready, "\n    word"); n != 3 || !strings.Contains(ready, "…\n") {
		t.Errorf("%d lines of a long message:\n%s", n, text)
	}
	if strings.Contains(failed, "…") || !strings.HasSuffix(failed, "end\n") {
		t.Errorf("the message of the failure is cut:\n%s", text)
	}
}

// An ordinary user gets the files that they may read, and the advice to use root for
// the others.
func TestViews_ordinary_user(t *testing.T) {
	testenv.Root(t)
	program := testenv.Program(t)
	root := t.TempDir()
	for _, path := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testenv.OpenToAll(t, root, filepath.Dir(program))
	dir, err := os.OpenRoot(lookDir + "/guest") // still open after Chdir
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	t.Chdir(root)
	for name, mode := range map[string]os.FileMode{"status": 0o755, "closed": 0o700} {
		err := errors.Join(os.CopyFS(name, dir.FS()), os.WriteFile(name+"/events.jsonl.seq", []byte("11\n"), 0o600),
			os.Chmod(name+"/events.jsonl", 0o644), os.Chmod(name+"/result.json", 0o644), os.Chmod(name+"/status.json", 0o600), os.Chmod(name, mode))
		if err != nil {
			t.Fatal(err)
		}
	}
	const seqFile = "events.jsonl.seq: permission denied, so its number was not checked, and the other files were read without its lock; use root to check it\n"
	for _, c := range []struct {
		args   []string
		stdout string // a part of it
		stderr string
		code   int
	}{
		{[]string{"show", "status"}, "  listening on 8080", "status/status.json: permission denied; use root to read it", exitFailed},
		{[]string{"plot", "status"}, "listening on 8080", "status/status.json: permission denied; use root to read it", exitFailed},
		{[]string{"verify", "status"}, "status.json: permission denied, so its content was not checked; use root to check it\n" + seqFile +
			"status: no problems found, but the check is incomplete; 11 events in 2 boots, seq 1 to 11; result completed\n",
			"status: not everything was checked; use root to check the rest", exitRejected},
		{[]string{"verify", "--repair", "status"}, "", "status/events.jsonl.seq: permission denied; use root to repair the directory", exitFailed},
		{[]string{"show", "closed"}, "", "closed: permission denied; use root to read it", exitFailed},
		{[]string{"show", "--follow", "closed"}, "", "closed: permission denied; use root to read it", exitFailed},
		{[]string{"plot", "closed"}, "", "closed: permission denied; use root to read it", exitFailed},
		{[]string{"verify", "closed"}, "", "closed: permission denied; use root to read it", exitRejected},
	} {
		var stdout, stderr bytes.Buffer
		cmd := limitedCommand(program, c.args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		_ = cmd.Run()
		if !strings.Contains(stdout.String(), c.stdout) || (c.stdout == "") != (stdout.Len() == 0) || !strings.HasSuffix(stderr.String(), c.stderr+"\n") || strings.Count(stderr.String(), "\n") != 1 || cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%q: exit %d, %s\n%s", c.args, cmd.ProcessState.ExitCode(), stderr.String(), stdout.String())
		}
	}
}
