package writer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// childRole is the environment variable that makes the test binary run a child
// process instead of its tests. Its value names the function.
const childRole = "WRITER_TEST_ROLE"

// TestMain runs the tests or, in a child process, the function that childRole
// names.
func TestMain(m *testing.M) {
	roles := map[string]func(args []string) error{
		"hold":    childHold,
		"replace": childReplace,
		"python":  childPython,
	}
	role, ok := roles[os.Getenv(childRole)]
	if !ok {
		os.Exit(testenv.Main{M: m}.Run())
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child returns the command that runs this test binary in the given role.
func child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	return cmd
}

func put(t testing.TB, path, text string) {
	t.Helper()
	testenv.Must(t, os.WriteFile(path, []byte(text), 0o644))
}

// within ends the test if f does not return within limit.
func within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("blocked for %v", limit)
	}
}

// testTime is the time of all events in these tests.
var testTime = time.Date(2026, 3, 25, 20, 0, 0, 123e6, time.UTC)

func quoted(text string) strictjson.Value { return strictjson.AppendText(nil, text) }

// batchOf returns a batch with an event for each message.
func batchOf(messages ...string) *Batch {
	b := new(Batch)
	for _, m := range messages {
		b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(m)})
	}
	return b
}

// testLine returns the line of an event from batchOf.
func testLine(seq uint64, message string) string {
	return fmt.Sprintf(`{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":%s,"seq":%d}`+"\n",
		quoted(message), seq)
}

// testLines returns the lines with the seqs from first to last.
func testLines(first, last uint64) string {
	var b strings.Builder
	for seq := first; seq <= last; seq++ {
		b.WriteString(testLine(seq, fmt.Sprint("event ", seq)))
	}
	return b.String()
}

// logIn returns the events log of a directory.
func logIn(dir string) *EventLog {
	return &EventLog{Path: filepath.Join(dir, EventsName)}
}

// tryAppend locks the log and appends b.
func tryAppend(l *EventLog, b *Batch) error {
	unlock, err := l.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return l.Append(b)
}

// appendTo appends messages and returns the first seq.
func appendTo(t testing.TB, l *EventLog, messages ...string) uint64 {
	t.Helper()
	b := batchOf(messages...)
	testenv.Must(t, tryAppend(l, b))
	return b.Seq(0)
}

// A record is an event as the strict reader of these tests decodes it.
type record struct {
	kind    string
	message string
	seq     uint64
}

// load reads a log as the strictest reader does. It returns an error if any line is
// invalid, or if the seqs are not contiguous.
func load(text string) (records []record, err error) {
	if text == "" {
		return nil, nil
	}
	body, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, fmt.Errorf("the last line is torn")
	}
	for i, line := range strings.Split(body, "\n") {
		r, err := readRecord(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w: %.200q", i+1, err, line)
		}
		if i > 0 && r.seq != records[i-1].seq+1 {
			return nil, fmt.Errorf("line %d: seq %d after %d", i+1, r.seq, records[i-1].seq)
		}
		records = append(records, r)
	}
	return records, nil
}

// mustLoad loads a log that must be valid.
func mustLoad(t testing.TB, path string) []record {
	t.Helper()
	records, err := load(testenv.ReadIfExists(t, path))
	if err != nil {
		t.Fatalf("%s does not load: %v", path, err)
	}
	return records
}

// readRecord reads one line.
func readRecord(line string) (r record, err error) {
	if err := testenv.StrictJSON(line); err != nil {
		return r, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		return r, err
	}
	if r.seq, err = strictUint(fields["seq"]); err != nil {
		return r, fmt.Errorf("seq: %w", err)
	}
	if uptime, ok := fields["uptime_ms"]; ok {
		if _, err := strictUint(uptime); err != nil {
			return r, fmt.Errorf("uptime_ms: %w", err)
		}
	}
	if string(fields["schema_version"]) != "1" {
		return r, fmt.Errorf("schema_version is %s", fields["schema_version"])
	}
	return r, r.readTexts(fields)
}

// readTexts reads the fields that are strings.
func (r *record) readTexts(fields map[string]json.RawMessage) error {
	var stamp, boot string
	for name, to := range map[string]*string{"kind": &r.kind, "message": &r.message, "timestamp": &stamp, "boot_id": &boot} {
		raw, ok := fields[name]
		if !ok && name == "boot_id" {
			continue
		}
		if !bytes.HasPrefix(raw, []byte{'"'}) {
			return fmt.Errorf("%s is not a string", name)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return err
		}
	}
	if !strings.Contains(" requested provisioning booted unreachable stopped destroyed starting ready failed completed ", " "+r.kind+" ") {
		return fmt.Errorf("kind is %q", r.kind)
	}
	if len(stamp) < 20 || stamp[10] != 'T' || strings.Contains(stamp, ",") {
		return fmt.Errorf("timestamp is %q", stamp)
	}
	_, err := time.Parse("2006-01-02T15:04:05Z07:00", stamp)
	return err
}

// strictUint parses an unsigned integer without a sign, point or exponent.
func strictUint(raw []byte) (uint64, error) { return strconv.ParseUint(string(raw), 10, 64) }

// waiters returns how many processes or threads wait for a flock on the file.
func waiters(t testing.TB, path string) (n int) {
	t.Helper()
	var st unix.Stat_t
	testenv.Must(t, unix.Stat(path, &st))
	table, err := os.ReadFile("/proc/locks")
	testenv.Must(t, err)
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, " "+file+" ") {
			n++
		}
	}
	return n
}

// awaitWaiters returns when n processes or threads wait for a flock on the file.
func awaitWaiters(t testing.TB, path string, n int) {
	t.Helper()
	within(t, time.Minute, func() {
		for waiters(t, path) != n {
			time.Sleep(time.Millisecond)
		}
	})
}

// startChild starts a child process and returns when it is ready. stop closes the
// standard input of the child and returns its exit error.
func startChild(t *testing.T, cmd *exec.Cmd) (stop func() error) {
	t.Helper()
	in, err := cmd.StdinPipe()
	testenv.Must(t, err)
	out, err := cmd.StdoutPipe()
	testenv.Must(t, err)
	cmd.Stderr = os.Stderr
	testenv.Must(t, cmd.Start())
	stop = sync.OnceValue(func() error {
		in.Close()
		return cmd.Wait()
	})
	t.Cleanup(func() { stop() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child printed %q, %v", line, err)
	}
	return stop
}

// childHold holds a flock on a file until its standard input ends.
func childHold(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return untilStdinEnds()
}

func untilStdinEnds() error {
	fmt.Println("ready")
	_, err := os.Stdin.Read(make([]byte, 1))
	if err != nil {
		return nil
	}
	return fmt.Errorf("unexpected input")
}

// holdHere locks a new or existing file with flock, through a new descriptor of this
// process. To other descriptors that is the same as a lock of another process.
func holdHere(t testing.TB, path string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	testenv.Must(t, err)
	testenv.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}
