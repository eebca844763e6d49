//go:build linux && amd64

package faulttest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSignal sends SIGTERM at every call. ingest still commits all lines that are in the
// pipe.
func TestSignal(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 60)
	terminate := func(*bench) func(int) error {
		return func(pid int) error { return unix.Kill(pid, unix.SIGTERM) }
	}
	var jobs []job
	for _, s := range scenarios() {
		if !s.ingests() {
			continue // a one-shot command does not handle SIGTERM
		}
		calls := callsOf(t, program, &s)
		s.args = append(s.args, "--grace=60s")
		for _, c := range calls {
			jobs = append(jobs, job{s: &s, call: c.String(), newHook: terminate, check: checkEnded,
				f: fault{act: hooked, at: c.n, label: ": SIGTERM"}})
		}
	}
	sweepSample(t, program, "signals", jobs, n, 840)
}
