//go:build linux && amd64

package faulttest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// runLimit is the time limit of a run of the program, a hundred times longer than any
// run takes.
const runLimit = 30 * time.Second

// A bench is a directory in which one goroutine tries one point after the other. base
// contains the watched directory, which may be the root of a disk. The watched directory
// contains the state directory.
type bench struct {
	program string
	base    string
	below   string           // the state directory, relative to the watched one
	disk    *disk            // nil if everything is in memory
	counts  func(*call) bool // which calls are counted; nil: all
	second  chan string      // receives how the other writer ended, for waitForSecond
	lost    bool             // the disk has lost its power since reset

	crowd     *crowd     // the waiters of the current point; nil if there are none
	waitTimes *waitTimes // of the waiters of all points; nil if no test needs them
}

func (b *bench) watched() string { return filepath.Join(b.base, "watched") }
func (b *bench) dir() string     { return filepath.Join(b.watched(), b.below) }
func (b *bench) outside() string { return filepath.Join(b.base, "outside") }

// newBenches creates a bench for each point that is tried at the same time. They are in
// memory, where fsync is fast.
func newBenches(t *testing.T, program string) (all []*bench) {
	t.Helper()
	return benchesOf(t, program, min(runtime.NumCPU(), 4))
}

// benchesOf creates n benches in memory.
func benchesOf(t *testing.T, program string, n int) (all []*bench) {
	t.Helper()
	for range n {
		all = append(all, &bench{program: program, base: filepath.Join(testenv.TempDir(t), "bench"), below: "run"})
	}
	return all
}

// reset prepares the bench for the scenario.
func (b *bench) reset(s *scenario) error {
	first, _, _ := strings.Cut(b.below, "/") // the root of a disk has other directories
	for _, dir := range []string{filepath.Join(b.watched(), first), b.outside()} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{b.watched(), b.outside()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := s.prepare(b.dir()); err != nil {
		return err
	}
	b.lost = false
	if b.disk != nil {
		return b.disk.syncAll()
	}
	return nil
}

// allows returns the defects that the state directory may have immediately after a fault.
func (b *bench) allows() allowance {
	return allowance{torn: []string{eventsLog, rejectsLog}, nuls: b.disk != nil}
}

// A trial is one run of a scenario with one fault.
type trial struct {
	exit    exit
	acked   int // lines acknowledged
	stderr  string
	calls   []*call
	faulted *call
	err     error // the test itself failed
}

// try runs s with the fault f.
func (b *bench) try(s *scenario, f fault) (tl trial) {
	tr := &tracer{watch: b.watched(), counts: b.counts, fault: f, denied: s.denied, limit: runLimit, fired: make(chan struct{})}
	guest, err := newGuest(s, tr.fired, f)
	if err != nil {
		return trial{err: err}
	}
	defer guest.close()
	stderr, err := os.Create(filepath.Join(b.base, "stderr"))
	if err != nil {
		return trial{err: err}
	}
	defer stderr.Close()
	go guest.run()
	tl.exit, tl.err = tr.run(append([]string{b.program}, s.argv(b.dir())...), &os.ProcAttr{
		Dir: "/", Env: deterministicEnv(),
		Files: []*os.File{guest.stdin, stderr, stderr, guest.acks},
	})
	tr.fire()
	tl.acked = guest.wait()
	if tl.exit.code == s.code {
		tl.acked = len(s.lines()) // this exit code acknowledges all of them
	}
	text, _ := os.ReadFile(stderr.Name())
	tl.stderr, tl.calls, tl.faulted = string(text), tr.calls, tr.faulted
	return tl
}

// deterministicEnv returns the environment with which each run makes the same calls. It
// turns off preemption, whose signals interrupt calls, and the garbage collection, which
// may close files.
func deterministicEnv() []string {
	return []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off"}
}

// runUntraced runs the program without the tracer.
func (b *bench) runUntraced(input string, args ...string) (code int, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
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
