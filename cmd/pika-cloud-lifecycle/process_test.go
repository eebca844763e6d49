package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limitedCommand returns a command that is killed when it takes longer than waitLimit.
func limitedCommand(name string, args ...string) *exec.Cmd {
	ctx, stop := context.WithTimeout(context.Background(), waitLimit)
	context.AfterFunc(ctx, stop)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error {
		fmt.Fprintf(os.Stderr, "killed after %v: %v\n", waitLimit, cmd)
		return cmd.Process.Kill()
	}
	cmd.WaitDelay = waitLimit // for a process that keeps its output open
	return cmd
}

// testCommand returns a command that runs the program as a separate process.
func testCommand(args ...string) *exec.Cmd {
	cmd := limitedCommand(program, args...)
	cmd.Env = append(os.Environ(), "TEST_TIME="+testTime, "TEST_BOOT_ID="+testBoot, "GORACE="+noRaceSleep)
	return cmd
}

// waitLimit is how long a test waits for a process, which is far longer than any process
// runs. Then the test fails, and prints the output so far.
const waitLimit = 90 * time.Second

// A process is a running ingest, with the test's ends of its pipes.
type process struct {
	*testing.T
	cmd    *exec.Cmd
	dir    string // the state directory
	in     *os.File
	ends   []*os.File // the test's ends of the other pipes
	acks   *bufio.Reader
	stderr *bufio.Reader
	lines  []string // of stderr, read so far
	ended  chan struct{}
	err    error // of the process, once ended
}

// start runs ingest on a pipe, with acknowledgements on descriptor 3.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startIn(t, t.TempDir(), nil, args...)
}

// startIn is start with a state directory and changes to the command.
func startIn(t *testing.T, dir string, change func(*exec.Cmd), args ...string) *process {
	t.Helper()
	p := &process{T: t, dir: dir, ended: make(chan struct{})}
	p.cmd = testCommand(append([]string{"ingest", "--state-dir", dir, "--ack-fd", "3"}, args...)...)
	stdin, in := p.pipe()
	acks, ackEnd := p.pipe()
	stderr, stderrEnd := p.pipe()
	p.cmd.Stdin, p.cmd.ExtraFiles, p.cmd.Stderr = stdin, []*os.File{ackEnd}, stderrEnd
	if change != nil {
		change(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	ackEnd.Close()
	stderrEnd.Close()
	p.in, p.ends = in, []*os.File{acks, stderr}
	p.acks, p.stderr = bufio.NewReader(acks), bufio.NewReader(stderr)
	for _, f := range p.ends {
		if err := f.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) pipe() (r, w *os.File) {
	p.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// write prints lines to the process.
func (p *process) write(lines ...string) {
	p.Helper()
	if _, err := io.WriteString(p.in, strings.Join(lines, "\n")+"\n"); err != nil {
		p.Fatal(err)
	}
}

// ack waits for the next acknowledgement.
func (p *process) ack() (line, seq, rejected int) {
	p.Helper()
	text, err := p.acks.ReadString('\n')
	if err != nil {
		p.Fatalf("no acknowledgement: %q, %v; stderr %q", text, err, p.lines)
	}
	if n, err := fmt.Sscanf(text, "%d %d %d\n", &line, &seq, &rejected); n != 3 || err != nil {
		p.Fatalf("acknowledgement %q: %v", text, err)
	}
	return line, seq, rejected
}

// ackUpTo waits until the line is acknowledged.
func (p *process) ackUpTo(line int) (seq, rejected int) {
	p.Helper()
	for got := 0; got < line; {
		got, seq, rejected = p.ack()
	}
	return seq, rejected
}

// moreAcks returns the acknowledgements up to the end of the stream.
func (p *process) moreAcks() string {
	p.Helper()
	text, err := io.ReadAll(p.acks)
	if err != nil {
		p.Fatal(err)
	}
	return string(text)
}

// awaitStderr waits until the process prints a line with these words to stderr.
func (p *process) awaitStderr(words string) string {
	p.Helper()
	for {
		line, err := p.stderr.ReadString('\n')
		p.lines = append(p.lines, line)
		if strings.Contains(line, words) {
			return line
		}
		if err != nil {
			p.Fatalf("stderr is %q, without %q: %v", p.lines, words, err)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// awaitEnd waits until the process has ended.
func (p *process) awaitEnd() {
	p.Helper()
	select {
	case <-p.ended:
	case <-time.After(waitLimit):
		p.Fatalf("the process still runs after %v; stderr %q", waitLimit, p.lines)
	}
}

// exits waits for the end and checks the exit code. It returns the whole stderr.
func (p *process) exits(code int) string {
	p.Helper()
	rest, err := io.ReadAll(p.stderr)
	if err != nil {
		p.Fatal(err)
	}
	p.awaitEnd()
	output := strings.Join(p.lines, "") + string(rest)
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.Fatal(p.err)
	}
	state := p.cmd.ProcessState
	if state.ExitCode() != code {
		p.Fatalf("%v, want exit code %d; stderr:\n%s", state, code, output)
	}
	return output
}

// file returns the content of an artifact; "" if it is missing.
func (p *process) file(name string) string {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.Fatal(err)
	}
	return string(text)
}

// contains checks that an artifact contains a text.
func (p *process) contains(name, text string) {
	p.Helper()
	if content := p.file(name); !strings.Contains(content, text) {
		p.Errorf("%s has no %s:\n%s", name, text, content)
	}
}

// await waits until an artifact contains a text.
func (p *process) await(name, text string) {
	p.Helper()
	for until := time.Now().Add(waitLimit); !strings.Contains(p.file(name), text); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			p.Fatalf("%s has no %s", name, text)
		}
	}
}

// absent checks that an artifact is missing.
func (p *process) absent(name string) {
	p.Helper()
	if _, err := os.Lstat(filepath.Join(p.dir, name)); !errors.Is(err, os.ErrNotExist) {
		p.Errorf("%s exists: %v", name, err)
	}
}

// hasEvents checks that the log has events 1 to n, each once and in order.
func (p *process) hasEvents(n int) {
	p.Helper()
	for i, line := range linesOf(p.file("events.jsonl")) {
		_, text, ok := strings.Cut(line, `"seq":`)
		if seq, err := strconv.Atoi(strings.TrimSuffix(text, "}")); !ok || err != nil || seq != i+1 {
			p.Fatalf("event %d is %s", i+1, line)
		}
		if i+1 > n {
			p.Fatalf("more than %d events", n)
		}
	}
	if got := len(linesOf(p.file("events.jsonl"))); got != n {
		p.Fatalf("%d events, want %d", got, n)
	}
}

// closeReaders closes the test's ends of the pipes that the process writes to.
func (p *process) closeReaders(t *testing.T) {
	for _, f := range p.ends {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// fillPipe fills a pipe that is not read.
func fillPipe(t *testing.T, pipe *os.File) {
	t.Helper()
	fd := int(pipe.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, os.Getpagesize())
	for {
		if _, err := unix.Write(fd, page); err == syscall.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}
