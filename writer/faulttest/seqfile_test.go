//go:build linux && amd64

package faulttest

import (
	"os"
	"path/filepath"
	"testing"
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
