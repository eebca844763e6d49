//go:build linux && amd64

package faulttest

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// harmless returns the reason why the program may ignore that c has failed; "" if it
// must not.
func (s *scenario) harmless(c *call) string {
	isCleaning := strings.Contains(c.object, ".json*") || c.object == "run"
	switch {
	case c.name == "close":
		return "the data is synced before; the kernel frees the descriptor anyway"
	case c.name == "unlock":
		return "the lock ends with its descriptor, and so with the process"
	case c.name == "fcntl":
		return "os.File reads the flags of the descriptor, which do not matter for a regular file"
	case s.ingests() && (c.object == "." || c.name == "mkdirat"):
		return "ingest checks whether there is a status before it reads; the first commit creates the directory"
	case c.name == "fchmod" && !isCleaning:
		return "another user may choose the mode of that user's file; the next open tries again"
	case c.name == "newfstatat":
		return "if the path cannot be examined, the writer assumes that the file was replaced, and opens it again"
	case isCleaning && (c.name == "openat" || c.name == "getdents64" || c.name == "fstat" || c.name == "flock" || c.name == "unlinkat"):
		return "the next writer removes temporary files that a crash left"
	case c.object == "run/writer.lock":
		return "a stream works without the writer lock"
	case c.object == "run/status.json" || c.object == "run/result.json":
		return "a file that cannot be read back is treated as absent, with a warning"
	}
	return ""
}

// checkFailed checks how the program handled an error.
func checkFailed(b *bench, j *job, tl *trial, g *ledger) {
	call, code := tl.faulted, tl.exit.code
	warned := strings.Contains(tl.stderr, "; trying again") || strings.Contains(tl.stderr, "; the log is not rotated")
	switch {
	case strings.Contains(tl.stderr, "goroutine "):
		g.find(notRepaired, "it panicked")
	case code == j.s.code && (j.f.errno == unix.EINTR || j.f.act == shorten):
		// The program repeated the call or wrote the rest; the model checks the files.
	case j.f.errno == unix.EINTR:
		g.find(notRepaired, "an interrupted call was not repeated: exit %d", code)
	case code == j.s.code && !warned && j.s.harmless(call) == "":
		g.find(falseSuccess, "exit %d without a warning", code)
	case code == 1 || warned:
		j.checkWarning(b, tl, g)
	case code != j.s.code:
		g.find(notRepaired, "exit %d", code)
	}
	g.checkDurable(tl.calls, code == j.s.code)
	b.repair(j, g)
}

// checkWarning checks that stderr has the path and the cause of the error.
func (j *job) checkWarning(b *bench, tl *trial, g *ledger) {
	cause := j.f.errno.Error()
	if j.f.act == shorten {
		cause = "short write"
	}
	if !strings.Contains(tl.stderr, cause) || !strings.Contains(tl.stderr, b.watched()) {
		g.find(falseSuccess, "stderr does not name the path and the cause")
	}
}

// errnosOf returns the errors with which the tests make a call fail.
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

// interruptible reports whether a signal can interrupt the call, according to
// signal(7) and the manual page of the call.
func interruptible(c *call) bool {
	switch c.name {
	case "openat", "read", "pread64", "write", "pwrite64", "flock", "fsync", "fdatasync", "ftruncate":
		return !strings.Contains(c.object, ".json*") || c.name != "flock" // the lock of a temporary file is only tried
	}
	return false
}

// faultJobs returns the jobs with all errors that the calls of a scenario can return.
func faultJobs(s *scenario, calls []*call) (jobs []job) {
	add := func(c *call, f fault) {
		f.at = c.n
		jobs = append(jobs, job{s: s, f: f, call: c.String(), otherKind: len(jobs)%4 == 3, check: checkFailed})
	}
	for _, c := range calls {
		for _, errno := range errnosOf(c) {
			add(c, fault{act: failBefore, errno: errno})
			if c.name != "mkdirat" { // no file system creates a directory and returns an error
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

// fullDiskJobs returns the jobs in which the disk is full from one call on.
func fullDiskJobs(s *scenario, calls []*call) (jobs []job) {
	for _, c := range calls {
		if needsSpace(c) && c.object != "run/writer.lock" {
			jobs = append(jobs, job{s: s, call: c.String(), otherKind: len(jobs)%4 == 3, check: checkGaveUp,
				f: fault{act: failBefore, errno: unix.ENOSPC, at: c.n, persists: true}})
		}
	}
	return jobs
}

// checkGaveUp checks that a stream that gave up waiting for space exits with 1 and
// reports the cause on stderr.
func checkGaveUp(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != 1 {
		g.find(falseSuccess, "exit %d", tl.exit.code)
	}
	j.checkWarning(b, tl, g)
	g.checkDurable(tl.calls, false)
	b.repair(j, g)
}

// TestFailedCalls makes every call fail once, before and after its effect, and cuts
// every write short.
func TestFailedCalls(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 40)
	var jobs []job
	for _, s := range scenarios() {
		jobs = append(jobs, faultJobs(&s, callsOf(t, program, &s))...)
	}
	sweepSample(t, program, "failed calls", jobs, n, 3850)
}

// TestFullDisk makes the disk full from each call on that needs space.
func TestFullDisk(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 10)
	var jobs []job
	for _, s := range scenarios() {
		if s.ingests() {
			calls := callsOf(t, program, &s)
			s.args = append(s.args, "--write-timeout=1ms", "--grace=1s")
			jobs = append(jobs, fullDiskJobs(&s, calls)...)
		}
	}
	sweepSample(t, program, "full disks", jobs, n, 110)
}
