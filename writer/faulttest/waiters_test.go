//go:build linux && amd64

package faulttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The exit codes of wait.
const (
	waitReached = 0
	waitOther   = 1 // the run has ended in another way
	waitDied    = 4 // a writer has died
	stillWaits  = -2
)

const (
	// promised is how long after the death of its writer wait ends at the latest, on a
	// machine that is not overloaded.
	promised = 2 * time.Second
	// endLimit is after which time a test fails that waits for a waiter.
	endLimit = 20 * time.Second
)

// wanted lists the states for which the waiters of a point wait.
var wanted = []string{"completed", "failed", "ready", "completed,failed", "starting", "stopped"}

// A waitProcess is a wait that runs.
type waitProcess struct {
	wants  string
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{} // closed when it has ended
	at     time.Time     // when it ended
}

// startWait starts a wait in the directory at dir. The wait ends at the latest when the
// current thread ends, to which the caller is locked.
func startWait(program, dir, wants string, flags ...string) (*waitProcess, error) {
	w := &waitProcess{wants: wants, ended: make(chan struct{})}
	w.cmd = exec.Command(program, append([]string{"wait", "--state-dir=" + dir, "--for=" + wants}, flags...)...)
	w.cmd.Dir, w.cmd.Stdout, w.cmd.Stderr = "/", &w.output, &w.output
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = w.cmd.Wait() // the exit code is all that counts
		w.at = time.Now()
		close(w.ended)
	}()
	return w, nil
}

// awaitLook waits until w has looked at the files for the first time. After each look it
// waits in poll(2), and it calls that nowhere else. To read the call of another process, the
// test needs permission to trace it (proc_pid_syscall(5)).
func (w *waitProcess) awaitLook() error {
	for end := time.Now().Add(endLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if w.hasEnded() {
			return fmt.Errorf("wait --for %s has ended before the writer has started: exit %d, %s", w.wants, w.code(), &w.output)
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", w.cmd.Process.Pid))
		if err != nil {
			return err
		}
		for _, path := range threads {
			text, _ := os.ReadFile(path) // the thread may have ended
			number, _, _ := strings.Cut(string(text), " ")
			if number == strconv.Itoa(unix.SYS_POLL) || number == strconv.Itoa(unix.SYS_PPOLL) {
				return nil
			}
		}
	}
	return errors.New("wait does not begin to wait")
}

func (w *waitProcess) hasEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// endsUntil reports whether w ends until end.
func (w *waitProcess) endsUntil(end time.Time) bool {
	select {
	case <-w.ended:
		return true
	case <-time.After(time.Until(end)):
		return w.hasEnded()
	}
}

// code returns the exit code of a wait that has ended; otherwise stillWaits.
func (w *waitProcess) code() int {
	if !w.hasEnded() {
		return stillWaits
	}
	return w.cmd.ProcessState.ExitCode()
}

// kill ends w, if it has not ended.
func (w *waitProcess) kill() {
	_ = w.cmd.Process.Kill() // it may have ended
	<-w.ended
}

// A crowd is the waiters of one point.
type crowd struct {
	all     []*waitProcess
	faultAt time.Time // when the fault happened
	err     error     // a waiter could not be started
}

// newCrowd starts n waiters in the state directory of a bench, and waits until they wait.
// The start-th of wanted is what the first of them waits for.
func newCrowd(b *bench, n, start int) *crowd {
	c := new(crowd)
	for i := range n {
		w, err := startWait(b.program, b.dir(), wanted[(start+i)%len(wanted)])
		if err != nil {
			c.err = err
			return c
		}
		c.all = append(c.all, w)
	}
	for _, w := range c.all {
		c.err = errors.Join(c.err, w.awaitLook())
	}
	return c
}

func (c *crowd) kill() {
	for _, w := range c.all {
		w.kill()
	}
}

// waitersEverywhere returns the number in PIKA_WAITERS; 0 if it is not set.
func waitersEverywhere() int {
	n, _ := strconv.Atoi(os.Getenv("PIKA_WAITERS"))
	return n
}

// crowdSize returns how many waiters the point with a number has: two at each point, and
// twenty at one point in 64. With PIKA_WAITERS=N, each point has N.
func crowdSize(number int) int {
	switch n := waitersEverywhere(); {
	case n > 0:
		return n
	case number%64 == 0:
		return 20
	}
	return 2
}

// pointsAtOnce returns how many points with waiters are tried at the same time: waiting needs
// little processor time. They have about 110 waiters together, because a user has only 128
// inotify instances by default. If there are more waiters, some poll, as wait does then.
func pointsAtOnce() int {
	if n := waitersEverywhere(); n > 0 {
		return max(4, 240/n)
	}
	return 48
}

// withWaiters makes waiters wait before the program starts at the point of a job.
func withWaiters(j job, number int) job {
	act := j.f.act
	j.attacked = true // other sweeps check the artifacts
	j.newHook = func(b *bench) func(int) error {
		b.crowd = newCrowd(b, crowdSize(number), number)
		return func(int) error {
			b.crowd.faultAt = time.Now()
			if act == hooked {
				time.Sleep(promised) // the program is alive, but makes no progress
			}
			return nil
		}
	}
	j.check = checkWaiters
	return j
}

// waiterJobs returns all points at which a scenario can be killed, and those of stopJobs.
func waiterJobs(s *scenario, calls []*call) (jobs []job) {
	for i, j := range crashJobs(s, calls) {
		jobs = append(jobs, withWaiters(j, i))
	}
	return append(jobs, stopJobs(s, calls)...)
}

// stopJobs returns points at which the program stops for some time: all calls that use
// writer.lock, and one in ten of the others.
func stopJobs(s *scenario, calls []*call) (jobs []job) {
	for i, c := range calls {
		if strings.Contains(c.String(), lockFile) || i%10 == 0 {
			j := job{s: s, call: c.String(), f: fault{act: hooked, at: c.n, label: ": the program stops for some time"}}
			jobs = append(jobs, withWaiters(j, i))
		}
	}
	return jobs
}

// noFaultJob returns the point at which a scenario runs without a fault.
func noFaultJob(s *scenario, _ []*call) []job {
	return []job{withWaiters(job{s: s, f: fault{act: nothing}}, 0)}
}

// TestWaiters kills run and ingest at every crash point while waiters wait. From the files
// that are left, without the code of wait, the test predicts the exit code of each: 0 or 1 if
// the state or the result is on disk; otherwise 4 if the writer has died. If it died before
// it locked its slot of writer.lock, or had ended, wait continues; then the next run decides.
// The waiters also wait while the program runs without a fault, and while it stops at calls
// for two seconds.
func TestWaiters(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 40)
	var jobs []job
	for _, s := range scenarios() {
		if s.streams() {
			jobs = append(jobs, noFaultJob(&s, nil)...)
			jobs = append(jobs, waiterJobs(&s, callsOf(t, program, &s))...)
		}
	}
	const minPoints = 2900
	if len(jobs) < minPoints {
		t.Errorf("%d points, expected at least %d", len(jobs), minPoints)
	}
	times := &waitTimes{}
	benches := benchesOf(t, program, pointsAtOnce())
	for _, b := range benches {
		b.waitTimes = times
	}
	sweep(t, benches, sample(jobs, n)).report(t, "waiters", len(jobs))
	times.report(t)
}

// waitTimes collects how long after the death of their writers waiters end. A nil
// *waitTimes collects nothing.
type waitTimes struct {
	mu  sync.Mutex
	all []time.Duration
}

func (ts *waitTimes) add(d time.Duration) {
	if ts == nil {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.all = append(ts.all, d)
}

// report logs the times. The test fails if most waiters are late. A few may be: on a loaded
// machine a process may get no processor for some time.
func (ts *waitTimes) report(t *testing.T) {
	t.Helper()
	if len(ts.all) == 0 {
		t.Error("no waiter has ended because of a death")
		return
	}
	slices.Sort(ts.all)
	median, last := ts.all[len(ts.all)/2], ts.all[len(ts.all)-1]
	late := 0
	for _, d := range ts.all {
		if d > promised {
			late++
		}
	}
	t.Logf("%d waiters ended after the death of their writer: half of them within %v, the last after %v, %d later than %v",
		len(ts.all), median.Round(time.Millisecond), last.Round(time.Millisecond), late, promised)
	if late > len(ts.all)/2 {
		t.Errorf("%d of %d waiters ended later than %v", late, len(ts.all), promised)
	}
}

// checkWaiters checks the exit code of each waiter.
func checkWaiters(b *bench, j *job, tl *trial, g *ledger) {
	c := b.crowd
	defer c.kill()
	if c.err != nil {
		g.find(wrongWait, "%v", c.err)
		return
	}
	if c.faultAt.IsZero() {
		c.faultAt = time.Now()
	}
	ended := c.faultAt // when the program ended
	isKilled := j.f.act != nothing && j.f.act != hooked
	switch {
	case isKilled && tl.exit.code != killedCode:
		g.find(blocked, "the program was to be killed, but exited with %d", tl.exit.code)
		return
	case !isKilled && tl.exit.code != j.s.code:
		g.find(lost, "exit %d, want %d", tl.exit.code, j.s.code)
		return
	case !isKilled:
		ended = time.Now()
	}
	p, err := predictionOf(b.dir(), j.s, g.before, tl.acked)
	if err != nil {
		g.find(wrongWait, "%v", err)
		return
	}
	switch {
	case !isKilled && p.dead:
		g.find(wrongWait, "%s has the record of a writer that has ended", lockFile)
		return
	case isKilled && p.owes && !p.dead:
		g.find(wrongWait, "%s has no record of a writer that has died", lockFile)
		return
	}
	var late []*waitProcess
	for _, w := range c.all {
		if p.code(w.wants) == stillWaits {
			late = append(late, w)
			continue
		}
		if !w.endsUntil(ended.Add(endLimit)) {
			g.find(wrongWait, "wait --for %s does not end; want exit %d", w.wants, p.code(w.wants))
			continue
		}
		w.expect(g, p.code(w.wants))
		if isKilled && w.at.After(ended) {
			b.waitTimes.add(w.at.Sub(ended))
		}
	}
	if len(late) > 0 {
		b.endByNextRun(g, late, ended.Add(promised))
	}
}

// expect checks the exit code of a wait that has ended.
func (w *waitProcess) expect(g *ledger, code int) {
	if w.code() != code {
		g.find(wrongWait, "wait --for %s: exit %d, want %d: %s", w.wants, w.code(), code, &w.output)
	}
}

// endByNextRun checks that the waiters wait at least until then, and that the next run ends
// them.
func (b *bench) endByNextRun(g *ledger, waiters []*waitProcess, then time.Time) {
	for _, w := range waiters {
		if w.endsUntil(then) {
			w.expect(g, stillWaits)
			return
		}
	}
	next := &prediction{}
	input := ""
	for _, l := range []line{transition("starting", "next-1"), transition("ready", "next-2"), transition("completed", "next-3")} {
		next.states = append(next.states, l.word)
		input += l.text + "\n"
	}
	next.outcome = "completed"
	b.expect(g, 0, input, "ingest", "--state-dir="+b.dir())
	end := time.Now().Add(endLimit)
	for _, w := range waiters {
		if !w.endsUntil(end) {
			g.find(wrongWait, "wait --for %s does not end after the next run", w.wants)
			continue
		}
		w.expect(g, next.code(w.wants))
	}
}

// A prediction has what the files of a writer that has ended show to a waiter that has
// waited since before the writer started.
type prediction struct {
	states  []string // the states that the guest has reached
	outcome string   // "" if no result is on disk
	dead    bool     // a record in writer.lock has no writer
	owes    bool     // the writer had written something, but not everything
}

// code returns the exit code of a wait; stillWaits if it continues.
func (p *prediction) code(wants string) int {
	words := strings.Split(wants, ",")
	isOutcome := func(word string) bool { return word == "completed" || word == "failed" }
	for _, state := range p.states {
		for _, want := range words {
			if !isOutcome(want) && includes(state, want) {
				return waitReached
			}
		}
	}
	switch {
	case p.outcome != "" && slices.Contains(words, p.outcome):
		return waitReached
	case p.outcome != "":
		return waitOther
	case p.dead:
		return waitDied
	}
	return stillWaits
}

// includes reports whether a guest in a state has been in the state want.
func includes(state, want string) bool {
	path := []string{"requested", "provisioning", "booted", "starting", "ready"}
	step := slices.Index(path, want)
	return state == want || (step >= 0 && slices.Index(path, state) > step)
}

// isOld reports whether a scenario prepared an artifact.
func isOld(a *artifact) bool { return a == nil || strings.HasPrefix(a.message, "old-") }

// predictionOf reads the files that are left by a scenario. acked is the number of lines
// that were acknowledged.
func predictionOf(dir string, s *scenario, before *picture, acked int) (*prediction, error) {
	now := readPicture(dir, allowance{torn: []string{eventsLog, rejectsLog}})
	if len(now.invalidFiles) > 0 {
		return nil, errors.New(strings.Join(now.invalidFiles, "; "))
	}
	p, hasNew := new(prediction), len(now.rejects) > len(before.rejects)
	for _, e := range now.all() {
		if isOld(e) {
			continue
		}
		hasNew = true
		if slices.ContainsFunc(s.lines(), func(l line) bool { return l.status && l.wrote(e) }) {
			p.states = append(p.states, e.word)
		}
	}
	if !isOld(now.status) {
		hasNew = true
		p.states = append(p.states, now.status.word) // its event may be in a log that was removed
	}
	if !isOld(now.result) {
		if now.eventOf(now.result) == nil {
			return nil, fmt.Errorf("the result %+v has no event", now.result)
		}
		p.outcome = now.result.word
	}
	input, hasResult := 0, false
	for _, l := range s.lines() {
		if l.text != "" {
			input++
		}
		hasResult = hasResult || l.result
	}
	p.owes = hasNew && (acked < input || (hasResult && p.outcome == ""))
	var err error
	p.dead, err = hasRecord(dir)
	return p, err
}

// lockFile is the name of the file that shows whether a writer has died.
const lockFile = "writer.lock"

// hasRecord reports whether writer.lock has a record that was written into this file in
// this boot. The format is in docs/format.md: slots of 128 bytes, each a line that is padded
// with spaces.
func hasRecord(dir string) (bool, error) {
	path := filepath.Join(dir, lockFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	var st unix.Stat_t
	boot, bootErr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err := errors.Join(err, bootErr, unix.Stat(path, &st)); err != nil {
		return false, err
	}
	for slot := range slices.Chunk(text, 128) {
		var kind, bootID, file string
		var pid, start uint64
		n, _ := fmt.Sscanf(string(slot), "%s %d %s %s %d", &kind, &pid, &bootID, &file, &start)
		isWhole := len(slot) == 128 && slot[127] == '\n' && slot[0] != ' '
		if n == 5 && isWhole && bootID == strings.TrimSpace(string(boot)) && file == fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
			return true, nil
		}
	}
	return false, nil
}

// A healthyRun is a way in which a run of a guest begins and ends without a death that
// wait should report.
type healthyRun struct {
	name string
	do   func(p *place) error
}

// healthyRuns lists them. The runs that last longer than wait gives a dead writer are few.
func healthyRuns() []healthyRun {
	return []healthyRun{
		{"run", func(p *place) error { return p.execute("", "run", "--", "true") }},
		{"ingest", func(p *place) error { return p.execute("STATE=starting\nSTATE=ready\nSTATE=completed\n", "ingest") }},
		{"restart", func(p *place) error { return p.restart(syscall.SIGTERM) }},
		{"restart after SIGKILL", func(p *place) error { return p.restart(syscall.SIGKILL) }},
		{"two writers", func(p *place) error {
			return p.whileIngestRuns(func() error { return p.execute("", "run", "--", "true") })
		}},
		{"two ingests", func(p *place) error {
			return p.whileIngestRuns(func() error { return p.execute("STATE=starting\nSTATE=completed\n", "ingest") })
		}},
	}
}

// A place is a state directory in which one run follows the other.
type place struct {
	program, dir string
	isLate       bool // a restart took so long that wait may report the death
}

func (p *place) command(input io.Reader, args ...string) (*exec.Cmd, *bytes.Buffer) {
	output := new(bytes.Buffer)
	cmd := exec.Command(p.program, append([]string{args[0], "--state-dir=" + p.dir}, args[1:]...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "/", input, output, output
	return cmd, output
}

// execute runs the program, which must exit with 0.
func (p *place) execute(input string, args ...string) error {
	cmd, output := p.command(strings.NewReader(input), args...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, output)
	}
	return nil
}

// startIngest starts an ingest that has committed a line, and returns the other end of its
// input.
func (p *place) startIngest() (*exec.Cmd, io.WriteCloser, error) {
	in, input, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	acks, ack, err := os.Pipe()
	if err != nil {
		input.Close()
		return nil, nil, err
	}
	defer acks.Close()
	cmd, _ := p.command(in, "ingest", "--ack-fd=3")
	cmd.ExtraFiles = []*os.File{ack}
	err = cmd.Start()
	ack.Close()
	if err == nil {
		_, err = io.WriteString(input, "STATE=starting\n")
	}
	if err == nil {
		_, err = acks.Read(make([]byte, 100))
	}
	if err != nil {
		input.Close()
	}
	return cmd, input, err
}

// restart ends an ingest with a signal before there is a result, and starts the next one.
func (p *place) restart(signal syscall.Signal) error {
	cmd, input, err := p.startIngest()
	if err != nil {
		return err
	}
	begun := time.Now()
	err = cmd.Process.Signal(signal)
	input.Close()  // otherwise ingest waits for the grace period after SIGTERM
	_ = cmd.Wait() // it exits with an error
	err = errors.Join(err, p.execute("STATE=starting\nSTATE=completed\n", "ingest"))
	const patience = time.Second // how long wait gives a writer that has died
	if signal == syscall.SIGKILL && time.Since(begun) > patience {
		p.isLate = true
	}
	return err
}

// whileIngestRuns calls f while an ingest runs, which completes the run afterwards.
func (p *place) whileIngestRuns(f func() error) error {
	cmd, input, err := p.startIngest()
	if err != nil {
		return err
	}
	err = f()
	_, writeErr := io.WriteString(input, "STATE=completed\n")
	return errors.Join(err, writeErr, input.Close(), cmd.Wait())
}

// ahead is how many events after the current one a waiter in a healthy directory waits for
// the end of a run: it sees several runs begin and end.
const ahead = 60

// startWaiter starts a wait for the end of a later run.
func (p *place) startWaiter() (*waitProcess, error) {
	after := readPicture(p.dir, allowance{}).lastSeq() + ahead
	w, err := startWait(p.program, p.dir, "completed", fmt.Sprintf("--after=%d", after))
	if err != nil {
		return nil, err
	}
	return w, w.awaitLook()
}

// A healthyCount counts what happened in all places.
type healthyCount struct{ runs, waits, late int }

// keepRunning executes n runs, while five waiters wait at any time. No wait may report
// that a writer has died.
func (p *place) keepRunning(n int, random *rand.Rand) (count healthyCount, err error) {
	var waiters [5]*waitProcess
	defer func() {
		for _, w := range waiters {
			if w != nil {
				w.kill()
			}
		}
	}()
	for running := true; running; {
		running = count.runs < n
		for i, w := range waiters {
			if w != nil && w.hasEnded() {
				if w.code() != waitReached {
					return count, fmt.Errorf("after %d runs, wait: exit %d: %s", count.runs, w.code(), &w.output)
				}
				waiters[i], count.waits = nil, count.waits+1
			}
			if waiters[i] == nil && count.runs < n {
				if waiters[i], err = p.startWaiter(); err != nil {
					return count, err
				}
			}
			running = running || waiters[i] != nil
		}
		kinds := healthyRuns()
		kind := kinds[random.IntN(len(kinds))]
		if random.IntN(50) == 0 {
			kind = healthyRun{"long run", func(p *place) error { return p.execute("", "run", "--", "sleep", "2") }}
		}
		if err := kind.do(p); err != nil {
			return count, fmt.Errorf("%s: %w", kind.name, err)
		}
		count.runs++
		if p.isLate { // a wait may report the death
			count.late, p.isLate = count.late+1, false
			for i, w := range waiters {
				if w != nil {
					w.kill()
				}
				waiters[i] = nil
			}
		}
	}
	return count, nil
}

// occupy keeps every processor busy until the end of the test, or until the current thread
// ends, to which the caller is locked.
func occupy(t *testing.T) {
	t.Helper()
	for range runtime.NumCPU() {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		testenv.Must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// TestWaiters_healthy executes runs one after the other in four directories while twenty
// waiters wait and all processors are busy. No wait reports a death: each ends with 0.
func TestWaiters_healthy(t *testing.T) {
	program := program(t) // awaitLook needs the same permission
	all := 2000
	if os.Getenv("SWEEP") == "" {
		all = 60
	}
	runtime.LockOSThread() // as occupy requires
	defer runtime.UnlockOSThread()
	occupy(t)
	var mu sync.Mutex
	var total healthyCount
	var places sync.WaitGroup
	const directories = 4
	for i := range directories {
		places.Go(func() {
			runtime.LockOSThread() // never unlocked, as startWait requires
			p := &place{program: program, dir: filepath.Join(testenv.TempDir(t), "run")}
			count, err := p.keepRunning(all/directories, rand.New(rand.NewPCG(3, uint64(i))))
			if err != nil {
				t.Errorf("directory %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			total.runs, total.waits, total.late = total.runs+count.runs, total.waits+count.waits, total.late+count.late
		})
	}
	places.Wait()
	t.Logf("healthy runs: %d, waits: %d, restarts that took too long: %d", total.runs, total.waits, total.late)
}
