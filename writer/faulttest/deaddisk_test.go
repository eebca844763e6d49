//go:build linux && amd64

package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestDeadDisk cuts a running ingest off from its disk. ingest reports the path and
// the cause, continues to read, acknowledges nothing more and exits with 1. All that
// it had acknowledged is on the disk at the next boot.
func TestDeadDisk(t *testing.T) {
	needDisks(t)
	for _, fs := range fileSystems() {
		t.Run(fs.name, func(t *testing.T) { deadDisk(t, fs.newDisk(t)) })
	}
}

func deadDisk(t *testing.T, d *disk) {
	dir := filepath.Join(d.root, "state")
	s := startStream(t, testenv.Program(t), dir, "--write-timeout=50ms")
	defer s.cmd.Process.Kill()
	s.write(t, transition("starting", "line-1"))
	s.acknowledged(t, 1)
	testenv.Must(t, d.losePower(onlySynced, dir))
	s.write(t, transition("ready", "line-2"))
	if text := s.awaitStderr(t, unix.EIO.Error()); !strings.Contains(text, dir) {
		t.Errorf("%q names no path below %s", text, dir)
	}
	s.awaitStderr(t, "gave up waiting for")
	more := make([]line, 5000) // more than fits into the pipe and one read
	for i := range more {
		more[i] = transition("ready", fmt.Sprint("more ", i))
	}
	s.write(t, more...)
	s.write(t, transition("failed", "the end"))
	testenv.Must(t, s.in.Close())
	rest, err := io.ReadAll(s.acks)
	testenv.Must(t, err)
	stderr := s.end(t)
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || len(rest) > 0 {
		t.Errorf("exit %d, acknowledged %q", code, rest)
	}
	for _, words := range []string{"status failed could not be written", "result failed could not be written"} {
		if !strings.Contains(stderr, words) {
			t.Errorf("stderr has no %q:\n%s", words, stderr)
		}
	}
	testenv.Must(t, d.remount())
	g := &ledger{before: new(picture), acked: 1,
		lines: []line{transition("starting", "line-1"), transition("ready", "line-2")}}
	g.check(readPicture(dir, allowance{torn: []string{eventsLog, rejectsLog}, nuls: true}))
	for _, f := range g.findings {
		t.Errorf("%s: %s", f.kind, f.text)
	}
}

// A stream is a running ingest.
type stream struct {
	cmd        *exec.Cmd
	in         *os.File
	acks       *bufio.Reader
	stderr     *bufio.Reader
	stderrRead strings.Builder // the lines that were read from stderr
}

// waitLimit is the time limit of each wait, which no test without a defect reaches.
const waitLimit = time.Minute

func startStream(t *testing.T, program, dir string, flags ...string) *stream {
	t.Helper()
	s := &stream{cmd: exec.Command(program, append([]string{"ingest", "--state-dir=" + dir, "--ack-fd=3"}, flags...)...)}
	stdin, in, err := os.Pipe()
	testenv.Must(t, err)
	acks, ack, err := os.Pipe()
	testenv.Must(t, err)
	stderr, stderrEnd, err := os.Pipe()
	testenv.Must(t, err)
	for _, f := range []*os.File{in, acks, stderr} {
		testenv.Must(t, f.SetDeadline(time.Now().Add(waitLimit)))
		t.Cleanup(func() { f.Close() })
	}
	s.cmd.Stdin, s.cmd.ExtraFiles, s.cmd.Stderr = stdin, []*os.File{ack}, stderrEnd
	testenv.Must(t, s.cmd.Start())
	for _, f := range []*os.File{stdin, ack, stderrEnd} {
		testenv.Must(t, f.Close())
	}
	s.in, s.acks, s.stderr = in, bufio.NewReader(acks), bufio.NewReader(stderr)
	return s
}

func (s *stream) write(t *testing.T, lines ...line) {
	t.Helper()
	for _, l := range lines {
		_, err := io.WriteString(s.in, l.text+"\n")
		testenv.Must(t, err)
	}
}

// acknowledged waits until a line is acknowledged.
func (s *stream) acknowledged(t *testing.T, number int) {
	t.Helper()
	for got := 0; got < number; {
		text, err := s.acks.ReadString('\n')
		testenv.Must(t, err)
		_, err = fmt.Sscan(text, &got)
		testenv.Must(t, err)
	}
}

// awaitStderr waits for a line on stderr that contains words, and returns it.
func (s *stream) awaitStderr(t *testing.T, words string) string {
	t.Helper()
	for {
		text, err := s.stderr.ReadString('\n')
		s.stderrRead.WriteString(text)
		if strings.Contains(text, words) {
			return text
		}
		if err != nil {
			t.Fatalf("stderr has no %q: %v\n%s", words, err, &s.stderrRead)
		}
	}
}

// end waits until the program has ended, and returns all that it wrote to stderr.
func (s *stream) end(t *testing.T) string {
	t.Helper()
	rest, err := io.ReadAll(s.stderr)
	testenv.Must(t, err)
	_ = s.cmd.Wait() // the caller checks the exit code
	return s.stderrRead.String() + string(rest)
}
