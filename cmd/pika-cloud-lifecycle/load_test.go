package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// fullLoad tells whether there is time for all of it.
func fullLoad() bool { return os.Getenv("SWEEP") != "" }

// builtProgram has the real program run in the place of this test binary, whose
// size and speed say nothing.
func builtProgram(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	path := testenv.Program(t)
	return func(cmd *exec.Cmd) { cmd.Path, cmd.Err = path, nil }
}

// A round of load: how many write at once.
const (
	roundShots   = 100 // one-shot commands
	roundPythons = 100 // writers of the Python command's lock protocol
	roundBursts  = 100 // parts of the ingest, each acknowledged before the next
	burst        = 100 // directives in a part
)

// TestLoad_concurrent_writers: all kinds of writers at once, round after
// round, each on a new log.
func TestLoad_concurrent_writers(t *testing.T) {
	rounds := 1
	if fullLoad() {
		rounds = 20
	}
	built, start, events, late := builtProgram(t), time.Now(), 0, 0
	for range rounds {
		n, gaveUp := loadRound(t, built)
		events, late = events+n, late+gaveUp
		if t.Failed() {
			return
		}
	}
	t.Logf("load: %d rounds, %d events in %v: seq contiguous, no error; waits for the lock given up %d",
		rounds, events, time.Since(start).Round(time.Millisecond), late)
}

// loadRound returns how many events were written, and how often a one-shot ran
// again because it had given up the wait for the lock: on a machine that is busy
// with other things its 5 s may pass, and nothing may have been written then.
func loadRound(t *testing.T, built func(*exec.Cmd)) (events, late int) {
	dir := testenv.TempDir(t)
	p := startIn(t, dir, built)
	var others sync.WaitGroup
	var gaveUp atomic.Int64
	want := map[string]bool{}
	for i := range roundShots {
		message := fmt.Sprint("one-shot ", i)
		want[message] = true
		others.Go(func() {
			text, err := loadShot(dir, message, built)
			for end := time.Now().Add(hung); strings.Contains(text, stillHeld) && time.Now().Before(end); text, err = loadShot(dir, message, built) {
				gaveUp.Add(1)
			}
			if err != nil || text != "" {
				t.Errorf("%s: %v %s", message, err, text)
			}
		})
	}
	for i := range roundPythons {
		message := fmt.Sprint("python ", i)
		want[message] = true
		others.Go(func() {
			if err := appendAsPython(filepath.Join(dir, "events.jsonl"), message); err != nil {
				t.Errorf("%s: %v", message, err)
			}
		})
	}
	for i := range roundBursts {
		lines := make([]string, burst)
		for k := range lines {
			message := fmt.Sprint("ingest ", i, " ", k)
			want[message] = true
			lines[k] = fmt.Sprintf("STATE=ready MESSAGE='%s'", message)
		}
		p.write(lines...)
		p.ackUpTo((i + 1) * burst)
	}
	others.Wait()
	p.in.Close()
	for said := range strings.Lines(p.exits(exitOK)) {
		if !strings.Contains(said, stillHeld) && !strings.Contains(said, "writing works again") {
			t.Errorf("ingest said: %s", said)
		}
	}
	p.allOnce(want)
	return roundShots + roundPythons + roundBursts*burst, int(gaveUp.Load())
}

// stillHeld is said by who gives up the wait for the lock.
const stillHeld = "still held by"

func loadShot(dir, message string, built func(*exec.Cmd)) (said string, err error) {
	cmd := testCommand("event", "--state-dir", dir, "--kind", "booted", "--message", message)
	built(cmd)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// appendAsPython appends an event as the Python command does: it trusts the seq
// file alone. A flock belongs to the open file, so that a goroutine with one of
// its own is as good as a process.
func appendAsPython(path, message string) error {
	seqFile, err := os.OpenFile(path+".seq", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer seqFile.Close()
	err = syscall.Flock(int(seqFile.Fd()), syscall.LOCK_EX)
	for err == syscall.EINTR {
		err = syscall.Flock(int(seqFile.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return err
	}
	text, err := io.ReadAll(seqFile)
	if err != nil {
		return err
	}
	seq, err := strconv.Atoi(strings.TrimSpace("0" + string(text)))
	if err != nil {
		return err
	}
	err = seqFile.Truncate(0)
	_, err2 := seqFile.WriteAt(fmt.Appendf(nil, "%d\n", seq+1), 0)
	log, err3 := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	_, err = fmt.Fprintf(log, `{"schema_version": 1, "kind": "booted", "timestamp": "2026-03-25T20:00:00+00:00", "message": %q, "seq": %d}`+"\n",
		message, seq+1)
	return errors.Join(err, log.Close())
}

// allOnce demands that the log has each message once, numbered from 1, and that
// the seq file agrees.
func (p *process) allOnce(want map[string]bool) {
	p.Helper()
	events, err := loadEvents([]byte(p.file("events.jsonl")))
	if err != nil {
		p.Error(err)
	}
	for _, e := range events {
		if !want[e.Message] {
			p.Errorf("%q stands twice, or nobody wrote it", e.Message)
		}
		delete(want, e.Message)
	}
	if len(want) > 0 || len(events) == 0 || events[0].Seq != 1 {
		p.Errorf("%d events from %+v on, %d are missing", len(events), events[:min(1, len(events))], len(want))
	}
	if seq := p.file("events.jsonl.seq"); seq != fmt.Sprintln(len(events)) {
		p.Errorf("the seq file says %q after %d events", seq, len(events))
	}
}

// A seen is what a reader takes from an artifact.
type seen struct {
	Kind, State, Status, Message string
	Seq                          int
}

// loadEvents reads whole lines, all of which must load, numbered without a gap.
func loadEvents(text []byte) (events []seen, err error) {
	for line := range bytes.Lines(text) {
		var e seen
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("event %d is %.100q: %w", len(events)+1, line, err)
		}
		if len(events) > 0 && e.Seq != events[len(events)-1].Seq+1 {
			return nil, fmt.Errorf("seq %d follows %d", e.Seq, events[len(events)-1].Seq)
		}
		events = append(events, e)
	}
	return events, nil
}

// The limits of the flood.
const (
	floodEvents   = 4 << 20 // of the log: met again and again
	floodRejected = 256 << 10
	floodMemory   = 32 << 10 // in KiB, of the process
)

// TestLoad_flood: a flood of mixed directives, and then run
// after run, while readers poll the artifacts.
func TestLoad_flood(t *testing.T) {
	directives, enough := 100_000, 5
	if fullLoad() {
		directives, enough = 1_000_000, 100
	}
	built, dir := builtProgram(t), testenv.TempDir(t)
	w := &observers{dir: dir, stop: make(chan struct{})}
	for _, look := range []func(){w.poll, w.judge, w.load, w.tail} {
		w.readers.Go(func() { w.run(look) })
	}
	flood(t, dir, built, directives)
	runs := 0
	for until := time.Now().Add(hung); (runs < enough || !w.enough(enough)) && time.Now().Before(until); runs++ {
		oneRun(t, dir, built)
	}
	close(w.stop)
	w.readers.Wait()
	for _, problem := range w.problems {
		t.Error(problem)
	}
	t.Logf("readers: %d runs more, %d times a status with its event, %d times a verdict with its result, %d whole logs; "+
		"an unterminated last line at %d of %d looks", runs, w.matched.Load(), w.verdicts.Load(), w.logs.Load(), w.unterminated, w.tails)
	if !w.enough(enough) {
		t.Error("the readers have not seen enough")
	}
}

// oneRun is a short run, which retires the verdict before and gives its own.
func oneRun(t *testing.T, dir string, built func(*exec.Cmd)) {
	t.Helper()
	p := startIn(t, dir, built, "--max-events", strconv.Itoa(floodEvents))
	for i, state := range []string{"starting", "ready", "completed"} {
		p.write("STATE=" + state)
		p.ackUpTo(i + 1)
	}
	p.in.Close()
	p.exits(exitOK)
}

// flood writes the directives and checks what they take.
func flood(t *testing.T, dir string, built func(*exec.Cmd), directives int) {
	t.Helper()
	start := time.Now()
	p := startIn(t, dir, built, "--max-events", strconv.Itoa(floodEvents), "--max-rejected", strconv.Itoa(floodRejected))
	go writeFlood(p.in, directives) // an error is the program's end, which is told below
	for line, seq, refused := 0, 0, 0; line < directives; {
		line, seq, refused = p.ack()
		for _, name := range []string{"events.jsonl", "events.jsonl.1", "rejected.jsonl"} {
			p.below(name)
		}
		if bad := (line + floodBad - 1) / floodBad; refused != bad || seq != line-bad {
			t.Fatalf("acknowledgement %d %d %d, expected %d refused", line, seq, refused, bad)
		}
	}
	took, used := time.Since(start), p.peak()
	p.in.Close()
	p.exits(exitRejected)
	t.Logf("flood: %d directives in %v, peak memory %.1f MiB", directives, took.Round(time.Millisecond), float64(used)/1024)
	if used > floodMemory {
		t.Errorf("%d KiB of memory", used)
	}
}

// peak returns the most memory in KiB that the process has had. Its rusage will
// not do: a process is born with the size of its parent.
func (p *process) peak() (used int) {
	p.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("VmHWM:"))
	if _, err := fmt.Sscan(string(text), &used); err != nil || used == 0 {
		p.Fatalf("peak memory: %v", err)
	}
	return used
}

// below demands that an artifact is no larger than its cap.
func (p *process) below(name string) {
	limit := int64(floodEvents)
	if name == "rejected.jsonl" {
		limit = floodRejected
	}
	if info, err := os.Stat(filepath.Join(p.dir, name)); err == nil && info.Size() > limit {
		p.Errorf("%s has %d bytes, over its cap of %d", name, info.Size(), limit)
	}
}

// floodBad is how often a line of the flood is refused.
const floodBad = 50

// writeFlood writes directives of all sorts; the verdict comes late.
func writeFlood(to io.Writer, directives int) error {
	w := bufio.NewWriterSize(to, 64<<10)
	for i := range directives {
		switch {
		case i%floodBad == 0:
			fmt.Fprintf(w, "STATE=redy MESSAGE=%d\n", i)
		case i == directives*9/10:
			fmt.Fprintf(w, `{"state":"completed","message":"all %d done","exit_code":0}`+"\n", i)
		case i%3 == 0 && i < directives*9/10:
			fmt.Fprintf(w, `{"state":"ready","message":"step %d","details":{"elapsed_ms":%d.5,"tags":["a","b"]}}`+"\n", i, i)
		default:
			fmt.Fprintf(w, "KIND=ready MESSAGE=$'step %d\\tof it' DETAILS.host=worker-17 DETAILS.n:=%d\n", i, i)
		}
	}
	return w.Flush()
}

// Observers are readers that poll the artifacts as the host does.
type observers struct {
	dir     string
	stop    chan struct{}
	readers sync.WaitGroup

	matched, verdicts, logs atomic.Int64
	tails, unterminated     int

	mu       sync.Mutex
	problems []string
}

// run looks again and again.
func (w *observers) run(look func()) {
	for {
		select {
		case <-w.stop:
			return
		default:
			look()
		}
	}
}

// enough reports whether the readers have seen everything several times.
func (w *observers) enough(times int) bool {
	n := int64(times)
	return w.matched.Load() >= n && w.verdicts.Load() >= n && w.logs.Load() >= n
}

func (w *observers) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) < 10 { // the others are the same
		w.problems = append(w.problems, fmt.Sprintf(format, args...))
	}
}

// poll reads a status, and then the log, which must have its event.
func (w *observers) poll() {
	if status := w.whole("status.json"); status != nil {
		w.match(status, w.read("events.jsonl"))
	}
}

// judge reads a status, and then the result, which a verdict must have.
func (w *observers) judge() {
	status, result := w.whole("status.json"), w.whole("result.json")
	if status != nil && status.State == "completed" {
		w.verdict(status, result)
	}
}

// load reads a log whole but for a last line without its end, in the strictest
// way.
func (w *observers) load() {
	log := w.read("events.jsonl")
	events, err := loadEvents(log[:bytes.LastIndexByte(log, '\n')+1])
	if err != nil {
		w.problem("%v", err)
	}
	if len(events) > 0 {
		w.logs.Add(1)
	}
}

// tail looks at the last byte of the log.
func (w *observers) tail() {
	f, err := os.Open(filepath.Join(w.dir, "events.jsonl"))
	if err != nil {
		return // it is not there yet, or was just rotated
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		w.problem("%v", err)
	}
	if w.tails++; last[0] != '\n' {
		w.unterminated++
	}
}

// verdict demands the result of a status that says completed. If there is none
// the next run has begun meanwhile.
func (w *observers) verdict(status, result *seen) {
	switch {
	case result != nil && result.Status == "completed" && result.Seq >= status.Seq:
		w.verdicts.Add(1)
	case result != nil:
		w.problem("the status is %+v, the result %+v", *status, *result)
	default:
		if now := w.whole("status.json"); now == nil || now.Seq == status.Seq {
			w.problem("the status is %+v, and there is no result", *status)
		}
	}
}

// match demands the event of a status, in the log or the one before it. An
// event that is older than both was rotated away since the status was read.
func (w *observers) match(status *seen, log []byte) {
	mark := fmt.Appendf(nil, `"seq":%d}`+"\n", status.Seq)
	at := bytes.Index(log, mark)
	if at < 0 {
		log = w.read("events.jsonl.1")
		if at = bytes.Index(log, mark); at < 0 {
			if first := firstSeq(log); first == 0 || first <= status.Seq {
				w.problem("the status is %+v, and its event is nowhere; the old log begins with %d", *status, first)
			}
			return
		}
	}
	var e seen
	line := log[bytes.LastIndexByte(log[:at], '\n')+1 : at+len(mark)]
	if err := json.Unmarshal(line, &e); err != nil || e.Kind != status.State || e.Message != status.Message {
		w.problem("the status is %+v, its event %q, %v", *status, line, err)
	}
	w.matched.Add(1)
}

// firstSeq returns the seq of the first event; 0 if there is none.
func firstSeq(log []byte) int {
	var e seen
	first, _, _ := bytes.Cut(log, []byte("\n"))
	_ = json.Unmarshal(first, &e) // what does not load is 0
	return e.Seq
}

// whole reads an artifact that is whole whenever it is there.
func (w *observers) whole(name string) *seen {
	text := w.read(name)
	if text == nil {
		return nil
	}
	var s seen
	if err := json.Unmarshal(text, &s); err != nil || !bytes.HasSuffix(text, []byte("}\n")) {
		w.problem("%s is %.200q: %v", name, text, err)
		return nil
	}
	return &s
}

func (w *observers) read(name string) []byte {
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.problem("%v", err)
	}
	return text
}
