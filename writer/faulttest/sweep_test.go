//go:build linux && amd64

package faulttest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A job is one point of a sweep: a scenario, a fault, and the check of the files
// afterwards. All fields after check may be zero.
type job struct {
	s     *scenario
	f     fault
	check func(b *bench, j *job, tl *trial, g *ledger)

	call           string                                  // the expected call at which the fault happens
	otherKind      bool                                    // the next writer is a one-shot command if the scenario is an ingest, and vice versa
	newHook        func(b *bench) func(pid int) error      // returns the hook of f, on a bench that has been reset
	afterRun       func(b *bench, j *job, g *ledger) error // called between the run and the check
	attacked       bool                                    // the hook replaces files as the owner of the directory could; the artifacts are not checked
	changesSeqFile bool                                    // the hook removes or replaces the seq file
}

// A tally counts the points and the findings of a sweep.
type tally struct {
	mu     sync.Mutex
	points map[string]int // by action
	kinds  map[string]int // findings, by kind
	shown  []string       // the texts of the findings
}

func newTally() *tally { return &tally{points: map[string]int{}, kinds: map[string]int{}} }

func (ty *tally) add(j *job, g *ledger, tl *trial) {
	ty.mu.Lock()
	defer ty.mu.Unlock()
	ty.points[string(j.f.act)]++
	for _, f := range g.findings {
		ty.kinds[f.kind]++
		ty.shown = append(ty.shown, fmt.Sprintf("%s: %v (%s): %s: %s\n\texit %+v, stderr %q",
			j.s.name, j.f, j.call, f.kind, f.text, tl.exit, tl.stderr))
	}
}

// merge adds the findings of another sweep. place is the name of its file system.
func (ty *tally) merge(other *tally, place string) {
	for act, n := range other.points {
		ty.points[act] += n
	}
	for kind, n := range other.kinds {
		ty.kinds[kind] += n
	}
	for _, text := range other.shown {
		ty.shown = append(ty.shown, place+": "+text)
	}
}

func (ty *tally) total() (n int) {
	for _, count := range ty.points {
		n += count
	}
	return n
}

// maxShown is how many findings are reported in full. That is enough to see what they
// have in common.
const maxShown = 40

// report reports each finding as an error of the test, and logs how many points were
// tried. all is the number of all points.
func (ty *tally) report(t *testing.T, what string, all int) {
	t.Helper()
	slices.Sort(ty.shown)
	for i, text := range ty.shown {
		if i == maxShown {
			t.Errorf("and %d more", len(ty.shown)-i)
			break
		}
		t.Error(text)
	}
	t.Logf("%s: %d points of %d (%s): %v", what, ty.total(), all, ty.byAction(), ty)
}

// String returns the number of findings of each kind.
func (ty *tally) String() string {
	var parts []string
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%s %d", kind, ty.kinds[kind]))
	}
	return strings.Join(parts, ", ")
}

// byAction returns the number of points of each action.
func (ty *tally) byAction() string {
	var parts []string
	for _, act := range slices.Sorted(maps.Keys(ty.points)) {
		parts = append(parts, fmt.Sprintf("%s %d", act, ty.points[act]))
	}
	return strings.Join(parts, ", ")
}

// sweep tries all jobs, each on one of the benches.
func sweep(t *testing.T, benches []*bench, jobs []job) *tally {
	t.Helper()
	ty, queue := newTally(), make(chan *job)
	var workers sync.WaitGroup
	for _, b := range benches {
		workers.Go(func() {
			runtime.LockOSThread() // never unlocked, as the tracer requires
			for j := range queue {
				b.runJob(t, j, ty)
			}
		})
	}
	for i := range jobs {
		queue <- &jobs[i]
	}
	close(queue)
	workers.Wait()
	return ty
}

// runJob tries one point and checks the files afterwards.
func (b *bench) runJob(t *testing.T, j *job, ty *tally) {
	if err := b.reset(j.s); err != nil {
		t.Error(err)
		return
	}
	g := &ledger{before: readPicture(b.dir(), b.allows()), lines: j.s.lines(), seqFileChanged: j.changesSeqFile, maySkip: j.f.errno != 0 || j.f.act == shorten}
	if j.newHook != nil {
		j.f.hook = j.newHook(b)
	}
	tl := b.try(j.s, j.f)
	switch {
	case tl.err != nil:
		t.Errorf("%s: %v: %v", j.s.name, j.f, tl.err)
		return
	case j.call != "" && (tl.faulted == nil || tl.faulted.String() != j.call):
		t.Errorf("%s: %v met %v, not %s as in the dry run; the calls were\n%s",
			j.s.name, j.f, tl.faulted, j.call, strings.Join(text(tl.calls), "\n"))
		return
	case tl.exit.blocked:
		g.find(blocked, "the program did not end within %v", runLimit)
	}
	if j.afterRun != nil {
		if err := j.afterRun(b, j, g); err != nil {
			t.Errorf("%s: %v: %v", j.s.name, j.f, err)
			return
		}
	}
	g.acked = tl.acked
	if !j.attacked {
		g.check(readPicture(b.dir(), b.allows()))
	}
	j.check(b, j, &tl, g)
	ty.add(j, g, &tl)
}

// checkKilled checks that the program was killed, and that the next writer repairs the
// files.
func checkKilled(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != killedCode {
		g.find(blocked, "the program was to be killed, but exited with %d", tl.exit.code)
	}
	b.repair(j, g)
}

// checkEnded checks that the program wrote all lines and ended as without a fault.
func checkEnded(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != j.s.code {
		g.find(lost, "exit %d, want %d", tl.exit.code, j.s.code)
	}
	b.repair(j, g)
}

// repair runs the next writer, usually of the same kind as the scenario, and checks the
// files afterwards.
func (b *bench) repair(j *job, g *ledger) {
	if len(g.findings) > 0 {
		return // the findings after the next writer would have the same cause
	}
	if j.s.fallback {
		b.fallback(g)
	}
	next := &ledger{before: readPicture(b.dir(), b.allows())}
	var except []string
	if j.s.ingests() != j.otherKind {
		b.repairByIngest(next)
	} else {
		except = []string{rejectsLog, rejectsLog + ".torn"} // only an ingest that rejects a line repairs them
		b.repairByOneshots(next, j.s.args[0])
	}
	name, isChmod := strings.CutPrefix(j.call, "fchmod run/")
	if isChmod && j.f.act == failBefore && strings.HasSuffix(name, ".torn") {
		except = append(except, name) // opened only when the next torn line is moved
	}
	next.acked = len(next.lines)
	now := readPicture(b.dir(), allowance{torn: except})
	next.check(now)
	next.checkRepaired(now, except...)
	g.findings = append(g.findings, next.findings...)
}

// expect runs the program, which must exit with code.
func (b *bench) expect(g *ledger, code int, input string, args ...string) {
	got, stderr, err := b.runUntraced(input, args...)
	if err != nil || got != code {
		g.find(notRepaired, "%s: exit %d, want %d: %v %s", args[0], got, code, err, stderr)
	}
}

// repairByOneshots runs the one-shot command of the scenario; all three after an ingest.
func (b *bench) repairByOneshots(g *ledger, command string) {
	for _, o := range []struct {
		flag string
		line line
	}{
		{"--kind=", line{event: true, word: "ready", message: "next-event"}},
		{"--state=", line{status: true, word: "ready", message: "next-status"}},
		{"--status=", line{result: true, word: "failed", message: "next-result"}},
	} {
		name := strings.TrimPrefix(o.line.message, "next-")
		if command == "ingest" || command == name {
			g.lines = append(g.lines, o.line)
			b.expect(g, 0, "", name, "--state-dir="+b.dir(), o.flag+o.line.word, "--message="+o.line.message)
		}
	}
}

// nextLines returns the input of the next ingest, which writes all artifacts. That ingest
// exits with nextCode.
func nextLines() []line {
	return []line{transition("starting", "next-1"), badLine("next-2"), transition("completed", "next-3")}
}

const nextCode = 3

// nextInput returns the text of nextLines.
func nextInput() (input string) {
	for _, l := range nextLines() {
		input += l.text + "\n"
	}
	return input
}

func (b *bench) repairByIngest(g *ledger) {
	g.lines = nextLines()
	b.expect(g, nextCode, nextInput(), "ingest", "--state-dir="+b.dir())
}

// fallback runs ingest --require-result without input, as ExecStopPost= of a unit does,
// and checks that there is a result afterwards.
func (b *bench) fallback(g *ledger) {
	b.expect(g, 0, "", "ingest", "--state-dir="+b.dir(), "--require-result")
	now := readPicture(b.dir(), allowance{})
	if now.result == nil || now.result.word != "failed" {
		g.find(lost, "no fallback result")
	}
}

// dryRuns has the calls that each scenario makes without a fault. It runs the scenarios
// once for all tests.
type dryRuns struct {
	once  sync.Once
	mu    sync.Mutex
	calls map[string][2][]*call
	tally *tally
}

// inMemory has the dry runs on benches in memory.
var inMemory dryRuns

// callsOf returns the calls that a scenario makes without a fault. Each scenario is run
// twice and must make the same calls, because a fault is injected at a call number.
func callsOf(t *testing.T, program string, s *scenario) []*call {
	t.Helper()
	d := &inMemory
	d.once.Do(func() { d.run(t, program) })
	if len(d.tally.shown) > 0 {
		t.Fatalf("without a fault: %s", d.tally.shown[0])
	}
	runs := d.calls[s.name]
	if a, b := text(runs[0]), text(runs[1]); !slices.Equal(a, b) {
		t.Fatalf("%s: two runs differ:\n%s\n---\n%s", s.name, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if len(runs[0]) < s.calls {
		t.Fatalf("%s: %d calls counted, expected at least %d", s.name, len(runs[0]), s.calls)
	}
	return runs[0]
}

func (d *dryRuns) run(t *testing.T, program string) {
	t.Helper()
	d.calls = map[string][2][]*call{}
	var jobs []job
	for _, s := range scenarios() {
		for i := range 2 {
			jobs = append(jobs, dryRun(&s, i == 1, func(calls []*call) {
				d.mu.Lock()
				defer d.mu.Unlock()
				runs := d.calls[s.name]
				runs[i] = calls
				d.calls[s.name] = runs
			}))
		}
	}
	d.tally = sweep(t, newBenches(t, program), jobs)
}

// dryRun returns the job that runs a scenario without a fault. The job calls to with the
// counted calls, on another goroutine.
func dryRun(s *scenario, otherKind bool, to func([]*call)) job {
	return job{s: s, f: fault{act: nothing}, otherKind: otherKind, check: func(b *bench, j *job, tl *trial, g *ledger) {
		g.checkDurable(tl.calls, true)
		to(slices.DeleteFunc(slices.Clone(tl.calls), func(c *call) bool { return c.n == 0 }))
		checkEnded(b, j, tl, g)
	}}
}

func text(calls []*call) (lines []string) {
	for _, c := range calls {
		lines = append(lines, c.String())
	}
	return lines
}

// sample returns one in n of the jobs. It chooses them randomly, but the same ones in
// every run.
func sample(jobs []job, n int) []job {
	shuffled := make([]job, 0, len(jobs))
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(jobs)) {
		shuffled = append(shuffled, jobs[i])
	}
	return shuffled[:(len(jobs)+n-1)/n]
}

// sweepSample tries one in n of the jobs, in memory. The test fails if jobs has fewer than
// minPoints elements.
func sweepSample(t *testing.T, program, what string, jobs []job, n, minPoints int) {
	t.Helper()
	sweep(t, newBenches(t, program), sample(jobs, n)).report(t, what, len(jobs))
	if len(jobs) < minPoints {
		t.Errorf("%s: %d points, expected at least %d", what, len(jobs), minPoints)
	}
}
