package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// limit is the limit of each process, far longer than any takes.
const limit = 3 * time.Minute

// exec runs the program on the state directory of the check, and returns its exit code
// and all that it prints.
func (b *bench) exec(args ...string) (code int, text string) {
	args = append([]string{args[0], "--state-dir=" + b.dir()}, args[1:]...)
	return output(exec.Command(b.program, args...))
}

func output(cmd *exec.Cmd) (code int, text string) {
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	if err := cmd.Start(); err != nil {
		return -1, err.Error()
	}
	timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the caller checks the exit code
	return cmd.ProcessState.ExitCode(), buffer.String()
}

// must returns an error unless the program exits with 0.
func (b *bench) must(args ...string) error {
	if code, text := b.exec(args...); code != 0 {
		return fmt.Errorf("%s: exit %d: %s", args[0], code, text)
	}
	return nil
}

// event appends an event.
func (b *bench) event(message string) error {
	return b.must("event", "--kind=ready", "--message="+message)
}

// A stream is a running ingest.
type stream struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	acks   *bufio.Reader
	last   int // the number of the last acknowledged line
	timer  *time.Timer
	mu     sync.Mutex
	stderr bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.Write(p)
}

// printed returns what ingest has written to stderr.
func (s *stream) printed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

func (b *bench) stream(flags ...string) (*stream, error) {
	s := &stream{cmd: exec.Command(b.program, append([]string{"ingest", "--state-dir=" + b.dir(), "--ack-fd=3"}, flags...)...)}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	s.cmd.ExtraFiles, s.cmd.Stderr = []*os.File{w}, s
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.acks = bufio.NewReader(r)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.timer = time.AfterFunc(limit, func() { s.cmd.Process.Kill() })
	return s, nil
}

// acked waits until line n is acknowledged, and returns the number of the last
// acknowledged line.
func (s *stream) acked(n int) (last int, err error) {
	for s.last < n {
		text, err := s.acks.ReadString('\n')
		if err == nil {
			_, err = fmt.Sscan(text, &s.last)
		}
		if err != nil {
			return s.last, fmt.Errorf("line %d is acknowledged, %d is not: %w; stderr: %s", s.last, n, err, s.printed())
		}
	}
	return s.last, nil
}

// feed writes a few lines at a time, until line n is acknowledged. It writes the next
// lines when the first of the last ones is acknowledged, so ingest has lines to write.
// It returns the number of the last acknowledged line.
func (s *stream) feed(all []string, n int) (last int, err error) {
	for sent, part := 0, 1; last < n && err == nil; part++ {
		next := all[sent:min(sent+part%7+1, len(all))]
		if _, err := io.WriteString(s.in, strings.Join(next, "")); err != nil {
			return last, err
		}
		first := min(sent+1, len(all))
		sent += len(next)
		if sent == len(all) {
			first = n
		}
		last, err = s.acked(first)
	}
	return last, err
}

// kill kills ingest, and returns the number of the last acknowledged line, at least n.
func (s *stream) kill(n int) (last int, err error) {
	if err := s.cmd.Process.Kill(); err != nil {
		return n, err
	}
	rest, err := io.ReadAll(s.acks)
	_ = s.cmd.Wait() // returns an error, because ingest was killed
	s.timer.Stop()
	for text := range strings.Lines(string(rest)) {
		fmt.Sscan(text, &n)
	}
	return n, err
}

// end closes the input, and waits until ingest has ended.
func (s *stream) end() error {
	s.in.Close()
	if _, err := io.Copy(io.Discard, s.acks); err != nil {
		return err
	}
	err := s.cmd.Wait()
	s.timer.Stop()
	if err != nil {
		return fmt.Errorf("ingest: %w: %s", err, s.printed())
	}
	return nil
}

// ingest writes the lines to a new ingest.
func (b *bench) ingest(lines []string, flags ...string) error {
	s, err := b.stream(flags...)
	if err != nil {
		return err
	}
	go func() {
		io.WriteString(s.in, strings.Join(lines, ""))
		s.in.Close()
	}()
	if _, err := io.Copy(io.Discard, s.acks); err != nil {
		return err
	}
	return s.end()
}

// lines returns n transitions, with the messages NAME-1, NAME-2, and so on.
func lines(name string, n int) (all []string) {
	for i := range n {
		state := "ready"
		if i == 0 {
			state = "starting"
		}
		all = append(all, fmt.Sprintf("STATE=%s MESSAGE=%s-%d\n", state, name, i+1))
	}
	return all
}

// An artifact is an event, the status or the result.
type artifact struct {
	Version  int `json:"schema_version"`
	State    string
	Kind     string
	Status   string
	Message  string
	ExitCode int `json:"exit_code"`
	Seq      uint64
}

func decode(text string) (a artifact, err error) {
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, fmt.Errorf("%.80q: %w", text, err)
	}
	if a.Version != 1 {
		return a, fmt.Errorf("%.80q has no schema_version", text)
	}
	return a, nil
}

// artifact reads the status or the result.
func (b *bench) artifact(name string) (a artifact, err error) {
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		return a, err
	}
	if !bytes.HasSuffix(text, []byte("}\n")) {
		return a, fmt.Errorf("%s is not complete: %.80q", name, text)
	}
	return decode(string(text))
}

// log reads all events. The seqs must start with first and have no gap.
func (b *bench) log(first uint64) (all []artifact, err error) {
	old, err := os.ReadFile(b.path("events.jsonl.1"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text, err := os.ReadFile(b.path("events.jsonl"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(old) + string(text)) {
		a, err := decode(line)
		if err == nil && !strings.HasSuffix(line, "\n") {
			err = fmt.Errorf("%q has no newline", line)
		}
		if err != nil {
			return nil, err
		}
		if want := first + uint64(len(all)); first > 0 && a.Seq != want {
			return nil, fmt.Errorf("seq %d instead of %d", a.Seq, want)
		}
		all = append(all, a)
	}
	return all, nil
}

// hasEvents checks that the log has n events, with the seqs 1 to n.
func (b *bench) hasEvents(n int) error {
	events, err := b.log(1)
	if err == nil && len(events) != n {
		err = fmt.Errorf("the log has %d events instead of %d", len(events), n)
	}
	return err
}

// temporaries returns the temporary files in the state directory.
func (b *bench) temporaries() []string {
	found, _ := filepath.Glob(b.path(".*")) // the pattern is valid
	return found
}
