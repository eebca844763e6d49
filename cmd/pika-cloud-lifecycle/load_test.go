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

// fullLoad reports whether the tests run with their full load, which takes minutes.
func fullLoad() bool { return os.Getenv("SWEEP") != "" }

// builtProgram returns a function that replaces this test binary, which is larger and
// slower, with the real program.
func builtProgram(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	path := testenv.Program(t)
	return func(cmd *exec.Cmd) { cmd.Path, cmd.Err = path, nil }
}

// The writers of a round, which write at the same time.
const (
	roundOneshots = 100 // one-shot commands
	roundPythons  = 100 // writers with the lock protocol of the Python command
	roundBursts   = 100 // parts of the input of ingest, each acknowledged before the next
	burst         = 100 // directives in a part
)

// TestLoad_concurrent_writers runs writers of all kinds at the same time, and checks that
// each event gets its own seq. Each round has a new log.
func TestLoad_concurrent_writers(t *testing.T) {
	rounds := 1
	if fullLoad() {
		rounds = 20
	}
	built, start, events, repeats := builtProgram(t), time.Now(), 0, 0
	for range rounds {
		n, gaveUp := loadRound(t, built)
		events, repeats = events+n, repeats+gaveUp
		if t.Failed() {
			return
		}
	}
	t.Logf("load: %d rounds, %d events in %v: seq contiguous, no error; %d waits for the lock ended without it",
		rounds, events, time.Since(start).Round(time.Millisecond), repeats)
}

// loadRound returns how many events were written, and how often a one-shot command was
// repeated because it had stopped waiting for the lock. On a busy machine it may wait
// longer than its limit of 5 s; it must then have written nothing.
func loadRound(t *testing.T, built func(*exec.Cmd)) (events, repeats int) {
	dir := testenv.TempDir(t)
	p := startIn(t, dir, built)
	var others sync.WaitGroup
	var gaveUp atomic.Int64
	want := map[string]bool{}
	for i := range roundOneshots {
		message := fmt.Sprint("one-shot ", i)
		want[message] = true
		others.Go(func() {
			text, err := loadOneshot(dir, message, built)
			for end := time.Now().Add(waitLimit); strings.Contains(text, stillHeld) && time.Now().Before(end); text, err = loadOneshot(dir, message, built) {
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
	for line := range strings.Lines(p.exits(exitOK)) {
		if !strings.Contains(line, stillHeld) && !strings.Contains(line, "writing works again") {
			t.Errorf("ingest printed on stderr: %s", line)
		}
	}
	p.hasEachOnce(want)
	return roundOneshots + roundPythons + roundBursts*burst, int(gaveUp.Load())
}

// stillHeld is in the message of a writer that stops waiting for the lock.
const stillHeld = "still held by"

func loadOneshot(dir, message string, built func(*exec.Cmd)) (output string, err error) {
	cmd := testCommand("event", "--state-dir", dir, "--kind", "booted", "--message", message)
	built(cmd)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// appendAsPython appends an event as the Python command does: it reads only the seq
// file. A flock belongs to the open file, so a goroutine that opens the file itself
// locks it like a process.
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

// hasEachOnce checks that the log has each message once, with seqs from 1, and that the
// seq file has the last.
func (p *process) hasEachOnce(want map[string]bool) {
	p.Helper()
	events, err := loadEvents([]byte(p.file("events.jsonl")))
	if err != nil {
		p.Error(err)
	}
	for _, e := range events {
		if !want[e.Message] {
			p.Errorf("%q occurs twice, or no writer wrote it", e.Message)
		}
		delete(want, e.Message)
	}
	if len(want) > 0 || len(events) == 0 || events[0].Seq != 1 {
		p.Errorf("%d events from %+v on, %d are missing", len(events), events[:min(1, len(events))], len(want))
	}
	if seq := p.file("events.jsonl.seq"); seq != fmt.Sprintln(len(events)) {
		p.Errorf("the seq file has %q after %d events", seq, len(events))
	}
}

// fields are the fields of an artifact that the tests compare.
type fields struct {
	Kind, State, Status, Message string
	Seq                          int
}

// loadEvents reads complete lines. Each must be valid JSON, and the seqs have no gap.
func loadEvents(text []byte) (events []fields, err error) {
	for line := range bytes.Lines(text) {
		var e fields
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
	floodEvents   = 4 << 20 // of the log, which is rotated often
	floodRejected = 256 << 10
	floodMemory   = 32 << 10 // in KiB, of the process
)

// TestLoad_flood writes many mixed directives, and then many runs, while readers poll the
// files. Memory and files must stay within their limits.
func TestLoad_flood(t *testing.T) {
	directives, enough := 100_000, 5
	if fullLoad() {
		directives, enough = 1_000_000, 100
	}
	built, dir := builtProgram(t), testenv.TempDir(t)
	w := &observers{dir: dir, stop: make(chan struct{})}
	for _, read := range []func(){w.readStatus, w.readResult, w.readLog, w.readLastByte} {
		w.readers.Go(func() { w.run(read) })
	}
	flood(t, dir, built, directives)
	runs := 0
	for until := time.Now().Add(waitLimit); (runs < enough || !w.enough(enough)) && time.Now().Before(until); runs++ {
		oneRun(t, dir, built)
	}
	close(w.stop)
	w.readers.Wait()
	for _, problem := range w.problems {
		t.Error(problem)
	}
	t.Logf("readers: %d more runs, %d times a status with its event, %d times a completed status with its result, %d complete logs; "+
		"an incomplete last line in %d of %d reads", runs, w.matched.Load(), w.results.Load(), w.logs.Load(), w.unterminated, w.tails)
	if !w.enough(enough) {
		t.Error("the readers have compared too few files")
	}
}

// oneRun is a short run, which removes the previous result and writes its own.
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

// flood writes the directives, and checks the memory and the files.
func flood(t *testing.T, dir string, built func(*exec.Cmd), directives int) {
	t.Helper()
	start := time.Now()
	p := startIn(t, dir, built, "--max-events", strconv.Itoa(floodEvents), "--max-rejected", strconv.Itoa(floodRejected))
	go writeFlood(p.in, directives) // it fails if the program ends, which the acknowledgements show
	for line, seq, rejected := 0, 0, 0; line < directives; {
		line, seq, rejected = p.ack()
		for _, name := range []string{"events.jsonl", "events.jsonl.1", "rejected.jsonl"} {
			p.checkSize(name)
		}
		if bad := (line + floodBad - 1) / floodBad; rejected != bad || seq != line-bad {
			t.Fatalf("acknowledgement %d %d %d, expected %d rejected lines", line, seq, rejected, bad)
		}
	}
	took, used := time.Since(start), p.peakMemory()
	p.in.Close()
	p.exits(exitRejected)
	t.Logf("flood: %d directives in %v, peak memory %.1f MiB", directives, took.Round(time.Millisecond), float64(used)/1024)
	if used > floodMemory {
		t.Errorf("%d KiB of memory", used)
	}
}

// peakMemory returns the peak memory of the process in KiB. It does not use rusage, which
// begins with the size of the parent process.
func (p *process) peakMemory() (used int) {
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

// checkSize checks that a file is within its limit.
func (p *process) checkSize(name string) {
	limit := int64(floodEvents)
	if name == "rejected.jsonl" {
		limit = floodRejected
	}
	if info, err := os.Stat(filepath.Join(p.dir, name)); err == nil && info.Size() > limit {
		p.Errorf("%s has %d bytes, over its limit of %d", name, info.Size(), limit)
	}
}

// One in floodBad lines of the flood is rejected.
const floodBad = 50

// writeFlood writes directives of all kinds. completed comes repeats.
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

	matched, results, logs atomic.Int64
	tails, unterminated    int

	mu       sync.Mutex
	problems []string
}

// run repeats read until stop is closed.
func (w *observers) run(read func()) {
	for {
		select {
		case <-w.stop:
			return
		default:
			read()
		}
	}
}

// enough reports whether the readers have compared everything several times.
func (w *observers) enough(times int) bool {
	n := int64(times)
	return w.matched.Load() >= n && w.results.Load() >= n && w.logs.Load() >= n
}

func (w *observers) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) < 10 { // more repeat the first
		w.problems = append(w.problems, fmt.Sprintf(format, args...))
	}
}

// readStatus reads a status, and then the log, which must have its event.
func (w *observers) readStatus() {
	if status := w.readWhole("status.json"); status != nil {
		w.compareEvent(status, w.read("events.jsonl"))
	}
}

// readResult reads a status, and then the result, which must exist if the status is
// completed.
func (w *observers) readResult() {
	status, result := w.readWhole("status.json"), w.readWhole("result.json")
	if status != nil && status.State == "completed" {
		w.compareResult(status, result)
	}
}

// readLog reads the complete lines of a log, each of which must be valid.
func (w *observers) readLog() {
	log := w.read("events.jsonl")
	events, err := loadEvents(log[:bytes.LastIndexByte(log, '\n')+1])
	if err != nil {
		w.problem("%v", err)
	}
	if len(events) > 0 {
		w.logs.Add(1)
	}
}

// readLastByte reads the last byte of the log.
func (w *observers) readLastByte() {
	f, err := os.Open(filepath.Join(w.dir, "events.jsonl"))
	if err != nil {
		return // it does not exist yet, or was just rotated
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

// compareResult checks the result of a completed status. If there is none, the next run
// must have begun.
func (w *observers) compareResult(status, result *fields) {
	switch {
	case result != nil && result.Status == "completed" && result.Seq >= status.Seq:
		w.results.Add(1)
	case result != nil:
		w.problem("the status is %+v, the result %+v", *status, *result)
	default:
		if now := w.readWhole("status.json"); now == nil || now.Seq == status.Seq {
			w.problem("the status is %+v, and the result is missing", *status)
		}
	}
}

// compareEvent checks that the event of a status is in the log or in the rotated log. An event
// that is older than both was rotated away since the status was read.
func (w *observers) compareEvent(status *fields, log []byte) {
	mark := fmt.Appendf(nil, `"seq":%d}`+"\n", status.Seq)
	at := bytes.Index(log, mark)
	if at < 0 {
		log = w.read("events.jsonl.1")
		if at = bytes.Index(log, mark); at < 0 {
			if first := firstSeq(log); first == 0 || first <= status.Seq {
				w.problem("the status is %+v, and its event is missing; the rotated log begins with %d", *status, first)
			}
			return
		}
	}
	var e fields
	line := log[bytes.LastIndexByte(log[:at], '\n')+1 : at+len(mark)]
	if err := json.Unmarshal(line, &e); err != nil || e.Kind != status.State || e.Message != status.Message {
		w.problem("the status is %+v, its event %q, %v", *status, line, err)
	}
	w.matched.Add(1)
}

// firstSeq returns the seq of the first event; 0 if there is none.
func firstSeq(log []byte) int {
	var e fields
	first, _, _ := bytes.Cut(log, []byte("\n"))
	_ = json.Unmarshal(first, &e) // 0 if it is invalid
	return e.Seq
}

// readWhole reads a file that must be complete if it exists.
func (w *observers) readWhole(name string) *fields {
	text := w.read(name)
	if text == nil {
		return nil
	}
	var s fields
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
