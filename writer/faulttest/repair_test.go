//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// repairScenarios returns the repairs of a damaged log: with RENAME_EXCHANGE, and on file
// systems that do not support it.
func repairScenarios() (all []scenario) {
	for _, errno := range []unix.Errno{0, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP} {
		s := scenario{name: "verify/repair", args: []string{"verify", "--repair", "--state-dir=DIR"}, prepare: damaged, calls: 60, changes: 14}
		if errno != 0 {
			s.name += " with " + unix.ErrnoName(errno)
			s.denied = map[string]unix.Errno{"renameat2": errno}
		}
		all = append(all, s)
	}
	return all
}

const notAnEvent = "what is this\n"

// damagedLog is a log with a line that is not an event, a repeated seq and a torn line.
// repairedLog is the log after its repair.
var (
	damagedLog  = eventText(1, "booted") + notAnEvent + eventText(2, "starting") + strings.Replace(eventText(3, "ready"), `"seq":3`, `"seq":2`, 1) + `{"schema`
	repairedLog = eventText(1, "booted") + eventText(2, "starting") + eventText(3, "ready")
)

func damaged(dir string) error {
	files := events(3, "ready")
	files[eventsLog] = damagedLog
	files[rejectsLog] = notAnEvent
	return put(dir, files)
}

// callsOfRepair returns the calls that a repair makes without a fault.
func callsOfRepair(t *testing.T, program string, s *scenario) (calls []*call) {
	t.Helper()
	ty := sweep(t, newBenches(t, program)[:1], []job{{s: s, f: fault{act: nothing}, attacked: true,
		check: func(b *bench, j *job, tl *trial, g *ledger) {
			calls = slices.DeleteFunc(slices.Clone(tl.calls), func(c *call) bool { return c.n == 0 })
			if tl.exit.code != 0 {
				g.find(notRepaired, "exit %d", tl.exit.code)
			}
			checkRepair(b, j, tl, g)
		}}})
	ty.report(t, s.name, 1)
	if len(calls) < s.calls {
		t.Fatalf("%s: %d calls counted, expected at least %d", s.name, len(calls), s.calls)
	}
	return calls
}

// TestRepair_faults kills a repair of the whole log at every call, and makes every call
// fail. After each point the log is complete, the old one or the new one, no line is lost,
// and the next repair completes.
func TestRepair_faults(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 30)
	var jobs []job
	for _, s := range repairScenarios() {
		calls := callsOfRepair(t, program, &s)
		if errno := s.denied["renameat2"]; errno != 0 && errno != unix.EINVAL {
			continue // the same calls as with EINVAL
		}
		for _, j := range append(crashJobs(&s, calls), faultJobs(&s, calls)...) {
			j.check, j.attacked = checkRepair, true
			jobs = append(jobs, j)
		}
	}
	sweepSample(t, program, "repairs of a whole log", jobs, n, 2100)
}

// checkRepair checks a directory after a repair, complete or not.
func checkRepair(b *bench, j *job, tl *trial, g *ledger) {
	if strings.Contains(tl.stderr, "goroutine ") {
		g.find(notRepaired, "it panicked")
	}
	g.checkDurable(tl.calls, tl.exit.code == 0)
	b.checkRepairedLog(g, tl.exit.code == 0)
	if j.f.act == nothing || len(g.findings) > 0 {
		return
	}
	b.expect(g, 0, "", "verify", "--repair", "--state-dir="+b.dir())
	b.checkRepairedLog(g, true)
	b.expect(g, 0, "", "event", "--state-dir="+b.dir(), "--kind=ready", "--message=next")
	b.expect(g, 0, "", "verify", "--state-dir="+b.dir())
}

// checkRepairedLog checks that the log is the old or the new one, and that all lines of
// the damaged log are in some file. complete reports whether it must be the new one.
func (b *bench) checkRepairedLog(g *ledger, complete bool) {
	text, err := os.ReadFile(filepath.Join(b.dir(), eventsLog))
	old := string(text) == damagedLog || string(text) == damagedLog[:strings.LastIndexByte(damagedLog, '\n')+1]
	if err != nil || string(text) != repairedLog && (complete || !old) {
		g.find(lost, "the log is %q, %v", text, err)
	}
	var kept strings.Builder
	for _, name := range namesIn(b.dir()) {
		text, err := os.ReadFile(filepath.Join(b.dir(), name))
		fmt.Fprintf(&kept, "%s\n%v\n", text, err)
	}
	for line := range strings.Lines(damagedLog) {
		if !strings.Contains(kept.String(), line) {
			g.find(lost, "the line %q", line)
		}
	}
}
