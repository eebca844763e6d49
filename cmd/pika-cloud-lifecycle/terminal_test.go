package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// rest returns what the terminal shows until its last process has closed it.
func (term *terminal) rest() string {
	term.Helper()
	for late := time.After(waitLimit); ; {
		select {
		case more, ok := <-term.output:
			if !ok {
				return term.unread
			}
			term.unread += more
		case <-late:
			term.Fatalf("the terminal is still open; output %q", term.unread)
		}
	}
}

// loop is a script with a loop around run.
const loop = `for i in 1 2 3; do echo "loop $i"; ` + program + ` run -- sh -c 'COMMAND'; done; echo "after: $?"`

// Ctrl-C ends a script and a loop at a prompt, as if the shell had started the command
// itself, and run records the result first. If the command handles Ctrl-C, the loop goes
// on.
func TestTerminal_ctrl_c(t *testing.T) {
	checkResult := func(t *testing.T, dir string) {
		text, err := os.ReadFile(dir + "/result.json")
		if !strings.Contains(string(text), `"exit_code": 130`) || !strings.Contains(string(text), `"signal":"SIGINT"`) {
			t.Errorf("%s, %v", text, err)
		}
	}
	const command = "echo up; exec sleep 1000"
	for name, script := range map[string]string{
		"script":           strings.Replace(loop, "COMMAND", command, 1),
		"script in script": `bash -c "$0"; echo after`,
		"pipeline":         strings.Replace(loop, "; done", " | cat; done", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			term := newTerminal(t, dir, "-c", strings.Replace(script, "COMMAND", command, 1), strings.Replace(loop, "COMMAND", command, 1))
			term.expect("up\r")
			term.send("\x03")
			if rest := term.rest(); strings.Contains(rest, "loop 2") || strings.Contains(rest, "after") {
				t.Errorf("the script continues: %q", rest)
			}
			checkResult(t, dir)
		})
	}
	t.Run("prompt", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		term := newPrompt(t, dir)
		term.send(strings.Replace(loop, "COMMAND", command, 1) + "\n")
		term.expect("up\r")
		term.send("\x03")
		term.expect("$ ")
		if strings.Contains(term.passed, "loop 2") {
			t.Errorf("the loop continues: %q", term.passed)
		}
		term.send("echo code: $?\n")
		term.expect("code: 130\r")
		checkResult(t, dir)
	})
	t.Run("handled", func(t *testing.T) {
		t.Parallel()
		term := newTerminal(t, t.TempDir(), "-c", strings.Replace(loop, "COMMAND", `trap "exit 130" INT; echo up; while :; do sleep 0.01; done`, 1))
		for _, number := range []string{"1", "2", "3"} {
			term.expect("loop " + number + "\r")
			term.expect("up\r")
			term.send("\x03")
		}
		term.expect("after: 130\r")
	})
}

// Without a terminal, run ends by a SIGINT that it has forwarded, but not by SIGTERM,
// SIGHUP or SIGQUIT: systemd would treat some of these as a success.
func TestRun_ends_by_interrupt(t *testing.T) {
	for s, want := range map[syscall.Signal]int{unix.SIGINT: -1, unix.SIGTERM: 143, unix.SIGHUP: 129, unix.SIGQUIT: 131} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			t.Parallel()
			p := launch(t, t.TempDir(), nil,
				"run", "--", "sh", "-c", `ulimit -c 0; echo STATE=ready >&3; exec sleep 1000`)
			p.await("status.json", `"state": "ready"`)
			p.signal(s)
			p.exits(want)
			status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if want < 0 && status.Signal() != s {
				t.Errorf("run ended by %v", status.Signal())
			}
			p.contains("result.json", `"signal":"`+unix.SignalName(s)+`"`)
			p.checkDir()
		})
	}
}

// If the command is killed while the terminal is in raw mode, run restores its settings,
// and the next program has it. If the command exits, its settings stay.
func TestTerminal_settings(t *testing.T) {
	testenv.Tool(t, "stty")
	for name, c := range map[string]struct{ run, mode string }{
		"killed":             {`run -- sh -c 'stty raw -echo; kill -9 $$'`, "cooked"},
		"timeout":            {`run --timeout 1s -- sh -c 'stty raw -echo; exec sleep 1000'`, "cooked"},
		"timeout, exits":     {`run --timeout 1s -- sh -c 'trap "exit 0" TERM; stty raw -echo; sleep 1000 & wait'`, "cooked"},
		"timeout, own group": {`run --timeout 1s --kill-after 10ms -- bash --norc -ic 'stty raw -echo; (trap "" TERM; exec sleep 1000); true'`, "cooked"},
		"exits":              {`run -- stty raw -echo`, "raw"},
		"fails":              {`run -- sh -c 'stty raw -echo; exit 3'`, "raw"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, t.TempDir(), "-c", program+" "+c.run+`; case $(stty -a) in *-icanon*) echo "mode: raw";; *) echo "mode: cooked";; esac
				stty sane; read -r x; echo "read: $x"`)
			term.expect("mode: " + c.mode)
			term.send("a\n")
			term.expect("read: a")
		})
	}
}
