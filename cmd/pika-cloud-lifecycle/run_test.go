package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// launch starts a subcommand other than ingest, without an input. It has no terminal, even if
// the tests have one: if a command dies of SIGINT in a terminal, run sends SIGINT to its group.
func launch(t *testing.T, dir string, change func(*exec.Cmd), args ...string) *process {
	t.Helper()
	return startIn(t, dir, func(cmd *exec.Cmd) {
		cmd.Args = append([]string{cmd.Args[0]}, args...)
		cmd.Stdin, cmd.ExtraFiles = nil, nil
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Env = append(cmd.Env, "PIKA_LIFECYCLE_DIR="+dir)
		if change != nil {
			change(cmd)
		}
	})
}

func launchRun(t *testing.T, script string) *process {
	t.Helper()
	return launch(t, t.TempDir(), nil, "run", "--", "bash", "-c", script)
}

// endingSignals returns all signals that end a process by default.
func endingSignals() (all []syscall.Signal) {
	for s := syscall.Signal(1); s <= 31; s++ {
		switch s {
		case unix.SIGCHLD, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGWINCH:
		default:
			all = append(all, s)
		}
	}
	return append(all, 34, 64) // two real-time signals
}

// run records each way in which a command can end, and exits with its code.
func TestRun_result_of_each_exit(t *testing.T) {
	type ending struct {
		script, details string
		code            int
	}
	endings := []ending{{"exit 0", "", 0}, {"exit 3", "", 3}, {"exit 127", "", 127}, {"exit 255", "", 255}, {"set -e; false; exit 3", "", 1}}
	for _, s := range endingSignals() {
		name := unix.SignalName(s)
		if name == "" {
			name = fmt.Sprintf("SIG%d", s)
		}
		endings = append(endings, ending{fmt.Sprintf("ulimit -c 0; kill -%d $$; exit 99", s), fmt.Sprintf(`{"signal":%q}`, name), 128 + int(s)})
	}
	for _, d := range endings {
		t.Run(d.script, func(t *testing.T) {
			t.Parallel()
			// Not bash, which ignores SIGQUIT.
			p := launch(t, t.TempDir(), nil, "run", "--", "sh", "-c", d.script)
			p.exits(d.code)
			p.hasEvents(2)
			outcome := "failed"
			if d.code == 0 {
				outcome = "completed"
			}
			for _, name := range []string{"status.json", "result.json"} {
				p.contains(name, fmt.Sprintf("%q", outcome))
				p.contains(name, `"seq": 2`)
				if d.details != "" {
					p.contains(name, `"details": `+d.details)
				}
			}
			p.contains("result.json", fmt.Sprintf(`"exit_code": %d,`, d.code))
			p.checkDir()
		})
	}
}

// checkDir checks that the artifacts are valid and consistent.
func (p *process) checkDir() {
	p.Helper()
	if out, err := testCommand("verify", "--state-dir", p.dir).CombinedOutput(); err != nil {
		p.Errorf("%v: %s", err, out)
	}
	if n, err := compileSchemas(p.T).checkAll(p.dir, nil); n < 3 || err != nil {
		p.Errorf("%d artifacts: %v", n, err)
	}
}

func TestRun_signals_forwarded(t *testing.T) {
	testenv.Tool(t, "bash")
	p := launchRun(t, `for s in TERM HUP INT QUIT USR1 USR2; do trap "echo KIND=ready MESSAGE=$s >&3" $s; done
		echo STATE=ready >&3
		while ! [ -e `+t.TempDir()+`/never ]; do sleep 1000 & wait $!; done`)
	p.await("status.json", `"state": "ready"`)
	for i, s := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM} {
		p.signal(s)
		p.await("events.jsonl", fmt.Sprintf(`"message":%q`, strings.TrimPrefix(unix.SignalName(s), "SIG")))
		p.await("events.jsonl", fmt.Sprintf(`"seq":%d}`, i+3))
	}
	group := p.commandPID()
	testenv.Must(t, unix.Kill(-group, unix.SIGKILL))
	p.exits(137)
}

// commandPID returns the process ID of the command.
func (p *process) commandPID() (pid int) {
	p.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.cmd.Process.Pid))
	testenv.Must(p.T, err)
	for _, task := range globOf(p.T, fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid)) {
		more, _ := os.ReadFile(task)
		text = append(text, more...)
	}
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		p.Fatalf("no child: %q, %v", text, err)
	}
	return pid
}

func globOf(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	testenv.Must(t, err)
	return names
}

// isStopped reports whether a process is stopped (proc_pid_stat(5)).
func isStopped(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(text), ") T ")
}

func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(waitLimit); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", waitLimit, what)
		}
	}
}

// Without a terminal, SIGTSTP and SIGCONT act on the command only.
func TestRun_stop_and_continue(t *testing.T) {
	testenv.Tool(t, "bash")
	p := launch(t, t.TempDir(), nil,
		"run", "--", "bash", "-c", `trap 'exit 7' TERM; echo STATE=ready >&3; while :; do sleep 1000 & wait $!; done`)
	p.await("status.json", `"state": "ready"`)
	child := p.commandPID()
	p.signal(unix.SIGTSTP)
	waitUntil(t, "the command is stopped", func() bool { return isStopped(child) })
	p.signal(unix.SIGCONT)
	waitUntil(t, "the command is continued", func() bool { return !isStopped(child) })
	if isStopped(p.cmd.Process.Pid) {
		t.Error("run is stopped, although there is no terminal")
	}
	p.signal(unix.SIGTERM)
	p.exits(7)
}

// If run is killed, ingest --require-result adds the result.
func TestRun_killed_fallback_result(t *testing.T) {
	testenv.Tool(t, "bash")
	p := launchRun(t, `echo STATE=ready >&3; exec sleep 1000`)
	p.await("status.json", `"state": "ready"`)
	child := p.commandPID()
	p.signal(unix.SIGKILL)
	p.awaitEnd()
	testenv.Must(t, unix.Kill(child, unix.SIGKILL))
	p.absent("result.json")
	// As ExecStopPost= of a unit does.
	ingest := testCommand("ingest", "--require-result", "--state-dir", p.dir)
	if out, err := ingest.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.hasEvents(3)
	p.contains("status.json", `"state": "failed"`)
	p.contains("result.json", `"details": {"reason":"stream_ended"}`)
	p.contains("result.json", `"seq": 3`)
	p.checkDir()
}

// A terminal is a pseudo-terminal. unread is the output after the last expected
// text.
type terminal struct {
	*testing.T
	*os.File
	output chan string
	unread string
	passed string // the output before unread, since the text that was expected before
}

// newTerminal starts bash on a new terminal. An interactive bash has job control
// there.
func newTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	testenv.Tool(t, "bash")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	testenv.Must(t, err)
	testenv.Must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	testenv.Must(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	testenv.Must(t, err)
	cmd := exec.Command("bash", args...)
	cmd.Env = append(testCommand().Env, "PIKA_LIFECYCLE_DIR="+dir, "PS1=$ ", "LC_ALL=C", "HISTFILE=/dev/null", "PATH="+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	testenv.Must(t, cmd.Start())
	slave.Close()
	term := &terminal{T: t, File: master, output: make(chan string, 100)}
	go func() {
		for r := bufio.NewReader(master); ; {
			buf := make([]byte, 4096)
			n, err := r.Read(buf)
			if err != nil {
				close(term.output)
				return
			}
			term.output <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		killSession(cmd.Process.Pid)
		master.Close()
		cmd.Wait()
	})
	return term
}

// killSession kills all processes that are left in the session of a terminal: the
// jobs of a shell have their own groups.
func killSession(session int) {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		text, _ := os.ReadFile(name)
		_, fields, _ := strings.Cut(string(text), ") ")
		var pid, parent, group, in int
		var state string
		fmt.Sscan(string(text), &pid)
		if _, err := fmt.Sscan(fields, &state, &parent, &group, &in); err == nil && in == session {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func (term *terminal) send(text string) {
	term.Helper()
	_, err := term.WriteString(text)
	testenv.Must(term.T, err)
}

// expect waits until the terminal shows a text after the last expected one.
func (term *terminal) expect(text string) {
	term.Helper()
	late := time.After(waitLimit)
	for {
		if before, after, ok := strings.Cut(term.unread, text); ok {
			term.passed, term.unread = before+text, after
			return
		}
		select {
		case more, ok := <-term.output:
			if term.unread += more; !ok {
				term.Fatalf("the terminal was closed before it showed %q; output %q", text, term.unread)
			}
		case <-late:
			term.Fatalf("no %q; output %q", text, term.unread)
		}
	}
}

// run gives the terminal to the command's group, because otherwise reading from it would
// stop the command. At the end run gives it back to its own group, for the next program.
func TestTerminal_given_to_command(t *testing.T) {
	for name, command := range map[string]string{"command ends": `sh -c 'read -r x; echo "one: $x"'`, "command not started": "/etc/passwd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, t.TempDir(), "-c", program+` run -- `+command+`; read -r y; echo "two: $y"`)
			if name == "command ends" {
				term.send("a\n")
				term.expect("one: a")
			}
			term.send("b\n")
			term.expect("two: b")
		})
	}
}

// A warning of run does not stop it, even after stty tostop.
func TestTerminal_tostop(t *testing.T) {
	term := newTerminal(t, t.TempDir(), "-c", "stty tostop; "+program+` run -- sh -c 'echo bad >&3; read -r x; exit 4'; echo "code: $?"`)
	term.expect("line 1, column 1")
	term.send("a\n")
	term.expect("code: 4")
}

// If ingest reads from a terminal, it prints a hint, and ends at Ctrl-D. It prints no hint
// if the command line names the input.
func TestTerminal_ingest(t *testing.T) {
	t.Parallel()
	const hint = "ingest: reading directives from the terminal; type lines such as STATE=ready MESSAGE='server is up', and Ctrl-D to end\r"
	dir := t.TempDir()
	term := newTerminal(t, dir, "-c", program+` ingest; echo "code: $?"; `+program+` ingest --fd 0; echo "code: $?"`)
	term.expect(hint)
	term.send("STATE=ready\n\x04")
	term.expect("code: 0")
	if strings.Contains(term.passed, hint) {
		t.Errorf("the hint is printed again: %q", term.passed)
	}
	term.send("\x04")
	term.expect("code: 0")
	if strings.Contains(term.passed, hint) {
		t.Errorf("the hint is printed with --fd: %q", term.passed)
	}
	if text, err := os.ReadFile(dir + "/status.json"); !strings.Contains(string(text), `"state": "ready"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// Ctrl-C ends ingest on a terminal without a grace period. The lines typed before it
// are written, and the next one is for the shell.
func TestTerminal_ingest_ctrl_c(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	term := newPrompt(t, dir)
	term.send(program + " ingest --notify never --ack-fd 1; echo \"code: $?\"\n")
	term.expect("Ctrl-D to end\r")
	term.send("STATE=ready\n")
	term.expect("1 1 0\r") // the line is on disk
	interrupted := time.Now()
	term.send("\x03")
	term.expect("code: 0")
	if took := time.Since(interrupted); took >= ingest.DefaultGrace {
		t.Errorf("ingest ended after %v", took)
	}
}

// wait prints on a terminal that there is no status, because the user may have named
// the wrong directory. It prints nothing if the wait is over.
func TestTerminal_wait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hint := "wait: there is no status in " + dir + " yet; waiting for one, Ctrl-C to stop\r"
	term := newTerminal(t, dir, "-c", program+` wait --for ready & pid=$!; read -r x; `+
		program+` status --state ready --message up; wait $pid; echo "code: $?"; `+program+` wait --for ready; echo "code: $?"`)
	term.expect(hint)
	term.send("\n")
	term.expect("ready: up\r")
	term.expect("code: 0")
	term.expect("code: 0")
	if strings.Contains(term.passed, "wait: ") {
		t.Errorf("the hint is printed without need: %q", term.passed)
	}
}

// show --follow prints on a terminal that it waits for the directory. A key that is
// pressed does not end it.
func TestTerminal_show_follow(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]string{"operand": "", "flag": "--state-dir "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir() + "/run"
			term := newTerminal(t, t.TempDir(), "-c", program+` show --follow `+flag+dir)
			term.expect("show: " + dir + " does not exist yet; waiting for it, Ctrl-C to stop\r")
			term.send("\n")
			for _, message := range []string{"one", "two"} {
				cmd := testCommand("event", "--kind", "ready", "--message", message, "--state-dir", dir)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				term.expect(message + "\r")
			}
		})
	}
}

// plot prints on a terminal how to save the picture.
func TestTerminal_plot(t *testing.T) {
	t.Parallel()
	term := newTerminal(t, t.TempDir(), "-c", program+` run -- true; `+program+` plot > /dev/null; echo "code: $?"; `+program+` plot`)
	term.expect("code: 0")
	if strings.Contains(term.passed, "plot: ") {
		t.Errorf("the hint is printed although the picture is saved: %q", term.passed)
	}
	term.expect("</svg>\r")
	term.expect("plot: the terminal shows the SVG as text; write it to a file, as in plot > plot.svg, and open it in a browser\r")
}

// newPrompt starts an interactive bash, whatever TERM is.
func newPrompt(t *testing.T, dir string) *terminal {
	t.Helper()
	return newTerminal(t, dir, "--norc", "--noediting", "-i")
}

// When the job is stopped, the shell gets the terminal. fg continues the whole job,
// including the other programs of a pipeline, and a script that has started run.
func TestTerminal_ctrl_z_and_fg(t *testing.T) {
	command := program + ` run -- sh -c 'echo up; while read -r x; do echo "read: $x"; done; exit 5'`
	for name, typed := range map[string]string{
		"command":              command,
		"pipeline":             "set -o pipefail; " + command + " | cat",
		"script":               `sh -c '"$@"; exit $?' - ` + command,
		"timeout --foreground": "timeout --foreground 1h " + command,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newPrompt(t, t.TempDir())
			term.send(typed + "\n")
			term.expect("up\r")
			for range 2 {
				term.send("\x1a")
				term.expect("Stopped")
				term.send("echo $((40 + 2))\n")
				term.expect("42\r")
				term.send("fg\n")
				term.expect("run --")
				term.send("a\n")
				term.expect("read: a")
			}
			term.send("\x04")
			term.expect("$ ")
			term.send("echo code: $?\n")
			term.expect("code: 5")
		})
	}
}

// After fg, run still forwards SIGTSTP.
func TestTerminal_sigtstp_after_fg(t *testing.T) {
	t.Parallel()
	term := newPrompt(t, t.TempDir())
	term.send(program + ` run -- sh -c 'echo "run is $PPID"; read -r x; trap "echo caught; exit 3" TSTP; echo set; while :; do :; done'` + "\n")
	term.expect("run is ") // the echo of the command line
	term.expect("run is ")
	term.expect("\r")
	pid, err := strconv.Atoi(strings.TrimSuffix(term.passed, "\r"))
	testenv.Must(t, err)
	term.send("\x1a")
	term.expect("$ ")
	term.send("fg\n")
	term.expect("fg\r")
	term.send("a\n")
	term.expect("set\r")
	testenv.Must(t, unix.Kill(pid, unix.SIGTSTP))
	term.expect("caught\r")
	term.expect("$ ")
}

// Ctrl-Z stops nothing if no shell can continue the job, or if the parent process of run
// ignores SIGTSTP.
func TestTerminal_ctrl_z_without_job_control(t *testing.T) {
	const script = `sh -c 'echo up; while read -r x; do echo "read: $x"; done'; echo "code: $?"`
	command, reset := program+" run -- "+script, program+" run -- env --default-signal=TSTP "+script
	for name, args := range map[string][]string{
		"no job control":                 {"-c", command},
		"SIGTSTP ignored":                {"--norc", "-ic", "(trap '' TSTP; " + command + ")"},
		"SIGTSTP ignored except command": {"--norc", "-ic", "(trap '' TSTP; " + reset + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(args[len(args)-1], reset) && limitedCommand("env", "--default-signal", "true").Run() != nil {
				testenv.Missing(t, "an env(1) with --default-signal; install coreutils 8.31 or newer")
			}
			term := newTerminal(t, t.TempDir(), args...)
			term.expect("up\r")
			term.send("\x1a")
			term.send("a\n")
			term.expect("read: a")
			term.send("\x04")
			term.expect("code: 0")
		})
	}
}

// A stop signal to the command does not stop run or its parent processes, and --timeout
// ends a stopped command.
func TestTerminal_stop_only_command(t *testing.T) {
	for name, typed := range map[string]string{
		"SIGSTOP":                   `%s -c 'kill -STOP $$'`,
		"SIGTSTP in the background": `%s -c 'kill -TSTP $$' & wait $!`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			term := newPrompt(t, dir)
			term.send(fmt.Sprintf(typed, program+" run --timeout 100ms -- sh") + `; echo "code: $?"` + "\n")
			term.expect("code: 124\r")
			if text, err := os.ReadFile(dir + "/result.json"); !strings.Contains(string(text), `"signal":"SIGTERM"`) {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
}

// --timeout does not include the time for which the job is stopped. On a slow machine the
// command itself may be over the limit, so the test also tries longer ones.
func TestTerminal_timeout_while_stopped(t *testing.T) {
	t.Parallel()
	for timeout := time.Second; timeout < waitLimit; timeout *= 4 {
		dir := t.TempDir()
		term := newPrompt(t, dir)
		term.send(fmt.Sprintf(`%s run --timeout %v -- sh -c 'echo up; read -r x; exit 5'`+"\n", program, timeout))
		term.expect("up\r")
		term.send("\x1a")
		term.expect("$ ")
		time.Sleep(timeout)
		term.send("fg\n")
		term.expect("fg\r")
		term.send("a\n")
		term.expect("$ ")
		if text, err := os.ReadFile(dir + "/result.json"); err != nil || strings.Contains(string(text), `"exit_code": 5`) {
			testenv.Must(t, err)
			return
		}
	}
	t.Error("each --timeout ended a command that was stopped for that time")
}

// If a command in the background reads from the terminal or changes it, the job is
// stopped. After fg, the command has the terminal.
func TestTerminal_background_command(t *testing.T) {
	const reads = `read -r x; echo "read: $x"`
	for name, c := range map[string]struct{ script, stops string }{
		"read in background": {reads, "Stopped"},
		"read after fg":      {"echo up; until [ -e now ]; do sleep 0.01; done; " + reads, ""},
		"stty in background": {"stty tostop </dev/tty; " + reads, "Stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			term := newPrompt(t, dir)
			term.send("cd " + dir + "; " + program + " run -- sh -c '" + c.script + "' &\n")
			if c.stops == "" {
				term.expect("up\r")
			} else {
				waitUntil(t, "the command is stopped", func() bool {
					term.send("jobs\n")
					term.expect("jobs\r")
					term.expect("run --")
					return strings.Contains(term.passed, c.stops)
				})
			}
			term.send("fg\n")
			term.expect("fg\r")
			term.expect("run --")
			testenv.Must(t, os.WriteFile(dir+"/now", nil, 0o600))
			term.send("a\n")
			term.expect("read: a")
			term.expect("$ ")
		})
	}
}

// After SIGTERM, ingest reads a FIFO until its last writer closes it.
func TestFIFO_stop_ends_with_last_writer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startIn(t, dir, nil, "--grace", "1h", "--require-result", "--fifo", dir+"/fifo")
	waitUntil(t, "the FIFO exists", func() bool { _, err := os.Stat(dir + "/fifo"); return err == nil })
	open := func() (f *os.File) {
		waitUntil(t, "ingest has opened the FIFO", func() bool {
			var err error
			f, err = os.OpenFile(dir+"/fifo", os.O_WRONLY|unix.O_NONBLOCK, 0)
			return err == nil
		})
		return f
	}
	first := open()
	first.WriteString("STATE=starting\n")
	p.ackUpTo(1)
	testenv.Must(t, first.Close())
	second := open()
	second.WriteString("STATE=ready\n")
	p.ackUpTo(2)
	p.signal(unix.SIGTERM)
	second.WriteString("STATE=unreachable\n") // still read
	p.ackUpTo(3)
	testenv.Must(t, second.Close())
	p.exits(exitOK)
	p.contains("result.json", "stream_ended")
	p.absent("fifo")
}

// An incomplete last line is rejected when the grace period ends.
func TestStop_incomplete_line_rejected(t *testing.T) {
	t.Parallel()
	p := start(t, "--grace", "1ms", "--require-result")
	p.write("STATE=ready")
	p.ackUpTo(1)
	_, err := p.in.WriteString("STATE=completed MESSAGE=cut")
	testenv.Must(t, err)
	p.signal(unix.SIGTERM)
	p.exits(exitRejected)
	p.contains("rejected.jsonl", "the input ends without a newline")
	p.contains("result.json", "stream_ended")
}

func TestWait_state_reached(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not/yet")
	p := launch(t, dir, nil, "wait", "--for", "completed", "--timeout", "1h")
	for _, state := range []string{"starting", "ready", "completed"} {
		if code, output := runHere([]string{"status", "--state", state, "--message", "m", "--state-dir", dir}); code != exitOK {
			t.Fatal(output)
		}
	}
	if code, output := runHere([]string{"result", "--status", "completed", "--message", "m", "--state-dir", dir}); code != exitOK {
		t.Fatal(output)
	}
	p.exits(exitOK)
}

// A descriptor with FD_CLOEXEC, as the runtime opens them, counts as free; an
// inherited one does not.
func TestFreeDescriptor(t *testing.T) {
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	testenv.Must(t, err)
	defer unix.Close(fd)
	if got := freeDescriptor(0); got > fd {
		t.Errorf("%d is free, expected %d", got, fd)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	testenv.Must(t, err)
	if got := freeDescriptor(0); got == fd {
		t.Errorf("%d is free, although it was inherited", got)
	}
}
