package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// rebuild feeds what journalctl printed to ingest --from=journal.
func rebuild(t testing.TB, dir, input string, args ...string) (said string, code int) {
	t.Helper()
	m := &machine{TB: t}
	return m.outside(input, append([]string{"ingest", "--from=journal", "--state-dir", dir}, args...)...)
}

// outside runs the program where the tests run.
func (m *machine) outside(input string, args ...string) (said string, code int) {
	m.Helper()
	cmd := commandOutside(append([]string{testenv.Program(m)}, args...)...)
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		m.Fatal(err)
	}
	return errs.String(), cmd.ProcessState.ExitCode()
}

// same demands that two directories have the same events, result and status.
func same(t testing.TB, got, want string) {
	t.Helper()
	for _, name := range []string{"events.jsonl", "result.json", "status.json"} {
		if g, w := testenv.ReadIfExists(t, filepath.Join(got, name)), testenv.ReadIfExists(t, filepath.Join(want, name)); g != w {
			t.Errorf("%s is\n%.2000s\nthe guest's is\n%.2000s", name, g, w)
		}
	}
}

// aRun is a guest's life with all that an event and a result may have.
const aRun = `{"state":"booted","message":"caf\u00e9\nand \u001b[31mred\u0000","details":{"big":123456789012345678901234567890,"a":[1.50,"\u007f"]}}
{"state":"starting","timestamp":"2026-03-25T20:00:00.123456Z"}
{"kind":"ready","message":""}
{"state":"ready"}
{"state":"failed","exit_code":-7,"message":"it failed","details":"text\nand more"}
`

func TestWhatAMirrorRecordedComesBackAsItWas(t *testing.T) {
	m := newJournal(t, 11)
	guest, host := testenv.TempDir(t), testenv.TempDir(t)
	m.ingest(guest, aRun)
	input := m.json()
	if said, code := rebuild(t, host, input); code != 0 || said != "" {
		t.Fatalf("exit %d: %s", code, said)
	}
	same(t, host, guest)
	if n := strings.Count(testenv.ReadIfExists(t, filepath.Join(host, "events.jsonl")), "\n"); n != 5 {
		t.Errorf("%d events", n)
	}
	before := stamps(t, host)
	if said, code := rebuild(t, host, input+input); code != 0 || said != "" {
		t.Errorf("again: exit %d: %s", code, said)
	}
	if after := stamps(t, host); after != before {
		t.Errorf("a second run touched\n%swas\n%s", after, before)
	}
}

// stamps tells of each file of a directory whether it was touched.
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

// A made entry is a line as journalctl prints it.
type made struct {
	machine, path, boot string
	uid                 string
	kind, outcome       string
	seq                 int
	time                string
	more                string // fields, each with a comma before it
}

func (e made) String() string {
	id := kindIDs[e.kind]
	word := fmt.Sprintf(`"PIKA_KIND":%q`, e.kind)
	if e.outcome != "" {
		id, word = outcomeIDs[e.outcome], fmt.Sprintf(`"PIKA_OUTCOME":%q`, e.outcome)
	}
	seq := ""
	if e.seq > 0 {
		seq = fmt.Sprintf(`,"PIKA_SEQ":"%d"`, e.seq)
	}
	boot := fmt.Sprintf(`"PIKA_BOOT_ID":%q,`, or(e.boot, bootA))
	if e.boot == "-" {
		boot = ""
	}
	text := fmt.Sprintf(`{"MESSAGE_ID":%q,"_UID":%q,"_MACHINE_ID":%q,"PIKA_EVENTS_PATH":%q,%s"MESSAGE":"m",%s%s,"PIKA_TIMESTAMP":%q%s`,
		id, or(e.uid, "0"), or(e.machine, "m1"), or(e.path, "/run/pika-cloud/events.jsonl"), boot, word, seq,
		or(e.time, "2026-03-25T20:00:00.123Z"), e.more)
	return fmt.Sprintf(`%s,"PIKA_FIELDS":"%d"}`+"\n", text, strings.Count(text, `"PIKA_`)+strings.Count(text, `"MESSAGE`)+1)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

var (
	kindIDs    = map[string]string{"ready": idReady, "starting": idStarting, "failed": idFailed, "stopped": idStopped}
	outcomeIDs = map[string]string{"failed": idResultFailed, "completed": idResultCompleted}
)

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

func ready(seq int) made { return made{kind: "ready", seq: seq} }

func join(entries ...made) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.String())
	}
	return b.String()
}

// TestAnEntryThatLostAFieldIsLeftOut: what a reader of a journal that is being
// written leaves out must not become an event that says less.
func TestAnEntryThatLostAFieldIsLeftOut(t *testing.T) {
	whole := made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":"{}","PIKA_UPTIME_MS":"7"`}.String()
	for _, field := range []string{"PIKA_EVENTS_PATH", "PIKA_BOOT_ID", "MESSAGE", "PIKA_KIND", "PIKA_SEQ",
		"PIKA_TIMESTAMP", "PIKA_DETAILS", "PIKA_UPTIME_MS", "PIKA_FIELDS"} {
		dir := testenv.TempDir(t)
		lost := regexp.MustCompile(`,"`+field+`":"([^"\\\\]|\\\\.)*"`).ReplaceAllString(whole, "")
		if lost == whole {
			t.Fatalf("%s is not in %s", field, whole)
		}
		said, code := rebuild(t, dir, ready(1).String()+lost+ready(3).String())
		if code != 0 || seqs(t, dir, "events.jsonl") != "1 3" || !strings.Contains(said, "has lost fields on its way") ||
			!strings.Contains(said, "the journal lacks seq 2") {
			t.Errorf("without %s: exit %d, seqs %s, said\n%s", field, code, seqs(t, dir, "events.jsonl"), said)
		}
	}
}

// TestACopyHasEachEventOnceInOrder: each input is given to a directory of its
// own, and then once more; the second time it changes nothing.
func TestACopyHasEachEventOnceInOrder(t *testing.T) {
	of := func(boot string, e made) made { e.boot = boot; return e }
	verdict := func(seq int, time string) made { return made{outcome: "failed", seq: seq, time: time} }
	for name, c := range map[string]struct {
		in           []made
		seqs, before string
		said, again  string
		result, prev string // seqs
	}{
		"in order":   {in: []made{ready(1), ready(2)}, seqs: "1 2"},
		"repeated":   {in: []made{ready(1), ready(1), ready(2), ready(1), ready(2)}, seqs: "1 2"},
		"swapped":    {in: []made{ready(2), ready(1), ready(4), ready(3), ready(4)}, seqs: "1 2 3 4"},
		"held twice": {in: []made{ready(2), ready(2), ready(1)}, seqs: "1 2"},
		"gap": {in: []made{ready(1), ready(3), ready(7)}, seqs: "1 3 7",
			said: "the journal lacks seq 2\nthe journal lacks seqs 4 to 6\n"},
		"begins late":                    {in: []made{ready(5)}, seqs: "5", said: "the journal lacks seqs 1 to 4\n"},
		"another boot, a log of its own": {in: []made{ready(1), ready(2), of(bootB, ready(1))}, seqs: "1", before: "1 2"},
		"another boot, the same log":     {in: []made{ready(1), ready(2), of(bootB, ready(3))}, seqs: "1 2 3"},
		"three boots": {in: []made{ready(1), ready(2), of(bootB, ready(1)), of(bootC, ready(1)), of(bootC, ready(2)), of(bootC, ready(3))},
			seqs: "1 2 3", before: "1"},
		"a gap of an old boot": {in: []made{ready(1), ready(3), of(bootB, ready(1)), of(bootB, ready(2)), of(bootB, ready(3)), of(bootB, ready(2))},
			seqs: "1 2 3", before: "1 3", said: "the journal lacks seq 2\n"},
		"an old boot comes again": {in: []made{ready(1), ready(2), of(bootB, ready(1)), ready(1), ready(2), ready(3), of(bootB, ready(2))},
			seqs: "1 2", before: "1 2"},
		"swapped at a boot":          {in: []made{ready(1), of(bootB, ready(2)), of(bootB, ready(1))}, seqs: "1 2", said: ""},
		"a verdict":                  {in: []made{ready(1), {kind: "failed", seq: 2}, verdict(2, ""), verdict(2, "")}, seqs: "1 2", result: "2"},
		"a verdict before its event": {in: []made{verdict(2, ""), ready(1), {kind: "failed", seq: 2}}, seqs: "1 2", result: "2"},
		"a verdict alone":            {in: []made{verdict(2, "")}, result: "2"},
		"two runs": {in: []made{{kind: "failed", seq: 1}, verdict(1, ""), {kind: "starting", seq: 2}, {kind: "failed", seq: 3}, verdict(3, ""), verdict(1, "")},
			seqs: "1 2 3", result: "3", prev: "1"},
		"a run that goes on": {in: []made{{kind: "failed", seq: 1}, verdict(1, ""), {kind: "starting", seq: 2}, verdict(1, "")}, seqs: "1 2", prev: "1"},
		"a run that was stopped": {in: []made{{kind: "failed", seq: 1}, verdict(1, ""), {kind: "starting", seq: 2}, {kind: "stopped", seq: 3}},
			seqs: "1 2 3", prev: "1"},
		"verdicts without events": {in: []made{ready(1), verdict(0, "2026-03-25T20:00:01.000Z"), verdict(0, "2026-03-25T20:00:02.000Z"), verdict(0, "2026-03-25T20:00:01.000Z")},
			seqs: "1", result: "none"},
		"verdicts without events, two runs": {in: []made{verdict(0, "2026-03-25T20:00:01.000Z"), {kind: "starting", seq: 1}, verdict(0, "2026-03-25T20:00:02.000Z")},
			seqs: "1", result: "none", prev: "none"},
		"boots that are not known": {in: []made{ready(1), of("-", ready(2)), ready(3), of("-", ready(4))}, seqs: "1 2 3 4"},
		"no boot is known":         {in: []made{of("-", ready(1)), of("-", ready(2)), of("-", made{kind: "failed", seq: 3}), of("-", verdict(3, "")), of("-", ready(1))}, seqs: "1 2 3", result: "3"},
		"a verdict of a boot without events": {in: []made{ready(1), {kind: "failed", seq: 2}, verdict(2, ""), of(bootB, verdict(1, "2026-03-25T21:00:00.000Z"))},
			seqs: "1 2", result: "1"},
		"a verdict before the events of its boot": {in: []made{{kind: "failed", seq: 1}, verdict(1, ""), of(bootB, verdict(2, "2026-03-25T21:00:00.000Z")),
			of(bootB, made{kind: "starting", seq: 1}), of(bootB, made{kind: "failed", seq: 2}), of(bootB, verdict(2, "2026-03-25T21:00:00.000Z"))},
			seqs: "1 2", before: "1", result: "2", prev: "2"},
		"the verdict of a boot that is over": {in: []made{ready(1), {kind: "failed", seq: 2}, verdict(2, ""), of(bootB, ready(1)), verdict(2, "2026-03-25T21:00:00.000Z")},
			seqs: "1", before: "1 2", prev: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testenv.TempDir(t)
			in := join(c.in...)
			said, code := rebuild(t, dir, in)
			want := ""
			for line := range strings.Lines(c.said) {
				want += Identifier + ": " + line
			}
			if code != 0 || said != want {
				t.Errorf("exit %d, said\n%swant\n%s", code, said, want)
			}
			for name, want := range map[string]string{"events.jsonl": c.seqs, "events.jsonl.1": c.before} {
				if got := seqs(t, dir, name); got != want {
					t.Errorf("%s has seqs %s, want %s", name, got, want)
				}
			}
			for name, want := range map[string]string{"result.json": c.result, "result.json.prev": c.prev} {
				text := testenv.ReadIfExists(t, filepath.Join(dir, name))
				if has := strings.Contains(text, `"seq": `+want); want != "none" && has != (want != "") || want == "" && text != "" || want == "none" && text == "" {
					t.Errorf("%s is %q, want that of %q", name, text, want)
				}
			}
			before := stamps(t, dir)
			if said, code := rebuild(t, dir, in); code != 0 || said != "" {
				t.Errorf("again: exit %d, said %s", code, said)
			}
			if after := stamps(t, dir); after != before {
				t.Errorf("a second run left\n%swas\n%s", after, before)
			}
		})
	}
}

func TestManyGapsAreNotSaidOneByOne(t *testing.T) {
	dir := testenv.TempDir(t)
	var in []made
	for seq := 1; seq < 300; seq += 2 {
		in = append(in, ready(seq))
	}
	said, code := rebuild(t, dir, join(in...))
	want := fmt.Sprintf("%s: the journal lacks more; the seqs in %s/events.jsonl tell which\n", Identifier, dir)
	if code != 0 || strings.Count(said, "\n") != 101 || !strings.HasSuffix(said, "the journal lacks seq 200\n"+want) {
		t.Errorf("exit %d, said\n%s", code, said)
	}
	if got := strings.Count(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")), "\n"); got != 150 {
		t.Errorf("%d events", got)
	}
}

func TestALateEventIsSaidOnce(t *testing.T) {
	var said []string
	l := Log{Dir: writer.In(testenv.TempDir(t)), Say: func(line string) { said = append(said, line) }}
	testenv.Must(t, l.Open())
	for _, seq := range []int{1, 3, 2, 2} {
		testenv.Must(t, l.Read([]byte(ready(seq).String()), time.Now()))
		for l.Next(time.Now(), true) != nil {
		}
	}
	if len(said) != 2 || !strings.Contains(said[1], "seq 2,") {
		t.Errorf("said %q", said)
	}
}

// A verdict does not come before its event, whatever came first: a reader that
// polls sees them in the order of a commit.
func TestAVerdictWaitsForItsEvent(t *testing.T) {
	l := Log{Dir: writer.In(testenv.TempDir(t))}
	testenv.Must(t, l.Open())
	now := time.Now()
	for i, c := range []struct {
		made
		ready int
	}{{made{outcome: "failed", seq: 2}, 0}, {ready(1), 1}, {made{kind: "failed", seq: 2}, 2}} {
		testenv.Must(t, l.Read([]byte(c.String()), now))
		n := 0
		for rec := l.Next(now, false); rec != nil; rec = l.Next(now, false) {
			if n++; (rec.Result != nil) != (i == 2 && n == 2) {
				t.Errorf("after %d lines, %d: %+v", i+1, n, rec)
			}
		}
		if n != c.ready {
			t.Errorf("after %d lines %d records", i+1, n)
		}
	}
}

// What waits is bounded by its size too.
func TestWhatWaitsIsBounded(t *testing.T) {
	l := Log{Dir: writer.In(testenv.TempDir(t))}
	testenv.Must(t, l.Open())
	now, n := time.Now(), 0
	big := ready(0)
	big.more = `,"X":"` + strings.Repeat("x", 1<<20) + `"`
	for big.seq = 2; big.seq <= 33; big.seq++ {
		testenv.Must(t, l.Read([]byte(big.String()), now))
		for rec := l.Next(now, false); rec != nil; rec = l.Next(now, false) {
			n++
		}
		if (n > 0) != (big.seq == 33) {
			t.Fatalf("%d records after %d lines", n, big.seq-1)
		}
	}
	if n != 32 || l.Waits() || l.size != 0 {
		t.Errorf("%d records; %d bytes wait", n, l.size)
	}
}

// TestACopyGoesOnAfterACrash: an event is in the log, and neither its status
// nor its result.
func TestACopyGoesOnAfterACrash(t *testing.T) {
	dir := testenv.TempDir(t)
	in := join(ready(1), made{kind: "failed", seq: 2}, made{outcome: "failed", seq: 2})
	rebuild(t, dir, in)
	status, result := testenv.ReadIfExists(t, filepath.Join(dir, "status.json")), testenv.ReadIfExists(t, filepath.Join(dir, "result.json"))
	rebuild(t, dir, join(ready(1)))
	testenv.Must(t, os.Remove(filepath.Join(dir, "status.json")))
	testenv.Must(t, os.Remove(filepath.Join(dir, "result.json")))
	if said, code := rebuild(t, dir, in); code != 0 || said != "" {
		t.Errorf("exit %d: %s", code, said)
	}
	if testenv.ReadIfExists(t, filepath.Join(dir, "status.json")) != status || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) != result || status == "" || result == "" {
		t.Errorf("status\n%s, result\n%s", testenv.ReadIfExists(t, filepath.Join(dir, "status.json")), testenv.ReadIfExists(t, filepath.Join(dir, "result.json")))
	}
}

// TestACopysVerdictStandsBeforeItsStatus, as it does where a crash came between
// the two.
func TestACopysVerdictStandsBeforeItsStatus(t *testing.T) {
	dir := testenv.TempDir(t)
	in := []made{ready(1), {kind: "failed", seq: 2}, {outcome: "failed", seq: 2}}
	rebuild(t, dir, join(in[:1]...))
	old := testenv.ReadIfExists(t, filepath.Join(dir, "status.json"))
	rebuild(t, dir, join(in...))
	want := historyOf(t, dir)
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "status.json"), []byte(old), 0o644))
	rebuild(t, dir, join(in...))
	if got := historyOf(t, dir); got != want || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) == "" {
		t.Errorf("the copy is\n%swant\n%s", got, want)
	}
}

func TestALongEntryIsTaken(t *testing.T) {
	dir := testenv.TempDir(t)
	e := ready(1)
	e.more = `,"X":"` + strings.Repeat("x", 2<<20) + `"`
	if said, code := rebuild(t, dir, e.String()); code != 0 || seqs(t, dir, "events.jsonl") != "1" {
		t.Errorf("exit %d: %.200s", code, said)
	}
}

// TestACopysStatusIsMadeWhole: the log had begun anew, and the status is the
// former boot's, whose seq is higher.
func TestACopysStatusIsMadeWhole(t *testing.T) {
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
		t.Errorf("the status is\n%s", got)
	}
}

// TestACopyRetiresAFormerVerdict that a crash has left in its place.
func TestACopyRetiresAFormerVerdict(t *testing.T) {
	in := aHistory()
	for name, c := range map[string]struct{ verdict, run int }{"another run": {4, 5}, "another boot": {7, 8}} {
		dir := testenv.TempDir(t)
		rebuild(t, dir, join(in[:c.verdict]...))
		old := testenv.ReadIfExists(t, filepath.Join(dir, "result.json"))
		rebuild(t, dir, join(in[:c.run]...))
		testenv.Must(t, os.Rename(filepath.Join(dir, "result.json.prev"), filepath.Join(dir, "result.json")))
		if said, code := rebuild(t, dir, join(in[:c.run]...)); code != 0 || said != "" {
			t.Errorf("%s: exit %d: %s", name, code, said)
		}
		if got := testenv.ReadIfExists(t, filepath.Join(dir, "result.json.prev")); got != old || old == "" || testenv.ReadIfExists(t, filepath.Join(dir, "result.json")) != "" {
			t.Errorf("%s: the former verdict is\n%swant\n%s", name, got, old)
		}
	}
}

// TestWhoIsBelieved: any user can send an entry with any field.
func TestWhoIsBelieved(t *testing.T) {
	forged := made{kind: "failed", seq: 2, uid: "1000"}
	for _, c := range []struct {
		args []string
		seqs string
		said string
	}{
		{nil, "1", Identifier + ": there are entries of user \"1000\", who is not believed; --trust-uid takes one besides root\n"},
		{[]string{"--trust-uid", "1000"}, "1 2", ""},
		{[]string{"--trust-uid", "1001"}, "1", Identifier + ": there are entries of user \"1000\", who is not believed; --trust-uid takes one besides root\n"},
	} {
		dir := testenv.TempDir(t)
		said, code := rebuild(t, dir, join(ready(1), forged, forged), c.args...)
		if got := seqs(t, dir, "events.jsonl"); code != 0 || said != c.said || got != c.seqs {
			t.Errorf("%v: exit %d, seqs %s, said %s", c.args, code, got, said)
		}
	}
	l := Log{Dir: writer.In(testenv.TempDir(t))} // trusts nobody but root
	testenv.Must(t, l.Open())
	testenv.Must(t, l.Read([]byte(strings.ReplaceAll(ready(1).String(), `"_UID":"0",`, "")), time.Now()))
	if l.Next(time.Now(), true) != nil {
		t.Error("an entry of nobody was believed")
	}
}

// TestWhatIsRefusedOfAJournal names the line, what is wrong and what to do.
func TestWhatIsRefusedOfAJournal(t *testing.T) {
	for name, c := range map[string]struct{ line, said string }{
		"no JSON":         {"-- Boot 1 --\n", "not an entry; expected what journalctl -o json --all prints"},
		"cut":             {strings.TrimSuffix(ready(2).String(), "}\n") + "\n", "not an entry; expected what journalctl -o json --all prints"},
		"more":            {strings.TrimSuffix(ready(2).String(), "\n") + " {}\n", "not an entry; expected what journalctl -o json --all prints"},
		"no object":       {"[]\n", "not an entry; expected what journalctl -o json --all prints"},
		"left out":        {made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":null`}.String(), "PIKA_DETAILS was left out because it is large; run journalctl with --all"},
		"twice":           {made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":["1","2"]`}.String(), "PIKA_DETAILS stands in the entry more than once"},
		"twice, no text":  {made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":[[1],[2]]`}.String(), "PIKA_DETAILS stands in the entry more than once"},
		"no text":         {made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":{}`}.String(), "PIKA_DETAILS is {}; expected what journalctl -o json prints"},
		"details":         {made{kind: "ready", seq: 2, more: `,"PIKA_DETAILS":"{"`}.String(), `PIKA_DETAILS is "{"; expected JSON`},
		"seq":             {made{kind: "ready"}.String(), `PIKA_SEQ is ""; expected a number from 1`},
		"seq 0":           {strings.Replace(ready(2).String(), `"PIKA_SEQ":"2"`, `"PIKA_SEQ":"0"`, 1), `PIKA_SEQ is "0"; expected a number from 1`},
		"time":            {made{kind: "ready", seq: 2, time: "now"}.String(), `PIKA_TIMESTAMP is "now"; expected a time such as 2026-03-25T20:00:00.123Z`},
		"uptime":          {made{kind: "ready", seq: 2, more: `,"PIKA_UPTIME_MS":"0"`}.String(), `PIKA_UPTIME_MS is "0"; expected milliseconds, from 1`},
		"boot":            {made{kind: "ready", seq: 2, boot: "x\\ny"}.String(), `PIKA_BOOT_ID is "x\\ny"; expected a boot ID`},
		"long uptime":     {made{kind: "ready", seq: 2, more: `,"PIKA_UPTIME_MS":"9223372036855"`}.String(), `PIKA_UPTIME_MS is "9223372036855"; expected milliseconds, from 1`},
		"boot, no dashes": {made{kind: "ready", seq: 2, boot: "aaaaaaaa0111104222083330444444444444"}.String(), `PIKA_BOOT_ID is "aaaaaaaa0111104222083330444444444444"; expected a boot ID`},
		"boot, no hex":    {made{kind: "ready", seq: 2, boot: "aaaaaaaa-1111-4222-8333-44444444444/"}.String(), `PIKA_BOOT_ID is "aaaaaaaa-1111-4222-8333-44444444444/"; expected a boot ID`},
		"exit code":       {made{outcome: "failed", more: `,"PIKA_EXIT_CODE":"1.0"`}.String(), `PIKA_EXIT_CODE is "1.0"; expected an integer from -2147483648 to 2147483647`},
		"kind":            {strings.Replace(ready(2).String(), `"PIKA_KIND":"ready"`, `"PIKA_KIND":"failed"`, 1), `PIKA_KIND is "failed"; expected ready, as its MESSAGE_ID says`},
		"outcome":         {strings.Replace(made{outcome: "failed"}.String(), `"PIKA_OUTCOME":"failed"`, `"PIKA_OUTCOME":"completed"`, 1), `PIKA_OUTCOME is "completed"; expected failed, as its MESSAGE_ID says`},
		"another machine": {made{kind: "ready", seq: 2, machine: "m2"}.String(), `the entry is of machine "m2", this stream of "m1"; run a stream for each, with journalctl _MACHINE_ID=m2`},
		"another log":     {made{kind: "ready", seq: 2, path: "/x"}.String(), `the entry is of the log "/x", this stream of "/run/pika-cloud/events.jsonl"; run a stream for each, with journalctl PIKA_EVENTS_PATH=/x`},
	} {
		dir := testenv.TempDir(t)
		said, code := rebuild(t, dir, ready(1).String()+c.line+ready(2).String())
		want := fmt.Sprintf("%s: line 2, column 1: %s\n%s: 1 of 3 lines refused\n", Identifier, c.said, Identifier)
		if code != 3 || said != want {
			t.Errorf("%s: exit %d, said\n%swant\n%s", name, code, said, want)
		}
		if got := seqs(t, dir, "events.jsonl"); got != "1 2" {
			t.Errorf("%s: seqs %s", name, got)
		}
	}
}

// TestBytesComeBackFromNumbers: journalctl prints what is no text so.
func TestBytesComeBackFromNumbers(t *testing.T) {
	dir := testenv.TempDir(t)
	e := strings.Replace(ready(1).String(), `"MESSAGE":"m"`, `"MESSAGE":[97,27,0,255]`, 1)
	if said, code := rebuild(t, dir, e); code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}
	if got := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")); !strings.Contains(got, `"message":"a\u001b\u0000`+"\ufffd"+`"`) {
		t.Errorf("events\n%s", got)
	}
}

// TestALiveCopy: entries arrive one by one; what waits for others is given up
// after a while, and a stream that is killed goes on where it was.
func TestALiveCopy(t *testing.T) {
	dir := testenv.TempDir(t)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer w.Close()
	var said lockedText
	cmd := commandOutside(testenv.Program(t), "ingest", "--from=journal", "--state-dir", dir)
	cmd.Stdin, cmd.Stderr = r, &said
	testenv.Must(t, cmd.Start())
	r.Close()
	show := func(entries ...made) {
		t.Helper()
		_, err := w.WriteString(join(entries...))
		testenv.Must(t, err)
	}
	show(ready(1))
	await(t, func() bool { return seqs(t, dir, "events.jsonl") == "1" })
	show(ready(3))
	time.Sleep(50 * time.Millisecond)
	show(ready(2))
	await(t, func() bool { return seqs(t, dir, "events.jsonl") == "1 2 3" })
	show(ready(5))
	await(t, func() bool { return seqs(t, dir, "events.jsonl") == "1 2 3 5" })
	show(ready(4))
	await(t, func() bool { return strings.Count(said.String(), "\n") == 2 })
	want := Identifier + ": the journal lacks seq 4\n" + Identifier +
		": seq 4, of those that were missing, came after 5; rebuild into an empty directory to have it\n"
	if got := said.String(); got != want {
		t.Errorf("said\n%swant\n%s", got, want)
	}
	testenv.Must(t, cmd.Process.Kill())
	cmd.Wait()
	if _, code := rebuild(t, dir, join(ready(1), ready(2), ready(3), ready(5), ready(6))); code != 0 || seqs(t, dir, "events.jsonl") != "1 2 3 5 6" {
		t.Errorf("exit %d, seqs %s", code, seqs(t, dir, "events.jsonl"))
	}
}

// aHistory is two runs in one boot, and a boot after it.
func aHistory() []made {
	b := func(e made) made { e.boot = bootB; return e }
	return []made{
		{kind: "starting", seq: 1}, {kind: "ready", seq: 2}, {kind: "failed", seq: 3}, {outcome: "failed", seq: 3},
		{kind: "starting", seq: 4}, {kind: "failed", seq: 5}, {outcome: "failed", seq: 5},
		b(made{kind: "starting", seq: 1}), b(made{kind: "failed", seq: 2}), b(made{outcome: "failed", seq: 2}), b(made{kind: "stopped", seq: 3}),
	}
}

// historyOf returns the artifacts of a copy that was never disturbed.
func historyOf(t *testing.T, dir string) (all string) {
	t.Helper()
	for _, name := range []string{"events.jsonl", "events.jsonl.1", "result.json", "result.json.prev", "status.json"} {
		all += name + "\n" + testenv.ReadIfExists(t, filepath.Join(dir, name))
	}
	return all
}

// TestACopyStoppedAnywhereIsMadeWhole by the next run, which reads it all again.
func TestACopyStoppedAnywhereIsMadeWhole(t *testing.T) {
	in := aHistory()
	undisturbed := testenv.TempDir(t)
	rebuild(t, undisturbed, join(in...))
	want := historyOf(t, undisturbed)
	if !strings.Contains(testenv.ReadIfExists(t, filepath.Join(undisturbed, "result.json")), bootB) || !strings.Contains(testenv.ReadIfExists(t, filepath.Join(undisturbed, "result.json.prev")), `"seq": 5`) {
		t.Errorf("undisturbed, the copy is\n%s", want)
	}
	for n := range len(in) + 1 {
		dir := testenv.TempDir(t)
		for _, part := range [][]made{in[:n], in} {
			if said, code := rebuild(t, dir, join(part...)); code != 0 || said != "" {
				t.Errorf("%d entries: exit %d: %s", n, code, said)
			}
		}
		if got := historyOf(t, dir); got != want {
			t.Fatalf("stopped after %d entries, the copy is\n%swant\n%s", n, got, want)
		}
	}
}

// TestACopyKilledAtACallIsMadeWhole by the next run. The calls are counted by
// thread, so which point a number hits differs; all must do.
func TestACopyKilledAtACallIsMadeWhole(t *testing.T) {
	testenv.Tools(t, "strace")
	in := join(aHistory()...)
	undisturbed := testenv.TempDir(t)
	rebuild(t, undisturbed, in)
	want := historyOf(t, undisturbed)
	killed := 0
	for _, call := range []string{"pwrite64", "write", "fdatasync", "fsync", "renameat"} {
		for when := 1; when <= 6; when++ {
			dir := testenv.TempDir(t)
			cmd := commandOutside("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, when), testenv.Program(t), "ingest", "--from=journal", "--state-dir", dir)
			cmd.Stdin = strings.NewReader(in)
			if cmd.Run() != nil {
				killed++
			}
			if said, code := rebuild(t, dir, in); code != 0 || said != "" {
				t.Errorf("%s %d: exit %d: %s", call, when, code, said)
			}
			if got := historyOf(t, dir); got != want {
				t.Fatalf("killed at %s %d, the copy is\n%swant\n%s", call, when, got, want)
			}
		}
	}
	if killed < 10 {
		t.Errorf("killed %d times only", killed)
	}
}
