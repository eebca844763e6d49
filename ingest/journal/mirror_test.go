package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

func TestMirror(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"all fields", testMirrorFields},
		{"large values", testMirrorLargeValues},
		{"large value of an ordinary user", testMirrorLargeValueOfUser},
		{"run", testMirrorRun},
		{"journald stopped", testMirrorStopped},
		{"journald resumed", testMirrorResumed},
		{"journald busy at the end", testMirrorBusyAtClose},
		{"journald restarted", testMirrorRestarted},
		{"journald started later", testMirrorStartedLater},
		{"journald replaced", testMirrorReplaced},
		{"journald killed", testMirrorKilled},
		{"no journald", testMirrorWithoutJournald},
		{"many commits", testMirrorManyCommits},
		{"signals while waiting", testMirrorSignals},
		{"event and result commands", testMirrorEventAndResult},
		{"system calls", testMirrorCalls},
		{"memory", testMirrorMemory},
	} {
		t.Run(test.name, test.run)
	}
}

// directives returns a transition to each of the ten states. Their messages and
// details contain names of fields.
func directives() string {
	var b strings.Builder
	for i, s := range artifact.States() {
		fmt.Fprintf(&b, `{"state":%q,"message":"message %d\n=two\nlines","details":{"n":%d,"\n_PID=1\nMESSAGE":"x\nPIKA_SEQ=99\n"}}`+"\n", s, i, i)
	}
	return b.String()
}

// expectedEntry returns the fields that an event's line should have in the journal.
func expectedEntry(t *testing.T, dir, line string) storedEntry {
	t.Helper()
	var v struct{ Kind, Message string }
	testenv.Must(t, json.Unmarshal([]byte(line), &v))
	return storedEntry{"MESSAGE_ID": eventIDs[artifact.State(v.Kind)], "PRIORITY": expectedPriority(v.Kind), "SYSLOG_IDENTIFIER": Identifier,
		"MESSAGE": expectedMessage(v.Message), "PIKA_EVENTS_PATH": dir + "/events.jsonl", "PIKA_KIND": v.Kind, "PIKA_EVENT": line}
}

func expectedPriority(kind string) string {
	switch kind {
	case "failed":
		return "3"
	case "unreachable":
		return "4"
	}
	return "6"
}

// expectedMessage returns the MESSAGE of a message in ASCII.
func expectedMessage(message string) string {
	if len(message) > 4000 {
		return message[:3997] + "…"
	}
	return message
}

// expectedResult returns the fields that a result.json should have in the journal.
func expectedResult(t *testing.T, dir, text string) storedEntry {
	t.Helper()
	var v struct{ Status, Message string }
	testenv.Must(t, json.Unmarshal([]byte(text), &v))
	return storedEntry{"MESSAGE_ID": resultIDs[artifact.Outcome(v.Status)], "PRIORITY": expectedPriority(v.Status), "SYSLOG_IDENTIFIER": Identifier,
		"MESSAGE": expectedMessage(v.Message), "PIKA_EVENTS_PATH": dir + "/events.jsonl", "PIKA_OUTCOME": v.Status, "PIKA_RESULT": strings.TrimSuffix(text, "\n")}
}

// seq returns the seq of an event; 0 for another entry.
func (e storedEntry) seq() int {
	var v struct{ Seq int }
	_ = json.Unmarshal([]byte(e["PIKA_EVENT"]), &v) // it is empty in another entry
	return v.Seq
}

// All fields arrive, and no others: a field name in the input remains part of a
// value. The fields that journald adds are correct.
func testMirrorFields(t *testing.T) {
	m := newJournal(t, 1)
	dir := testenv.TempDir(t)
	results := map[string]string{}            // the result of each state that has one
	for _, state := range artifact.States() { // one stream for each, because a stream has only one result
		for line := range strings.Lines(directives()) {
			if strings.Contains(line, strconv.Quote(string(state))) {
				m.ingest(dir, line)
			}
		}
		if state == artifact.Completed || state == artifact.Failed {
			results[string(state)] = testenv.ReadFile(t, filepath.Join(dir, "result.json"))
		}
	}
	m.ingest(dir, "KIND=ready TIMESTAMP=2026-03-25T20:00:00Z MESSAGE=''\n")
	_, stderr, code := m.try("STATE=ready\nbad\xff\x1b\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal=auto")
	if code != 3 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var want []storedEntry
	for _, line := range lines(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl"))) {
		e := expectedEntry(t, dir, line)
		want = append(want, e)
		if result := results[e["PIKA_KIND"]]; result != "" {
			want = append(want, expectedResult(t, dir, result))
		}
	}
	rejected := testenv.ReadFile(t, filepath.Join(dir, "rejected.jsonl"))
	var reject struct{ Error string }
	testenv.Must(t, json.Unmarshal([]byte(rejected), &reject))
	want = append(want, storedEntry{"MESSAGE_ID": rejectID, "PRIORITY": "4", "SYSLOG_IDENTIFIER": Identifier, "PIKA_EVENTS_PATH": dir + "/events.jsonl",
		"MESSAGE": "line 2, " + reject.Error, "PIKA_REJECT": strings.TrimSuffix(rejected, "\n")})
	got := m.entries()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i, e := range want {
		if !maps.Equal(got[i].sent(), e) {
			t.Errorf("entry %d is\n%q\nwant\n%q", i, got[i].sent(), e)
		}
		if got[i]["_MACHINE_ID"] != m.id || got[i]["_UID"] != "0" || got[i]["_TRANSPORT"] != "journal" || got[i]["_PID"] == "1" {
			t.Errorf("entry %d has wrong trusted fields: %q", i, got[i])
		}
	}
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// A value that is too large for a datagram arrives complete, and rebuild reads it. journalctl
// prints the last event and the result as arrays of bytes.
func testMirrorLargeValues(t *testing.T) {
	m := newJournal(t, 2)
	guest, host := testenv.TempDir(t), testenv.TempDir(t)
	var input strings.Builder
	for _, size := range []int{250_000, 900_000} {
		text, err := json.Marshal(strings.Repeat("0123456789\n", size/2/11))
		testenv.Must(t, err)
		fmt.Fprintf(&input, `{"state":"ready","message":%s,"details":{"log":%s}}`+"\n", text, text)
	}
	const begin = "STATE=failed MESSAGE=\x7f"
	input.WriteString(begin + strings.Repeat("\x01", 100_000) + "\n")
	if stderr := m.ingest(guest, input.String()); stderr != "" {
		t.Errorf("stderr is %q, want none", stderr)
	}
	var want []storedEntry
	for _, line := range lines(testenv.ReadFile(t, filepath.Join(guest, "events.jsonl"))) {
		want = append(want, expectedEntry(t, guest, line))
	}
	want = append(want, expectedResult(t, guest, testenv.ReadFile(t, filepath.Join(guest, "result.json"))))
	got := m.entries()
	if len(got) != len(want) {
		t.Fatalf("journald has %d entries, want %d", len(got), len(want))
	}
	for i, e := range want {
		for name, value := range e {
			if has := got[i][name]; has != value {
				t.Errorf("%s of entry %d is %.80q, with %d bytes; want %.80q, with %d", name, i, has, len(has), value, len(value))
			}
		}
	}
	if stderr, code := rebuild(t, host, m.journalJSON()); code != 0 || stderr != "" {
		t.Errorf("rebuild: exit %d: %s", code, stderr)
	}
	sameFiles(t, host, guest)
}

// run sends the same entries as ingest.
func testMirrorRun(t *testing.T) {
	m := newJournal(t, 27)
	dir := testenv.TempDir(t)
	for _, word := range []string{"auto", "always", "never"} {
		_, stderr, code := m.try("", testenv.Program(t), "run", "--state-dir", dir, "--journal="+word, "--", "sh", "-c", "echo STATE=ready >&3; echo bad >&3; exit 7")
		if code != 7 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
	var want []storedEntry
	for i, line := range lines(testenv.ReadFile(t, filepath.Join(dir, "events.jsonl"))) {
		if i < 6 { // not those of never
			want = append(want, expectedEntry(t, dir, line))
		}
	}
	var got []storedEntry
	results, rejects := 0, 0
	for _, e := range m.entries() {
		switch {
		case strings.Contains(e["PIKA_RESULT"], `"exit_code": 7,`):
			results++
		case e["PIKA_REJECT"] != "":
			rejects++
		default:
			got = append(got, e.sent())
		}
	}
	if !slices.EqualFunc(got, want, maps.Equal) || results != 2 || rejects != 2 {
		t.Errorf("%d results, %d rejected lines, events\n%q\nwant\n%q", results, rejects, got, want)
	}
}

// journald accepts a file from an ordinary user only if it is sealed.
func testMirrorLargeValueOfUser(t *testing.T) {
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
	if len(got) != 1 || !strings.Contains(got[0]["PIKA_EVENT"], text) || got[0]["_UID"] != "1000" {
		t.Errorf("journald has %d entries, want 1 with all of the message: %.200q", len(got), got)
	}
}

// many returns n directives.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "STATE=ready MESSAGE='probe %d passed' DETAILS.port:=8080\n", i)
	}
	return b.String()
}

// missedOf returns the numbers in the warning about missed entries, which must be
// all of stderr.
func missedOf(t *testing.T, stderr string) (missed, total int) {
	t.Helper()
	found := regexp.MustCompile(`^.* (\d+) of (\d+) entr.*\n$`).FindStringSubmatch(stderr)
	if found == nil {
		t.Fatalf("stderr is %q, want one warning about missed entries", stderr)
	}
	missed, _ = strconv.Atoi(found[1])
	total, _ = strconv.Atoi(found[2])
	return missed, total
}

// journald is stopped during the whole stream, and the events exceed the queue.
// All events are committed and acknowledged, the stream ends, and journald has
// exactly the entries that are not counted as missed.
func testMirrorStopped(t *testing.T) {
	m := newJournal(t, 3)
	dir := testenv.TempDir(t)
	m.signal(syscall.SIGSTOP)
	f := m.startIngest(dir)
	const n = 60_000 // more than the queue holds
	f.write(many(n))
	if got := strings.Count(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")), "\n"); got != n {
		t.Errorf("ingest committed %d events, want %d", got, n)
	}
	missed, total := missedOf(t, f.end())
	m.signal(syscall.SIGCONT)
	got := m.entries()
	if total != n || missed == 0 || len(got) != n-missed {
		t.Errorf("missed %d of %d entries, journald has %d; want some missed, and %d in total", missed, total, len(got), n)
	}
	for i, e := range got {
		if e.seq() != i+1 {
			t.Fatalf("entry %d has seq %d, want %d", i, e.seq(), i+1)
		}
	}
}

// A runningIngest is an ingest with a mirror. The test writes its input to a pipe.
type runningIngest struct {
	*machine
	dir    string
	in     *os.File
	acks   *os.File
	stderr strings.Builder
	cmd    *exec.Cmd
	lines  int // number of lines written
}

func (m *machine) startIngest(dir string) *runningIngest {
	m.Helper()
	r, w, err := os.Pipe()
	testenv.Must(m, err)
	acks, ackEnd, err := os.Pipe()
	testenv.Must(m, err)
	f := &runningIngest{machine: m, dir: dir, in: w, acks: acks}
	f.cmd = m.command(testenv.Program(m), "ingest", "--state-dir", dir, "--journal=always", "--ack-fd", "3")
	f.cmd.Stdin, f.cmd.Stderr, f.cmd.ExtraFiles = r, &f.stderr, []*os.File{ackEnd}
	testenv.Must(m, f.cmd.Start())
	r.Close()
	ackEnd.Close()
	m.Cleanup(func() {
		w.Close()
		acks.Close()
		if f.cmd.ProcessState == nil {
			f.cmd.Process.Kill()
			f.cmd.Wait()
		}
	})
	return f
}

// write writes directives and waits until all lines are acknowledged.
func (f *runningIngest) write(text string) {
	f.Helper()
	limit := time.Now().Add(2 * time.Minute)
	testenv.Must(f, f.in.SetWriteDeadline(limit))
	testenv.Must(f, f.acks.SetReadDeadline(limit))
	_, err := f.in.WriteString(text)
	if err != nil {
		f.Fatalf("ingest does not read its input: %v", err)
	}
	f.lines += strings.Count(text, "\n")
	buf := make([]byte, 4096)
	for last := ""; !strings.HasPrefix(last, fmt.Sprint(f.lines, " ")); {
		n, err := f.acks.Read(buf)
		if err != nil {
			f.Fatalf("line %d is not acknowledged, the last was %q: %v", f.lines, last, err)
		}
		all := lines(string(buf[:n]))
		last = all[len(all)-1]
	}
}

// end closes the input, waits until ingest has ended and returns its stderr.
func (f *runningIngest) end() string {
	f.Helper()
	f.in.Close()
	kill := time.AfterFunc(time.Minute, func() { f.cmd.Process.Kill() })
	defer kill.Stop()
	if err := f.cmd.Wait(); err != nil {
		f.Fatalf("ingest did not end within a minute: %v", err)
	}
	return f.stderr.String()
}

func testMirrorRestarted(t *testing.T) {
	m := newJournal(t, 4)
	dir := testenv.TempDir(t)
	f := m.startIngest(dir)
	f.write(many(300))
	m.awaitEntries(300) // a journald that is killed loses the entries it has not read
	m.kill()
	f.write(many(300))
	m.start()
	f.write(many(300))
	if stderr := f.end(); stderr != "" {
		t.Errorf("stderr is %q, want none", stderr)
	}
	got := m.entries()
	for i, e := range got {
		if e.seq() != i+1 {
			t.Fatalf("entry %d has seq %d, want %d", i, e.seq(), i+1)
		}
	}
	if len(got) != 900 {
		t.Errorf("journald has %d entries, want 900", len(got))
	}
}

func testMirrorStartedLater(t *testing.T) {
	m := newMachine(t, 23)
	f := m.startIngest(testenv.TempDir(t))
	f.write(many(5))
	m.start()
	m.awaitEntries(5)
	stderr := f.end()
	if !strings.Contains(stderr, "no such file") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr is %q, want only that the socket does not exist", stderr)
	}
}

// A journald that is stopped keeps its socket open, but another one binds the path.
func testMirrorReplaced(t *testing.T) {
	m := newJournal(t, 24)
	f := m.startIngest(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	f.write(many(100))
	stopped := m.journald.Process
	defer stopped.Kill()
	m.start()
	m.awaitEntries(85) // the stopped one has the others
	if stderr := f.end(); stderr != "" {
		t.Errorf("stderr is %q, want none", stderr)
	}
}

func testMirrorKilled(t *testing.T) {
	m := newJournal(t, 5)
	f := m.startIngest(testenv.TempDir(t))
	f.write(many(300))
	m.awaitEntries(300)
	m.kill()
	f.write(many(200))
	missed, total := missedOf(t, f.end())
	if missed != 200 || total != 500 {
		t.Errorf("missed %d of %d entries, want 200 of 500", missed, total)
	}
}

// A journald that was stopped and continues receives an entry with the number of
// entries that it missed.
func testMirrorResumed(t *testing.T) {
	m := newJournal(t, 6)
	f := m.startIngest(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	const n = 60_000 // more than the queue holds
	f.write(many(n))
	m.signal(syscall.SIGCONT)
	m.awaitEntries(1000)
	missed, total := missedOf(t, f.end())
	got := m.entries()
	last := got[len(got)-1].sent()
	want := storedEntry{"MESSAGE_ID": missedID, "PRIORITY": "4", "SYSLOG_IDENTIFIER": Identifier,
		"PIKA_EVENTS_PATH": f.dir + "/events.jsonl", "PIKA_MISSED": fmt.Sprint(missed),
		"MESSAGE": fmt.Sprintf("the journal missed %d entries; read %s/events.jsonl and the files beside it", missed, f.dir)}
	if total != n || len(got) != n-missed+1 || !maps.Equal(last, want) {
		t.Errorf("missed %d of %d entries, journald has %d; want one more than were sent, and the number of missed entries last: %q", missed, total, len(got), last)
	}
}

// At the end, the mirror waits for a journald that made room earlier, even though
// entries were missed.
func testMirrorBusyAtClose(t *testing.T) {
	m := newJournal(t, 25)
	f := m.startIngest(testenv.TempDir(t))
	m.signal(syscall.SIGSTOP)
	const n = 60_000 // more than the queue holds
	f.write(many(n))
	m.signal(syscall.SIGCONT)
	m.awaitEntries(1000)
	m.signal(syscall.SIGSTOP)
	f.write(many(100))
	resume := time.AfterFunc(200*time.Millisecond, func() { m.journald.Process.Signal(syscall.SIGCONT) })
	defer resume.Stop()
	missed, total := missedOf(t, f.end())
	got := m.entries()
	if total != n+100 || len(got) != total-missed+1 || got[len(got)-2].seq() != total {
		t.Errorf("missed %d of %d entries, journald has %d; want the last event, and then the number of missed entries", missed, total, len(got))
	}
}

func testMirrorWithoutJournald(t *testing.T) {
	m := newMachine(t, 7)
	dir := testenv.TempDir(t)
	for word, pattern := range map[string]string{
		"never": "^$", "auto": "^$",
		"always": `^.* connect /run/systemd/journal/socket: no such file or directory; .*\n.*: 1 of 1 entry did not reach the journal; .*\n$`,
	} {
		_, stderr, code := m.try("STATE=ready\n", testenv.Program(t), "ingest", "--state-dir", dir, "--journal="+word)
		if code != 0 || !regexp.MustCompile(pattern).MatchString(stderr) {
			t.Errorf("%s: exit %d, stderr\n%swant\n%s", word, code, stderr, pattern)
		}
	}
	if got := testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")); strings.Count(got, "\n") != 3 {
		t.Errorf("want 3 events, the log has\n%s", got)
	}
}

// Signals interrupt the system call in which the mirror waits for room, and the
// caller changes the values of a result that is still queued. All entries arrive
// as they were committed.
func testMirrorSignals(t *testing.T) {
	m := newJournal(t, 26)
	m.signal(syscall.SIGSTOP)
	mirror := Mirror{EventsPath: "/e", Socket: m.root(DefaultSocket)}
	testenv.Must(t, mirror.Start())
	event := []byte(`{"kind":"ready","message":"m","seq":1}` + "\n")
	for range 100 {
		mirror.Committed(&ingest.Commit{Events: event})
	}
	code := int32(7)
	result := &artifact.Result{Outcome: artifact.OutcomeFailed, ExitCode: &code, Message: []byte(`"original"`), Details: []byte(`{"n":1}`), Seq: 1}
	mirror.Committed(&ingest.Commit{Result: result})
	copy(result.Message, `"modified"`)
	copy(result.Details, `{"n":2}`)
	code, result.Seq = 8, 2
	for range 20 {
		interruptAll(t)
		time.Sleep(5 * time.Millisecond)
	}
	m.signal(syscall.SIGCONT)
	if missed, total := mirror.Close(); missed != 0 || total != 101 {
		t.Errorf("missed %d of %d entries, want 0 of 101", missed, total)
	}
	got := m.entries()
	if len(got) != 101 {
		t.Fatalf("journald has %d entries, want 101", len(got))
	}
	last := got[100]
	text := last["PIKA_RESULT"]
	if last["MESSAGE"] != "original" || !strings.Contains(text, `"original"`) || !strings.Contains(text, `{"n":1}`) || !strings.Contains(text, `"exit_code": 7,`) || !strings.Contains(text, `"seq": 1`) {
		t.Errorf("the result is not the original one: %q", last.sent())
	}
}

// interruptAll sends SIGURG to each thread of this process. Go's runtime uses this
// signal itself, so it has no other effect.
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

// The queue is limited by the number of commits too, not only by their size.
func testMirrorManyCommits(t *testing.T) {
	m := Mirror{EventsPath: "/e", Socket: filepath.Join(t.TempDir(), "none")}
	if err := m.Start(); err == nil {
		t.Error("Start returns no error although there is no socket")
	}
	const n = 2 * maxQueuedCommits
	committed := make(chan struct{})
	go func() {
		for range n {
			m.Committed(&ingest.Commit{Events: []byte("{}\n")})
		}
		close(committed)
	}()
	select {
	case <-committed:
	case <-time.After(time.Minute):
		t.Fatal("Committed has blocked for a minute")
	}
	start := time.Now()
	missed, total := m.Close()
	if missed != n || total != n {
		t.Errorf("missed %d of %d entries, want all %d", missed, total, n)
	}
	if took := time.Since(start); took >= maxFlush {
		t.Errorf("Close waited %v for an absent journald", took)
	}
}

func testMirrorEventAndResult(t *testing.T) {
	m := newJournal(t, 8)
	dir := testenv.TempDir(t)
	near, err := filepath.Rel(testenv.Shared(), dir)
	testenv.Must(t, err)
	m.run("", testenv.Program(t), "event", "--state-dir", near, "--kind", "failed", "--message", "a", "--journal", "auto")
	m.run("", testenv.Program(t), "event", "--state-dir", dir, "--kind", "failed", "--message", "b")
	m.run("", testenv.Program(t), "result", "--state-dir", dir, "--status", "failed", "--exit-code", "7", "--message", "c", "--journal=always")
	got := m.entries()
	if len(got) != 2 {
		t.Fatalf("journald has %d entries, want 2", len(got))
	}
	event := expectedEntry(t, dir, lines(testenv.ReadIfExists(t, filepath.Join(dir, "events.jsonl")))[0])
	result := expectedResult(t, dir, testenv.ReadFile(t, filepath.Join(dir, "result.json")))
	if !maps.Equal(got[0].sent(), event) || !maps.Equal(got[1].sent(), result) {
		t.Errorf("the entries are\n%q\n%q\nwant\n%q\n%q", got[0].sent(), got[1].sent(), event, result)
	}
}

// Each entry needs one system call, besides a few for the connection and for the first time
// that journald has no room.
func testMirrorCalls(t *testing.T) {
	testenv.Strace(t)
	m := newJournal(t, 29)
	const n = 300
	trace := filepath.Join(testenv.TempDir(t), "trace")
	m.run(many(n), "strace", "-f", "-qq", "-e", "trace=%network,memfd_create", "-o", trace,
		testenv.Program(t), "ingest", "--state-dir", testenv.TempDir(t), "--journal=always")
	if calls := strings.Count(testenv.ReadFile(t, trace), "("); calls < n || calls > n+10 {
		t.Errorf("%d calls for %d entries, want %d at most", calls, n, n+10)
	}
	if got := len(m.entries()); got != n {
		t.Errorf("journald has %d entries, want %d", got, n)
	}
}

// The mirror does not raise the limit of 32 MiB that ingest has without it.
func testMirrorMemory(t *testing.T) {
	m := newJournal(t, 30)
	const size = 1<<20 - 100
	all, half := strings.Repeat("\x01", size), strings.Repeat("\x01", size/2)
	for _, line := range []string{"STATE=ready MESSAGE=" + all, "STATE=ready DETAILS.x=" + all, "STATE=failed MESSAGE=" + all,
		`STATE=ready MESSAGE="` + half + `" DETAILS.x="` + half + `"`} {
		f := m.startIngest(testenv.TempDir(t))
		f.write(strings.Repeat(line+"\n", 4))
		_, used, _ := strings.Cut(testenv.ReadFile(t, fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid)), "\nVmHWM:")
		kib, err := strconv.Atoi(strings.Fields(used)[0])
		testenv.Must(t, err)
		if kib > 32<<10 {
			t.Errorf("%.20q: %d KiB of memory, want %d at most", line, kib, 32<<10)
		}
		f.in.Close()
		_ = f.cmd.Wait() // it has rejected lines, because there is only one result
	}
}

// BenchmarkMirror measures how fast journald accepts 15,000 lines from logger(1) and
// from ingest. The times include the start of the program.
func BenchmarkMirror(b *testing.B) {
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
			if stderr := m.ingest(dir, input); stderr != "" {
				b.Fatal(stderr)
			}
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
