//go:build linux && amd64

package powerloss

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A point is a moment at which the power goes: before the call at, or after the
// end if there are not as many.
type point struct {
	*scenario
	at   int
	luck luck
}

// point returns the i-th point.
func (s *scenario) point(i int) *point {
	all := lucks()
	return &point{s, i/len(all) + 1, all[i%len(all)]}
}

func (pt *point) String() string {
	return fmt.Sprintf("%s, power lost at call %d, on the disk is %s", pt.name, pt.at, pt.luck.name)
}

// A bench tries points on a disk of its own.
type bench struct {
	*disk
	program string
}

// stateDir is made by the program in some scenarios, with its parent.
func (b *bench) stateDir() string { return filepath.Join(b.root, "guest", "state") }

// An outcome is how a run ended.
type outcome struct {
	code    int
	settled int // lines acknowledged
	calls   int // made by then
	said    string
}

// start runs the scenario on a clean directory up to the point, at which the
// power goes. Point 0 never comes.
func (b *bench) start(pt *point) (o outcome, err error) {
	if err := os.RemoveAll(filepath.Dir(b.stateDir())); err != nil {
		return o, err
	}
	if err := pt.stood.prepare(b.stateDir()); err != nil {
		return o, err
	}
	if err := b.settle(); err != nil {
		return o, err
	}
	g, err := newGuest(pt.scenario)
	if err != nil {
		return o, err
	}
	defer g.close()
	go g.feed()
	lose := func() error { return b.lose(pt.luck, b.stateDir()) }
	tr := tracer{root: b.root, at: pt.at, lose: lose}
	o.code, err = tr.run(pt.argv(b.program, b.stateDir()), g.files())
	o.settled, o.said = g.settled()
	o.calls = tr.count
	if pt.at > tr.count && err == nil {
		err = lose()
	}
	if o.code == pt.scenario.code {
		o.settled = len(pt.lines()) // an exit that says so acknowledges all
	}
	return o, err
}

// try takes the power away at a point, and looks at what comes back.
func (b *bench) try(pt *point) (o outcome, f findings, err error) {
	o, err = b.start(pt)
	if err != nil {
		return o, f, err
	}
	if want := pt.exit(&o); o.code != want {
		return o, f, fmt.Errorf("exit %d, expected %d: %s", o.code, want, o.said)
	}
	if err := b.remount(); err != nil {
		return o, f, err
	}
	before, err := b.look()
	if err != nil {
		f.add(unloadable, "%v", err)
		return o, f, nil
	}
	h := pt.history(o.settled)
	h.check(before, &f)
	return o, f, b.heal(h, before, &f)
}

// exit returns how the program must have ended.
func (pt *point) exit(o *outcome) int {
	if pt.at <= o.calls {
		return killed
	}
	return pt.code
}

func (b *bench) look() (*picture, error) {
	files, err := filesIn(b.stateDir())
	if err != nil {
		return nil, err
	}
	return look(files)
}

// heal lets the next writer in.
func (b *bench) heal(h *history, before *picture, f *findings) error {
	cmd := exec.Command(b.program, "ingest", "--state-dir="+b.stateDir())
	cmd.Stdin = strings.NewReader(healLines)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 {
		f.add(notHealed, "the next writer: %v, %s", err, text)
		return nil
	}
	now, err := b.look()
	if err != nil {
		f.add(unloadable, "after the next writer: %v", err)
		return nil
	}
	h.checkHealed(before, now, f)
	return nil
}

// history is what the scenario has done once so many of its lines are
// acknowledged.
func (s *scenario) history(settled int) *history {
	stood := s.stood.lines()
	h := &history{lines: slices.Concat(stood, s.lines()), settled: len(stood) + settled,
		first: 1, torn: s.stood.torn, verdict: s.stood.verdict, old: len(stood)}
	if len(stood) == 0 {
		h.first = uint64(s.stood.seq) + 1
	}
	return h
}

// A guest is who feeds a scenario to the program: it writes the parts, and
// waits for each to be acknowledged before it writes the next.
type guest struct {
	parts         [][]line
	stdin, ack    *os.File // the program's ends
	in, acks      *os.File // ours
	stderr        *os.File
	ended         chan struct{}
	acknowledged  int
	acknowledgeds chan int
}

func newGuest(s *scenario) (g *guest, err error) {
	g = &guest{ended: make(chan struct{}), acknowledgeds: make(chan int, 1000)}
	if s.ingests() {
		g.parts = s.feed
	}
	if g.stdin, g.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	if g.acks, g.ack, err = os.Pipe(); err != nil {
		return nil, err
	}
	g.stderr, err = os.CreateTemp(testenv.Shared(), "stderr")
	return g, err
}

func (g *guest) files() []*os.File { return []*os.File{g.stdin, g.stderr, g.stderr, g.ack} }

// feed writes and waits. Errors are those of a program that is gone.
func (g *guest) feed() {
	defer close(g.ended)
	go readAcks(g.acks, g.acknowledgeds)
	written := 0
	for _, part := range g.parts {
		text := ""
		for _, l := range part {
			if l.text != "" { // a verdict that is supplied is not written
				text += l.text + "\n"
				written++
			}
		}
		if _, err := io.WriteString(g.in, text); err != nil || !g.await(written) {
			break
		}
	}
	g.in.Close()
	for n := range g.acknowledgeds {
		g.acknowledged = n
	}
}

// await waits for the acknowledgement of a line; false if none will come.
func (g *guest) await(number int) bool {
	for g.acknowledged < number {
		n, ok := <-g.acknowledgeds
		if !ok {
			return false
		}
		g.acknowledged = n
	}
	return true
}

func readAcks(from io.Reader, to chan<- int) {
	defer close(to)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var number, seq, refused int
		if n, _ := fmt.Sscan(lines.Text(), &number, &seq, &refused); n == 3 {
			to <- number
		}
	}
}

// settled is to be called once the program is gone. It returns the number of
// lines acknowledged, and what was said.
func (g *guest) settled() (int, string) {
	g.stdin.Close()
	g.ack.Close()
	<-g.ended
	said, _ := os.ReadFile(g.stderr.Name())
	return g.acknowledged, string(said)
}

func (g *guest) close() {
	for _, f := range []*os.File{g.stdin, g.in, g.ack, g.acks, g.stderr} {
		f.Close()
	}
	os.Remove(g.stderr.Name())
}

// A tally is how a sweep of one file system went.
type tally struct {
	sync.Mutex
	findings
	points int
	err    error
}

// disksEach is how many disks of each file system are used at once: most of a
// point's time is waiting for the kernel to unmount.
const disksEach = 2

// sweep tries one in n points of all scenarios on every file system.
func sweep(t *testing.T, program string, n int, all []scenario) map[string]*tally {
	t.Helper()
	tallies := map[string]*tally{}
	var workers sync.WaitGroup
	for _, fs := range fileSystems() {
		jobs, ty := make(chan *scenario, len(all)), new(tally)
		for i := range all {
			jobs <- &all[i]
		}
		close(jobs)
		tallies[fs.name] = ty
		for range disksEach {
			b := &bench{fs.newDisk(t), program}
			workers.Go(func() { b.work(jobs, n, ty) })
		}
	}
	workers.Wait()
	for name, ty := range tallies {
		if ty.err != nil {
			t.Fatalf("%s: %v", name, ty.err)
		}
	}
	return tallies
}

// work sweeps scenario after scenario.
func (b *bench) work(jobs <-chan *scenario, n int, ty *tally) {
	runtime.LockOSThread() // for the tracer
	for s := range jobs {
		if err := b.sweep(s, n, ty); err != nil {
			ty.Lock()
			ty.err = err
			ty.Unlock()
			return
		}
	}
}

// sweep tries one in n points of a scenario, up to one that is after the end.
func (b *bench) sweep(s *scenario, n int, ty *tally) error {
	for i := len(s.name) % n; ; i += n { // else those tried would all have the same luck
		pt := s.point(i)
		o, f, err := b.try(pt)
		if err != nil {
			return fmt.Errorf("%v: %w", pt, err)
		}
		ty.Lock()
		ty.points++
		ty.join(&f, pt.String())
		ty.Unlock()
		if pt.at <= o.calls {
			continue
		}
		if o.calls < s.calls {
			return fmt.Errorf("%s: %d calls, expected at least %d", s.name, o.calls, s.calls)
		}
		return nil
	}
}

// share returns n where one point in n is to be tried: no multiple of the
// lucks, so that each comes up.
func share() int {
	if os.Getenv("SWEEP") != "" {
		return 1
	}
	return 50
}

// allPoints is how many there are at the least.
const allPoints = 2600

// TestPowerLossLosesNothing takes the power away at every call.
func TestPowerLossLosesNothing(t *testing.T) {
	needDisks(t)
	n := share()
	t.Logf("one point in %d is tried; SWEEP=full tries all", n)
	points, all := 0, findings{}
	for name, ty := range sweep(t, testenv.Program(t), n, scenarios()) {
		t.Logf("%s: %d points: %v", name, ty.points, &ty.findings)
		points += ty.points
		all.join(&ty.findings, name)
	}
	t.Logf("power-loss points %d on %d file systems: %v", points, len(fileSystems()), &all)
	if points < allPoints/n {
		t.Errorf("%d points tried, expected at least %d", points, allPoints/n)
	}
	if !all.none() {
		t.Errorf("%s", strings.Join(all.words, "\n"))
	}
}
