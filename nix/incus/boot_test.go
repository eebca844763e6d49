package incus_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A boot is a running agent-boot.sh with testdata/service.sh as its service.
type boot struct {
	*guest
	service, child process
	ignored        uint64 // signals that the service inherited as ignored
}

// bootAgent starts the boot script and waits until its service runs.
func bootAgent(t *testing.T, env ...string) *boot {
	t.Helper()
	b := &boot{guest: newGuest(t, env...)}
	b.run("testdata/service.sh")
	return b
}

func (b *boot) run(args ...string) {
	b.t.Helper()
	testenv.Tool(b.t, "bash")
	b.start("./agent-boot.sh", args...)
	b.awaitIngest()
	words := b.news.line()
	b.service, b.child = b.process(words[0]), b.process(words[1])
	b.ignored = parseMask(b.t, words[2])
}

func parseMask(t *testing.T, text string) uint64 {
	t.Helper()
	mask, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask
}

// linesToReady is the number of directives up to ready.
const linesToReady = 4

// makeReady lets the probe succeed, and waits until ready is durable.
func (b *boot) makeReady() {
	b.t.Helper()
	b.touch("healthy")
	b.acknowledged(linesToReady)
}

// unprobed returns the details of the transitions before the probe succeeds.
func unprobed(more ...string) map[string]any {
	return agentDetails(false, more...)
}

// probed returns the details of the transitions after the probe has succeeded.
func probed(more ...string) map[string]any {
	details := agentDetails(true, more...)
	details["probe"] = "openclaw_gateway_health"
	return details
}

func agentDetails(satisfied bool, more ...string) map[string]any {
	details := map[string]any{"agent_kind": "openclaw", "backend_mode": "native",
		"service_kind": "openclaw_gateway", "service_probe_satisfied": satisfied}
	for i := 0; i+1 < len(more); i += 2 {
		details[more[i]] = more[i+1]
	}
	return details
}

// fallback is the result that ingest adds when the stream ends without one.
var fallback = report{State: "failed", Message: "lifecycle stream ended without a result",
	Details: map[string]any{"reason": "stream_ended"}}

func TestAgentBoot_recorded_runs(t *testing.T) {
	for _, run := range recorded(t, "managed_agent_service_exits_", 2) {
		t.Run(run.Name, func(t *testing.T) {
			t.Parallel()
			code := int(run.Name[len(run.Name)-1] - '0')
			want := run.contents(t)
			if code != 0 { // the recorded script reported nothing
				failed := report{State: "failed", Message: "openclaw_gateway_exited", Details: probed()}
				want.Events, want.Status = append(want.Events, failed), failed
				failed.ExitCode = float64(code)
				want.Result = &failed
			}
			other := t.TempDir()
			b := &boot{guest: newGuest(t, "PIKA_LIFECYCLE_DIR="+other)}
			b.run("--state-dir", b.dir, "testdata/service.sh")
			b.makeReady()
			b.orderExit(code)
			b.wantExit(code)
			b.wantContents(want)
			if names, err := os.ReadDir(other); err != nil || len(names) > 0 {
				t.Errorf("--state-dir must override PIKA_LIFECYCLE_DIR; found %v, %v", names, err)
			}
		})
	}
}

func TestAgentBoot_service_signals(t *testing.T) {
	t.Parallel()
	b := bootAgent(t)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:")
	own := parseMask(t, strings.Fields(rest)[0])
	for _, s := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if bit := uint64(1) << (s - 1); b.ignored&bit != own&bit {
			t.Errorf("SIG%v is ignored in the service: %t; expected %t", s, b.ignored&bit != 0, own&bit != 0)
		}
	}
	b.orderExit(0)
	b.wantExit(1)
}

func TestAgentBoot_child_outlives_service(t *testing.T) {
	t.Parallel()
	b := bootAgent(t)
	b.makeReady()
	b.orderExit(0)
	b.wantExit(0)
	b.ingest.wantEnded()
	b.child.wantAlive()
	b.wantEnd(report{State: "completed", Message: "openclaw_gateway_exited", ExitCode: 0.0, Details: probed()})
}

func TestScript_ended_by_set_e(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "bash")
	g := newGuest(t)
	g.start("testdata/no_failure_report.sh")
	g.awaitIngest()
	g.wantExit(3)
	g.ingest.wantEnded()
	before := g.wantEnd(fallback)
	if got := strings.Join(before, " "); got != "booted ready" {
		t.Errorf("the events before the result are %s; expected booted ready", got)
	}
}

func TestAgentBoot_killed(t *testing.T) {
	t.Parallel()
	b := bootAgent(t)
	b.makeReady()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wantExit(-1)
	b.ingest.wantEnded()
	b.service.wantAlive()
	b.wantEnd(fallback)
}

func TestAgentBoot_ingest_killed(t *testing.T) {
	t.Parallel()
	b := bootAgent(t, `AGENT_PUBLISH=echo published >"$NEWS"`)
	b.acknowledged(2)
	b.ingest.kill(syscall.SIGKILL)
	b.ingest.wantEnded()
	b.touch("healthy")
	if got := b.news.line(); got[0] != "published" {
		t.Fatalf("news %q; expected published", got)
	}
	b.orderExit(5)
	b.wantExit(5)
	b.wantStderr("agent-boot: ingest has ended; the host does not see the rest of this run\n")
	b.wantStderr("agent-boot: ingest exited with 137\n")
}

func TestAgentBoot_exit_before_ready(t *testing.T) {
	for code, exit := range map[int]int{0: 1, 4: 4} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			b := bootAgent(t, "AGENT_PROBES=1000000000")
			b.orderExit(code)
			b.wantExit(exit)
			b.wantEnd(report{State: "failed", Message: "openclaw_gateway_exited",
				ExitCode: float64(code), Details: unprobed("reason", "exited_before_ready")})
		})
	}
}

// A hostile message, and the same message as it is recorded.
const (
	hostile         = "it's \"so\"\r\nSTATE=completed MESSAGE=forged\n\x1b]0;owned\x07\x1b[2J $(id) `id` \\ \xff. end"
	hostileRecorded = "it's \"so\"\r\nSTATE=completed MESSAGE=forged\n\x1b]0;owned\x07\x1b[2J $(id) `id` \\ \ufffd. end"
)

func TestAgentBoot_unhealthy(t *testing.T) {
	for _, locale := range []string{"C", "C.UTF-8"} {
		t.Run(locale, func(t *testing.T) {
			t.Parallel()
			b := bootAgent(t, "LC_ALL="+locale, "AGENT_PROBES=1",
				`AGENT_PROBE=read -r <"$ASK"; printf %s "$HOSTILE"; false`, "HOSTILE="+hostile)
			b.ask.print("probe")
			b.wantExit(1)
			b.service.wantEnded()
			b.wantEnd(report{State: "failed", Message: "OpenClaw is not healthy",
				Details: unprobed("reason", "probe_failed", "last_output", hostileRecorded)})
		})
	}
}

func TestAgentBoot_publish_fails(t *testing.T) {
	t.Parallel()
	b := bootAgent(t, "AGENT_PUBLISH=echo no relay >&2; false")
	b.touch("healthy")
	b.wantExit(1)
	b.service.wantEnded()
	b.wantEnd(report{State: "failed", Message: "publishing the keypackage failed",
		Details: probed("reason", "publish_failed", "last_output", "no relay")})
}

func TestAgentBoot_probe_timeout(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "bash")
	g := newGuest(t, "AGENT_PROBES=1", "AGENT_PROBE_SECONDS=0.1", "AGENT_PROBE=sleep infinity")
	g.start("./agent-boot.sh", "testdata/service.sh")
	g.wantExit(1)
	g.wantEnd(report{State: "failed", Message: "OpenClaw is not healthy",
		Details: unprobed("reason", "probe_failed", "last_output", "")})
}

func TestAgentBoot_signal(t *testing.T) {
	stopped := report{State: "stopped", Message: "managed OpenClaw guest stopped", Details: probed()}
	failed := func(code float64) report {
		return report{State: "failed", Message: "openclaw_gateway_exited", ExitCode: code,
			Details: probed("reason", "stop_failed")}
	}
	for _, c := range []struct {
		name, onTerm string
		exit         int
		want         report
	}{
		{"no handler", "", 0, stopped},
		{"exits with 0", "0", 0, stopped},
		{"exits with 5", "5", 5, failed(5)},
		{"ignores SIGTERM", "never", 137, failed(137)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bootAgent(t, "ON_TERM="+c.onTerm, stopTime(c.onTerm))
			b.makeReady()
			b.cmd.Process.Signal(syscall.SIGTERM)
			b.wantExit(c.exit)
			b.service.wantEnded()
			b.wantEnd(c.want)
		})
	}
}

// stopTime sets the time limit to 0 for a service that never stops, else to plenty.
func stopTime(onTerm string) string {
	if onTerm == "never" {
		return "AGENT_STOP_SECONDS=0"
	}
	return "AGENT_STOP_SECONDS=600"
}

func TestAgentBoot_signal_to_group(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			b := bootAgent(t, "ON_TERM=0", stopTime("0"))
			b.wantGraceOver(600e9)
			b.acknowledged(2)
			if err := syscall.Kill(-b.cmd.Process.Pid, s); err != nil {
				t.Fatal(err)
			}
			b.wantExit(0)
			b.wantEnd(report{State: "stopped", Message: "managed OpenClaw guest stopped", Details: unprobed()})
		})
	}
}

// If a child ends at the moment at which a trapped signal ends the wait for it, bash
// loses the exit code, and the next wait never returns. The two rarely happen at the same
// moment, so the test tries eight times.
func TestAgentBoot_signal_as_service_exits(t *testing.T) {
	for try := range 8 {
		t.Run(strconv.Itoa(try), func(t *testing.T) {
			t.Parallel()
			b := bootAgent(t, "ON_TERM=0", stopTime("0"))
			b.makeReady()
			b.service.kill(syscall.SIGTERM)
			if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			b.wantExit(0)
			if got := readContents(t, b.dir).Status.State; got != "stopped" && got != "completed" {
				t.Errorf("the state is %s; expected stopped, or completed if the service ended first", got)
			}
		})
	}
}

func TestAgentBoot_usage(t *testing.T) {
	for name, args := range map[string][]string{
		"no service": {}, "unknown flag": {"--stat-dir", "x", "true"}, "no probe": {"true"},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.Tool(t, "bash")
			g := newGuest(t)
			if name == "no probe" {
				g.env = append(g.env, "AGENT_PROBE=")
			}
			g.start("./agent-boot.sh", args...)
			g.wantExit(2)
			g.wantStderr("usage:")
			if _, err := os.Stat(g.dir); err == nil {
				t.Error("the state directory exists; expected no files")
			}
		})
	}
}
