package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// These tests run several writers in one directory. docs/run.md has a row for each test of
// TestTogether.

// outputOf runs a subcommand in the directory of p and returns its output and exit code.
func (p *process) outputOf(stdin string, args ...string) (output string, code int) {
	p.Helper()
	cmd := testCommand(args...)
	cmd.Env = append(cmd.Env, "PIKA_LIFECYCLE_DIR="+p.dir)
	cmd.Stdin = strings.NewReader(stdin)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// succeeds runs a subcommand that prints nothing.
func (p *process) succeeds(stdin string, args ...string) {
	p.Helper()
	if output, code := p.outputOf(stdin, args...); code != 0 || output != "" {
		p.Errorf("%q exits with %d: %s", args, code, output)
	}
}

// runUntil starts run, and returns it while its command waits for end. The command exits
// with 7.
func runUntil(t *testing.T) (p *process, end func()) {
	t.Helper()
	testenv.Tools(t, "bash", "sleep")
	mark := filepath.Join(t.TempDir(), "end")
	p = launchRun(t, fmt.Sprintf("echo STATE=ready >&3; while ! [ -e %q ]; do sleep 0.02; done; exit 7", mark))
	p.await("status.json", `"state": "ready"`)
	return p, func() { testenv.Must(t, os.WriteFile(mark, nil, 0o600)) }
}

const anotherResult = "another program has recorded the result"

func TestTogether(t *testing.T) {
	t.Run("run_and_run", func(t *testing.T) {
		p, end := runUntil(t)
		started := filepath.Join(t.TempDir(), "started")
		before := p.file("events.jsonl")
		output, code := p.outputOf("", "run", "--", "touch", started)
		want := fmt.Sprintf("pika-cloud-lifecycle: run: another run with PID %d writes to %s, so the command was not started; wait until it has ended, or set --state-dir or PIKA_LIFECYCLE_DIR to another directory\n",
			p.cmd.Process.Pid, p.dir)
		if code != exitHeld || output != want {
			t.Errorf("the second run exits with %d and prints\n%s\nexpected %d and\n%s", code, output, exitHeld, want)
		}
		if _, err := os.Stat(started); err == nil {
			t.Error("the second command was started")
		}
		if p.file("events.jsonl") != before {
			t.Error("the second run has written an event")
		}
		end()
		p.exits(7)
		p.hasEvents(3)
		if output, code := p.outputOf("", "run", "--", "true"); code != 0 {
			t.Errorf("a run after the first one exits with %d: %s", code, output)
		}
		p.checkDir()
	})
	t.Run("run_in_run", func(t *testing.T) {
		testenv.Tool(t, "bash")
		p := launchRun(t, program+" run -- true; code=$?; echo KIND=ready MESSAGE=code-$code >&3; exit 7")
		output := p.exits(7)
		want := fmt.Sprintf("run: another run with PID %d writes to %s, so the command was not started; start it without run and report to that run with pika-cloud-lifecycle send STATE=ready, or set --state-dir to another directory\n",
			p.cmd.Process.Pid, p.dir)
		if !strings.Contains(output, want) {
			t.Errorf("stderr is\n%s\nexpected\n%s", output, want)
		}
		q := launchRun(t, "env -u PIKA_LIFECYCLE_FD "+program+" run -- true; exit 7")
		if output := q.exits(7); !strings.Contains(output, "start it without run and report to that run with ") {
			t.Errorf("without the variable, stderr is\n%s", output)
		}
		p.contains("events.jsonl", `"message":"code-125"`)
		p.contains("result.json", `"exit_code": 7`)
		p.hasEvents(3)
	})
	t.Run("run_in_run_elsewhere", func(t *testing.T) {
		testenv.Tool(t, "bash")
		inner := t.TempDir()
		p := launchRun(t, fmt.Sprintf("%s run --state-dir %q -- sh -c 'exit 5'; exit 7", program, inner))
		p.exits(7)
		p.contains("result.json", `"exit_code": 7`)
		if text := testenv.ReadFile(t, filepath.Join(inner, "result.json")); !strings.Contains(text, `"exit_code": 5`) {
			t.Errorf("the inner result is %s", text)
		}
	})
	t.Run("run_and_ingest", func(t *testing.T) {
		p, end := runUntil(t)
		p.succeeds("KIND=ready MESSAGE=beside\n", "ingest")
		p.contains("events.jsonl", `"message":"beside"`)
		p.succeeds("STATE=completed MESSAGE=early\n", "ingest")
		p.contains("result.json", `"status": "completed"`)
		end()
		if output := p.exits(7); strings.Count(output, anotherResult+" completed (exit code 0)") != 1 {
			t.Errorf("stderr is %s", output)
		}
		p.contains("result.json", `"exit_code": 7`)
		p.contains("result.json.prev", `"message": "early"`)
		p.checkDir()
	})
	t.Run("run_and_fifo", func(t *testing.T) {
		p, end := runUntil(t)
		fifo := filepath.Join(t.TempDir(), "fifo")
		q := startIn(t, p.dir, nil, "--fifo", fifo)
		q.awaitFIFO(fifo)
		testenv.Must(t, os.WriteFile(fifo, []byte("KIND=ready MESSAGE=beside\n"), 0))
		q.ackUpTo(1)
		p.contains("events.jsonl", `"message":"beside"`)
		end()
		p.exits(7)
		q.signal(unix.SIGTERM)
		q.exits(0)
		p.contains("result.json", `"exit_code": 7`)
		p.checkDir()
	})
	t.Run("run_and_one_shot", func(t *testing.T) {
		p, end := runUntil(t)
		p.succeeds("", "event", "--kind", "ready", "--message", "beside")
		p.contains("events.jsonl", `"message":"beside"`)
		p.succeeds("", "result", "--status", "failed", "--exit-code", "9", "--message", "m")
		end()
		if output := p.exits(7); strings.Count(output, anotherResult+" failed (exit code 9)") != 1 {
			t.Errorf("stderr is %s", output)
		}
		p.contains("result.json", `"exit_code": 7`)
		p.contains("result.json.prev", `"exit_code": 9`)
	})
	t.Run("run_and_require_result", func(t *testing.T) {
		p, end := runUntil(t)
		output, code := p.outputOf("", "ingest", "--require-result")
		want := fmt.Sprintf("the stream ended without a result; run with PID %d, which still writes to %s, will record it", p.cmd.Process.Pid, p.dir)
		if code != 0 || !strings.Contains(output, want) {
			t.Errorf("exit code %d: %s", code, output)
		}
		p.absent("result.json")
		end()
		p.exits(7)
		p.contains("result.json", `"exit_code": 7`)
		p.absent("result.json.prev")
	})
	t.Run("require_result_after_run", func(t *testing.T) {
		p, end := runUntil(t)
		end()
		p.exits(7)
		before := readTree(t, p.dir)
		p.succeeds("", "ingest", "--require-result")
		for name, text := range readTree(t, p.dir) {
			if text != before[name] {
				t.Errorf("%s has changed", name)
			}
		}
	})
	t.Run("require_result_after_killed_run", func(t *testing.T) {
		p, _ := runUntil(t)
		p.killWithCommand()
		p.outputOf("", "ingest", "--require-result")
		p.contains("result.json", `"reason":"stream_ended"`)
		if output, _ := p.outputOf("", "show"); strings.Contains(output, "has died") {
			t.Errorf("show prints %s", output)
		}
	})
	t.Run("ingest_and_ingest", func(t *testing.T) {
		p := start(t)
		q := startIn(t, p.dir, nil)
		p.write("STATE=booted")
		p.ackUpTo(1)
		q.write("STATE=failed EXIT_CODE=9")
		q.ackUpTo(1)
		p.write("STATE=completed")
		p.ackUpTo(2)
		testenv.Must(t, p.in.Close(), q.in.Close())
		if output := p.exits(0); strings.Count(output, anotherResult+" failed (exit code 9)") != 1 {
			t.Errorf("stderr is %s", output)
		}
		if output := q.exits(0); output != "" {
			t.Errorf("stderr is %s", output)
		}
		p.contains("result.json", `"status": "completed"`)
		p.contains("result.json.prev", `"exit_code": 9`)
		p.hasEvents(3)
		p.checkDir()
	})
	t.Run("ingest_and_one_shot", func(t *testing.T) {
		p := start(t)
		p.write("STATE=booted")
		p.ackUpTo(1)
		p.succeeds("", "event", "--kind", "ready", "--message", "m")
		p.succeeds("", "status", "--state", "ready", "--message", "m")
		testenv.Must(t, p.in.Close())
		p.exits(0)
		p.hasEvents(2)
	})
}

// awaitFIFO waits until the process has created its FIFO.
func (p *process) awaitFIFO(path string) {
	p.Helper()
	for {
		info, err := os.Stat(path)
		if err == nil && info.Mode()&os.ModeNamedPipe != 0 {
			return
		}
		select {
		case <-p.ended:
			p.Fatalf("the process has ended: %s", p.exits(0))
		default:
		}
	}
}

// A directory that cannot be used does not prevent a run, and neither does a lock file that
// cannot be used.
func TestRun_lock_unusable(t *testing.T) {
	for name, obstruct := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"symlink":   func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		t.Run(name, func(t *testing.T) {
			p := &process{T: t, dir: t.TempDir()}
			testenv.Must(t, obstruct(filepath.Join(p.dir, writerlock.Name)))
			output, code := p.outputOf("", "run", "--", "sh", "-c", "exit 7")
			if code != 7 || strings.Count(output, "\n") != 1 || !strings.Contains(output, writerlock.Name+" is ") {
				t.Errorf("exit code %d: %s", code, output)
			}
			p.contains("result.json", `"exit_code": 7`)
		})
	}
}

// show and verify name a writer that has died, and nothing while it is alive or after a
// clean end.
func TestDeadWriter_shown(t *testing.T) {
	p, _ := runUntil(t)
	dead := fmt.Sprintf("run with PID %d has died, or could not write its result", p.cmd.Process.Pid)
	object := fmt.Sprintf(`"dead_writers":[{"kind":"run","pid":%d}]`, p.cmd.Process.Pid)
	check := func(isDead bool) {
		t.Helper()
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"show"}, "\n" + dead + "\n"},
			{[]string{"show", p.dir}, "\n" + dead + "\n"},
			{[]string{"show", "--format", "json"}, "{" + object + "}\n"},
			{[]string{"verify"}, "writer.lock: " + dead + "\n"},
			{[]string{"verify", "--format", "json"}, object},
			{[]string{"verify", "--repair"}, "writer.lock: " + dead + "\n"},
		} {
			output, code := p.outputOf("", c.args...)
			if code != 0 || strings.Contains(output, c.want) != isDead {
				t.Errorf("a dead writer: %v; %q exits with %d and prints\n%s", isDead, c.args, code, output)
			}
		}
		if !isDead {
			return
		}
		copied := t.TempDir()
		testenv.Must(t, os.CopyFS(copied, os.DirFS(p.dir)))
		if output, _ := p.outputOf("", "show", copied); strings.Contains(output, "has died") {
			t.Errorf("a copied directory: %s", output)
		}
	}
	check(false)
	p.killWithCommand()
	check(true)
	p.outputOf("STATE=ready\n", "ingest")
	p.succeeds("", "status", "--state", "ready", "--message", "m")
	check(true)
	p.succeeds("", "status", "--state", "starting", "--message", "a new run")
	check(false)
}

// On a full disk a run has its lock without a record, so a second run is rejected. It writes
// the record once there is space.
func TestRun_lock_disk_full(t *testing.T) {
	testenv.Tools(t, "sh", "sleep")
	dir := smallTmpfs(t)
	state, fill := dir+"/state", dir+"/fill"
	testenv.Must(t, os.Mkdir(state, 0o755), os.WriteFile(state+"/writer.lock", nil, 0o600))
	_ = os.WriteFile(fill, make([]byte, 1<<20), 0o600)
	p := launch(t, state, nil, "run", "--", "sh", "-c", "sleep 1000")
	p.awaitStderr("no space left on device")
	output, code := p.outputOf("", "run", "--", "true")
	if code != exitHeld || !strings.Contains(output, "run: another run writes to "+state) {
		t.Errorf("the second run exits with %d: %s", code, output)
	}
	testenv.Must(t, os.Remove(fill))
	p.await("status.json", `"state": "starting"`)
	waitUntil(t, "the record of run", func() bool {
		writers, _ := writerlock.Read(state, testBoot)
		return len(writers) == 1 && writers[0].PID == p.cmd.Process.Pid && writers[0].State == writerlock.Alive
	})
	p.signal(unix.SIGTERM)
	p.exits(143)
}

// A run that ends normally clears the records of dead writers.
func TestDeadWriter_cleared_by_run(t *testing.T) {
	p, _ := runUntil(t)
	p.killWithCommand()
	p.outputOf("", "run", "--", "true")
	if output, _ := p.outputOf("", "show"); strings.Contains(output, "has died") {
		t.Error(output)
	}
}

// A command that outlives run does not hold the lock of run.
func TestRun_killed_command_lives(t *testing.T) {
	p, _ := runUntil(t)
	command := p.commandPID()
	defer unix.Kill(-command, unix.SIGKILL)
	p.signal(unix.SIGKILL)
	p.awaitEnd()
	if err := unix.Kill(command, 0); err != nil {
		t.Fatalf("the command has ended: %v", err)
	}
	writers, err := writerlock.Read(p.dir, testBoot)
	if want := (writerlock.Writer{Kind: writerlock.Run, PID: p.cmd.Process.Pid, State: writerlock.Dead}); err != nil || len(writers) != 1 || writers[0] != want {
		t.Errorf("writers %v, %v; expected %v", writers, err, want)
	}
}

// killWithCommand kills run, and then its command.
func (p *process) killWithCommand() {
	p.Helper()
	command := p.commandPID()
	p.signal(unix.SIGKILL)
	p.awaitEnd()
	testenv.Must(p.T, unix.Kill(-command, unix.SIGKILL))
}

// Another user may not open the file, and learns nothing from it.
func TestDeadWriter_other_user(t *testing.T) {
	testenv.Root(t)
	release, dir := testenv.Program(t), testenv.TempDir(t)
	testenv.OpenToAll(t, dir, filepath.Dir(release))
	run := limitedCommand(release, "run", "--state-dir", dir, "--", "sh", "-c", "kill -9 $PPID")
	if err := run.Run(); err == nil {
		t.Fatal("run was not killed")
	}
	for _, c := range []struct {
		user *syscall.Credential
		dead bool
	}{{nil, true}, {&syscall.Credential{Uid: 54321, Gid: 54321}, false}} {
		cmd := limitedCommand(release, "show", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
		output, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(output), "has died") != c.dead || !strings.Contains(string(output), "starting") {
			t.Errorf("a dead writer: %v; %v: %s", c.dead, err, output)
		}
	}
}
