//go:build linux && amd64

package faulttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
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

// startWait starts a wait in the directory at dir.
func startWait(program, dir, wants string, flags ...string) (*waitProcess, error) {
	w := &waitProcess{wants: wants, ended: make(chan struct{})}
	w.cmd = exec.Command(program, append([]string{"wait", "--state-dir=" + dir, "--for=" + wants}, flags...)...)
	w.cmd.Dir, w.cmd.Stdout, w.cmd.Stderr = "/", &w.output, &w.output
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
// waits in poll(2), and it calls that nowhere else.
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
// twenty at one point in 32. With PIKA_WAITERS=N, each point has N.
func crowdSize(number int) int {
	switch n := waitersEverywhere(); {
	case n > 0:
		return n
	case number%32 == 0:
		return 20
	}
	return 2
}

// pointsAtOnce returns how many points with waiters are tried at the same time: waiting needs
// little processor time. They have about 80 waiters together, because a user has only 128
// inotify instances by default. If there are more waiters, some poll, as wait does then.
func pointsAtOnce() int {
	if n := waitersEverywhere(); n > 0 {
		return max(4, 240/n)
	}
	return 32
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
			return b.crowd.err
		}
	}
	j.check = checkWaiters
	return j
}

// waiterJobs returns all points at which a scenario can be killed; one point without a
// fault; and one for each call that uses writer.lock, and for one in ten of the others, at
// which the program stops for some time.
func waiterJobs(s *scenario, calls []*call) (jobs []job) {
	all := append(crashJobs(s, calls), job{s: s, f: fault{act: nothing}})
	for i, c := range calls {
		if strings.Contains(c.String(), lockFile) || i%10 == 0 {
			all = append(all, job{s: s, call: c.String(), f: fault{act: hooked, at: c.n, label: ": the program stops for some time"}})
		}
	}
	for i, j := range all {
		jobs = append(jobs, withWaiters(j, i))
	}
	return jobs
}

// TestWaiters kills run and ingest at every crash point while waiters wait. From the files
// that are left, without the code of wait, the test predicts the exit code of each: 0 or 1 if
// the state or the result is on disk; otherwise 4 if the writer has died. If it died before
// it locked its slot of writer.lock, or had ended, wait continues; then the next run decides.
// The waiters also wait while the program runs without a fault, and while it stops at calls
// for two seconds.
func TestWaiters(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 25)
	var jobs []job
	for _, s := range scenarios() {
		if s.streams() {
			jobs = append(jobs, waiterJobs(&s, callsOf(t, program, &s))...)
		}
	}
	const minPoints = 2700
	if len(jobs) < minPoints {
		t.Errorf("%d points, expected at least %d", len(jobs), minPoints)
	}
	times := &waitTimes{}
	benches := benchesOf(t, program, pointsAtOnce())
	for _, b := range benches {
		b.waitTimes = times
	}
	sweep(t, benches, sample(jobs, n)).report(t, "waiters", len(jobs))
	t.Log(times)
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

// String describes the times.
func (ts *waitTimes) String() string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.all) == 0 {
		return "no waiter ended after a death"
	}
	slices.Sort(ts.all)
	late := len(ts.all) - sort.Search(len(ts.all), func(i int) bool { return ts.all[i] > promised })
	return fmt.Sprintf("%d waiters ended after the death of their writer: median %v, the last after %v, %d later than %v", len(ts.all),
		ts.all[len(ts.all)/2].Round(time.Millisecond), ts.all[len(ts.all)-1].Round(time.Millisecond), late, promised)
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

var _ = syscall.SIGKILL
var _ = testenv.Must
