package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// directives returns one transition to each of the ten states, with all that a
// directive may have.
func directives() string {
	var b strings.Builder
	for i, s := range artifact.States() {
		fmt.Fprintf(&b, `{"state":%q,"message":"message %d\n=two\nlines","details":{"n":%d,"\n_PID=1\nMESSAGE":"x\nPIKA_SEQ=99\n"}}`+"\n", s, i, i)
	}
	return b.String()
}

// expected returns the fields that an event's line should have in the journal.
func expected(t *testing.T, dir, line string) stored {
	t.Helper()
	var v struct {
		Kind, Timestamp, Message string
		BootID                   string          `json:"boot_id"`
		Uptime                   json.RawMessage `json:"uptime_ms"`
		Details                  json.RawMessage
		Seq                      json.RawMessage
	}
	testenv.Must(t, json.Unmarshal([]byte(line), &v))
	priority := map[string]string{"failed": "3", "unreachable": "4"}[v.Kind]
	if priority == "" {
		priority = "6"
	}
	e := stored{"MESSAGE_ID": kindID(artifact.State(v.Kind)), "PRIORITY": priority, "SYSLOG_IDENTIFIER": Identifier,
		"MESSAGE": v.Message, "PIKA_KIND": v.Kind, "PIKA_TIMESTAMP": v.Timestamp, "PIKA_SEQ": string(v.Seq),
		"PIKA_EVENTS_PATH": dir + "/events.jsonl", "PIKA_BOOT_ID": v.BootID}
	if v.Uptime != nil {
		e["PIKA_UPTIME_MS"] = string(v.Uptime)
	}
	if v.Details != nil {
		e["PIKA_DETAILS"] = string(v.Details)
	}
	return e.counted()
}

// counted adds to an entry the field that counts those of ours.
func (e stored) counted() stored {
	delete(e, "PIKA_FIELDS")
	n := 1
	for name := range e {
		if strings.HasPrefix(name, "PIKA_") || name == "MESSAGE" || name == "MESSAGE_ID" {
			n++
		}
	}
	e["PIKA_FIELDS"] = fmt.Sprint(n)
	return e
}

// TestEveryFieldOfEveryKindArrives, and no other: what the input says of fields
// is a value. The journal's own fields tell the truth.
func TestEveryFieldOfEveryKindArrives(t *testing.T) {
	m := newJournal(t, 1)
	dir := testenv.TempDir(t)
	for _, state := range artifact.States() { // one run each: a stream has one verdict
		for line := range strings.Lines(directives()) {
			if strings.Contains(line, strconv.Quote(string(state))) {
				m.ingest(dir, line)
			}
		}
	}
	m.ingest(dir, "KIND=ready TIMESTAMP=2026-03-25T20:00:00Z MESSAGE=''\n")
	_, said, code := m.try("STATE=ready\nbad\xff\x1b\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal=auto")
	if code != 3 {
		t.Fatalf("exit %d: %s", code, said)
	}
	var want []stored
	for i, line := range lines(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl"))) {
		want = append(want, expected(t, dir, line))
		if i == 5 || i == 6 {
			e := maps.Clone(want[len(want)-1])
			e["PIKA_OUTCOME"], e["MESSAGE_ID"] = e["PIKA_KIND"], outcomeID(artifact.Outcome(e["PIKA_KIND"]))
			delete(e, "PIKA_KIND")
			delete(e, "PIKA_UPTIME_MS")
			if i == 5 {
				e["PIKA_EXIT_CODE"] = "0"
			}
			want = append(want, e.counted())
		}
	}
	got := m.entries()
	if len(got) != len(want)+1 {
		t.Fatalf("%d entries, want %d and a refused line", len(got), len(want))
	}
	for i, e := range want {
		if !maps.Equal(got[i].sent(), e) {
			t.Errorf("entry %d is\n%q\nwant\n%q", i, got[i].sent(), e)
		}
		if got[i]["_MACHINE_ID"] != m.id || got[i]["_UID"] != "0" || got[i]["_TRANSPORT"] != "journal" || got[i]["_PID"] == "1" {
			t.Errorf("entry %d: the journal says %q", i, got[i])
		}
	}
	e := got[len(want)].sent()
	refused := stored{"MESSAGE_ID": idRefused, "PRIORITY": "4", "SYSLOG_IDENTIFIER": Identifier,
		"MESSAGE": "line 2, column 1: expected KEY=value", "PIKA_LINE": "2", "PIKA_OFFSET": "12",
		"PIKA_RAW": "bad\xff\x1b", "PIKA_TIMESTAMP": e["PIKA_TIMESTAMP"], "PIKA_EVENTS_PATH": dir + "/events.jsonl"}
	if _, err := time.Parse(timeFormat, e["PIKA_TIMESTAMP"]); err != nil || !maps.Equal(e, refused.counted()) {
		t.Errorf("the refused line is\n%q\nwant\n%q", e, refused)
	}
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func TestLargeValuesArriveWhole(t *testing.T) {
	m := newJournal(t, 2)
	dir := testenv.TempDir(t)
	var input strings.Builder
	for _, size := range []int{250_000, 5_000_000} {
		text, err := json.Marshal(strings.Repeat("0123456789\n", size/11))
		testenv.Must(t, err)
		fmt.Fprintf(&input, `{"state":"ready","message":%s,"details":{"log":%s}}`+"\n", text, text)
	}
	if said := m.ingest(dir, input.String(), "--max-line", "33554432"); said != "" {
		t.Errorf("said %q", said)
	}
	got := m.entries()
	if len(got) != 2 {
		t.Fatalf("%d entries", len(got))
	}
	for i, line := range lines(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl"))) {
		if want := expected(t, dir, line); !maps.Equal(got[i].sent(), want) {
			t.Errorf("entry %d, %.80q, has %d and %d bytes, want %d and %d", i, got[i]["MESSAGE"], len(got[i]["MESSAGE"]), len(got[i]["PIKA_DETAILS"]),
				len(want["MESSAGE"]), len(want["PIKA_DETAILS"]))
		}
	}
}

// journald takes a file from a user who is not root only if it is sealed.
func TestLargeValuesOfAnyUserArrive(t *testing.T) {
	testenv.Root(t)
	testenv.Mount(t) // a user namespace has one user
	m := newJournal(t, 22)
	testenv.Tools(t, "setpriv")
	dir := testenv.TempDir(t)
	testenv.OpenToAll(t, dir, filepath.Dir(testenv.Program(t)))
	testenv.Must(t, os.Chown(dir, 1000, 1000))
	text := strings.Repeat("x", 500_000)
	m.run("STATE=ready MESSAGE="+text+"\n", "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups",
		testenv.Program(t), "ingest", "--state-dir", dir, "--journal=always")
	got := m.entries()
	if len(got) != 1 || got[0]["MESSAGE"] != text || got[0]["_UID"] != "1000" {
		t.Errorf("%d entries: %.200q", len(got), got)
	}
}

// many returns directives.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "STATE=ready MESSAGE='probe %d passed' DETAILS.port:=8080\n", i)
	}
	return b.String()
}

// counts reads the two numbers of what is said of missed entries.
func counts(t *testing.T, said string) (missed, of int) {
	t.Helper()
	if n, _ := fmt.Sscanf(said, Identifier+": the journal missed %d of %d entries; the artifacts have them\n", &missed, &of); n != 2 {
		t.Fatalf("said %q", said)
	}
	return missed, of
}

// TestAStoppedJournalHoldsNothingUp: journald stops for the whole run. Nothing
// is lost but entries, and these are counted. The time is compared in pairs, of
// which one in ten must hold: the others may have been disturbed.
func TestAStoppedJournalHoldsNothingUp(t *testing.T) {
	m := newJournal(t, 3)
	const n = 100_000
	input := many(n)
	run := func(args ...string) (dir, said string, took time.Duration) {
		dir = testenv.TempDir(t)
		start := time.Now()
		_, said, code := m.try(input, append([]string{testenv.Program(t), "ingest", "--state-dir", dir}, args...)...)
		if took = time.Since(start); code != 0 {
			t.Fatalf("exit %d: %s", code, said)
		}
		return dir, said, took
	}
	m.signal(syscall.SIGSTOP)
	for try := 1; ; try++ {
		plainDir, _, plain := run()
		dir, said, mirrored := run("--journal=always")
		missed, of := counts(t, said)
		if of != n || missed < n-1000 || missed > n {
			t.Fatalf("said %q", said)
		}
		for _, d := range []string{plainDir, dir} {
			if got := strings.Count(testenv.ReadIfExists(t, filepath.Join(d, "events.jsonl")), "\n"); got != n {
				t.Fatalf("%d events", got)
			}
			os.RemoveAll(d)
		}
		t.Logf("%d directives: %v without a mirror, %v with one whose journal is stopped, which missed %d", n, plain, mirrored, missed)
		if mirrored <= plain*6/5 {
			break
		}
		if try == 10 {
			t.Fatal("slower by more than a fifth, ten times of ten")
		}
	}
	m.signal(syscall.SIGCONT)
	if got := len(m.entries()); got > 1000 {
		t.Errorf("%d entries", got)
	}
}

// A mirrored stream is fed by hand.
type feed struct {
	*machine
	dir   string
	in    *os.File
	acks  *os.File
	said  strings.Builder
	wait  func() error
	lines int
}

func (m *machine) feed(dir string) *feed {
	m.Helper()
	r, w, err := os.Pipe()
	testenv.Must(m, err)
	acks, ackEnd, err := os.Pipe()
	testenv.Must(m, err)
	f := &feed{machine: m, dir: dir, in: w, acks: acks}
	cmd := m.command(testenv.Program(m), "ingest", "--state-dir", dir, "--journal=always", "--ack-fd", "3")
	cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = r, &f.said, []*os.File{ackEnd}
	testenv.Must(m, cmd.Start())
	r.Close()
	ackEnd.Close()
	f.wait = cmd.Wait
	m.Cleanup(func() { w.Close(); acks.Close() })
	return f
}

// print prints directives and waits until they are settled.
func (f *feed) print(text string) {
	f.Helper()
	_, err := f.in.WriteString(text)
	testenv.Must(f, err)
	f.lines += strings.Count(text, "\n")
	for buf, last := make([]byte, 4096), ""; !strings.HasPrefix(last, fmt.Sprint(f.lines, " ")); {
		n, err := f.acks.Read(buf)
		testenv.Must(f, err)
		all := lines(string(buf[:n]))
		last = all[len(all)-1]
	}
}

func (f *feed) end() string {
	f.Helper()
	f.in.Close()
	testenv.Must(f, f.wait())
	return f.said.String()
}

func TestEntriesFlowAgainOnceJournaldIsRestarted(t *testing.T) {
	m := newJournal(t, 4)
	dir := testenv.TempDir(t)
	f := m.feed(dir)
	f.print(many(300))
	for len(m.entries()) < 300 { // what a journald that is killed has not read is lost
		time.Sleep(10 * time.Millisecond)
	}
	m.kill()
	f.print(many(300))
	m.start()
	f.print(many(300))
	if said := f.end(); said != "" {
		t.Errorf("said %q", said)
	}
	got := m.entries()
	for i, e := range got {
		if e["PIKA_SEQ"] != fmt.Sprint(i+1) {
			t.Fatalf("entry %d is of seq %s", i, e["PIKA_SEQ"])
		}
	}
	if len(got) != 900 {
		t.Errorf("%d entries", len(got))
	}
}

func TestEntriesWaitForAJournalThatComesLater(t *testing.T) {
	m := newMachine(t, 23)
	f := m.feed(testenv.TempDir(t))
	f.print(many(5))
	m.start()
	await(t, func() bool { return len(m.entries()) == 5 })
	if said := f.end(); !strings.Contains(said, "no such file") || strings.Contains(said, "missed") {
		t.Errorf("said %q", said)
	}
}

// A journald that is stopped keeps its socket, but another may take the path.
func TestAnotherJournaldIsDialled(t *testing.T) {
	m := newJournal(t, 24)
	f := m.feed(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	f.print(many(100))
	stopped := m.journald.Process
	defer stopped.Kill()
	m.start()
	await(t, func() bool { return len(m.entries()) >= 85 }) // the stopped one has the others
	if said := f.end(); said != "" {
		t.Errorf("said %q", said)
	}
}

func TestWhatAJournalThatStaysAwayMissedIsCounted(t *testing.T) {
	m := newJournal(t, 5)
	f := m.feed(testenv.TempDir(t))
	f.print(many(300))
	for len(m.entries()) < 300 {
		time.Sleep(10 * time.Millisecond)
	}
	m.kill()
	f.print(many(200))
	if missed, of := counts(t, f.end()); missed != 200 || of != 500 {
		t.Errorf("missed %d of %d", missed, of)
	}
}

// What a journal missed while it was stopped it is told of once it is back.
func TestAJournalIsToldWhatItMissed(t *testing.T) {
	m := newJournal(t, 6)
	f := m.feed(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	const n = 60_000 // more than the queue holds
	f.print(many(n))
	m.signal(syscall.SIGCONT)
	for len(m.entries()) < 1000 {
		time.Sleep(10 * time.Millisecond)
	}
	missed, of := counts(t, f.end())
	got := m.entries()
	last := got[len(got)-1].sent()
	want := stored{"MESSAGE_ID": idMissed, "PRIORITY": "4", "SYSLOG_IDENTIFIER": Identifier,
		"PIKA_EVENTS_PATH": f.dir + "/events.jsonl", "PIKA_MISSED": fmt.Sprint(missed),
		"MESSAGE": fmt.Sprintf("the journal missed %d entries of the lifecycle; the artifacts have them", missed)}
	if of != n || len(got) != n-missed+1 || !maps.Equal(last, want.counted()) {
		t.Errorf("missed %d of %d; %d entries, the last %q", missed, of, len(got), last)
	}
}

// A journal that has shown that it lives is waited for at the end, although
// entries were missed.
func TestAJournalThatLivesIsWaitedFor(t *testing.T) {
	m := newJournal(t, 25)
	f := m.feed(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	const n = 60_000 // more than the queue holds
	f.print(many(n))
	m.signal(syscall.SIGCONT)
	await(t, func() bool { return len(m.entries()) >= 1000 })
	m.signal(syscall.SIGSTOP)
	f.print(many(100))
	resume := time.AfterFunc(200*time.Millisecond, func() { m.journald.Process.Signal(syscall.SIGCONT) })
	defer resume.Stop()
	missed, of := counts(t, f.end())
	got := m.entries()
	if of != n+100 || len(got) != of-missed+1 || got[len(got)-2]["PIKA_SEQ"] != fmt.Sprint(of) {
		t.Errorf("missed %d of %d; %d entries", missed, of, len(got))
	}
}

func TestWithoutAJournalTheStreamIsAsItWas(t *testing.T) {
	m := newMachine(t, 7)
	dir := testenv.TempDir(t)
	for word, want := range map[string][]string{
		"never": nil, "auto": nil,
		"always": {"--journal=always: connect /run/systemd/journal/socket: no such file or directory; entries wait until it is there",
			"the journal missed 1 of 1 entries; the artifacts have them"},
	} {
		_, said, code := m.try("STATE=ready\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal="+word)
		var all string
		for _, line := range want {
			all += Identifier + ": " + line + "\n"
		}
		if code != 0 || said != all {
			t.Errorf("%s: exit %d, said\n%swant\n%s", word, code, said, all)
		}
	}
	if got := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")); strings.Count(got, "\n") != 3 {
		t.Errorf("events\n%s", got)
	}
}

// A mirror waits in a system call, which signals end; and what it was told it
// keeps as it was. Its journald is stopped until the one and the other has
// happened.
func TestAMirrorThatWaitsLosesNothing(t *testing.T) {
	m := newJournal(t, 10)
	m.signal(syscall.SIGSTOP)
	mirror := Mirror{EventsPath: "/e", Socket: m.root(DefaultSocket)}
	testenv.Must(t, mirror.Start())
	event := []byte(`{"kind":"ready","message":"m","seq":1}` + "\n")
	for range 100 {
		mirror.Committed(&ingest.Commit{Events: event})
	}
	code := int32(7)
	result := &artifact.Result{Outcome: artifact.OutcomeFailed, ExitCode: &code, Message: []byte(`"as it was"`), Details: []byte(`{"n":1}`), Seq: 1}
	mirror.Committed(&ingest.Commit{Result: result})
	copy(result.Message, `"otherwise"`)
	copy(result.Details, `{"n":2}`)
	code, result.Seq = 8, 2
	for range 20 {
		interruptAll(t)
		time.Sleep(5 * time.Millisecond)
	}
	m.signal(syscall.SIGCONT)
	if missed, of := mirror.Close(); missed != 0 || of != 101 {
		t.Errorf("missed %d of %d", missed, of)
	}
	got := m.entries()
	if len(got) != 101 {
		t.Fatalf("%d entries", len(got))
	}
	last := got[100]
	if last["MESSAGE"] != "as it was" || last["PIKA_DETAILS"] != `{"n":1}` || last["PIKA_EXIT_CODE"] != "7" || last["PIKA_SEQ"] != "1" {
		t.Errorf("the result is %q", last.sent())
	}
}

// interruptAll sends each thread of this process the signal that Go's runtime
// sends itself, and that does nothing else.
func interruptAll(t *testing.T) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	testenv.Must(t, err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		testenv.Must(t, err)
		_ = unix.Tgkill(os.Getpid(), id, unix.SIGURG) // it may have ended
	}
}

// Lone commits are few bytes each: they are bounded by their number.
func TestManySmallCommitsDoNotBlock(t *testing.T) {
	m := Mirror{EventsPath: "/e", Socket: filepath.Join(t.TempDir(), "none")}
	if err := m.Start(); err == nil {
		t.Error("a socket that is not there is reached")
	}
	const n = 2 * maxParts
	told := make(chan struct{})
	go func() {
		for range n {
			m.Committed(&ingest.Commit{Events: []byte("{}\n")})
		}
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Fatal("it blocks")
	}
	start := time.Now()
	if missed, of := m.Close(); missed != n || of != n {
		t.Errorf("missed %d of %d", missed, of)
	}
	if took := time.Since(start); took >= maxDrain {
		t.Errorf("nobody is there, and was waited for %v", took)
	}
}

func TestOneShotsAreMirroredIfTheyAreAskedTo(t *testing.T) {
	m := newJournal(t, 8)
	dir := testenv.TempDir(t)
	near, err := filepath.Rel(testenv.Shared(), dir)
	testenv.Must(t, err)
	m.run("", testenv.Program(t), "event", "--state-dir", near, "--kind", "failed", "--message", "a", "--journal", "auto")
	m.run("", testenv.Program(t), "event", "--state-dir", dir, "--kind", "failed", "--message", "b")
	m.run("", testenv.Program(t), "result", "--state-dir", dir, "--status", "failed", "--exit-code", "7", "--message", "c", "--journal=always")
	got := m.entries()
	if len(got) != 2 {
		t.Fatalf("%d entries", len(got))
	}
	event := expected(t, dir, lines(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")))[0])
	result := stored{"MESSAGE_ID": idResultFailed, "PRIORITY": "3", "SYSLOG_IDENTIFIER": Identifier, "MESSAGE": "c",
		"PIKA_OUTCOME": "failed", "PIKA_EXIT_CODE": "7", "PIKA_EVENTS_PATH": dir + "/events.jsonl", "PIKA_BOOT_ID": m.boot,
		"PIKA_TIMESTAMP": got[1]["PIKA_TIMESTAMP"]}
	if !maps.Equal(got[0].sent(), event) || !maps.Equal(got[1].sent(), result.counted()) {
		t.Errorf("entries\n%q\n%q", got[0].sent(), got[1].sent())
	}
}

// BenchmarkFlow is how long journald takes for 15,000 lines: of logger(1), and
// of a stream of directives with the mirror, the program's start and all.
func BenchmarkFlow(b *testing.B) {
	const n = 15_000
	m := newJournal(b, 9)
	testenv.Tools(b, "logger")
	input := many(n)
	b.Run("logger", func(b *testing.B) {
		for b.Loop() {
			m.run(input, "logger", "-u", "/run/systemd/journal/dev-log")
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("mirror", func(b *testing.B) {
		dir := testenv.TempDir(b)
		for b.Loop() {
			if said := m.ingest(dir, input); said != "" {
				b.Fatal(said)
			}
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
