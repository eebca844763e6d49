//go:build linux && amd64

package crashtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestSignalsNeverSplitACommit sends SIGTERM at every call: what was written
// to the pipe before its end is committed all the same.
func TestSignalsNeverSplitACommit(t *testing.T) {
	program, n := program(t), share(t, 60)
	terminate := func(*bench) func(int) {
		return func(pid int) { _ = unix.Kill(pid, unix.SIGTERM) }
	}
	var jobs []job
	for _, s := range scenarios() {
		if !s.ingests() {
			continue // SIGTERM kills a one-shot as SIGKILL does
		}
		calls := rehearsed.rehearse(t, program, &s)
		s.args = append(s.args, "--grace=60s")
		for _, c := range calls {
			jobs = append(jobs, job{s: &s, call: c.String(), arm: terminate, check: ended,
				f: fault{act: hooked, at: c.n, label: ": SIGTERM"}})
		}
	}
	reportHooks(t, "signals", sweep(t, program, thin(jobs, n)))
}

func reportHooks(t *testing.T, what string, ty *tally) {
	t.Helper()
	ty.report(t)
	t.Logf("%s %d: %v", what, ty.total(), ty)
	if ty.total() < 10 {
		t.Errorf("%d %s tried", ty.total(), what)
	}
}

// ended checks that the program did all that it was there for.
func ended(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != j.s.code {
		g.find(lost, "exit %d, want %d", tl.exit.code, j.s.code)
	}
	b.heal(j, g)
}

// TestAnotherWriterAtEveryCall lets a one-shot append at every call. Both
// events stand, each with a seq of its own.
func TestAnotherWriterAtEveryCall(t *testing.T) {
	program, n := program(t), share(t, 60)
	var jobs []job
	for _, s := range scenarios() {
		if s.args[0] == "status" || s.args[0] == "result" || strings.Contains(s.name, "rotation") {
			continue // they do not touch the log, or it ends where the other makes it end
		}
		for _, c := range rehearsed.rehearse(t, program, &s) {
			jobs = append(jobs, job{s: &s, call: c.String(), arm: startSecond, check: checkSecond, second: true,
				f: fault{act: hooked, at: c.n, label: ": another writer"}})
		}
	}
	reportHooks(t, "second writers", sweep(t, program, thin(jobs, n)))
}

const secondMessage = "second"

// startSecond starts the other writer. It may have to wait for the lock that
// the stopped program holds, so it is waited for afterwards.
func startSecond(b *bench) func(int) {
	b.second = make(chan string, 1)
	return func(int) {
		go func() {
			code, stderr, err := b.plain("", "event", "--state-dir="+b.dir(), "--kind=ready", "--message="+secondMessage)
			b.second <- fmt.Sprintf("exit %d %v %s", code, err, stderr)
		}()
	}
}

func checkSecond(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != j.s.code {
		g.find(notHealed, "exit %d, want %d", tl.exit.code, j.s.code)
	}
	count := 0
	for _, e := range look(b.dir(), eventsLog, rejectsLog).all() {
		if e.Message == secondMessage {
			count++
		}
	}
	if count != 1 {
		g.find(lost, "the other writer's event stands %d times", count)
	}
	b.heal(j, g)
}

// A trap is what the owner of the directory puts in an artifact's place. The
// path is the artifact's, the canary is outside.
type trap struct {
	name string
	set  func(path, canary string) error
}

func traps() []trap {
	return []trap{
		{"absolute link", func(path, canary string) error { return os.Symlink(canary, path) }},
		{"relative link", func(path, canary string) error { return os.Symlink("../../outside/canary", path) }},
		{"dangling link", func(path, canary string) error { return os.Symlink(canary+".new", path) }},
		{"hard link", func(path, canary string) error { return os.Link(canary, path) }},
		{"FIFO", func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
		{"device", func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"directory", func(path, _ string) error { return os.Mkdir(path, 0o777) }},
	}
}

// artifacts are the names that an attacker tries.
func artifacts() []string {
	return []string{"status.json", "events.jsonl", "events.jsonl.seq", "result.json", "rejected.jsonl",
		"events.jsonl.torn", "events.jsonl.1", "result.json.prev"}
}

// nobody owns the directory that is attacked, where root may give it away.
const nobody = 65534

// canaryText is what must be in the file outside.
const canaryText = "outside\n"

// setCanary makes the file outside, old, and gives the directory away.
func (b *bench) setCanary() error {
	path := filepath.Join(b.outside(), "canary")
	if err := os.WriteFile(path, []byte(canaryText), 0o600); err != nil {
		return err
	}
	long := time.Unix(1e9, 0)
	if err := os.Chtimes(path, long, long); err != nil || !testenv.IsRoot() {
		return err
	}
	for _, name := range append(namesIn(b.dir()), ".") {
		if err := os.Lchown(filepath.Join(b.dir(), name), nobody, nobody); err != nil {
			return err
		}
	}
	return nil
}

// checkCanary demands that nothing outside was touched, and that the program
// ended by itself.
func checkCanary(b *bench, j *job, tl *trial, g *ledger) {
	if code := tl.exit.code; code != 0 && code != 1 && code != j.s.code || strings.Contains(tl.stderr, "goroutine ") {
		g.find(blocked, "exit %d", code)
	}
	if err := os.RemoveAll(b.dir()); err != nil { // with our link to the canary
		g.find(notHealed, "%v", err)
	}
	path := filepath.Join(b.outside(), "canary")
	text, _ := os.ReadFile(path)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		g.find(touched, "%v", err)
	}
	if string(text) != canaryText || st.Mode != unix.S_IFREG|0o600 || int(st.Uid) != os.Getuid() || st.Nlink != 1 || st.Mtim.Sec != 1e9 {
		g.find(touched, "the canary: %q, %+v", text, st)
	}
	if names := namesIn(b.outside()); !slices.Equal(names, []string{"canary"}) {
		g.find(touched, "outside are %q", names)
	}
}

// spring is a job that swaps the artifact called name for a trap.
func spring(s *scenario, c *call, tp trap, name string) job {
	arm := func(b *bench) func(int) {
		if err := b.setCanary(); err != nil {
			panic(err) // the bench is ours: it cannot fail
		}
		return func(int) {
			path := filepath.Join(b.dir(), name)
			err := os.RemoveAll(path)
			if err == nil {
				err = tp.set(path, filepath.Join(b.outside(), "canary"))
			}
			if err != nil {
				panic(err)
			}
		}
	}
	return job{s: s, call: c.String(), arm: arm, check: checkCanary, owned: true,
		f: fault{act: hooked, at: c.n, label: ": " + name + " becomes a " + tp.name}}
}

// attackJobs swap, at every call, the artifact that the call is about, and
// another, each for every kind of trap.
func attackJobs(s *scenario, calls []*call) (jobs []job) {
	names := artifacts()
	for _, c := range calls {
		for k, tp := range traps() {
			if tp.name == "device" && !testenv.CanMknod() {
				continue
			}
			other := names[(c.n*3+k)%len(names)]
			if name := filepath.Base(c.object); slices.Contains(names, name) && name != other {
				jobs = append(jobs, spring(s, c, tp, name))
			}
			jobs = append(jobs, spring(s, c, tp, other))
		}
	}
	return jobs
}

// TestNothingOutsideIsTouched lets the owner of the directory put traps in the
// artifacts' places while the writer, which may be root, is at work.
func TestNothingOutsideIsTouched(t *testing.T) {
	program, n := program(t), share(t, 120)
	if !testenv.IsRoot() {
		t.Log("not root: the directory keeps its owner")
	}
	if !testenv.CanMknod() {
		t.Log("no CAP_MKNOD: no device is planted")
	}
	var jobs []job
	for _, name := range []string{"status/standing", "event/standing", "event/torn tail", "result/standing",
		"ingest/run in one commit", "ingest/rejects", "ingest/rotation"} {
		s := named(t, name)
		calls := rehearsed.rehearse(t, program, s)
		if s.ingests() {
			s.args = append(s.args, "--write-timeout=1ms", "--grace=1s")
		}
		jobs = append(jobs, attackJobs(s, calls)...)
	}
	all := len(jobs)
	ty := sweep(t, program, thin(jobs, n))
	ty.report(t)
	t.Logf("attacker swaps %d of %d: %s %d, %s %d", ty.total(), all, touched, ty.kinds[touched], blocked, ty.kinds[blocked])
	if want := 200 * 12 / max(n, 12); ty.total() < want {
		t.Errorf("%d swaps tried, expected at least %d", ty.total(), want)
	}
}

// TestLockFileTakenAway unlinks or replaces the seq file at every call: the
// log decides, and nothing is lost or numbered twice.
func TestLockFileTakenAway(t *testing.T) {
	program, n := program(t), share(t, 30)
	var jobs []job
	for _, name := range []string{"event/standing", "event/torn tail", "ingest/three directives", "ingest/rotation"} {
		s := named(t, name)
		for _, c := range rehearsed.rehearse(t, program, s) {
			f := fault{act: hooked, at: c.n, label: ": the seq file is unlinked"}
			jobs = append(jobs, job{s: s, f: f, call: c.String(), arm: unlinkSeq, check: ended, seqGone: true})
			f.label = ": the seq file is replaced"
			jobs = append(jobs, job{s: s, f: f, call: c.String(), arm: replaceSeq, check: ended, seqGone: true})
		}
	}
	reportHooks(t, "lock files taken away", sweep(t, program, thin(jobs, n)))
}

func unlinkSeq(b *bench) func(int) {
	return func(int) { _ = os.Remove(filepath.Join(b.dir(), "events.jsonl.seq")) }
}

func replaceSeq(b *bench) func(int) {
	return func(int) {
		path := filepath.Join(b.dir(), "events.jsonl.seq")
		_ = os.WriteFile(path+".mine", []byte("1\n"), 0o600)
		_ = os.Rename(path+".mine", path)
	}
}
