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

// A job is one point of a sweep: a scenario, a fault, and the check of what is
// left.
//
// All fields after check may be zero.
type job struct {
	s     *scenario
	f     fault
	check func(b *bench, j *job, tl *trial, g *ledger)

	call     string                                  // the call that the fault must meet
	odd      bool                                    // the next writer is of the other kind
	arm      func(b *bench) func(pid int) error      // makes the hook of f, on a bench that is ready
	then     func(b *bench, j *job, g *ledger) error // what happens between the run and the check
	owned    bool                                    // the hook does what the owner of a directory can: the artifacts are not checked
	takesSeq bool                                    // the hook takes the seq file away
}

// A tally counts what a sweep found.
type tally struct {
	mu     sync.Mutex
	points map[string]int // by action
	kinds  map[string]int // findings, by kind
	shown  []string       // findings in words
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

// merge adds the findings of another sweep, with the place where they were made.
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

// maxShown is how many findings are shown: enough to see what they have in common.
const maxShown = 40

// report fails the test for each finding, and logs how many points were tried of
// all that there are.
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

// String gives the number of findings of each kind.
func (ty *tally) String() string {
	var parts []string
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%s %d", kind, ty.kinds[kind]))
	}
	return strings.Join(parts, ", ")
}

// byAction gives the number of points of each action.
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
			runtime.LockOSThread() // and never unlocked, as the tracer requires
			for j := range queue {
				b.point(t, j, ty)
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

// point tries one point and compares what is left with the model.
func (b *bench) point(t *testing.T, j *job, ty *tally) {
	if err := b.reset(j.s); err != nil {
		t.Error(err)
		return
	}
	g := &ledger{before: look(b.dir(), b.allows()), lines: j.s.lines(), seqGone: j.takesSeq, maySkip: j.f.errno != 0 || j.f.act == shorten}
	if j.arm != nil {
		j.f.hook = j.arm(b)
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
		g.find(blocked, "it did not end within %v", patience)
	}
	if j.then != nil {
		if err := j.then(b, j, g); err != nil {
			t.Errorf("%s: %v: %v", j.s.name, j.f, err)
			return
		}
	}
	g.settled = tl.settled
	if !j.owned {
		g.check(look(b.dir(), b.allows()))
	}
	j.check(b, j, &tl, g)
	ty.add(j, g, &tl)
}

// checkKilled checks that the program was killed, and that the next writer repairs
// what is left.
func checkKilled(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != killedCode {
		g.find(blocked, "it should have been killed, but exited with %d", tl.exit.code)
	}
	b.repair(j, g)
}

// checkEnded checks that the program did all that it should.
func checkEnded(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != j.s.code {
		g.find(lost, "exit %d, want %d", tl.exit.code, j.s.code)
	}
	b.repair(j, g)
}

// repair runs the next writer, which is mostly of the scenario's own kind, and
// checks what it leaves.
func (b *bench) repair(j *job, g *ledger) {
	if len(g.findings) > 0 {
		return // they explain what the next writer finds
	}
	if j.s.backstop {
		b.backstop(g)
	}
	next := &ledger{before: look(b.dir(), b.allows())}
	var ill []string
	if j.s.ingests() != j.odd {
		b.repairByIngest(next)
	} else {
		ill = []string{rejectsLog, rejectsLog + ".torn"} // the next reject repairs them
		b.repairByOneshots(next, j.s.args[0])
	}
	name, isChmod := strings.CutPrefix(j.call, "fchmod run/")
	if isChmod && j.f.act == failBefore && strings.HasSuffix(name, ".torn") {
		ill = append(ill, name) // only the next repair opens it again
	}
	next.settled = len(next.lines)
	now := look(b.dir(), allowance{torn: ill})
	next.check(now)
	next.checkRepaired(now, ill...)
	g.findings = append(g.findings, next.findings...)
}

// expect runs the program, which must exit with code.
func (b *bench) expect(g *ledger, code int, input string, args ...string) {
	got, stderr, err := b.plain(input, args...)
	if err != nil || got != code {
		g.find(notRepaired, "%s: exit %d, want %d: %v %s", args[0], got, code, err, stderr)
	}
}

// repairByOneshots runs the command that the scenario runs or, after ingest, all
// three.
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

// nextLines are what the next ingest is given: a line for each artifact. It exits
// with nextCode.
func nextLines() []line {
	return []line{transition("starting", "next-1"), badLine("next-2"), transition("completed", "next-3")}
}

const nextCode = 3

// nextInput is nextLines as ingest reads them.
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

// backstop runs ingest as a unit's ExecStopPost= does: whatever happened to the
// stream, there must be a result afterwards.
func (b *bench) backstop(g *ledger) {
	b.expect(g, 0, "", "ingest", "--state-dir="+b.dir(), "--require-result")
	now := look(b.dir(), allowance{})
	if now.result == nil || now.result.word != "failed" {
		g.find(lost, "no result after the backstop")
	}
}

// dryRuns are the calls of all scenarios without a fault, once for all tests.
type dryRuns struct {
	once  sync.Once
	mu    sync.Mutex
	calls map[string][2][]*call
	tally *tally
}

// inMemory are the dry runs on benches in memory.
var inMemory dryRuns

// callsOf returns the calls that a scenario makes without a fault. Each scenario
// is run twice and must make the same calls, because points are given by number.
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

// dryRun is the job that runs a scenario without a fault. It calls to with the
// counted calls, on another goroutine.
func dryRun(s *scenario, odd bool, to func([]*call)) job {
	return job{s: s, f: fault{act: nothing}, odd: odd, check: func(b *bench, j *job, tl *trial, g *ledger) {
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

// thin takes one of n jobs: the first of a shuffle that is always the same, so
// that every kind of job has its share.
func thin(jobs []job, n int) []job {
	shuffled := make([]job, 0, len(jobs))
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(jobs)) {
		shuffled = append(shuffled, jobs[i])
	}
	return shuffled[:(len(jobs)+n-1)/n]
}

// trySome tries one in n of the jobs, in memory, and fails the test if there are
// fewer than least of them in all.
func trySome(t *testing.T, program, what string, jobs []job, n, least int) {
	t.Helper()
	sweep(t, newBenches(t, program), thin(jobs, n)).report(t, what, len(jobs))
	if len(jobs) < least {
		t.Errorf("%s: %d points, expected at least %d", what, len(jobs), least)
	}
}
