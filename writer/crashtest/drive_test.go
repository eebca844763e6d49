//go:build linux && amd64

package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ackFD is the descriptor on which ingest acknowledges.
const ackFD = 3

// patience bounds a run of the program: a hundred times what any takes.
const patience = 30 * time.Second

// A bench is where one goroutine tries one point after the other.
type bench struct {
	program string
	root    string // of the bench, made anew for each point
	limit   time.Duration
	second  chan string // how the other writer ended
}

func (b *bench) watched() string { return filepath.Join(b.root, "watched") }
func (b *bench) dir() string     { return filepath.Join(b.root, "watched", "run") }
func (b *bench) outside() string { return filepath.Join(b.root, "outside") }

// reset makes the bench as new.
func (b *bench) reset(s *scenario) error {
	if err := os.RemoveAll(b.root); err != nil {
		return err
	}
	for _, dir := range []string{b.watched(), b.outside()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return s.prepare(b.dir())
}

// A trial is one run of a scenario under one fault.
type trial struct {
	exit    exit
	settled int // lines acknowledged
	stderr  string
	calls   []*call
	faulted *call
	points  int
	err     error // of the harness
}

// try runs s under f.
func (b *bench) try(s *scenario, f fault) (tl trial) {
	tr := &tracer{watch: b.watched(), fault: f, limit: b.limit, fired: make(chan struct{}), signatures: signatures()}
	feed, err := newFeeder(s, tr.fired, f)
	if err != nil {
		return trial{err: err}
	}
	defer feed.close()
	stderr, err := os.Create(filepath.Join(b.root, "stderr"))
	if err != nil {
		return trial{err: err}
	}
	defer stderr.Close()
	go feed.run()
	tl.exit, tl.err = tr.run(append([]string{b.program}, s.argv(b.dir())...), &os.ProcAttr{
		Dir: "/", Env: quiet(),
		Files: []*os.File{feed.stdin, stderr, stderr, feed.acks},
	})
	tr.fire()
	tl.settled = feed.wait()
	if tl.exit.code == s.code {
		tl.settled = len(s.lines()) // an exit that says so acknowledges all
	}
	text, _ := os.ReadFile(stderr.Name())
	tl.stderr, tl.calls, tl.faulted, tl.points = string(text), tr.calls, tr.faulted, tr.count
	return tl
}

// quiet keeps Go's runtime from doing anything by itself: no preemption, whose
// signals would interrupt calls, and no collection, which could close files.
func quiet() []string { return []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off"} }

// A feeder is the guest: it writes the parts of the input, and waits for each
// to be acknowledged before it writes the next.
type feeder struct {
	parts  [][]line
	hasty  bool // waits for nothing once the fault has come
	fired  <-chan struct{}
	stdin  *os.File // the program's ends
	acks   *os.File
	in     *os.File // ours
	out    *os.File
	ended  chan struct{}
	number int // the last line acknowledged
}

func newFeeder(s *scenario, fired <-chan struct{}, f fault) (*feeder, error) {
	p := &feeder{parts: s.feed, fired: fired, hasty: f.stays || f.act == hooked, ended: make(chan struct{})}
	if !s.ingests() {
		p.parts = nil
	}
	var err error
	if p.stdin, p.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	p.out, p.acks, err = os.Pipe()
	return p, err
}

// run writes and reads. Errors are those of a program that has gone.
func (p *feeder) run() {
	acks := make(chan int, 1000)
	go readAcks(p.out, acks)
	written := 0
	for _, part := range p.parts {
		text := ""
		for _, l := range part {
			if l.text != "" { // a verdict that is supplied is not written
				text += l.text + "\n"
				written++
			}
		}
		if _, err := io.WriteString(p.in, text); err != nil {
			break
		}
		p.await(acks, written)
	}
	p.in.Close()
	for n := range acks {
		p.number = n
	}
	close(p.ended)
}

// await waits until the line number is acknowledged, or the program has gone.
func (p *feeder) await(acks <-chan int, number int) {
	fired := p.fired
	if !p.hasty {
		fired = nil
	}
	for p.number < number {
		select {
		case n, ok := <-acks:
			if !ok {
				return
			}
			p.number = n
		case <-fired:
			return
		}
	}
}

func readAcks(from io.Reader, acks chan<- int) {
	defer close(acks)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var number, seq, refused int
		if n, _ := fmt.Sscan(lines.Text(), &number, &seq, &refused); n == 3 {
			acks <- number
		}
	}
}

// wait is to be called when the program has ended. It returns the last line
// acknowledged.
func (p *feeder) wait() int {
	p.stdin.Close()
	p.acks.Close()
	<-p.ended
	return p.number
}

func (p *feeder) close() {
	for _, f := range []*os.File{p.stdin, p.acks, p.in, p.out} {
		f.Close()
	}
}

// plain runs the program untraced.
func (b *bench) plain(input string, args ...string) (code int, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), b.limit)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.Stdin, cmd.Stderr, cmd.Dir = strings.NewReader(input), &out, "/"
	err = cmd.Run()
	if cmd.ProcessState != nil {
		return cmd.ProcessState.ExitCode(), out.String(), nil
	}
	return 0, "", err
}
