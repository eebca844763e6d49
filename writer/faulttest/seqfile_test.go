//go:build linux && amd64

package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSeqFile_removed_or_replaced removes or replaces the seq file at every call. The seqs
// then come from the log, no event is lost, and no seq is used twice.
func TestSeqFile_removed_or_replaced(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 30)
	var jobs []job
	for _, name := range []string{"event/existing", "event/torn line", "ingest/three directives", "ingest/rotation"} {
		s := scenarioNamed(t, name)
		for _, c := range callsOf(t, program, s) {
			f := fault{act: hooked, at: c.n, label: ": the seq file is unlinked"}
			jobs = append(jobs, job{s: s, f: f, call: c.String(), newHook: unlinkSeq, check: checkEnded, changesSeqFile: true})
			f.label = ": the seq file is replaced"
			jobs = append(jobs, job{s: s, f: f, call: c.String(), newHook: replaceSeq, check: checkEnded, changesSeqFile: true})
		}
	}
	sweepSample(t, program, "seq files removed or replaced", jobs, n, 550)
}

func unlinkSeq(b *bench) func(int) error {
	return func(int) error { return os.Remove(filepath.Join(b.dir(), "events.jsonl.seq")) }
}

func replaceSeq(b *bench) func(int) error {
	return func(int) error {
		path := filepath.Join(b.dir(), "events.jsonl.seq")
		if err := os.WriteFile(path+".mine", []byte("1\n"), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".mine", path)
	}
}

// secondLockJobs returns the jobs that remove or replace the seq file at every call of a
// scenario, after which a second writer immediately locks the new file and appends.
func secondLockJobs(s *scenario, calls []*call) (jobs []job) {
	for _, c := range calls {
		for label, change := range map[string]func(*bench) func(int) error{
			": the seq file is unlinked before a second writer": unlinkSeq,
			": the seq file is replaced before a second writer": replaceSeq,
		} {
			jobs = append(jobs, job{s: s, f: fault{act: hooked, at: c.n, label: label}, call: c.String(), newHook: changeThenAppend(change),
				afterRun: waitForOther, check: checkSecond, changesSeqFile: true})
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(a.f.String(), b.f.String()) })
	return jobs
}

// TestSeqFile_second_writer removes or replaces the seq file at every call while another
// writer starts to append. That writer locks the new seq file, so only the lock on the log
// keeps the two apart. Both events are in the log, with different seqs.
func TestSeqFile_second_writer(t *testing.T) {
	program, n := program(t), sampleOneIn(t, 60)
	var jobs []job
	for _, name := range []string{"event/new", "event/existing", "event/more digits", "event/torn line", "event/newline missing",
		"ingest/three directives", "ingest/run in one commit", "ingest/rejects", "ingest/one rotation"} {
		s := scenarioNamed(t, name)
		jobs = append(jobs, secondLockJobs(s, callsOf(t, program, s))...)
	}
	sweepSample(t, program, "second writers with another seq file", jobs, n, 900)
}

// waitForOther waits for the second writer. The seq file of replaceSeq contains 1, so an
// empty log may then begin with 2.
func waitForOther(b *bench, j *job, g *ledger) error {
	g.maySkip = true
	return waitForSecond(b, j, g)
}

// changeThenAppend calls change and then starts the other writer. While the traced program
// is stopped, it waits until the other writer has ended, or has had the log open for so
// long that it must be waiting for a lock.
func changeThenAppend(change func(*bench) func(int) error) func(b *bench) func(int) error {
	return func(b *bench) func(int) error {
		b.second = make(chan string, 1)
		return func(pid int) error {
			if err := change(b)(pid); err != nil && !os.IsNotExist(err) {
				return err
			}
			var stderr strings.Builder
			cmd := exec.Command(b.program, "event", "--state-dir="+b.dir(), "--kind=ready", "--message="+secondMessage)
			cmd.Dir, cmd.Stderr = "/", &stderr
			if err := cmd.Start(); err != nil {
				return err
			}
			ended := make(chan struct{})
			go func() {
				err := cmd.Wait()
				b.second <- fmt.Sprintf("exit %d %v %s", cmd.ProcessState.ExitCode(), err, stderr.String())
				close(ended)
			}()
			waitUntilBlocked(cmd.Process.Pid, filepath.Join(b.dir(), eventsLog), ended)
			return nil
		}
	}
}

// openTime is how long a writer that waits for no lock has the log open at most, if the
// machine is not very busy. It is far shorter than the time that a writer waits for the
// lock on the log.
const openTime = 100 * time.Millisecond

// waitUntilBlocked waits until ended is closed, or the process has had the file at path
// open for openTime.
func waitUntilBlocked(pid int, path string, ended <-chan struct{}) {
	var opened time.Time
	for start := time.Now(); time.Since(start) < runLimit/10; {
		select {
		case <-ended:
			return
		case <-time.After(2 * time.Millisecond):
		}
		if opened.IsZero() && hasOpen(pid, path) {
			opened = time.Now()
		}
		if !opened.IsZero() && time.Since(opened) > openTime {
			return
		}
	}
}

// hasOpen reports whether a process has the file at path open.
func hasOpen(pid int, path string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	return slices.ContainsFunc(namesIn(fds), func(fd string) bool {
		target, err := os.Readlink(filepath.Join(fds, fd))
		return err == nil && target == path
	})
}
