package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// fallback is the fallback result.
const fallback = `failed {"reason":"stream_ended"}`

// keepsPipe is a script that leaves a child, which reads a line from the FIFO $D/go and
// reports ready.
const keepsPipe = `mkfifo "$D/go"; sh -c 'echo $$ >"$D/child"; read -r x <"$D/go"; echo STATE=ready >&3' &
	until [ -s "$D/child" ]; do sleep 0.01; done`

// A death is a row of the table in docs/run.md: what a command does, and how the host sees
// that. A result is written as the outcome, the exit code and the details.
type death struct {
	name    string
	flags   []string         // of run
	command []string         // for example a script; if nil, sh runs script
	script  string           // with the state directory as $D
	signals []syscall.Signal // sent to run or ingest when the state is ready
	killed  bool             // SIGKILL is sent then
	state   string           // at the end, if it is not the outcome

	run     string         // the result of run; "" if there is none
	ending  syscall.Signal // that ends run; 0 if run exits with the code of the result
	message string         // a part of the message of the result

	ingest  string // the result of ingest; "" if there is none
	onlyRun bool   // the row does not concern ingest
}

// deaths returns the rows. interpreter and crlf are scripts that cannot be run.
func deaths(interpreter, crlf string) []death {
	const hangs = "echo STATE=ready >&3; exec sleep 1000"
	const started = `until [ -s "$D/child" ]; do sleep 0.01; done`
	return []death{
		{name: "exits with 0", script: "exit 0", run: "completed 0", ingest: fallback},
		{name: "exits with N", script: "set -e; (exit 3); exit 0", run: "failed 3", ingest: fallback},
		{name: "killed by a signal", script: "kill -KILL $$", run: `failed 137 {"signal":"SIGKILL"}`, ingest: fallback},
		{name: "timeout", flags: []string{"--timeout", "100ms"}, script: "exec sleep 1000",
			run: `failed 124 {"reason":"timeout","signal":"SIGTERM"}`, onlyRun: true},
		{name: "timeout, SIGTERM handled", flags: []string{"--timeout", "1s"}, script: "trap 'exit 0' TERM; while :; do sleep 0.01; done",
			run: `failed 124 {"reason":"timeout"}`, onlyRun: true},
		{name: "timeout, child in another session", flags: []string{"--timeout", "500ms", "--kill-after", "100ms"},
			script: `setsid sh -c 'trap "" TERM; echo $$ >"$D/left"; while :; do sleep 1; done' & exec sleep 1000`,
			run:    `failed 124 {"reason":"timeout","signal":"SIGTERM"}`, onlyRun: true},
		{name: "SIGTERM", script: hangs, signals: []syscall.Signal{unix.SIGTERM},
			run: `failed 143 {"reason":"terminated","signal":"SIGTERM"}`, onlyRun: true},
		{name: "SIGTERM handled", script: "trap 'exit 0' TERM; echo STATE=ready >&3; while :; do sleep 0.01; done", signals: []syscall.Signal{unix.SIGTERM},
			run: "completed 0", onlyRun: true},
		{name: "SIGINT", script: hangs, signals: []syscall.Signal{unix.SIGINT},
			run: `failed 130 {"signal":"SIGINT"}`, ending: unix.SIGINT, onlyRun: true},
		{name: "SIGABRT", script: "ulimit -c 0; " + hangs, signals: []syscall.Signal{unix.SIGABRT},
			run: `failed 134 {"signal":"SIGABRT"}`, onlyRun: true},
		{name: "not found", command: []string{"/no/such/program"}, run: `failed 127 {"reason":"not_started"}`, onlyRun: true},
		{name: "cannot be run", command: []string{"/etc/passwd"}, run: `failed 126 {"reason":"not_started"}`, onlyRun: true},
		{name: "interpreter missing", command: []string{interpreter}, run: `failed 127 {"reason":"not_started"}`, message: "its interpreter /no/such/shell does not exist", onlyRun: true},
		{name: "interpreter with carriage return", command: []string{crlf}, run: `failed 127 {"reason":"not_started"}`, message: "carriage return", onlyRun: true},
		{name: "reports completed, exits with 3", script: "echo STATE=completed MESSAGE=done >&3; exit 3",
			run: `failed 3 {"reported":"completed"}`, message: "done", ingest: "completed 0"},
		{name: "reports stopped", script: "echo STATE=stopped >&3; exit 3", state: "stopped", run: "failed 3"},
		{name: "child keeps the pipe open", script: keepsPipe, run: `completed 0 {"left_running":1}`, ingest: fallback},
		{name: "daemon in another session", script: `setsid sh -c 'echo $$ >"$D/child"; exec sleep 1000' 3>&- & ` + started + `; exit 5`,
			run: `failed 5 {"left_running":1}`, onlyRun: true},
		{name: "last line without newline", script: "printf STATE=failed >&3; exit 0", run: "completed 0", ingest: fallback},
		{name: "run or ingest killed", script: `echo $$ >"$D/child"; ` + hangs, killed: true, state: "ready"},
	}
}

// TestDeaths has a subtest for each row of the table in docs/run.md, and for run and ingest
// each. Rows that need more than a command have tests of their own.
func TestDeaths(t *testing.T) {
	testenv.Tools(t, "setsid", "sleep")
	scripts := t.TempDir()
	interpreter, crlf := filepath.Join(scripts, "interpreter"), filepath.Join(scripts, "crlf")
	testenv.Must(t, os.WriteFile(interpreter, []byte("#!/no/such/shell\n"), 0o755), os.WriteFile(crlf, []byte("#!/bin/sh\r\nexit 0\r\n"), 0o755))
	for _, d := range deaths(interpreter, crlf) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			t.Run("run", func(t *testing.T) {
				t.Parallel()
				d.testRun(t)
			})
			if !d.onlyRun {
				t.Run("ingest", func(t *testing.T) {
					t.Parallel()
					d.testIngest(t)
				})
			}
		})
	}
}

func (d death) argv() []string {
	if d.command != nil {
		return d.command
	}
	return []string{"sh", "-c", d.script}
}

func (d death) testRun(t *testing.T) {
	dir := t.TempDir()
	args := append(append(append([]string{"run"}, d.flags...), "--"), d.argv()...)
	p := launch(t, dir, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "D="+dir)
	}, args...)
	d.interrupt(p)
	p.awaitEnd()
	if left := p.file("left"); left != "" && !hasEndedPID(left) {
		t.Errorf("process %s is left", left)
	}
	p.killChild()
	d.check(p, d.run)
	if d.killed {
		return
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	fields := strings.Fields(d.run)
	switch {
	case d.ending != 0:
		if !status.Signaled() || status.Signal() != d.ending {
			t.Errorf("run: %v, want %v", p.cmd.ProcessState, d.ending)
		}
	case strconv.Itoa(status.ExitStatus()) != fields[1]:
		t.Errorf("run: %v, want exit code %s", p.cmd.ProcessState, fields[1])
	}
}

// testIngest starts the script as in script 3>&1 | ingest --require-result.
func (d death) testIngest(t *testing.T) {
	dir := t.TempDir()
	p := startIn(t, dir, nil, "--require-result")
	script := exec.Command(d.argv()[0], d.argv()[1:]...)
	script.Env = append(os.Environ(), "PIKA_LIFECYCLE_FD=3", "D="+dir)
	script.ExtraFiles = []*os.File{p.in}
	testenv.Must(t, script.Start())
	t.Cleanup(func() { script.Process.Kill(); script.Wait() })
	p.in.Close()
	d.interrupt(p)
	if !d.killed {
		_ = script.Wait() // its exit code does not matter
	}
	if d.script == keepsPipe { // ingest continues until the child ends
		if result := p.file("result.json"); result != "" {
			t.Errorf("a result, although a child keeps the pipe open: %s", result)
		}
		testenv.Must(t, os.WriteFile(filepath.Join(dir, "go"), []byte("\n"), 0o600))
	}
	p.awaitEnd()
	p.killChild()
	d.check(p, d.ingest)
	if d.script == keepsPipe {
		p.contains("events.jsonl", `"kind":"ready"`)
	}
}

// interrupt waits for the state ready, and sends the signals of the row to the program.
func (d death) interrupt(p *process) {
	p.Helper()
	signals := d.signals
	if d.killed {
		signals = []syscall.Signal{unix.SIGKILL}
	}
	for _, s := range signals {
		p.await("status.json", `"state": "ready"`)
		p.signal(s)
	}
}

// killChild kills the process that the script has left, if there is one.
func (p *process) killChild() {
	p.Helper()
	text := p.file("child")
	if text == "" {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	testenv.Must(p.T, err)
	_ = unix.Kill(pid, unix.SIGKILL)
}

// hasEndedPID reports whether the process with this ID, a text, has ended.
func hasEndedPID(text string) bool {
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	return err == nil && unix.Kill(pid, 0) == unix.ESRCH
}

// check checks the result and the state at the end.
func (d death) check(p *process, want string) {
	p.Helper()
	var result struct {
		Status   string          `json:"status"`
		ExitCode *int            `json:"exit_code"`
		Message  string          `json:"message"`
		Details  json.RawMessage `json:"details"`
	}
	got, text := "", p.file("result.json")
	if text != "" {
		testenv.Must(p.T, json.Unmarshal([]byte(text), &result))
		words := []string{result.Status}
		if result.ExitCode != nil {
			words = append(words, fmt.Sprint(*result.ExitCode))
		}
		if result.Details != nil {
			words = append(words, string(result.Details))
		}
		got = strings.Join(words, " ")
	}
	if got != want {
		stderr, _ := io.ReadAll(p.stderr)
		p.Errorf("result %q, want %q; stderr %s", got, want, stderr)
	}
	if d.message != "" && want == d.run && !strings.Contains(result.Message, d.message) {
		p.Errorf("message %q has no %q", result.Message, d.message)
	}
	state := d.state
	if state == "" {
		state, _, _ = strings.Cut(want, " ")
	}
	p.contains("status.json", fmt.Sprintf(`"state": %q`, state))
}
