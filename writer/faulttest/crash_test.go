//go:build linux && amd64

package faulttest

import (
	"slices"
	"testing"
)

// crashJobs returns all points at which a scenario can be killed.
func crashJobs(s *scenario, calls []*call) (jobs []job) {
	add := func(c *call, f fault) {
		f.at = c.n
		jobs = append(jobs, job{s: s, f: f, call: c.String(), otherKind: len(jobs)%4 == 3, check: checkKilled})
	}
	for _, c := range calls {
		add(c, fault{act: killBefore})
		add(c, fault{act: killAfter})
		for _, part := range parts(c) {
			add(c, fault{act: killWithin, part: part})
		}
	}
	return jobs
}

// parts returns the lengths to which a write is cut short: one byte, half of it, and
// all but its last byte.
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

// TestCrashPoints kills the program before and after every call, and after a part of
// every write.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 12)
	var jobs []job
	for _, s := range scenarios() {
		calls := callsOf(t, program, &s)
		t.Logf("%-28s %4d calls", s.name, len(calls))
		jobs = append(jobs, crashJobs(&s, calls)...)
	}
	sweepSample(t, program, "crash points", jobs, n, 2700)
}
