package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// These tests limit what can be counted: system calls, instructions, bytes.
// testdata/bench measures times, which depend on how busy the machine is.

func TestBinary_size(t *testing.T) {
	st, err := os.Stat(testenv.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2f MiB", float64(st.Size())/(1<<20))
	if st.Size() > 5<<20 {
		t.Errorf("the binary has %d bytes; expected 5 MiB at most", st.Size())
	}
}

// callCounts counts the system calls of a run, as strace reports them.
type callCounts struct {
	calls map[string]int
	all   int // without those of the Go runtime that differ from run to run
	read  int // bytes of files
}

// runtimeCalls are the calls with which the Go runtime manages its threads. Their number
// depends on how much strace slows the program down.
var runtimeCalls = regexp.MustCompile(`^(futex|nanosleep|tgkill|getpid|rt_sigreturn|sched_yield|epoll_pwait|madvise|clone3?|exit|gettid|sigaltstack|rt_sigprocmask|mmap|munmap|set_robust_list|rseq|restart_syscall)$`)

// stracedCall matches the end of a call.
var stracedCall = regexp.MustCompile(`^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = (-?\d+)`)

// countCalls runs the release binary under strace; feed writes to its standard input
// and reads its acknowledgements, if it is not nil.
func countCalls(t *testing.T, feed func(in io.Writer, acks *bufio.Reader), args ...string) callCounts {
	t.Helper()
	testenv.Tool(t, "strace")
	out := filepath.Join(t.TempDir(), "calls")
	cmd := limitedCommand("strace", append([]string{"-f", "-o", out, testenv.Program(t)}, args...)...)
	acks, ackEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer acks.Close()
	if err := acks.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{ackEnd}, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ackEnd.Close()
	if feed != nil {
		feed(in, bufio.NewReader(acks))
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return readCounts(t, out)
}

func readCounts(t *testing.T, path string) callCounts {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := callCounts{calls: map[string]int{}}
	for line := range strings.Lines(string(text)) {
		m := stracedCall.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		c.calls[m[1]]++
		if !runtimeCalls.MatchString(m[1]) {
			c.all++
		}
		if n, err := strconv.Atoi(m[2]); err == nil && n > 0 && (m[1] == "read" || m[1] == "pread64") {
			c.read += n
		}
	}
	if c.all == 0 {
		t.Fatalf("strace shows no call:\n%s", text)
	}
	return c
}

func (c callCounts) syncs() int { return c.calls["fsync"] + c.calls["fdatasync"] }

// TestCost_one_shot_system_calls limits the calls of the one-shot commands. A Go program
// that prints hello makes 145, nearly all of them to set up signals.
func TestCost_one_shot_system_calls(t *testing.T) {
	dir := testenv.TempDir(t)
	t.Setenv(streamVar, "3") // for send: the pipe of acknowledgements
	t.Setenv(streamIDVar, "")
	for _, c := range []struct {
		args       []string
		all, syncs int
	}{
		{[]string{"event", "--kind", "ready"}, 170, 2},
		{[]string{"status", "--state", "ready"}, 185, 2},
		{[]string{"result", "--status", "failed"}, 185, 2},
		{[]string{"send", "STATE=ready", "MESSAGE=up"}, 155, 0},
	} {
		args := c.args
		if c.args[0] != "send" {
			args = append(args, "--state-dir", dir, "--message", "up")
		}
		countCalls(t, nil, args...) // creates the files
		n := countCalls(t, nil, args...)
		t.Logf("%s: %d system calls, %d syncs", c.args[0], n.all, n.syncs())
		if n.all > c.all || n.syncs() > c.syncs {
			t.Errorf("%s makes %d system calls and %d syncs; expected %d and %d at most", c.args[0], n.all, n.syncs(), c.all, c.syncs)
		}
		if n.calls["epoll_create1"]+n.calls["socket"] > 0 && (c.args[0] == "event" || c.args[0] == "send") {
			t.Errorf("%s opens an epoll instance or a socket, and needs neither", c.args[0])
		}
		if writes := n.calls["write"]; c.args[0] == "send" && (n.calls["ppoll"] > 0 || writes != 1) {
			t.Errorf("send makes %d writes and %d ppolls; expected one write to a pipe that is opened again and not full", writes, n.calls["ppoll"])
		}
	}
}

// initialised matches the line that the Go runtime prints for a package.
var initialised = regexp.MustCompile(`(?m)^init (\S+) .*, \d+ bytes, (\d+) allocs$`)

// TestCost_package_initialisation limits what happens before main in each process: a package
// that is imported initialises its variables even if the subcommand does not use it, and
// touches its pages of the program.
func TestCost_package_initialisation(t *testing.T) {
	cmd := limitedCommand(testenv.Program(t), "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	text, err := cmd.CombinedOutput()
	packages := initialised.FindAllStringSubmatch(string(text), -1)
	if err != nil || len(packages) == 0 {
		t.Fatalf("%v\n%s", err, text)
	}
	all := 0
	var most []string
	for _, p := range packages {
		n, _ := strconv.Atoi(p[2])
		all += n
		if n > 0 {
			most = append(most, p[1]+" "+p[2])
		}
	}
	t.Logf("%d packages, %d allocations", len(packages), all)
	if all > 120 {
		t.Errorf("the initialisation of packages makes %d allocations; expected 120 at most: %s", all, strings.Join(most, ", "))
	}
}

// TestCost_page_faults limits the pages that event touches beyond those of the start of the
// process. In a short process, most of the time is spent in page faults. If the stack of the
// goroutine grew, there would be several more.
func TestCost_page_faults(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		testenv.Missing(t, "amd64, whose count this is")
	}
	dir := testenv.TempDir(t)
	start := pageFaults(t, "--version")
	event := pageFaults(t, "event", "--state-dir", dir, "--kind", "ready", "--message", "up")
	t.Logf("%d page faults, %d of them before main", event, start)
	if event-start > 11 {
		t.Errorf("event has %d page faults more than --version; expected 11 at most", event-start)
	}
}

// pageFaults returns the lowest number of page faults of several runs. With one thread for Go
// code, nearly all runs have that number.
func pageFaults(t *testing.T, args ...string) int64 {
	t.Helper()
	least := int64(math.MaxInt64)
	for range 10 {
		cmd := limitedCommand(testenv.Program(t), args...)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		least = min(least, cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt)
	}
	return least
}

// oneByOne writes lines one by one, each after the previous one is durable.
func oneByOne(t *testing.T, lines int) func(io.Writer, *bufio.Reader) {
	return func(in io.Writer, acks *bufio.Reader) {
		for range lines {
			if _, err := io.WriteString(in, "STATE=ready\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := acks.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCost_commit_system_calls(t *testing.T) {
	args := []string{"ingest", "--ack-fd", "3", "--state-dir"}
	one := countCalls(t, oneByOne(t, 1), append(args, testenv.TempDir(t))...)
	more := countCalls(t, oneByOne(t, 101), append(args, testenv.TempDir(t))...)
	calls, syncs := float64(more.all-one.all)/100, float64(more.syncs()-one.syncs())/100
	t.Logf("%.2f system calls per directive, %.2f syncs", calls, syncs)
	if calls > 36 || syncs > 4.05 { // the seq gets one more digit twice
		t.Errorf("a single directive makes %.2f system calls and %.2f syncs; expected 36 and 4 at most", calls, syncs)
	}
}

// TestCost_flood_syncs checks that, at full speed, each fdatasync is for at least half a
// mebibyte.
func TestCost_flood_syncs(t *testing.T) {
	dir := testenv.TempDir(t)
	line := `{"state":"ready","message":"guest agent is ready","details":{"step":"boot","host":"worker-17.example"}}` + "\n"
	n := countCalls(t, func(in io.Writer, _ *bufio.Reader) {
		if _, err := io.WriteString(in, strings.Repeat(line, 200_000)); err != nil {
			t.Error(err)
		}
	}, "ingest", "--state-dir", dir)
	st, err := os.Stat(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d fdatasyncs for %d MiB", n.calls["fdatasync"], st.Size()>>20)
	if most := st.Size() >> 19; int64(n.calls["fdatasync"]) > most {
		t.Errorf("%d fdatasyncs for %d bytes; expected %d at most", n.calls["fdatasync"], st.Size(), most)
	}
}

// TestCost_long_log checks that an append and a start cost the same with a log of any
// length.
func TestCost_long_log(t *testing.T) {
	event := `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":"%s","seq":%06d}` + "\n"
	var costs [2][2]callCounts
	for i, lines := range []int{1000, 500_000} {
		dir := testenv.TempDir(t)
		var log strings.Builder
		for seq := range lines {
			fmt.Fprintf(&log, event, "agent is ready", seq+100_000)
		}
		if err := os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(log.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		costs[i][0] = countCalls(t, nil, "event", "--state-dir", dir, "--kind", "ready", "--message", "up")
		costs[i][1] = countCalls(t, oneByOne(t, 1), "ingest", "--ack-fd", "3", "--state-dir", dir, "--max-events", "0")
	}
	for j, name := range []string{"event", "ingest"} {
		short, long := costs[0][j], costs[1][j]
		t.Logf("%s: %d calls, %d bytes read; %d, %d with 500 times the log", name, short.all, short.read, long.all, long.read)
		if long.all > short.all+20 || long.read > short.read+4096 {
			t.Errorf("%s: %d calls and %d bytes read became %d and %d with a longer log", name, short.all, short.read, long.all, long.read)
		}
	}
}

// collected matches the number of instructions in the output of callgrind.
var collected = regexp.MustCompile(`Collected : (\d+)`)

// instructions returns the number of instructions of an ingest whose input is line, lines
// times. It runs under callgrind with one thread, no preemption and no garbage collection,
// so the count is reproducible.
func instructions(t *testing.T, line string, lines int) int {
	t.Helper()
	cmd := limitedCommand("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", testenv.Program(t), "ingest", "--state-dir", testenv.TempDir(t))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off")
	cmd.Stdin = strings.NewReader(strings.Repeat(line+"\n", lines))
	text, err := cmd.CombinedOutput()
	m := collected.FindSubmatch(text)
	if err != nil || m == nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCost_instructions limits the instructions of the scanners. Counts of one binary
// differ by less than 0.5 %, so the limits are a tenth above the measured counts.
func TestCost_instructions(t *testing.T) {
	testenv.Tool(t, "valgrind")
	if runtime.GOARCH != "amd64" {
		testenv.Missing(t, "amd64, whose counts these are")
	}
	for _, c := range []struct {
		name, line string
		most       int
	}{
		{"JSON", `{"state":"ready","message":"guest agent is ready and serving requests","details":{"step":"boot","elapsed_ms":1234.5,"host":"worker-17"}}`, 3900},
		{"KEY=value", `STATE=ready MESSAGE='guest agent is ready and serving requests' DETAILS.step=boot DETAILS.elapsed_ms:=1234.5 DETAILS.host=worker-17`, 4850},
	} {
		n := (instructions(t, c.line, 6000) - instructions(t, c.line, 2000)) / 4000
		t.Logf("%s: %d instructions per directive", c.name, n)
		if n > c.most {
			t.Errorf("%s: %d instructions per directive; expected %d at most", c.name, n, c.most)
		}
	}
}
