package nix_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A managed agent in its image, in two boots. The state directory survives the first
// boot, as one outside /run does. Its path has all special characters that the module
// allows.
func TestManagedAgentImage_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needPackage(t)
	s := evalSystem(t, "./nix/incus/managed-agent-image.nix", `{
		services.pika-cloud-lifecycle.stateDir = "/opt/lab/state._+@:-";
		services.pika-cloud-managed-agent = {
			command = [ "/opt/lab/fake-agent.sh" "%n %s %% $HOME \${X} \\x41 \"a\" ; é\n100%" ];
			probe = "printf %s '%n %s %% $HOME \${X} \\x41 \"a\" ; é\n100%' >/opt/lab/out/probe; test -e /run/healthy";
			probes = 600;
		};
	}`)
	l.write("fake-agent.sh", testenv.ReadFile(t, "testdata/boot/fake-agent.sh"), 0o755)
	l.boot(&s, "agent.sh")

	if got := l.lines("while-starting"); got[0] != "activating" {
		t.Errorf("while the agent starts, its unit is %s; expected activating", got)
	}
	if got := l.lines("agent"); !slices.Equal(got[:4], []string{"agent", "agent", "/var/lib/agent", "notify none"}) || len(got) != 8 {
		t.Errorf("the agent reports %q; expected its own user, and nothing forged", got)
	}
	for _, name := range []string{"argument", "probe"} {
		if got, want := testenv.ReadFile(t, l.path("out/"+name)), "%n %s %% $HOME ${X} \\x41 \"a\" ; é\n100%"; got != want {
			t.Errorf("the %s is %q; expected %q", name, got, want)
		}
	}
	ready := l.guest("out/ready")
	if ready.kinds(0) != "booted starting starting ready" || ready.Status.State != "ready" || ready.Result != nil {
		t.Errorf("after the probe succeeded: events %s, status %+v", ready.kinds(0), ready.Status)
	}
	failed := l.guest("out/failed")
	if failed.kinds(4) != "failed booted starting" || failed.Result != nil || failed.Prev.code() != 7 || failed.Prev.Status != "failed" {
		t.Errorf("after the agent failed and was restarted: events %s, result %+v, previous result %+v",
			failed.kinds(4), failed.Result, failed.Prev)
	}
	if got := l.lines("restarts"); got[0] != "1" {
		t.Errorf("the unit was restarted %s times; expected 1", got)
	}
	stopped := l.guest("state._+@:-")
	if stopped.kinds(7) != "starting ready stopped" || stopped.Status.State != "stopped" || stopped.Result != nil {
		t.Errorf("after the power-off: events %s, status %+v, result %+v", stopped.kinds(7), stopped.Status, stopped.Result)
	}

	l.boot(&s, "second-boot.sh")
	second := l.guest("out/second-boot")
	if second.kinds(10) != "booted starting starting ready" || second.Status.BootID == stopped.Status.BootID {
		t.Errorf("in the next boot: events %s, status %+v; the previous boot was %s", second.kinds(10), second.Status, stopped.Status.BootID)
	}
	killed := l.guest("out/killed")
	if p := killed.Prev; p.Status != "failed" || p.code() != -1 || p.Details["reason"] != "stream_ended" {
		t.Errorf("after the whole unit was killed, the result is %+v", p)
	}
}

// Jobs in the CI image, one after the other.
func TestCIImage_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needPackage(t)
	s := evalSystem(t, "./nix/incus/ci-image.nix", `{
		services.pika-cloud-ci = {
			request = "/var/lib/pika-cloud/re quest %n $X \"\\x41\" 100%.json";
			killAfterSeconds = 1;
			logsSize = "1M";
			artifactsSize = "1M";
			processes = 100;
		};
	}`)
	l.write("hostile.sh", testenv.ReadFile(t, "testdata/boot/hostile.sh"), 0o755)
	l.boot(&s, "ci.sh")

	for _, want := range []struct {
		name, kinds, message, log string
		code                      int
	}{
		{"passes", "booted starting completed", "test passed", "uid=900(ci) gid=900(ci) groups=900(ci)\n", 0},
		{"exits-7", "booted starting failed", "test command exited with 7", "root\n", 7},
		{"times-out", "booted starting failed", "test command timed out after 1 seconds", "", 124},
		{"bad-request", "booted failed", "Incus guest bootstrap failed: unsupported Incus guest request schema_version=9", "", 2},
		{"hostile", "booted starting failed", "test command exited with 3", "", 3},
		{"after", "booted starting completed", "test passed", "harmless\n", 0},
		{"off", "booted starting failed", "test command was terminated", "up\n", 143},
	} {
		g := l.guest("out/" + want.name)
		r, last := g.Result, g.Events[len(g.Events)-1]
		if g.run() != want.kinds || r == nil || r.code() != want.code || r.Message != want.message || r.Seq != last.Seq || g.Status.Seq != last.Seq {
			t.Errorf("%s: events %s, status %+v, result %+v; expected %+v", want.name, g.run(), g.Status, r, want)
		}
		if log := l.log(want.name); log != want.log && want.name != "hostile" { // it replaced the log by a link
			t.Errorf("%s: the log is %q; expected %q", want.name, log, want.log)
		}
	}
	if got := l.lines("passes/artifacts/report.txt"); got[0] != "done" {
		t.Errorf("the artifact of the job is %q; expected done", got)
	}
	if got := l.lines("hostile/artifacts/can"); !slices.Equal(got, []string{"start"}) {
		t.Errorf("a hostile job can %q; expected only start", got)
	}
	for _, place := range []string{"artifacts", "logs"} {
		if info, err := os.Stat(l.path("out/hostile/" + place + "/full")); err != nil || info.Size() == 0 {
			t.Errorf("a hostile job did not fill %s: %v", place, err)
		}
	}
	if left := l.lines("left"); left[0] != "" {
		t.Errorf("a job left the processes %v", left)
	}
	l.wantModes()
}

// run returns the kinds of the events of the last run.
func (g *guest) run() string {
	kinds := g.kinds(0)
	return kinds[strings.LastIndex(kinds, "booted"):]
}

// log returns the log of a job, or "" if it does not exist.
func (l *lab) log(name string) string {
	text, _ := os.ReadFile(l.path("out/" + name + "/logs/guest.log"))
	return string(text)
}

// wantModes checks that the job owns only logs and artifacts, and that root owns
// everything else.
func (l *lab) wantModes() {
	l.t.Helper()
	var jobs []string
	for _, line := range l.lines("modes") {
		mode, owner, path := strings.Fields(line)[0], strings.Fields(line)[1], strings.Fields(line)[2]
		if mode[5] == 'w' || mode[8] == 'w' {
			l.t.Errorf("other users may write: %s", line)
		}
		if owner != "root" {
			jobs = append(jobs, filepath.Base(path))
		}
	}
	if !slices.Equal(jobs, []string{"artifacts", "logs"}) {
		l.t.Errorf("the job owns %v; expected logs and artifacts", jobs)
	}
}
