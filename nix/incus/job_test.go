package incus_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// rootJob is a request for a command that runs as root.
func rootJob(command string) map[string]any {
	return map[string]any{"schema_version": 2, "command": command, "timeout_secs": 600, "run_as_root": true}
}

// runJob starts the job runner with a request, which it encodes unless it is a string.
func (g *guest) runJob(request any, flags ...string) {
	g.t.Helper()
	text, ok := request.(string)
	if !ok {
		encoded, err := json.Marshal(request)
		if err != nil {
			g.t.Fatal(err)
		}
		text = string(encoded)
	}
	if err := os.WriteFile(g.path("request.json"), []byte(text), 0o644); err != nil {
		g.t.Fatal(err)
	}
	g.start(testenv.Python(g.t), append(append([]string{"-X", "dev", "-W", "error", "ci-job.py"}, flags...), g.path("request.json"))...)
}

// waitForOrder is a job that prints up, and exits with the code that it reads.
const waitForOrder = `echo up >"$NEWS"; read -r code <>"$ORDERS"; exit "$code"`

func jobExited(code int) report {
	return report{State: "failed", Message: fmt.Sprintf("test command exited with %d", code),
		ExitCode: float64(code), Details: map[string]any{"exit_code": float64(code)}}
}

func (g *guest) guestLog() string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "logs", "guest.log"))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

func TestCIJob_recorded_runs(t *testing.T) {
	for _, run := range recorded(t, "ci_job_", 4) {
		t.Run(run.Name, func(t *testing.T) {
			t.Parallel()
			want := run.contents(t)
			request := rootJob("")
			if details, ok := want.Events[1].Details.(map[string]any); ok {
				request["command"], request["run_as_root"] = details["command"], details["run_as_root"]
			} else {
				request["schema_version"] = 9
			}
			other := t.TempDir()
			g := newGuest(t, "PIKA_LIFECYCLE_DIR="+other)
			g.runJob(request, "--state-dir", g.dir)
			g.wantExit(int(want.Result.ExitCode.(float64)))
			g.wantContents(want)
			if names, err := os.ReadDir(other); err != nil || len(names) > 0 {
				t.Errorf("--state-dir must override PIKA_LIFECYCLE_DIR; found %v, %v", names, err)
			}
		})
	}
}

func TestCIJob_output(t *testing.T) {
	t.Parallel()
	const output = "one \xff\n\x1b[2Jtwo\nthree"
	g := newGuest(t, "OUTPUT="+output)
	g.runJob(rootJob(`printf %s "$OUTPUT" | (read -r line; echo "$line"; cat >&2)`))
	g.wantExit(0)
	for name, got := range map[string]string{"guest.log": g.guestLog(), "stdout": g.text("stdout")} {
		if got != output {
			t.Errorf("%s has %q; expected %q", name, got, output)
		}
	}
}

func TestCIJob_ended_by_signal(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.runJob(rootJob(`kill -KILL $$`))
	g.wantExit(137)
	g.wantEnd(jobExited(137))
}

func TestCIJob_timeout(t *testing.T) {
	for name, trap := range map[string]string{"ends on SIGTERM": "", "ignores SIGTERM": `trap "" TERM;`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			request := rootJob(trap + `cat "$LEFT" & echo "up $!" >"$NEWS"; wait`)
			request["timeout_secs"] = 2
			g.runJob(request, "--kill-after", "0.1")
			child := g.process(g.news.line()[1])
			g.wantExit(124)
			child.wantEnded()
			g.wantEnd(report{State: "failed", Message: "test command timed out after 2 seconds", ExitCode: 124.0,
				Details: map[string]any{"exit_code": 124.0, "reason": "timeout"}})
		})
	}
}

func TestCIJob_kills_process_group(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.runJob(rootJob(`cat "$LEFT" & echo "$!" >"$NEWS"; read -r code <>"$ORDERS"; exit "$code"`))
	left := g.process(g.news.line()[0])
	g.orderExit(0)
	g.wantExit(0)
	left.wantEnded()
}

func TestCIJob_terminated(t *testing.T) {
	for code, onTerm := range map[int]string{143: "", 6: `trap "exit 6" TERM;`} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.runJob(rootJob(onTerm+waitForOrder), "--kill-after", "600")
			g.awaitIngest()
			g.wantGraceOver(600e9)
			g.acknowledged(2)
			g.news.line()
			// Like systemd for a unit. The job has another group.
			if err := syscall.Kill(-g.cmd.Process.Pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			g.wantExit(code)
			g.wantEnd(report{State: "failed", Message: "test command was terminated", ExitCode: float64(code),
				Details: map[string]any{"exit_code": float64(code), "reason": "terminated"}})
		})
	}
}

func TestCIJob_ingest_killed(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.runJob(rootJob(waitForOrder))
	g.awaitIngest()
	g.acknowledged(2)
	g.news.line()
	g.ingest.kill(syscall.SIGKILL)
	g.ingest.wantEnded()
	g.orderExit(5)
	g.wantExit(5)
	g.wantStderr("ci-job: cannot write to ingest: [Errno 32] Broken pipe; the host does not see the rest of this run\n")
	g.wantStderr("ci-job: ingest exited with -9\n")
}

func TestCIJob_ingest_not_started(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.install("pika-cloud-lifecycle", "../../go.mod") // not a program
	g.runJob(rootJob("exit 5"))
	g.wantExit(5)
	g.wantStderr("ci-job: cannot start ingest: ")
}

func TestCIJob_runner_killed(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.runJob(rootJob(`echo "$$" >"$NEWS"; read -r code <>"$ORDERS"`))
	g.awaitIngest()
	job := g.process(g.news.line()[0])
	g.acknowledged(2)
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	g.wantExit(-1)
	g.ingest.wantEnded()
	job.wantAlive()
	g.wantEnd(fallback)
	g.orderExit(0)
	job.wantEnded()
}

func TestCIJob_child_in_other_session(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "setsid")
	g := newGuest(t)
	g.runJob(rootJob(`setsid bash -c 'echo $$ >"$NEWS"; exec cat "$LEFT"' & read -r code <>"$ORDERS"; echo bye; exit "$code"`))
	left := g.process(g.news.line()[0])
	g.orderExit(0)
	g.wantExit(0)
	left.wantAlive()
	g.wantEnd(report{State: "completed", Message: "test passed", ExitCode: 0.0, Details: map[string]any{"exit_code": 0.0}})
	if got := g.guestLog(); got != "bye\n" {
		t.Errorf("guest.log has %q; expected bye", got)
	}
	left.kill(syscall.SIGKILL)
}

func TestCIJob_stdout_reader_gone(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.stdout = w
	g.runJob(rootJob(`echo up >"$NEWS"; read -r code <>"$ORDERS"; echo one; echo two; exit 7`))
	g.news.line()
	w.Close()
	r.Close()
	g.orderExit(0)
	g.wantExit(7)
	g.wantEnd(jobExited(7))
	g.wantStderr("no longer copied to descriptor 1")
	if got := g.guestLog(); got != "one\ntwo\n" {
		t.Errorf("guest.log has %q; expected one, two", got)
	}
}

func TestCIJob_log_is_link(t *testing.T) {
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.touch("target")
			if err := os.MkdirAll(filepath.Join(g.dir, "logs"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := link(g.path("target"), filepath.Join(g.dir, "logs", "guest.log")); err != nil {
				t.Fatal(err)
			}
			g.runJob(rootJob("echo one"))
			g.wantExit(0)
			if got := g.text("target"); got != "" {
				t.Errorf("%q was written through the link", got)
			}
			if got := g.guestLog(); got != "one\n" {
				t.Errorf("guest.log has %q; expected one", got)
			}
		})
	}
}

func TestCIJob_user(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		testenv.Missing(t, "the user nobody")
	}
	ids, err := exec.Command("sh", "-c", "id -u nobody; id -g nobody; id -G nobody").Output()
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t)
	g.groups = []uint32{4} // the job must not inherit it
	request := rootJob(`id -u; id -g; id -G; echo "$HOME $USER $LOGNAME"`)
	request["run_as_root"] = false
	g.runJob(request, "--user", "nobody")
	g.wantExit(0)
	if got, want := g.guestLog(), string(ids)+nobody.HomeDir+" nobody nobody\n"; got != want {
		t.Errorf("the job prints %q; expected %q", got, want)
	}
}

func TestCIJob_runner_not_root(t *testing.T) {
	for _, asRoot := range []bool{false, true} {
		t.Run(fmt.Sprintf("run_as_root %t", asRoot), func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.user = 1000
			request := rootJob("id -u")
			request["run_as_root"] = asRoot
			g.runJob(request)
			if !asRoot {
				g.wantExit(0)
				if got := g.guestLog(); got != "1000\n" {
					t.Errorf("the job runs as %q; expected 1000", got)
				}
				return
			}
			g.wantExit(2)
			g.wantEnd(report{State: "failed", ExitCode: 2.0,
				Message: "Incus guest bootstrap failed: run_as_root is true, but this runner is not root"})
		})
	}
}

func TestCIJob_user_flag_not_root(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.user = 1000
	g.runJob(rootJob("true"), "--user", "nobody")
	g.wantExit(2)
	g.wantStderr("--user needs root")
	if _, err := os.Stat(g.dir); err == nil {
		t.Error("the state directory exists; expected no files")
	}
}

// A badRequest is an invalid request, and the beginning of the message for it.
type badRequest struct {
	name, request, why string
	flags              []string
}

func TestCIJob_bad_request(t *testing.T) {
	const fields = `"schema_version": 2, "command": "true", "timeout_secs": 9`
	for _, r := range []badRequest{
		{name: "not JSON", request: `{`, why: "cannot read the Incus guest request: "},
		{name: "not UTF-8", request: "{\"\xff\": 1}", why: "cannot read the Incus guest request: "},
		{name: "deep", request: strings.Repeat("[", 200_000), why: "cannot read the Incus guest request: "},
		{name: "not an object", request: `[]`, why: "the Incus guest request is not a JSON object"},
		{name: "no version", request: `{}`, why: "unsupported Incus guest request schema_version=None"},
		{name: "version is a float", request: `{"schema_version": 2.0}`,
			why: "unsupported Incus guest request schema_version=2.0"},
		{name: "hostile", request: `{"schema_version": "9\nSTATE=completed \"'\u001b[2J\u0000\ud800."}`,
			why: "unsupported Incus guest request schema_version=9\nSTATE=completed \"'\x1b[2J\x00\ufffd."},
		{name: "unknown key", request: `{` + fields + `, "run_as_root": true, "image": "x"}`,
			why: "unknown or missing in the Incus guest request: image"},
		{name: "missing key", request: `{` + fields + `}`,
			why: "unknown or missing in the Incus guest request: run_as_root"},
		{name: "no command", request: `{"schema_version": 2, "command": "", "timeout_secs": 9, "run_as_root": true}`,
			why: "command: expected a command line"},
		{name: "no time", request: `{"schema_version": 2, "command": "true", "timeout_secs": 0, "run_as_root": true}`,
			why: "timeout_secs: expected seconds, more than 0 and at most 604800"},
		{name: "time is NaN", request: `{"schema_version": 2, "command": "true", "timeout_secs": NaN, "run_as_root": true}`,
			why: "timeout_secs: expected seconds"},
		{name: "time is a boolean", request: `{"schema_version": 2, "command": "true", "timeout_secs": true, "run_as_root": true}`,
			why: "timeout_secs: expected seconds"},
		{name: "boolean is a number", request: `{` + fields + `, "run_as_root": 1}`,
			why: "run_as_root: expected true or false"},
		{name: "command with NUL", why: "cannot start the command: ",
			request: `{"schema_version": 2, "command": "a\u0000b", "timeout_secs": 9, "run_as_root": true}`},
		{name: "no user", request: `{` + fields + `, "run_as_root": false}`,
			why: "run_as_root is false, but this runner is root and has no --user"},
		{name: "root as user", request: `{` + fields + `, "run_as_root": false}`, flags: []string{"--user", "root"},
			why: "run_as_root is false, but root has user ID 0"},
		{name: "unknown user", request: `{` + fields + `, "run_as_root": false}`, flags: []string{"--user", "no one"},
			why: "there is no user no one"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
}

func (r badRequest) check(t *testing.T) {
	g := newGuest(t)
	g.runJob(r.request, r.flags...)
	g.wantExit(2)
	got := readContents(t, g.dir).Status.Message
	if want := "Incus guest bootstrap failed: " + r.why; !strings.HasPrefix(got, want) {
		t.Errorf("the message is %q; expected %q", got, want)
	}
	g.wantEnd(report{State: "failed", Message: got, ExitCode: 2.0})
	if stderr := g.text("stderr"); strings.ContainsAny(stderr, "\x1b\x00") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr is %q; expected one line without control characters", stderr)
	}
}
