//go:build linux && amd64

package crashtest

import (
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A job is one point of a sweep.
type job struct {
	s     *scenario
	f     fault
	call  string // the call that the fault must meet
	odd   bool   // a writer of the other kind heals
	check func(b *bench, j *job, tl *trial, g *ledger)

	// arm makes the hook of this point, on a bench that has been prepared.
	arm func(b *bench) (hook func(pid int))
	// owned says that the hook does what a directory's owner always can, so
	// that nothing is promised of the artifacts.
	owned   bool
	second  bool // the hook starts another writer
	seqGone bool // the hook takes the seq file away
}

// A tally counts what a sweep found.
type tally struct {
	mu     sync.Mutex
	points map[string]int // by action
	kinds  map[string]int
	shown  []string
}

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

func (ty *tally) total() (n int) {
	for _, count := range ty.points {
		n += count
	}
	return n
}

// workers is the number of points tried at a time.
func workers() int { return min(runtime.NumCPU(), 4) }

// sweep tries all jobs with a program.
func sweep(t *testing.T, program string, jobs []job) *tally {
	t.Helper()
	ty := &tally{points: map[string]int{}, kinds: map[string]int{}}
	queue := make(chan *job)
	var group sync.WaitGroup
	for range workers() {
		b := newBench(t, program)
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			for j := range queue {
				b.point(t, j, ty)
			}
		}()
	}
	for i := range jobs {
		queue <- &jobs[i]
	}
	close(queue)
	group.Wait()
	return ty
}

// newBench makes a bench in memory, where fsync costs nothing.
func newBench(t *testing.T, program string) *bench {
	t.Helper()
	return &bench{program: program, root: filepath.Join(testenv.TempDir(t), "bench"), limit: patience}
}

// point tries one point and holds what is left against the model.
func (b *bench) point(t *testing.T, j *job, ty *tally) {
	if err := b.reset(j.s); err != nil {
		t.Error(err)
		return
	}
	g := &ledger{before: look(b.dir(), eventsLog, rejectsLog), lines: j.s.lines()}
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
		g.find(blocked, "it did not end")
	}
	if j.second {
		if said := <-b.second; !strings.HasPrefix(said, "exit 0") {
			g.find(notHealed, "the other writer: %s", said)
		}
		g.foreign = secondMessage
	}
	g.settled, g.seqGone = tl.settled, j.seqGone
	if !j.owned {
		g.check(look(b.dir(), eventsLog, rejectsLog))
	}
	if j.check != nil {
		j.check(b, j, &tl, g)
	}
	ty.add(j, g, &tl)
}

// killed checks that the program was killed, and that the next writer heals.
func killed(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != -1 {
		g.find(blocked, "it was to be killed, and exited with %d", tl.exit.code)
	}
	b.heal(j, g)
}

// heal runs the next writer, which is mostly of the scenario's own kind, and
// checks that it finds its feet.
func (b *bench) heal(j *job, g *ledger) {
	if len(g.findings) > 0 {
		return // one thing at a time
	}
	if j.s.backstop {
		b.backstop(g)
	}
	next := &ledger{before: look(b.dir(), eventsLog, rejectsLog)}
	var ill []string
	if j.s.ingests() != j.odd {
		b.healByIngest(next)
	} else {
		ill = []string{rejectsLog, rejectsLog + ".torn"} // which the next reject sees to
		b.healByOneshots(next, j.s.args[0])
	}
	if name, ok := strings.CutPrefix(j.call, "fchmod run/"); ok && j.f.act == failBefore && strings.HasSuffix(name, ".torn") {
		ill = append(ill, name) // which is opened again by the next repair only
	}
	next.settled = len(next.lines)
	now := look(b.dir(), ill...)
	next.check(now)
	next.checkHealed(b.dir(), now, ill...)
	g.findings = append(g.findings, next.findings...)
}

// expect runs the program, which must exit as given.
func (b *bench) expect(g *ledger, code int, input string, args ...string) {
	got, stderr, err := b.plain(input, args...)
	if err != nil || got != code {
		g.find(notHealed, "%s: exit %d, want %d: %v %s", args[0], got, code, err, stderr)
	}
}

// healByOneshots runs the command that the scenario is about or, beside
// ingest, all three.
func (b *bench) healByOneshots(g *ledger, command string) {
	args := map[string][]string{
		"event":  {"event", "--kind=ready"},
		"status": {"status", "--state=ready"},
		"result": {"result", "--status=failed"},
	}
	for _, name := range []string{"event", "status", "result"} {
		if command != "ingest" && command != name {
			continue
		}
		message := "heal-" + name
		g.lines = append(g.lines, line{event: name == "event", status: name == "status", result: name == "result", message: message})
		b.expect(g, 0, "", append(args[name], "--state-dir="+b.dir(), "--message="+message)...)
	}
}

func (b *bench) healByIngest(g *ledger) {
	g.lines = []line{transition("starting", "heal-1"), badLine("heal-2"), transition("completed", "heal-3")}
	input := ""
	for _, l := range g.lines {
		input += l.text + "\n"
	}
	b.expect(g, 3, input, "ingest", "--state-dir="+b.dir())
}

// backstop runs ingest as a unit's ExecStopPost= does: whatever became of the
// stream, a verdict stands.
func (b *bench) backstop(g *ledger) {
	b.expect(g, 0, "", "ingest", "--state-dir="+b.dir(), "--require-result")
	if now := look(b.dir()); now.result == nil || now.result.Status != "failed" {
		g.find(lost, "no verdict after the backstop")
	}
}

// rehearsals are all scenarios, run without a fault, once for all tests.
type rehearsals struct {
	once  sync.Once
	mu    sync.Mutex
	calls map[string][2][]*call
	tally *tally
}

// rehearse returns the calls that a scenario makes if nothing happens. Each is
// run twice, and must make the same ones, for points are told by their number.
func (r *rehearsals) rehearse(t *testing.T, program string, s *scenario) []*call {
	t.Helper()
	r.once.Do(func() { r.run(t, program) })
	r.tally.report(t)
	runs := r.calls[s.name]
	if a, b := text(runs[0]), text(runs[1]); !slices.Equal(a, b) {
		t.Fatalf("%s: two runs differ:\n%s\n---\n%s", s.name, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if len(runs[0]) < s.calls {
		t.Fatalf("%s: %d calls counted, expected at least %d", s.name, len(runs[0]), s.calls)
	}
	return runs[0]
}

func (r *rehearsals) run(t *testing.T, program string) {
	t.Helper()
	r.calls = map[string][2][]*call{}
	var jobs []job
	for _, s := range scenarios() {
		for i := range 2 {
			jobs = append(jobs, dryRun(&s, i == 1, func(calls []*call) {
				r.mu.Lock()
				defer r.mu.Unlock()
				runs := r.calls[s.name]
				runs[i] = calls
				r.calls[s.name] = runs
			}))
		}
	}
	r.tally = sweep(t, program, jobs)
}

// dryRun is the job that runs a scenario without a fault and hands on its
// counted calls.
func dryRun(s *scenario, odd bool, to func([]*call)) job {
	return job{s: s, f: fault{act: nothing}, odd: odd, check: func(b *bench, j *job, tl *trial, g *ledger) {
		if tl.exit.code != s.code {
			g.find(notHealed, "exit %d, want %d", tl.exit.code, s.code)
		}
		g.checkDurable(tl.calls, true)
		to(slices.DeleteFunc(tl.calls, func(c *call) bool { return c.n == 0 }))
		b.heal(j, g)
	}}
}

func text(calls []*call) (lines []string) {
	for _, c := range calls {
		lines = append(lines, c.String())
	}
	return lines
}

// report fails the test for each finding, the first few in full.
func (ty *tally) report(t *testing.T) {
	t.Helper()
	slices.Sort(ty.shown)
	for i, text := range ty.shown {
		if i == 40 {
			t.Errorf("and %d more", len(ty.shown)-i)
			break
		}
		t.Error(text)
	}
}

// String gives the number of findings of each kind.
func (ty *tally) String() string {
	all := []string{lost, repeated, gap, unloadable, leftOver, seqTooLow, disagree, notHealed, falseZero, blocked, notDurable, touched}
	var parts []string
	for _, kind := range all {
		parts = append(parts, fmt.Sprintf("%s %d", kind, ty.kinds[kind]))
	}
	return strings.Join(parts, ", ")
}

// split tells the points of each action.
func (ty *tally) split() string {
	var parts []string
	for _, act := range slices.Sorted(maps.Keys(ty.points)) {
		parts = append(parts, fmt.Sprintf("%s %d", act, ty.points[act]))
	}
	return strings.Join(parts, ", ")
}

// crashJobs are all points at which a scenario can be killed.
func crashJobs(s *scenario, calls []*call) (jobs []job) {
	add := func(c *call, f fault) {
		f.at = c.n
		jobs = append(jobs, job{s: s, f: f, call: c.String(), odd: len(jobs)%4 == 3, check: killed})
	}
	for _, c := range calls {
		add(c, fault{act: killBefore})
		add(c, fault{act: killAfter})
		for _, part := range parts(c) {
			add(c, fault{act: tear, part: part})
		}
	}
	return jobs
}

// parts are the lengths to which a write is cut: a byte, half of it, and all
// but its last byte.
func parts(c *call) (lengths []uint64) {
	if c.name != "write" && c.name != "pwrite64" {
		return nil
	}
	for _, n := range []uint64{1, c.length / 2, c.length - 1} {
		if 0 < n && n < c.length && !slices.Contains(lengths, n) {
			lengths = append(lengths, n)
		}
	}
	return lengths
}

// TestCrashPoints kills the program before and after every call, and in every
// write.
func TestCrashPoints(t *testing.T) {
	program, n := program(t), share(t, 12)
	var jobs []job
	for _, s := range scenarios() {
		calls := rehearsed.rehearse(t, program, &s)
		t.Logf("%-28s %4d calls", s.name, len(calls))
		jobs = append(jobs, crashJobs(&s, calls)...)
	}
	all := len(jobs)
	ty := sweep(t, program, thin(jobs, n))
	ty.report(t)
	t.Logf("crash points %d of %d (%s): %v", ty.total(), all, ty.split(), ty)
	if all < 2500 || n == 1 && ty.total() < all {
		t.Errorf("%d crash points tried of %d, expected 2500 at least", ty.total(), all)
	}
}
