//go:build linux && amd64

package crashtest

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// harmless tells why the program may go on as if nothing had happened where c
// fails; "" if it may not.
func (s *scenario) harmless(c *call) string {
	sweeps := strings.Contains(c.object, ".json*") || c.object == "run"
	switch {
	case c.name == "close":
		return "what was written is synced before; the kernel frees the descriptor all the same"
	case c.name == "unlock":
		return "the lock ends with its descriptor, and so with the process"
	case c.name == "fcntl":
		return "os.File asks for the file's flags, of which a regular file obeys none"
	case s.ingests() && (c.object == "." || c.name == "mkdirat"):
		return "ingest looks for a status before it reads; the first commit makes the directory"
	case c.name == "fchmod" && !sweeps:
		return "another user's file has the mode that this user chose; the next open tries again"
	case c.name == "newfstatat":
		return "a file that cannot be looked at is taken for another, and opened anew"
	case sweeps && (c.name == "openat" || c.name == "getdents64" || c.name == "fstat" || c.name == "flock" || c.name == "unlinkat"):
		return "a temporary that a crash left is swept by the next writer"
	case c.object == "run/status.json" || c.object == "run/result.json":
		return "what cannot be read back is taken for absent, and said"
	}
	return ""
}

// failed checks what the program made of an error.
func failed(b *bench, j *job, tl *trial, g *ledger) {
	call := tl.faulted
	told := strings.Contains(tl.stderr, "; trying again")
	switch code := tl.exit.code; {
	case strings.Contains(tl.stderr, "goroutine "):
		g.find(notHealed, "it panicked")
	case code == j.s.code && (j.f.errno == unix.EINTR || j.f.act == shorten):
		// It was made again, or the rest was written: the model looks at the outcome.
	case j.f.errno == unix.EINTR:
		g.find(notHealed, "an interrupted call was not made again: exit %d", code)
	case code == j.s.code && !told && j.s.harmless(call) == "":
		g.find(falseZero, "exit %d, and the error was not said", code)
	case code == 1 && !told || told:
		j.checkSaid(b, tl, g)
	case code != j.s.code:
		g.find(notHealed, "exit %d", code)
	}
	g.checkDurable(tl.calls, tl.exit.code == j.s.code)
	b.heal(j, g)
}

// checkSaid demands the path and the cause of the error on stderr.
func (j *job) checkSaid(b *bench, tl *trial, g *ledger) {
	cause := j.f.errno.Error()
	if j.f.act == shorten {
		cause = "short write"
	}
	if !strings.Contains(tl.stderr, cause) || !strings.Contains(tl.stderr, b.watched()) {
		g.find(falseZero, "the error was not said with path and cause")
	}
}

// errnosOf are the errors that a call is made to fail with.
func errnosOf(c *call) []unix.Errno {
	switch c.name {
	case "write", "pwrite64", "mkdirat", "renameat", "fsync", "fdatasync":
		return []unix.Errno{unix.EIO, unix.ENOSPC}
	case "openat":
		if c.creates {
			return []unix.Errno{unix.EIO, unix.ENOSPC, unix.EMFILE}
		}
	}
	return []unix.Errno{unix.EIO}
}

// interruptible are the calls that signal(7) and their own pages say can be
// interrupted.
func interruptible(c *call) bool {
	switch c.name {
	case "openat", "read", "pread64", "write", "pwrite64", "flock", "fsync", "fdatasync", "ftruncate":
		return !strings.Contains(c.object, ".json*") || c.name != "flock" // that one does not wait
	}
	return false
}

// faultJobs are all errors that a scenario can meet.
func faultJobs(s *scenario, calls []*call) (jobs []job) {
	add := func(c *call, f fault) {
		f.at = c.n
		jobs = append(jobs, job{s: s, f: f, call: c.String(), odd: len(jobs)%4 == 3, check: failed})
	}
	for _, c := range calls {
		for _, errno := range errnosOf(c) {
			add(c, fault{act: failBefore, errno: errno})
			if c.name != "mkdirat" { // which no file system does by halves
				add(c, fault{act: failAfter, errno: errno})
			}
		}
		for _, part := range parts(c) {
			add(c, fault{act: shorten, part: part})
		}
		if interruptible(c) {
			add(c, fault{act: failBefore, errno: unix.EINTR})
		}
	}
	return jobs
}

// fullDiskJobs are the points from which on nothing finds room any more.
func fullDiskJobs(s *scenario, calls []*call) (jobs []job) {
	for _, c := range calls {
		if needsRoom(c) {
			jobs = append(jobs, job{s: s, call: c.String(), odd: len(jobs)%4 == 3, check: filledUp,
				f: fault{act: failBefore, errno: unix.ENOSPC, at: c.n, stays: true}})
		}
	}
	return jobs
}

// filledUp checks that a stream which gave up says so.
func filledUp(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != 1 {
		g.find(falseZero, "exit %d", tl.exit.code)
	}
	j.checkSaid(b, tl, g)
	g.checkDurable(tl.calls, false)
	b.heal(j, g)
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

// share returns what part of a sweep is tried: one point in n, all where SWEEP is
// set.
func share(t *testing.T, n int) int {
	t.Helper()
	if os.Getenv("SWEEP") != "" {
		n = 1
	}
	t.Logf("one point in %d is tried; SWEEP=full tries all", n)
	return n
}

// TestFailedCalls makes every call fail once, before and after its effect, and
// every write fall short.
func TestFailedCalls(t *testing.T) {
	program, n := program(t), share(t, 40)
	var jobs []job
	for _, s := range scenarios() {
		jobs = append(jobs, faultJobs(&s, rehearsed.rehearse(t, program, &s))...)
	}
	all := len(jobs)
	ty := sweep(t, program, thin(jobs, n))
	ty.report(t)
	t.Logf("I/O faults %d of %d (%s): %v", ty.total(), all, ty.split(), ty)
	if all < 3500 {
		t.Errorf("%d I/O faults to try, expected 3500 at least", all)
	}
}

// TestDiskStaysFull lets the disk fill up at every call that needs room, for
// good.
func TestDiskStaysFull(t *testing.T) {
	program, n := program(t), share(t, 10)
	var jobs []job
	for _, s := range scenarios() {
		if s.ingests() {
			calls := rehearsed.rehearse(t, program, &s)
			s.args = append(s.args, "--write-timeout=1ms", "--grace=1s")
			jobs = append(jobs, fullDiskJobs(&s, calls)...)
		}
	}
	ty := sweep(t, program, thin(jobs, n))
	ty.report(t)
	t.Logf("disks that stay full %d: %v", ty.total(), ty)
	if ty.total() < 10 {
		t.Errorf("%d tried", ty.total())
	}
}
