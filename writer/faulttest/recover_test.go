//go:build linux && amd64

package faulttest

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recoveries returns the faults from which a disk recovers: after some calls have failed,
// or after some time.
func recoveries() (all []fault) {
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO} {
		for _, f := range []fault{{lasts: 2}, {lasts: 5}, {heals: 30 * time.Millisecond}} {
			f.act, f.errno, f.persists, f.waits = failBefore, errno, true, true
			all = append(all, f)
		}
	}
	return all
}

// lateRecoveries returns faults that may last longer than the write timeout.
func lateRecoveries() (all []fault) {
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EIO} {
		for _, f := range []fault{{lasts: 3}, {lasts: 8}, {heals: 25 * time.Millisecond}} {
			f.act, f.errno, f.persists = failBefore, errno, true
			all = append(all, f)
		}
	}
	return all
}

// recoveryJobs returns the jobs in which the disk fails from a call on, with each fault
// that makes the call fail, and recovers.
func recoveryJobs(s *scenario, calls []*call, faults []fault) (jobs []job) {
	for _, c := range calls {
		for _, f := range faults {
			if f.hits(c) {
				f.at = c.n
				jobs = append(jobs, job{s: s, f: f, call: c.String(), otherKind: len(jobs)%4 == 3, check: checkRecovered})
			}
		}
	}
	return jobs
}

// allRecoveryJobs returns the jobs with all faults of recoveries.
func allRecoveryJobs(s *scenario, calls []*call) []job { return recoveryJobs(s, calls, recoveries()) }

// checkRecovered checks that the program has waited for the disk: it exits as without a
// fault, and everything is written with its final value.
func checkRecovered(b *bench, j *job, tl *trial, g *ledger) {
	if strings.Contains(tl.stderr, "goroutine ") {
		g.find(notRepaired, "it panicked")
	}
	if tl.exit.code != j.s.code {
		g.find(lost, "exit %d, want %d", tl.exit.code, j.s.code)
	}
	if strings.Contains(tl.stderr, "gave up waiting") {
		g.find(lost, "it gave up")
	}
	g.checkDurable(tl.calls, true)
	b.repair(j, g)
}

// TestRecoveringDisk makes the disk fail from each call on, until it recovers. ingest,
// run and result wait for that: every event is written once, with the next seq, and the
// status and the result are the last ones.
func TestRecoveringDisk(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 80)
	var jobs []job
	for _, s := range scenarios() {
		if s.streams() || s.args[0] == "result" {
			jobs = append(jobs, allRecoveryJobs(&s, callsOf(t, program, &s))...)
		}
	}
	sweepSample(t, program, "disks that recover", jobs, n, 1650)
}

// checkDegraded checks that the files are valid, whether the stream gave up or not. If it
// exits as without a fault, everything is written.
func checkDegraded(b *bench, j *job, tl *trial, g *ledger) {
	if tl.exit.code != j.s.code {
		checkGaveUp(b, j, tl, g)
		return
	}
	g.checkDurable(tl.calls, true)
	b.repair(j, g)
}

// TestRecoveringDisk_degraded is TestRecoveringDisk with a write timeout that some of the
// faults exceed: the stream becomes degraded, and the disk recovers then. What is written
// is valid, and nothing acknowledged is missing.
func TestRecoveringDisk_degraded(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 120)
	var jobs []job
	for _, s := range scenarios() {
		if !s.ingests() {
			continue
		}
		calls := callsOf(t, program, &s)
		s.args = append(s.args, "--write-timeout=5ms", "--grace=1s")
		for _, j := range recoveryJobs(&s, calls, lateRecoveries()) {
			j.check, j.degrades = checkDegraded, true
			jobs = append(jobs, j)
		}
	}
	sweepSample(t, program, "disks that recover after the write timeout", jobs, n, 900)
}
