package artifact_test

import (
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

func TestRunOutcome(t *testing.T) {
	status := func(state artifact.State, boot string, seq uint64) *artifact.Status {
		return &artifact.Status{State: state, BootID: boot, Seq: seq}
	}
	result := func(outcome artifact.Outcome, boot string, seq uint64) *artifact.Result {
		return &artifact.Result{Outcome: outcome, BootID: boot, Seq: seq}
	}
	for _, c := range []struct {
		name   string
		status *artifact.Status
		result *artifact.Result
		want   artifact.Outcome // empty: the run has none
	}{
		{"no status", nil, result("failed", "a", 2), ""},
		{"no result", status("failed", "a", 2), nil, ""},
		{"same event", status("failed", "a", 2), result("failed", "a", 2), "failed"},
		{"no seqs", status("failed", "a", 0), result("failed", "", 0), "failed"},
		{"another outcome", status("failed", "a", 2), result("completed", "a", 2), ""},
		{"another event", status("failed", "a", 4), result("failed", "a", 2), ""},
		{"another boot", status("failed", "a", 2), result("failed", "b", 2), ""},
		{"status not replaced", status("ready", "a", 1), result("failed", "a", 2), "failed"},
		{"status not replaced, of another boot", status("ready", "b", 1), result("failed", "a", 2), ""},
		{"status without seq", status("ready", "a", 0), result("failed", "a", 2), ""},
		{"result without seq", status("ready", "a", 1), result("failed", "a", 0), ""},
		{"new run", status("booted", "a", 3), result("failed", "a", 2), ""},
		{"stopped after the result", status("stopped", "a", 3), result("failed", "a", 2), "failed"},
		{"destroyed in another boot", status("destroyed", "b", 3), result("failed", "a", 2), ""},
	} {
		got, ok := artifact.RunOutcome(c.status, c.result)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, ok, c.want)
		}
	}
}
