package writer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A call is a system call that the program made on a file.
type call struct {
	name string
	path string // of the file
	data string // what pwrite64 wrote
	at   int64  // where pwrite64 wrote, or the size of ftruncate
}

// traced lists the system calls that change files or make changes durable.
const traced = "mkdirat,write,pwrite64,ftruncate,fdatasync,fsync,renameat,unlinkat,flock,fchmod"

// changes matches a call on a descriptor or on a name in the output of strace -y
// -xx.
var changes = regexp.MustCompile(`(\w+)\((?:AT_FDCWD|\d+)<([^>]*)>(.*)\) += (-?\d+)`)

// unescape decodes a string in the output of strace -xx.
func unescape(text string) string {
	plain, err := strconv.Unquote(`"` + text + `"`)
	if err != nil {
		return text
	}
	return plain
}

// trace runs the program under strace and returns the calls it made on files
// under dir.
func trace(t *testing.T, dir string, args ...string) []call {
	t.Helper()
	testenv.Strace(t)
	out := filepath.Join(t.TempDir(), "trace")
	argv := append([]string{"-f", "-y", "-xx", "-s", "4096", "-e", "trace=" + traced, "-o", out, testenv.Program(t)}, args...)
	if text, err := exec.Command("strace", argv...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var calls []call
	for _, line := range wholeCalls(testenv.ReadIfExists(t, out)) {
		if m := changes.FindStringSubmatch(line); m != nil {
			c := call{name: m[1], path: unescape(m[2])}
			c.arguments(m[3])
			if strings.HasPrefix(c.path+"/", dir+"/") {
				calls = append(calls, c)
			}
		}
	}
	if len(calls) == 0 {
		t.Fatalf("strace shows no call:\n%s", testenv.ReadIfExists(t, out))
	}
	return calls
}

// wholeCalls joins the two parts of a call that strace splits because another thread
// made a call in between. A call is listed when it returns.
func wholeCalls(text string) (lines []string) {
	begun := map[string]string{} // by thread
	for line := range strings.Lines(text) {
		thread, rest, _ := strings.Cut(line, " ")
		if start, _, ok := strings.Cut(rest, " <unfinished ...>"); ok {
			begun[thread] = start
			continue
		}
		if _, end, ok := strings.Cut(rest, " resumed>"); ok && strings.HasPrefix(strings.TrimSpace(rest), "<...") {
			rest = begun[thread] + end
		}
		lines = append(lines, rest)
	}
	return lines
}

// arguments parses the arguments after the descriptor.
func (c *call) arguments(text string) {
	var words []string
	for _, word := range strings.Split(strings.TrimPrefix(text, ", "), ", ") {
		words = append(words, unescape(strings.Trim(word, `"`)))
	}
	switch c.name {
	case "pwrite64":
		c.data = words[0]
		c.at, _ = strconv.ParseInt(words[2], 10, 64)
	case "ftruncate":
		c.at, _ = strconv.ParseInt(words[0], 10, 64)
	case "renameat", "unlinkat", "mkdirat":
		if !filepath.IsAbs(words[0]) {
			words[0] = filepath.Join(c.path, words[0])
		}
		c.path = words[0]
	}
}

// digits matches the random number in the name of a temporary file.
var digits = regexp.MustCompile(`\d{15,}$`)

// shown describes each call in words, such as "write events.jsonl".
func shown(dir string, calls []call) (words []string) {
	for _, c := range calls {
		name, _ := filepath.Rel(filepath.Dir(dir), c.path)
		words = append(words, c.name+" "+digits.ReplaceAllString(name, "N"))
	}
	return words
}

// Each step of a commit is durable before the next one begins. Recovery from a crash
// depends on this order, which only the system calls show.
func TestSystemCalls_order(t *testing.T) {
	event := func(dir string) []string {
		return []string{"event", "--state-dir", dir, "--kind", "ready", "--message", "m"}
	}
	append1 := []string{
		"flock d/events.jsonl.seq", "flock d/events.jsonl", "pwrite64 d/events.jsonl.seq", "fdatasync d/events.jsonl.seq",
		"write d/events.jsonl", "fdatasync d/events.jsonl", "flock d/events.jsonl", "flock d/events.jsonl.seq",
	}
	replace := []string{
		"fchmod d/.status.jsonN", "flock d/.status.jsonN", "write d/.status.jsonN", "fsync d/.status.jsonN",
		"renameat d/.status.jsonN", "fsync d",
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		args  func(dir string) []string
		want  []string
	}{
		{"first event", nil, event, []string{
			"mkdirat d", "fsync .",
			"flock d/events.jsonl.seq", "flock d/events.jsonl",
			"fsync d", // the name of the seq file
			"pwrite64 d/events.jsonl.seq", "fdatasync d/events.jsonl.seq",
			"fsync d", // the name of the log
			"write d/events.jsonl", "fdatasync d/events.jsonl", "flock d/events.jsonl", "flock d/events.jsonl.seq",
		}},
		{"next event", map[string]string{EventsName: testLines(1, 3), EventsName + ".seq": "3\n"}, event, append1},
		{"more digits", map[string]string{EventsName: testLines(1, 9), EventsName + ".seq": "9\n"}, event,
			slices.Insert(slices.Clone(append1), 2, "pwrite64 d/events.jsonl.seq", "ftruncate d/events.jsonl.seq")},
		{"torn tail", map[string]string{EventsName: testLines(1, 3) + "torn", EventsName + ".seq": "3\n"}, event,
			slices.Insert(slices.Clone(append1), 2,
				"write d/events.jsonl.torn", "fdatasync d/events.jsonl.torn", "fsync d",
				"ftruncate d/events.jsonl", "fdatasync d/events.jsonl")},
		{"newline missing", map[string]string{EventsName: testLines(1, 3)[:len(testLines(1, 3))-1], EventsName + ".seq": "3\n"}, event,
			slices.Insert(slices.Clone(append1), 2, "write d/events.jsonl", "fdatasync d/events.jsonl")},
		{"status", map[string]string{StatusName: "old", ".status.json123456789012345678": "left"}, func(dir string) []string {
			return []string{"status", "--state-dir", dir, "--state", "ready", "--message", "m"}
		}, slices.Insert(slices.Clone(replace), 0, "flock d/.status.jsonN", "unlinkat d/.status.jsonN")},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(testenv.TempDir(t), "d")
			if c.files != nil {
				testenv.Must(t, os.Mkdir(dir, 0o755))
			}
			for name, text := range c.files {
				put(t, filepath.Join(dir, name), text)
			}
			got := shown(dir, trace(t, filepath.Dir(dir), c.args(dir)...))
			got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "fchmod d/events") })
			if !slices.Equal(got, c.want) {
				t.Errorf("\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// pythonInt parses the content of the seq file as the Python command does.
func pythonInt(text string) (uint64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	if strings.Trim(text, "0123456789") != "" {
		return 0, errors.New("no number")
	}
	if text = strings.TrimLeft(text, "0"); len(text) > 19 {
		return 1<<64 - 1, nil // too large for uint64, but not for Python
	}
	return strconv.ParseUint("0"+text, 10, 64)
}

// Each write to the seq file is cut short at each byte. A writer that reads only the
// seq file, as the Python command does, may skip numbers after a crash but never uses
// one twice.
func TestSeqFile_crash_during_write(t *testing.T) {
	for _, c := range []struct {
		seq  string
		last uint64
	}{
		{"", 0}, {"0\n", 0}, {"1\n", 1}, {"9\n", 9}, {"19\n", 19}, {"99\n", 99}, {"999\n", 999}, {"1999\n", 1999},
		{"9", 9}, {"99", 99}, {"100", 100}, {"99\n\n", 99},
		{"14\n", 11}, {"90\n", 14}, {"99\n", 14}, {"114\n", 14}, {"1000\n", 11}, {"1000\n", 9}, {"90000\n", 98},
		{"00009\n", 9}, {"18446744073709551615\n", 5},
	} {
		t.Run(fmt.Sprintf("%.10q after %d", c.seq, c.last), func(t *testing.T) {
			dir := testenv.TempDir(t)
			if c.last > 0 {
				put(t, filepath.Join(dir, EventsName), testLine(c.last, "m"))
			}
			put(t, filepath.Join(dir, EventsName+".seq"), c.seq)
			calls := trace(t, dir, "event", "--state-dir", dir, "--kind", "ready", "--message", "m")
			end := replaySeq(t, c.seq, c.last, calls)
			if want := fmt.Sprintln(c.last + 1); end != want || testenv.ReadIfExists(t, filepath.Join(dir, EventsName+".seq")) != want {
				t.Errorf("replayed %q, expected %q", end, want)
			}
		})
	}
}

// replaySeq replays the calls on the seq file, checks each intermediate content, and
// returns the last one.
func replaySeq(t *testing.T, text string, inUse uint64, calls []call) string {
	t.Helper()
	look := func(text []byte) {
		t.Helper()
		if n, err := pythonInt(string(text)); err != nil || n < inUse {
			t.Errorf("the seq file contains %q (%v) while %d is in use", text, err, inUse)
		}
	}
	state := []byte(text)
	for _, c := range calls {
		switch {
		case c.name == "write" && strings.HasSuffix(c.path, EventsName):
			inUse++
			look(state)
		case !strings.HasSuffix(c.path, ".seq"):
		case c.name == "ftruncate":
			state = append(state, make([]byte, max(0, int(c.at)-len(state)))...)[:c.at]
			look(state)
		case c.name == "pwrite64":
			for cut := range len(c.data) + 1 {
				state = overwrite(state, c.data[:cut], int(c.at))
				look(state)
			}
		}
	}
	return string(state)
}

// overwrite writes data into text at an offset.
func overwrite(text []byte, data string, at int) []byte {
	text = bytes.Clone(text)
	for len(text) < at+len(data) {
		text = append(text, 0)
	}
	copy(text[at:], data)
	return text
}
