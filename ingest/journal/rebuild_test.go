package journal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestRebuilder(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"round trip", testRebuildRoundTrip},
		{"order", testRebuildOrder},
		{"early result", testRebuildEarlyResult},
		{"late event", testRebuildLateEvent},
		{"gaps of the copy", testRebuildGapsOfCopy},
		{"nothing to rebuild", testRebuildNothing},
		{"live copy stopped", testRebuildLiveStopped},
		{"another writer", testRebuildOtherWriter},
		{"full buffer", testRebuildFullBuffer},
		{"many gaps", testRebuildManyGaps},
		{"lost field", testRebuildLostField},
		{"invalid line", testRebuildInvalidLine},
		{"unprintable value", testRebuildUnprintable},
		{"long entry", testRebuildLongEntry},
		{"untrusted user", testRebuildUntrustedUser},
		{"entries one by one", testRebuildOneByOne},
		{"status and result lost", testRebuildLostFiles},
		{"status older than the result", testRebuildOldStatus},
		{"status of an old boot", testRebuildStatusOfOldBoot},
		{"stale result", testRebuildStaleResult},
		{"boot with only a result", testRebuildBootOfResult},
		{"stopped after any entry", testRebuildStopped},
		{"killed at any call", testRebuildKilled},
		{"line separators in both forms", testRebuildLineSeparators},
	} {
		t.Run(test.name, test.run)
	}
}

// rebuild runs the command rebuild with input as the output of journalctl.
func rebuild(t testing.TB, dir, input string, args ...string) (stderr string, code int) {
	t.Helper()
	cmd := localCommand(append([]string{testenv.Program(t), "rebuild", "--state-dir", dir}, args...)...)
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &errs
	testenv.Must(t, cmd.Start())
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // the caller checks the exit code
	return errs.String(), cmd.ProcessState.ExitCode()
}

// sameFiles checks that two directories have the same events, result and status.
func sameFiles(t testing.TB, got, want string) {
	t.Helper()
	for _, name := range []string{"events.jsonl", "result.json", "status.json"} {
		if g, w := testenv.ReadIfExists(t, filepath.Join(got, name)), testenv.ReadIfExists(t, filepath.Join(want, name)); g != w {
			t.Errorf("%s is\n%.2000s\non the guest it is\n%.2000s", name, g, w)
		}
	}
}

// exampleRun has all fields that an event and a result may have.
const exampleRun = `{"state":"booted","message":"caf\u00e9\nand \u001b[31mred\u0000","details":{"big":123456789012345678901234567890,"a":[1.50,"\u007f"]}}
{"state":"starting","timestamp":"2026-03-25T20:00:00.123456Z"}
{"kind":"ready","message":""}
{"state":"ready"}
{"state":"failed","exit_code":-7,"message":"it failed","details":"text\nand more"}
`

func testRebuildRoundTrip(t *testing.T) {
	m := newJournal(t, 11)
	guest, host := testenv.TempDir(t), testenv.TempDir(t)
	m.ingest(guest, exampleRun)
	input := m.journalJSON()
	if stderr, code := rebuild(t, host, input); code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	sameFiles(t, host, guest)
	if n := strings.Count(testenv.ReadIfExists(t, filepath.Join(host, "events.jsonl")), "\n"); n != 5 {
		t.Errorf("%d events, want 5", n)
	}
	before := stamps(t, host)
	if stderr, code := rebuild(t, host, input+input); code != 0 || stderr != "" {
		t.Errorf("the second run: exit %d: %s", code, stderr)
	}
	if after := stamps(t, host); after != before {
		t.Errorf("the second run changed files: now\n%sbefore\n%s", after, before)
	}
}

// Earlier versions wrote U+0085, U+2028 and U+2029 as they are, in the log and in an entry.
// Both forms are the same event.
func testRebuildLineSeparators(t *testing.T) {
	const raw, escaped = "\u0085\u2028\u2029", `\u0085\u2028\u2029`
	event := func(form string, seq int) string {
		return fmt.Sprintf(`{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":"%[2]s","boot_id":%[1]q,"details":{"%[2]s":"%[2]s"},"seq":%[3]d}`+"\n", bootA, form, seq)
	}
	entry := func(form string, seq int) string {
		return fakeEntry{kind: "ready", artifact: strings.TrimSuffix(event(form, seq), "\n")}.String()
	}
	for _, existing := range []string{raw, escaped} {
		for _, form := range []string{raw, escaped} {
			dir := testenv.TempDir(t)
			testenv.Must(t, os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(event(existing, 1)), 0o644))
			input := entry(form, 1) + entry(form, 2)
			for range 2 {
				if stderr, code := rebuild(t, dir, input); code != 0 || stderr != "" {
					t.Errorf("exit %d: %s", code, stderr)
				}
				if got, want := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")), event(existing, 1)+event(escaped, 2); got != want {
					t.Errorf("the log is\n%s\nwant\n%s", got, want)
				}
			}
		}
	}
}

// stamps returns the size, modification time and inode of each file in a directory.
// At least one of them changes when a file is written.
func stamps(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	testenv.Must(t, err)
	for _, e := range entries {
		info, err := e.Info()
		testenv.Must(t, err)
		fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Ino)
	}
	return b.String()
}

// A fakeEntry is a journal entry of an event or a result. String returns it in the
// format of journalctl. Fields have defaults if they are empty.
type fakeEntry struct {
	machine, path, boot string
	uid                 string
	kind, outcome       string
	seq                 int
	time                string
	artifact            string // the event or result; by default, it has the values above
	more                string // further fields, each with a comma before it
}

func (e fakeEntry) String() string {
	id, field, word := eventIDs[artifact.State(e.kind)], "PIKA_EVENT", fmt.Sprintf(`"PIKA_KIND":%q`, e.kind)
	if e.outcome != "" {
		id, field, word = resultIDs[artifact.Outcome(e.outcome)], "PIKA_RESULT", fmt.Sprintf(`"PIKA_OUTCOME":%q`, e.outcome)
	}
	text, _ := json.Marshal(cmp.Or(e.artifact, e.line("")))
	return fmt.Sprintf(`{"MESSAGE_ID":%q,"_UID":%q,"_MACHINE_ID":%q,"PIKA_EVENTS_PATH":%q,"MESSAGE":"m",%s,%q:%s%s}`+"\n",
		id, cmp.Or(e.uid, "0"), cmp.Or(e.machine, "m1"), cmp.Or(e.path, "/run/pika-cloud/events.jsonl"), word, field, text, e.more)
}

// line returns the event or result on one line. members are further members, each with a
// comma before it.
func (e fakeEntry) line(members string) string {
	word, when := fmt.Sprintf(`"kind":%q`, e.kind), "timestamp"
	if e.outcome != "" {
		word, when = fmt.Sprintf(`"status":%q`, e.outcome), "finished_at"
	}
	boot := fmt.Sprintf(`,"boot_id":"%s"`, cmp.Or(e.boot, bootA))
	if e.boot == "-" {
		boot = ""
	}
	seq := ""
	if e.seq > 0 {
		seq = fmt.Sprintf(`,"seq":%d`, e.seq)
	}
	return fmt.Sprintf(`{"schema_version":1,%s,%q:%q,"message":"m"%s%s%s}`, word, when, cmp.Or(e.time, "2026-03-25T20:00:00.123Z"), boot, members, seq)
}

const (
	bootA = "aaaaaaaa-1111-4222-8333-444444444444"
	bootB = "bbbbbbbb-1111-4222-8333-444444444444"
	bootC = "cccccccc-1111-4222-8333-444444444444"
)

// seqs returns the seqs of the events in a file.
func seqs(t *testing.T, dir, name string) string {
	t.Helper()
	var all []string
	for line := range strings.Lines(testenv.ReadIfExists(t, filepath.Join(dir, name))) {
		_, seq, _ := strings.Cut(line, `"seq":`)
		all = append(all, strings.TrimSuffix(seq, "}\n"))
	}
	return strings.Join(all, " ")
}

func ready(seq int) fakeEntry { return fakeEntry{kind: "ready", seq: seq} }

func join(entries ...fakeEntry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.String())
	}
	return b.String()
}

// journalctl may omit a field of an entry while journald writes the file. rebuild needs only
// some of the fields. If one of those is missing, it leaves the entry out.
func testRebuildLostField(t *testing.T) {
	const incomplete = ": an event or result is left out because its journal entry is incomplete;"
	event, result := fakeEntry{kind: "failed", seq: 2, more: `,"PRIORITY":"3","SYSLOG_IDENTIFIER":"x"`}, fakeEntry{outcome: "failed", seq: 2}
	for _, c := range []struct {
		lost   string // field names
		event  string // what stderr contains if the entry of the event has lost them; "" if rebuild does not need them
		result string // the same for the result
	}{
		{"PRIORITY", "", ""},
		{"SYSLOG_IDENTIFIER", "", ""},
		{"MESSAGE", "", ""},
		{"MESSAGE_ID", "", ""},
		{"PIKA_KIND PIKA_OUTCOME", "", ""},
		{"MESSAGE MESSAGE_ID PIKA_KIND PIKA_OUTCOME", "", ""},
		{"PIKA_EVENT PIKA_RESULT", incomplete, incomplete},
		{"PIKA_EVENTS_PATH", incomplete, incomplete},
		{"_MACHINE_ID", incomplete, incomplete},
		{"_UID", ": entries without _UID are ignored;", ": entries without _UID are ignored;"},
		{"MESSAGE_ID PIKA_EVENT PIKA_RESULT", ": seq 2 is missing; if no warning above explains it", ""},
	} {
		names := strings.Fields(c.lost)
		dir := testenv.TempDir(t)
		stderr, code := rebuild(t, dir, ready(1).String()+without(t, event, names...)+ready(3).String())
		want := "1 2 3"
		if c.event != "" {
			want = "1 3"
		}
		if code != 0 || seqs(t, dir, "events.jsonl") != want || !strings.Contains(stderr, c.event) || (c.event == "") != (stderr == "") {
			t.Errorf("the event without %s: exit %d, seqs %s, want %s; stderr\n%s", c.lost, code, seqs(t, dir, "events.jsonl"), want, stderr)
		}
		dir = testenv.TempDir(t)
		stderr, code = rebuild(t, dir, ready(1).String()+event.String()+without(t, result, names...))
		has := testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) != ""
		isNeeded := c.result != "" || strings.Contains(c.lost, "PIKA_RESULT")
		if code != 0 || has == isNeeded || !strings.Contains(stderr, c.result) || (c.result == "") != (stderr == "") {
			t.Errorf("the result without %s: exit %d, the copy has a result: %t; stderr\n%s", c.lost, code, has, stderr)
		}
	}
}

// without returns an entry without some of its fields.
func without(t *testing.T, e fakeEntry, names ...string) string {
	t.Helper()
	var fields map[string]any
	testenv.Must(t, json.Unmarshal([]byte(e.String()), &fields))
	for _, name := range names {
		delete(fields, name)
	}
	text, err := json.Marshal(fields)
	testenv.Must(t, err)
	return string(text) + "\n"
}

// Each input is rebuilt into an empty directory. A second run into the same
// directory changes nothing.
func testRebuildOrder(t *testing.T) {
	from := func(boot string, e fakeEntry) fakeEntry { e.boot = boot; return e }
	result := func(seq int, time string) fakeEntry { return fakeEntry{outcome: "failed", seq: seq, time: time} }
	for name, c := range map[string]struct {
		in           []fakeEntry
		seqs, before string // the seqs in the log, and in events.jsonl.1
		stderr       string
		result, prev string // the seqs in result.json and result.json.prev; "none" for a result without one
	}{
		"in order":       {in: []fakeEntry{ready(1), ready(2)}, seqs: "1 2"},
		"repeated":       {in: []fakeEntry{ready(1), ready(1), ready(2), ready(1), ready(2)}, seqs: "1 2"},
		"swapped":        {in: []fakeEntry{ready(2), ready(1), ready(4), ready(3), ready(4)}, seqs: "1 2 3 4"},
		"buffered twice": {in: []fakeEntry{ready(2), ready(2), ready(1)}, seqs: "1 2"},
		"gap": {in: []fakeEntry{ready(1), ready(3), ready(7)}, seqs: "1 3 7",
			stderr: "seq 2 is missing; if no warning above explains it, look for it in the guest's events.jsonl\n" +
				"seqs 4 to 6 are missing; if no warning above explains it, look for them in the guest's events.jsonl\n"},
		"first events missing":   {in: []fakeEntry{ready(5)}, seqs: "5", stderr: "seqs 1 to 4 are missing; if no warning above explains it, look for them in the guest's events.jsonl\n"},
		"another boot, new log":  {in: []fakeEntry{ready(1), ready(2), from(bootB, ready(1))}, seqs: "1", before: "1 2"},
		"another boot, same log": {in: []fakeEntry{ready(1), ready(2), from(bootB, ready(3))}, seqs: "1 2 3"},
		"three boots": {in: []fakeEntry{ready(1), ready(2), from(bootB, ready(1)), from(bootC, ready(1)), from(bootC, ready(2)), from(bootC, ready(3))},
			seqs: "1 2 3", before: "1"},
		"gap in an ended boot": {in: []fakeEntry{ready(1), ready(3), from(bootB, ready(1)), from(bootB, ready(2)), from(bootB, ready(3)), from(bootB, ready(2))},
			seqs: "1 2 3", before: "1 3", stderr: "seq 2 is missing; if no warning above explains it, look for it in the guest's events.jsonl\n"},
		"ended boot again": {in: []fakeEntry{ready(1), ready(2), from(bootB, ready(1)), ready(1), ready(2), ready(3), from(bootB, ready(2))},
			seqs: "1 2", before: "1 2"},
		"swapped at the start of a boot": {in: []fakeEntry{ready(1), from(bootB, ready(2)), from(bootB, ready(1))}, seqs: "1 2", stderr: ""},
		"result after its event":         {in: []fakeEntry{ready(1), {kind: "failed", seq: 2}, result(2, ""), result(2, "")}, seqs: "1 2", result: "2"},
		"result before its event":        {in: []fakeEntry{result(2, ""), ready(1), {kind: "failed", seq: 2}}, seqs: "1 2", result: "2"},
		"only a result":                  {in: []fakeEntry{result(2, "")}, result: "2"},
		"two runs": {in: []fakeEntry{{kind: "failed", seq: 1}, result(1, ""), {kind: "starting", seq: 2}, {kind: "failed", seq: 3}, result(3, ""), result(1, "")},
			seqs: "1 2 3", result: "3", prev: "1"},
		"result of an earlier run again": {in: []fakeEntry{{kind: "failed", seq: 1}, result(1, ""), {kind: "starting", seq: 2}, result(1, "")}, seqs: "1 2", prev: "1"},
		"run stopped": {in: []fakeEntry{{kind: "failed", seq: 1}, result(1, ""), {kind: "starting", seq: 2}, {kind: "stopped", seq: 3}},
			seqs: "1 2 3", prev: "1"},
		"results without a seq": {in: []fakeEntry{ready(1), result(0, "2026-03-25T20:00:01.000Z"), result(0, "2026-03-25T20:00:02.000Z"), result(0, "2026-03-25T20:00:01.000Z")},
			seqs: "1", result: "none"},
		"results without a seq, two runs": {in: []fakeEntry{result(0, "2026-03-25T20:00:01.000Z"), {kind: "starting", seq: 1}, result(0, "2026-03-25T20:00:02.000Z")},
			seqs: "1", result: "none", prev: "none"},
		"some boots unknown": {in: []fakeEntry{ready(1), from("-", ready(2)), ready(3), from("-", ready(4))}, seqs: "1 2 3 4"},
		"all boots unknown":  {in: []fakeEntry{from("-", ready(1)), from("-", ready(2)), from("-", fakeEntry{kind: "failed", seq: 3}), from("-", result(3, "")), from("-", ready(1))}, seqs: "1 2 3", result: "3"},
		"result without events": {in: []fakeEntry{ready(1), {kind: "failed", seq: 2}, result(2, ""), from(bootB, result(1, "2026-03-25T21:00:00.000Z"))},
			seqs: "1 2", result: "1"},
		"result without events, next boot with an earlier clock": {in: []fakeEntry{{kind: "failed", seq: 1}, result(1, ""), from(bootB, result(9, "2026-03-25T21:00:00.000Z")),
			from(bootC, fakeEntry{kind: "starting", seq: 1}), from(bootC, fakeEntry{kind: "failed", seq: 2}), from(bootC, result(2, "2026-03-25T20:30:00.000Z"))},
			seqs: "1 2", before: "1", result: "2", prev: "9"},
		"result before the events of its boot": {in: []fakeEntry{{kind: "failed", seq: 1}, result(1, ""), from(bootB, result(2, "2026-03-25T21:00:00.000Z")),
			from(bootB, fakeEntry{kind: "starting", seq: 1}), from(bootB, fakeEntry{kind: "failed", seq: 2}), from(bootB, result(2, "2026-03-25T21:00:00.000Z"))},
			seqs: "1 2", before: "1", result: "2", prev: "2"},
		"result of an ended boot": {in: []fakeEntry{ready(1), {kind: "failed", seq: 2}, result(2, ""), from(bootB, ready(1)), result(2, "2026-03-25T21:00:00.000Z")},
			seqs: "1", before: "1 2", prev: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testenv.TempDir(t)
			in := join(c.in...)
			stderr, code := rebuild(t, dir, in)
			want := ""
			for line := range strings.Lines(c.stderr) {
				want += Identifier + ": " + line
			}
			if code != 0 || stderr != want {
				t.Errorf("exit %d, stderr\n%swant\n%s", code, stderr, want)
			}
			for name, want := range map[string]string{"events.jsonl": c.seqs, "events.jsonl.1": c.before} {
				if got := seqs(t, dir, name); got != want {
					t.Errorf("%s has seqs %s, want %s", name, got, want)
				}
			}
			for name, want := range map[string]string{"result.json": c.result, "result.json.prev": c.prev} {
				text := testenv.ReadIfExists(t, filepath.Join(dir, name))
				_, seq, _ := strings.Cut(text, `"seq": `)
				got, _, _ := strings.Cut(seq, "\n")
				if got == "" && text != "" {
					got = "none"
				}
				if got != want {
					t.Errorf("%s has seq %q, want %q:\n%s", name, got, want, text)
				}
			}
			before := stamps(t, dir)
			if stderr, code := rebuild(t, dir, in); code != 0 || stderr != "" {
				t.Errorf("the second run: exit %d, stderr %s", code, stderr)
			}
			if after := stamps(t, dir); after != before {
				t.Errorf("the second run changed files: now\n%sbefore\n%s", after, before)
			}
		})
	}
}

func testRebuildManyGaps(t *testing.T) {
	dir := testenv.TempDir(t)
	var in []fakeEntry
	for seq := 1; seq < 300; seq += 2 {
		in = append(in, ready(seq))
	}
	stderr, code := rebuild(t, dir, join(in...))
	want := fmt.Sprintf("%s: more seqs are missing and no longer listed; compare the seqs in %s/events.jsonl with those in the guest's events.jsonl\n", Identifier, dir)
	if code != 0 || strings.Count(stderr, "\n") != 101 || !strings.HasSuffix(stderr, "seq 200 is missing; if no warning above explains it, look for it in the guest's events.jsonl\n"+want) {
		t.Errorf("exit %d, stderr\n%s", code, stderr)
	}
	if got := strings.Count(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")), "\n"); got != 150 {
		t.Errorf("the copy has %d events, want 150", got)
	}
}

func testRebuildLateEvent(t *testing.T) {
	var warnings []string
	b := Rebuilder{Dir: writer.In(testenv.TempDir(t)), Warn: func(line string) { warnings = append(warnings, line) }}
	testenv.Must(t, b.Open())
	for _, seq := range []int{1, 3, 2, 2} {
		testenv.Must(t, b.Add([]byte(ready(seq).String()), time.Now()))
		for b.Next(time.Now(), true) != nil {
		}
	}
	if len(warnings) != 2 || !strings.Contains(warnings[1], "seq 2 arrived after seq 3") {
		t.Errorf("warnings %q, want 2, the second about seq 2", warnings)
	}
}

// The first rebuild did not get all events. A second one, which gets them, warns about each
// gap into which an event falls, and only then.
func testRebuildGapsOfCopy(t *testing.T) {
	const late = "%s: seq %d arrived after seq %d, too late to be written; to include it, rebuild into an empty directory\n"
	all := []fakeEntry{ready(1), ready(2), ready(3), ready(4), ready(5), ready(6), ready(7)}
	for name, c := range map[string]struct {
		first []fakeEntry
		want  string // what the second rebuild prints
	}{
		"no gap":      {all, ""},
		"two gaps":    {[]fakeEntry{ready(1), ready(3), ready(6)}, fmt.Sprintf(late+late, Identifier, 2, 3, Identifier, 4, 6)},
		"first event": {all[1:], fmt.Sprintf(late, Identifier, 1, 2)},
	} {
		dir := testenv.TempDir(t)
		rebuild(t, dir, join(c.first...))
		before := seqs(t, dir, "events.jsonl")
		if stderr, code := rebuild(t, dir, join(c.first...)); code != 0 || stderr != "" {
			t.Errorf("%s: the same entries again: exit %d, stderr\n%s", name, code, stderr)
		}
		if stderr, code := rebuild(t, dir, join(all...)); code != 0 || stderr != c.want {
			t.Errorf("%s: exit %d, stderr\n%swant\n%s", name, code, stderr, c.want)
		}
		if got := seqs(t, dir, "events.jsonl"); !strings.HasPrefix(got, before) || !strings.HasSuffix(got, "7") {
			t.Errorf("%s: seqs %s, want those after %s appended", name, got, before)
		}
	}
	dir := testenv.TempDir(t) // the log was rotated after the event 4
	rebuild(t, dir, join(all[:6]...))
	log := filepath.Join(dir, "events.jsonl")
	lines := strings.SplitAfter(testenv.ReadIfExists(t, log), "\n")
	testenv.Must(t, os.WriteFile(log+".1", []byte(strings.Join(lines[:4], "")), 0o644))
	testenv.Must(t, os.WriteFile(log, []byte(strings.Join(lines[4:], "")), 0o644))
	if stderr, code := rebuild(t, dir, join(all...)); code != 0 || stderr != "" || seqs(t, dir, "events.jsonl") != "5 6 7" {
		t.Errorf("a rotated log: exit %d, seqs %s, want 5 6 7; stderr\n%s", code, seqs(t, dir, "events.jsonl"), stderr)
	}
}

// If the copy is empty at the end of the input, rebuild exits with 1. A copy that exists is
// not changed by the same inputs.
func testRebuildNothing(t *testing.T) {
	const (
		noEntries = Identifier + ": rebuild: the input has no events and no results; expected the output of journalctl -o json --all, from a guest that uses --journal\n"
		seeAbove  = Identifier + ": rebuild: nothing was rebuilt; see the warnings above\n"
	)
	user := ready(1)
	user.uid = "1000"
	for name, c := range map[string]struct{ in, stderr string }{
		"empty input":           {"", noEntries},
		"other programs":        {`{"MESSAGE":"x","_UID":"0"}` + "\n", noEntries},
		"events":                {ready(1).line("") + "\n", noEntries},
		"entries of a user":     {user.String(), seeAbove},
		"entries without _UID":  {without(t, ready(1), "_UID"), seeAbove},
		"entries without paths": {without(t, ready(1), "PIKA_EVENTS_PATH"), seeAbove},
	} {
		if stderr, code := rebuild(t, testenv.TempDir(t), c.in); code != 1 || !strings.HasSuffix(stderr, c.stderr) || (strings.Count(stderr, "\n") > 1) != (c.stderr == seeAbove) {
			t.Errorf("%s: exit %d, stderr\n%swant 1 and\n%s", name, code, stderr, c.stderr)
		}
		for _, existing := range []fakeEntry{ready(1), {outcome: "failed", seq: 1}} {
			dir := testenv.TempDir(t)
			rebuild(t, dir, existing.String())
			before := contents(t, dir)
			if stderr, code := rebuild(t, dir, c.in); code != 0 || strings.Contains(stderr, "rebuild: ") || contents(t, dir) != before {
				t.Errorf("%s, a copy that exists: exit %d, stderr\n%sthe copy is\n%s", name, code, stderr, contents(t, dir))
			}
		}
	}
	dir := testenv.TempDir(t)
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "events.jsonl.boots"), []byte(bootA+"\n"), 0o644))
	want := fmt.Sprintf("%s: rebuild: nothing was rebuilt, because all entries are of the boots in %s/events.jsonl.boots; rebuild into an empty directory\n", Identifier, dir)
	if stderr, code := rebuild(t, dir, ready(1).String()); code != 1 || stderr != want {
		t.Errorf("a boot that has ended: exit %d, stderr\n%swant\n%s", code, stderr, want)
	}
	if stderr, code := rebuild(t, testenv.TempDir(t), valued("null")); code != 3 || strings.Contains(stderr, "rebuild: ") {
		t.Errorf("a rejected line: exit %d, want 3; stderr\n%s", code, stderr)
	}
}

// A live copy that is stopped before the guest has sent anything is no error. Ctrl-C also
// ends journalctl.
func testRebuildLiveStopped(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := testenv.TempDir(t)
		cmd, w, stderr := startLive(t, dir)
		testenv.Must(t, cmd.Process.Signal(s))
		time.Sleep(200 * time.Millisecond) // journalctl ends after it
		w.Close()
		if err := cmd.Wait(); err != nil || stderr.String() != "" {
			t.Errorf("%v: %v, stderr\n%s", s, err, stderr.String())
		}
	}
}

// startLive starts rebuild, and waits until it reads its input, of which w is the other end.
func startLive(t *testing.T, dir string) (cmd *exec.Cmd, w *os.File, stderr *lockedText) {
	t.Helper()
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	t.Cleanup(func() { w.Close() })
	defer r.Close()
	stderr = new(lockedText)
	cmd = localCommand(testenv.Program(t), "rebuild", "--state-dir", dir)
	cmd.Stdin, cmd.Stderr = r, stderr
	testenv.Must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	_, err = w.WriteString(`{"MESSAGE":"of another program"}` + "\n")
	testenv.Must(t, err)
	await(t, "the line is read", func() bool {
		n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
	return cmd, w, stderr
}

// rebuild does not write beside another writer.
func testRebuildOtherWriter(t *testing.T) {
	dir := testenv.TempDir(t)
	cmd, w, _ := startLive(t, dir)
	_, err := w.WriteString(ready(1).String())
	testenv.Must(t, err)
	await(t, "seqs 1", func() bool { return seqs(t, dir, "events.jsonl") == "1" })
	want := fmt.Sprintf("%s: rebuild: rebuild with PID %d writes to %s; stop it, or set --state-dir or PIKA_LIFECYCLE_DIR to another directory\n", Identifier, cmd.Process.Pid, dir)
	before := stamps(t, dir)
	if stderr, code := rebuild(t, dir, ready(2).String()); code != 1 || stderr != want || stamps(t, dir) != before {
		t.Errorf("exit %d, stderr\n%swant\n%sand unchanged files", code, stderr, want)
	}
	w.Close()
	testenv.Must(t, cmd.Wait())
	if stderr, code := rebuild(t, dir, ready(2).String()); code != 0 || stderr != "" {
		t.Errorf("after its end: exit %d, stderr\n%s", code, stderr)
	}
}

// A result that arrives before its event is returned after it: a program that
// polls the copy sees them in the order of a commit.
func testRebuildEarlyResult(t *testing.T) {
	b := Rebuilder{Dir: writer.In(testenv.TempDir(t))}
	testenv.Must(t, b.Open())
	now := time.Now()
	for i, c := range []struct {
		fakeEntry
		ready int
	}{{fakeEntry{outcome: "failed", seq: 2}, 0}, {ready(1), 1}, {fakeEntry{kind: "failed", seq: 2}, 2}} {
		testenv.Must(t, b.Add([]byte(c.String()), now))
		n := 0
		for rec := b.Next(now, false); rec != nil; rec = b.Next(now, false) {
			if n++; (rec.Result != nil) != (i == 2 && n == 2) {
				t.Errorf("after %d lines, record %d is %+v; want the result last", i+1, n, rec)
			}
		}
		if n != c.ready {
			t.Errorf("after %d lines, %d records are returned, want %d", i+1, n, c.ready)
		}
	}
}

// The buffer is limited in size, not only in time.
func testRebuildFullBuffer(t *testing.T) {
	b := Rebuilder{Dir: writer.In(testenv.TempDir(t))}
	testenv.Must(t, b.Open())
	now, n := time.Now(), 0
	big := ready(0)
	big.more = `,"X":"` + strings.Repeat("x", 1<<20) + `"`
	for big.seq = 2; big.seq <= 33; big.seq++ {
		testenv.Must(t, b.Add([]byte(big.String()), now))
		for rec := b.Next(now, false); rec != nil; rec = b.Next(now, false) {
			n++
		}
		if (n > 0) != (big.seq == 33) {
			t.Fatalf("%d records after %d lines, want none before line 32", n, big.seq-1)
		}
	}
	if n != 32 || b.Buffered() || b.buffer.size != 0 {
		t.Errorf("%d records, and %d bytes are still buffered; want 32 and 0", n, b.buffer.size)
	}
}

// An event is in the log, but its status and its result were not written, as after
// a crash.
func testRebuildLostFiles(t *testing.T) {
	dir := testenv.TempDir(t)
	in := join(ready(1), fakeEntry{kind: "failed", seq: 2}, fakeEntry{outcome: "failed", seq: 2})
	rebuild(t, dir, in)
	status, result := testenv.ReadIfExists(t, filepath.Join(dir, "status.json")), testenv.ReadIfExists(t, filepath.Join(dir, "result.json"))
	rebuild(t, dir, join(ready(1)))
	testenv.Must(t, os.Remove(filepath.Join(dir, "status.json")))
	testenv.Must(t, os.Remove(filepath.Join(dir, "result.json")))
	if stderr, code := rebuild(t, dir, in); code != 0 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if testenv.ReadIfExists(t, filepath.Join(dir, "status.json")) != status || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) != result || status == "" || result == "" {
		t.Errorf("the status or result differs: status\n%s, result\n%s", testenv.ReadIfExists(t, filepath.Join(dir, "status.json")), testenv.ReadIfExists(t, filepath.Join(dir, "result.json")))
	}
}

// The result was written, but not the status, as after a crash between the two.
func testRebuildOldStatus(t *testing.T) {
	dir := testenv.TempDir(t)
	in := []fakeEntry{ready(1), {kind: "failed", seq: 2}, {outcome: "failed", seq: 2}}
	rebuild(t, dir, join(in[:1]...))
	old := testenv.ReadIfExists(t, filepath.Join(dir, "status.json"))
	rebuild(t, dir, join(in...))
	want := contents(t, dir)
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "status.json"), []byte(old), 0o644))
	rebuild(t, dir, join(in...))
	if got := contents(t, dir); got != want || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) == "" {
		t.Errorf("the copy is\n%swant\n%s", got, want)
	}
}

// The longest line of journalctl for a directive of 1 MiB: a byte that is not printable, and
// others of which each becomes an escape of six bytes.
func testRebuildLongEntry(t *testing.T) {
	dir := testenv.TempDir(t)
	line := strings.Replace(ready(1).line(""), `"m"`, "\"\x7f"+strings.Repeat(`\u001f`, 1<<20)+`"`, 1)
	stderr, code := rebuild(t, dir, valued(bytesForm(line)))
	if got := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")); code != 0 || got != line+"\n" {
		t.Errorf("exit %d: %.200s; the log has %d bytes, want %d", code, stderr, len(got), len(line)+1)
	}
}

// The log of a new boot has started, but the status is still from the previous boot
// and has a higher seq.
func testRebuildStatusOfOldBoot(t *testing.T) {
	dir := testenv.TempDir(t)
	rebuild(t, dir, join(ready(1), ready(2)))
	old := testenv.ReadIfExists(t, filepath.Join(dir, "status.json"))
	next := ready(1)
	next.boot = bootB
	in := join(ready(1), ready(2), next)
	rebuild(t, dir, in)
	want := testenv.ReadIfExists(t, filepath.Join(dir, "status.json"))
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "status.json"), []byte(old), 0o644))
	rebuild(t, dir, in)
	if got := testenv.ReadIfExists(t, filepath.Join(dir, "status.json")); got != want || got == old {
		t.Errorf("the status is\n%s, want\n%s", got, want)
	}
}

// A crash came before the result of an earlier run or boot was moved to
// result.json.prev.
func testRebuildStaleResult(t *testing.T) {
	in := threeRuns()
	for name, c := range map[string]struct{ result, run int }{"another run": {4, 5}, "another boot": {7, 8}} {
		dir := testenv.TempDir(t)
		rebuild(t, dir, join(in[:c.result]...))
		old := testenv.ReadIfExists(t, filepath.Join(dir, "result.json"))
		rebuild(t, dir, join(in[:c.run]...))
		testenv.Must(t, os.Rename(filepath.Join(dir, "result.json.prev"), filepath.Join(dir, "result.json")))
		if stderr, code := rebuild(t, dir, join(in[:c.run]...)); code != 0 || stderr != "" {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
		if got := testenv.ReadIfExists(t, filepath.Join(dir, "result.json.prev")); got != old || old == "" || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) != "" {
			t.Errorf("%s: the previous result is\n%swant\n%s", name, got, old)
		}
	}
}

// Only the result of a boot has arrived. The boot ends when another boot starts, and
// a later stream drops its events: they do not start a new log.
func testRebuildBootOfResult(t *testing.T) {
	dir := testenv.TempDir(t)
	next := ready(1)
	next.boot = bootB
	for _, e := range []fakeEntry{{outcome: "failed", seq: 1}, next, ready(1)} {
		if stderr, code := rebuild(t, dir, join(e)); code != 0 || stderr != "" {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
	if text := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")); !strings.Contains(text, bootB) || testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl.1")) != "" {
		t.Errorf("want only an event of the new boot; events\n%sprevious log\n%s", text, testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl.1")))
	}
}

// Any user can send an entry with any field except _UID.
func testRebuildUntrustedUser(t *testing.T) {
	const ignored = Identifier + ": the entries of user \"1000\" are ignored; if ingest runs as this user, add --trust-uid with its number\n"
	forged := fakeEntry{kind: "failed", seq: 2, uid: "1000"}
	for _, c := range []struct {
		args   []string
		seqs   string
		stderr string
	}{
		{nil, "1", ignored},
		{[]string{"--trust-uid", "1000"}, "1 2", ""},
		{[]string{"--trust-uid", "1001"}, "1", ignored},
	} {
		dir := testenv.TempDir(t)
		stderr, code := rebuild(t, dir, join(ready(1), forged, forged), c.args...)
		if got := seqs(t, dir, "events.jsonl"); code != 0 || stderr != c.stderr || got != c.seqs {
			t.Errorf("%v: exit %d, seqs %s, want %s; stderr %s", c.args, code, got, c.seqs, stderr)
		}
	}
	var warning string
	b := Rebuilder{Dir: writer.In(testenv.TempDir(t)), Warn: func(line string) { warning += line }} // accepts only entries of root
	testenv.Must(t, b.Open())
	testenv.Must(t, b.Add([]byte(strings.ReplaceAll(ready(1).String(), `"_UID":"0",`, "")), time.Now()))
	if b.Next(time.Now(), true) != nil {
		t.Error("an entry without _UID is accepted")
	}
	if warning != "entries without _UID are ignored; expected the output of journalctl -o json --all" {
		t.Errorf("the warning about an entry without _UID is %q", warning)
	}
}

// The error for a rejected line has the number of the line, the problem and the expected
// value.
func testRebuildInvalidLine(t *testing.T) {
	for name, c := range map[string]struct{ line, stderr string }{
		"not JSON":        {"-- Boot 1 --\n", "not a journal entry; expected the output of journalctl -o json --all"},
		"cut":             {strings.TrimSuffix(ready(2).String(), "}\n") + "\n", "not a journal entry; expected the output of journalctl -o json --all"},
		"trailing data":   {strings.TrimSuffix(ready(2).String(), "\n") + " {}\n", "not a journal entry; expected the output of journalctl -o json --all"},
		"not an object":   {"[]\n", "not a journal entry; expected the output of journalctl -o json --all"},
		"omitted value":   {valued("null"), "journalctl left out PIKA_EVENT because it is large; add --all to journalctl, and rebuild into an empty directory"},
		"twice":           {valued(`["{}","{}"]`), "PIKA_EVENT has several values; expected one"},
		"array twice":     {valued("[[1],[2]]"), "PIKA_EVENT has several values; expected one"},
		"object":          {valued("{}"), "PIKA_EVENT is {}; expected a string or an array of bytes"},
		"number":          {valued("7"), "PIKA_EVENT is 7; expected a string or an array of bytes"},
		"no bytes":        {valued("[256]"), "PIKA_EVENT has several values; expected one"},
		"invalid UTF-8":   {strings.Replace(valued(bytesForm(ready(2).line(""))), ",34,109,34,", ",34,255,34,", 1), "PIKA_EVENT: invalid UTF-8"},
		"path twice":      {strings.Replace(ready(2).String(), `"/run/pika-cloud/events.jsonl"`, `["/a","/b"]`, 1), "PIKA_EVENTS_PATH has several values; expected one"},
		"ID twice":        {strings.Replace(ready(2).String(), `"MESSAGE_ID":`, `"MESSAGE_ID":["1","2"],"X":`, 1), "MESSAGE_ID has several values; expected one"},
		"user twice":      {strings.Replace(ready(2).String(), `"_UID":"0"`, `"_UID":["0","1000"]`, 1), "_UID has several values; expected one"},
		"empty":           {valued(`""`), "PIKA_EVENT: the line is blank"},
		"no event":        {fakeEntry{kind: "ready", artifact: "x"}.String(), "PIKA_EVENT: column 1: expected a JSON value"},
		"cut event":       {fakeEntry{kind: "ready", artifact: strings.TrimSuffix(ready(2).line(""), "}")}.String(), "PIKA_EVENT: column 145: expected a comma or a closing brace"},
		"other JSON":      {fakeEntry{kind: "ready", artifact: "[]"}.String(), "PIKA_EVENT: expected an object"},
		"seq":             {fakeEntry{kind: "ready"}.String(), `PIKA_EVENT: seq is missing`},
		"seq 0":           {fakeEntry{kind: "ready", artifact: fakeEntry{kind: "ready"}.line(`,"seq":0`)}.String(), `PIKA_EVENT: seq is "0"; expected an integer from 1 to 18446744073709551615`},
		"seq twice":       {fakeEntry{kind: "ready", artifact: ready(2).line(`,"seq":3`)}.String(), "PIKA_EVENT: a name that occurs twice in an object"},
		"time":            {fakeEntry{kind: "ready", seq: 2, time: "now"}.String(), `PIKA_EVENT: timestamp is "now"; expected RFC 3339, such as 2026-03-25T20:00:00.123Z`},
		"boot":            {fakeEntry{kind: "ready", seq: 2, boot: `x\\ny`}.String(), `PIKA_EVENT: boot_id is "x\\ny"; expected a UUID in lower case`},
		"boot no dashes":  {fakeEntry{kind: "ready", seq: 2, boot: "aaaaaaaa0111104222083330444444444444"}.String(), `PIKA_EVENT: boot_id is "aaaaaaaa0111104222083330444444444444"; expected a UUID in lower case`},
		"boot not hex":    {fakeEntry{kind: "ready", seq: 2, boot: "aaaaaaaa-1111-4222-8333-44444444444/"}.String(), `PIKA_EVENT: boot_id is "aaaaaaaa-1111-4222-8333-44444444444/"; expected a UUID in lower case`},
		"newer":           {fakeEntry{kind: "ready", artifact: strings.Replace(ready(2).line(""), ":1", ":2", 1)}.String(), "PIKA_EVENT was written by a newer version; update pika-cloud-lifecycle"},
		"exit code":       {fakeEntry{outcome: "failed", artifact: fakeEntry{outcome: "failed"}.line(`,"exit_code":1.0`)}.String(), `PIKA_RESULT: exit_code is "1.0"; expected an integer from -2147483648 to 2147483647`},
		"no result":       {fakeEntry{outcome: "failed", artifact: " "}.String(), "PIKA_RESULT: the file is empty"},
		"kind":            {fakeEntry{kind: "ready", artifact: fakeEntry{kind: "failed", seq: 2}.line("")}.String(), "MESSAGE_ID is \"" + eventIDs["ready"] + "\"; expected " + eventIDs["failed"] + ", according to PIKA_EVENT"},
		"outcome":         {fakeEntry{outcome: "failed", artifact: fakeEntry{outcome: "completed"}.line("")}.String(), "MESSAGE_ID is \"" + resultIDs["failed"] + "\"; expected " + resultIDs["completed"] + ", according to PIKA_RESULT"},
		"another program": {strings.Replace(ready(2).String(), eventIDs["ready"], "fc2e22bc6ee647b6b90729ab34a250b1", 1), `MESSAGE_ID is "fc2e22bc6ee647b6b90729ab34a250b1"; expected ` + eventIDs["ready"] + ", according to PIKA_EVENT"},
		"another machine": {fakeEntry{kind: "ready", seq: 2, machine: "m2"}.String(), `the entry is from machine "m2", but the first one is from "m1"; rebuild each machine into its own directory, with journalctl _MACHINE_ID=m2`},
		"another log":     {fakeEntry{kind: "ready", seq: 2, path: "/x"}.String(), `the entry is from the log "/x", but the first one is from "/run/pika-cloud/events.jsonl"; rebuild each log into its own directory, with journalctl PIKA_EVENTS_PATH=/x`},
	} {
		dir := testenv.TempDir(t)
		stderr, code := rebuild(t, dir, ready(1).String()+c.line+ready(2).String())
		first, _, _ := strings.Cut(stderr, "\n")
		if code != 3 || strings.Count(stderr, "\n") != 2 || !strings.HasPrefix(first, Identifier+": line 2") || !strings.HasSuffix(first, ": "+c.stderr) {
			t.Errorf("%s: exit %d, stderr\n%swant line 2 and\n%s", name, code, stderr, c.stderr)
		}
		if got := seqs(t, dir, "events.jsonl"); got != "1 2" {
			t.Errorf("%s: seqs %s, want 1 2", name, got)
		}
	}
}

// valued returns an event whose PIKA_EVENT has a value in JSON.
func valued(value string) string {
	before, _, _ := strings.Cut(ready(2).String(), `"PIKA_EVENT":`)
	return before + `"PIKA_EVENT":` + value + "}\n"
}

// bytesForm returns the bytes of text as journalctl prints them if one is unprintable.
func bytesForm(text string) string {
	form := []byte("[")
	for _, b := range []byte(text) {
		form = append(strconv.AppendUint(form, uint64(b), 10), ',')
	}
	return string(form[:len(form)-1]) + "]"
}

// journalctl prints a value with unprintable characters as an array of bytes.
func testRebuildUnprintable(t *testing.T) {
	dir := testenv.TempDir(t)
	line := strings.Replace(ready(2).line(`,"details":"\u0001 \u0000"`), `"m"`, "\"\x7f \u0080 caf\u00e9\"", 1)
	if stderr, code := rebuild(t, dir, ready(1).String()+valued(bytesForm(line))); code != 0 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if got, want := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")), ready(1).line("")+"\n"+line+"\n"; got != want {
		t.Errorf("the log is\n%q\nwant\n%q", got, want)
	}
}

// Entries arrive one by one. An early event is buffered for a limited time. After rebuild
// is killed, another rebuild continues.
func testRebuildOneByOne(t *testing.T) {
	dir := testenv.TempDir(t)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer w.Close()
	var stderr lockedText
	cmd := localCommand(testenv.Program(t), "rebuild", "--state-dir", dir)
	cmd.Stdin, cmd.Stderr = r, &stderr
	testenv.Must(t, cmd.Start())
	r.Close()
	write := func(entries ...fakeEntry) {
		t.Helper()
		_, err := w.WriteString(join(entries...))
		testenv.Must(t, err)
	}
	write(ready(1))
	await(t, "seqs 1", func() bool { return seqs(t, dir, "events.jsonl") == "1" })
	write(ready(3))
	time.Sleep(50 * time.Millisecond)
	write(ready(2))
	await(t, "seqs 1 2 3", func() bool { return seqs(t, dir, "events.jsonl") == "1 2 3" })
	write(ready(5))
	await(t, "seqs 1 2 3 5", func() bool { return seqs(t, dir, "events.jsonl") == "1 2 3 5" })
	write(ready(4))
	await(t, "two warnings", func() bool { return strings.Count(stderr.String(), "\n") == 2 })
	want := Identifier + ": seq 4 is missing; if no warning above explains it, look for it in the guest's events.jsonl\n" + Identifier +
		": seq 4 arrived after seq 5, too late to be written; to include it, rebuild into an empty directory\n"
	if got := stderr.String(); got != want {
		t.Errorf("stderr\n%swant\n%s", got, want)
	}
	testenv.Must(t, cmd.Process.Kill())
	cmd.Wait()
	if _, code := rebuild(t, dir, join(ready(1), ready(2), ready(3), ready(5), ready(6))); code != 0 || seqs(t, dir, "events.jsonl") != "1 2 3 5 6" {
		t.Errorf("exit %d, seqs %s, want 1 2 3 5 6", code, seqs(t, dir, "events.jsonl"))
	}
}

// threeRuns returns two runs in one boot, and one in the next boot.
func threeRuns() []fakeEntry {
	b := func(e fakeEntry) fakeEntry { e.boot = bootB; return e }
	return []fakeEntry{
		{kind: "starting", seq: 1}, {kind: "ready", seq: 2}, {kind: "failed", seq: 3}, {outcome: "failed", seq: 3},
		{kind: "starting", seq: 4}, {kind: "failed", seq: 5}, {outcome: "failed", seq: 5},
		b(fakeEntry{kind: "starting", seq: 1}), b(fakeEntry{kind: "failed", seq: 2}), b(fakeEntry{outcome: "failed", seq: 2}), b(fakeEntry{kind: "stopped", seq: 3}),
	}
}

// contents returns the contents of a copy's files.
func contents(t *testing.T, dir string) (all string) {
	t.Helper()
	for _, name := range []string{"events.jsonl", "events.jsonl.1", "result.json", "result.json.prev", "status.json"} {
		all += name + "\n" + testenv.ReadIfExists(t, filepath.Join(dir, name))
	}
	return all
}

// rebuild stops after some of the entries. Another rebuild, which reads all entries,
// completes the copy.
func testRebuildStopped(t *testing.T) {
	in := threeRuns()
	complete := testenv.TempDir(t)
	rebuild(t, complete, join(in...))
	want := contents(t, complete)
	if !strings.Contains(testenv.ReadIfExists(t, filepath.Join(complete, "result.json")), bootB) || !strings.Contains(testenv.ReadIfExists(t, filepath.Join(complete, "result.json.prev")), `"seq": 5`) {
		t.Errorf("the complete copy does not have both results:\n%s", want)
	}
	for n := range len(in) + 1 {
		dir := testenv.TempDir(t)
		for _, part := range [][]fakeEntry{in[:n], in} {
			stderr, code := rebuild(t, dir, join(part...))
			warned := strings.Contains(stderr, "the input has no events and no results")
			if isEmpty := len(part) == 0; (code == 1) != isEmpty || (code == 0) == isEmpty || warned != isEmpty || (stderr != "" && !warned) {
				t.Errorf("%d entries: exit %d: %s", n, code, stderr)
			}
		}
		if got := contents(t, dir); got != want {
			t.Fatalf("stopped after %d entries, the copy is\n%swant\n%s", n, got, want)
		}
	}
}

// rebuild is killed at a system call. Another rebuild completes the copy. strace counts
// the calls of each thread separately, so the calls at which it kills vary from run to run.
func testRebuildKilled(t *testing.T) {
	testenv.Strace(t)
	in := join(threeRuns()...)
	complete := testenv.TempDir(t)
	rebuild(t, complete, in)
	want := contents(t, complete)
	killed := 0
	for _, call := range []string{"pwrite64", "write", "fdatasync", "fsync", "renameat"} {
		for when := 1; when <= 6; when++ {
			dir := testenv.TempDir(t)
			cmd := localCommand("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, when), testenv.Program(t), "rebuild", "--state-dir", dir)
			cmd.Stdin = strings.NewReader(in)
			if cmd.Run() != nil {
				killed++
			}
			if stderr, code := rebuild(t, dir, in); code != 0 || stderr != "" {
				t.Errorf("%s %d: exit %d: %s", call, when, code, stderr)
			}
			if got := contents(t, dir); got != want {
				t.Fatalf("killed at %s %d, the copy is\n%swant\n%s", call, when, got, want)
			}
		}
	}
	if killed < 10 {
		t.Errorf("rebuild was killed only %d times, want 10 or more", killed)
	}
}
