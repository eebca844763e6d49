package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// runs reports whether a process has not ended.
func runs(pid int) bool {
	s, err := readStat(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !hasEnded(pid, s)
}

// pidsIn returns the process IDs in a file, and kills these processes at the end of the
// test.
func (p *process) pidsIn(path string) (pids []int) {
	p.Helper()
	text, err := os.ReadFile(path)
	testenv.Must(p.T, err)
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		testenv.Must(p.T, err)
		pids = append(pids, pid)
		if s, err := readStat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			p.Cleanup(func() { descendant{pid: pid, start: s.start}.signal(unix.SIGKILL) })
		}
	}
	return pids
}

// trees are scripts that start processes and write their IDs to the file $1: in the
// group of the command, in other groups and sessions, with and without a parent.
func trees() map[string]string {
	return map[string]string{
		"group":          `sleep 1000 & echo $! >>$1`,
		"session":        `setsid sh -c 'echo $$ >>$1; exec sleep 1000' - $1 &`,
		"daemon":         `(setsid sh -c '(echo $$ >>$1; exec sleep 1000) & echo $! >>$1' - $1 &)`,
		"deep":           `setsid sh -c 'setsid sh -c "setsid sh -c \"echo \\\$\\\$ >>\$1; sleep 1000; true\" - $1; true" - $1; true' - $1 &`,
		"ignores":        `setsid sh -c 'trap "" TERM; echo $$ >>$1; exec sleep 1000' - $1 &`,
		"stopped":        `setsid sh -c 'echo $$ >>$1; kill -STOP $$' - $1 &`,
		"ignores, group": `(trap "" TERM; exec sleep 1000) & echo $! >>$1`,
		"forks":          `setsid sh -c 'trap "" TERM; echo $$ >>$1; while :; do sleep 0.01 & sleep 0.01; done' - $1 &`,
	}
}

// launchTimeout runs a command with a time limit, which has passed when it returns. args
// returns the rest of the command line; the command must write process IDs to the file
// when it is ready for the timeout. If the machine is so slow that it was not, the limit is
// too short, and launchTimeout tries a longer one.
func launchTimeout(t *testing.T, args func(file string) []string) (p *process, pids []int) {
	t.Helper()
	for timeout := time.Second; timeout < waitLimit; timeout *= 4 {
		file := t.TempDir() + "/pids"
		testenv.Must(t, os.WriteFile(file, nil, 0o600))
		p := launch(t, t.TempDir(), nil, append([]string{"run", "--timeout", timeout.String()}, args(file)...)...)
		p.exits(exitTimeout)
		if pids := p.pidsIn(file); len(pids) > 0 {
			return p, pids
		}
	}
	t.Fatal("the command was never ready")
	return nil, nil
}

// After a timeout nothing that the command has started is left, in any group or session.
func TestRun_timeout_ends_descendants(t *testing.T) {
	for name, script := range trees() {
		for _, end := range []string{"wait; sleep 1000", "exec sleep 1000"} {
			t.Run(name+"/"+end, func(t *testing.T) {
				t.Parallel()
				p, pids := launchTimeout(t, func(file string) []string {
					return []string{"--kill-after", "100ms", "--", "sh", "-c", script + "\n" + end, "sh", file}
				})
				for _, pid := range pids {
					if runs(pid) {
						t.Errorf("process %d is left", pid)
					}
				}
				if result := p.file("result.json"); strings.Contains(result, "left_running") || !strings.Contains(result, `"reason":"timeout"`) {
					t.Error(result)
				}
			})
		}
	}
}

// After a timeout, the command and a process in another session can clean up until
// --kill-after, also if the command ends first. Each gets one SIGTERM, and the programs
// that they then start get none.
func TestRun_timeout_cleanup(t *testing.T) {
	t.Parallel()
	cleanup := func(name, pause string) string {
		return fmt.Sprintf(`trap "echo TERM >>$1.%[1]s; sleep %[2]s; echo clean >>$1.%[1]s; exit" TERM; touch $1.%[1]s; while :; do sleep 0.05; done`, name, pause)
	}
	file := ""
	p, _ := launchTimeout(t, func(path string) []string {
		file = path
		return []string{"--kill-after", "1h", "--", "sh", "-c",
			"setsid sh -c '" + cleanup("session", "0.4") + "' sh $1 & until [ -e $1.session ]; do sleep 0.01; done; " +
				strings.Replace(cleanup("group", "0.2"), "touch", "echo $$ >$1; touch", 1), "sh", path}
	})
	for _, name := range []string{"group", "session"} {
		if text, err := os.ReadFile(file + "." + name); string(text) != "TERM\nclean\n" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	p.contains("result.json", `"details": {"reason":"timeout"}`)
}

// After a timeout nothing is left of a process that starts itself again and again, each
// time in a new session, so that it is never there for long.
func TestRun_timeout_restarting_process(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, log := dir+"/restart", dir+"/log"
	testenv.Must(t, os.WriteFile(script, []byte("#!/bin/sh\ntrap '' TERM\necho again >>"+log+`
[ -e "$0" ] && setsid "$0" 3>&- </dev/null >/dev/null 2>&1 &
exit 0
`), 0o755))
	t.Cleanup(func() { os.Remove(script) }) // ends a process that is left
	p := launch(t, dir+"/state", nil, "run", "--timeout", "300ms", "--kill-after", "50ms", "--", "sh", "-c", script+"; exec sleep 1000")
	p.exits(exitTimeout)
	size := fileSize(log)
	if size == 0 {
		t.Fatal("the process was never started")
	}
	time.Sleep(100 * time.Millisecond)
	if grown := fileSize(log); grown != size {
		t.Errorf("the process is still running: %d bytes, then %d", size, grown)
	}
}

// A SIGTERM to run while it waits for the descendants ends them.
func TestRun_timeout_stop_requested(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/pids"
	p := launch(t, t.TempDir(), nil, "run", "--timeout", "3s", "--kill-after", "1h", "--", "sh", "-c", trees()["ignores"]+"\nwait", "sh", file)
	waitUntil(t, "the command has ended", func() bool {
		return p.file("status.json") != "" && len(linesOf(p.file("events.jsonl"))) == 1 && fileSize(file) > 0 && p.isReaped()
	})
	p.signal(unix.SIGTERM)
	p.exits(exitTimeout)
	if pid := p.pidsIn(file)[0]; runs(pid) {
		t.Errorf("process %d is left", pid)
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// isReaped reports whether the only child of run is not in run's session any more: the
// command has ended and the process that it started with setsid is left.
func (p *process) isReaped() bool {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.cmd.Process.Pid))
	for _, task := range globOf(p.T, fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid)) {
		more, _ := os.ReadFile(task)
		children = append(children, more...)
	}
	ours, err := unix.Getsid(p.cmd.Process.Pid)
	testenv.Must(p.T, err)
	found := false
	for _, word := range strings.Fields(string(children)) {
		pid, _ := strconv.Atoi(word)
		session, err := unix.Getsid(pid)
		if err != nil || session == ours {
			return false
		}
		found = true
	}
	return found
}

// After a normal end the descendants are left alone and counted, without zombies. The exit
// of an orphan does not count as that of the command.
func TestRun_left_running(t *testing.T) {
	// The pipe of run and that of the test are closed, so that no process waits for them.
	for name, c := range map[string]struct {
		script string
		left   int
		code   int
	}{
		"none":               {`sleep 0`, 0, 0},
		"group":              {trees()["group"], 1, 0},
		"session":            {trees()["session"], 1, 0},
		"stopped":            {`setsid sh -c 'kill -STOP $$; sleep 1' 3>&- & until grep -q ") T" /proc/$!/stat; do :; done; echo $! >>$1`, 1, 0},
		"several":            {`for i in 1 2 3 4 5; do (sleep 1000 & echo $! >>$1); done; exit 3`, 5, 3},
		"one, then killed":   {`sleep 1000 & echo $! >>$1; kill -9 $$`, 1, 137},
		"its child is dead":  {`sh -c 'sh -c "exit 9" & while read -r stat </proc/$!/stat; do case $stat in *") Z "*) break; esac; done; echo $$ >>$1; exec sleep 1000' - $1 & until [ -s $1 ]; do :; done; exit 4`, 1, 4},
		"orphan ends before": {`(sh -c 'exit 9' &); (sh -c 'sleep 0.2; exit 9' &) ; sleep 0.5; exit 3`, 0, 3},
		"orphan killed":      {`(sh -c 'kill -9 $$' &); sleep 0.3; exit 3`, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := t.TempDir() + "/pids"
			testenv.Must(t, os.WriteFile(file, nil, 0o600))
			p := launch(t, t.TempDir(), nil, "run", "--", "sh", "-c", "exec 3>&- 2>/dev/null\n"+c.script, "sh", file)
			p.exits(c.code)
			for _, pid := range p.pidsIn(file) {
				if !runs(pid) {
					t.Errorf("process %d has ended", pid)
				}
			}
			result := p.file("result.json")
			if want := fmt.Sprintf(`"left_running":%d}`, c.left); strings.Contains(result, "left_running") != (c.left > 0) || (c.left > 0 && !strings.Contains(result, want)) {
				t.Errorf("want %s:\n%s", want, result)
			}
			p.contains("result.json", fmt.Sprintf(`"exit_code": %d,`, c.code))
			p.checkDir()
		})
	}
}

// setsid forks if it leads its group, and its first process exits at once: for run the
// command has completed.
func TestRun_left_running_setsid(t *testing.T) {
	testenv.Tool(t, "setsid")
	t.Parallel()
	file := t.TempDir() + "/pids"
	p := launch(t, t.TempDir(), nil, "run", "--timeout", "1h", "--", "setsid", "sh", "-c", "echo $$ >$1; exec sleep 1000 2>/dev/null", "sh", file)
	p.exits(0)
	p.contains("result.json", `"details": {"left_running":1}`)
	p.contains("status.json", `"state": "completed"`)
	if pid := p.pidsIn(file)[0]; !runs(pid) {
		t.Errorf("process %d was ended", pid)
	}
}

// Children that run already had when it started are neither counted nor ended.
func TestRun_earlier_children(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"-- true", "--timeout 1s --kill-after 10ms -- sleep 1000"} {
		t.Run(command, func(t *testing.T) {
			dir := t.TempDir()
			file := dir + "/pids"
			cmd := testCommand()
			cmd.Path, cmd.Args = testenv.Tool(t, "sh"), []string{"sh", "-c",
				`sh -c 'sleep 1000 & echo $! >>$1; wait; true' sh $1 & echo $! >>$1
				until [ $(wc -l <$1) = 2 ]; do :; done
				exec ` + program + ` run --state-dir $2 ` + command, "sh", file, dir + "/run"}
			_ = cmd.Run()
			p := &process{T: t, dir: dir + "/run"}
			for _, pid := range p.pidsIn(file) {
				if !runs(pid) {
					t.Errorf("process %d was ended", pid)
				}
			}
			p.contains("result.json", `"exit_code"`)
			if strings.Contains(p.file("result.json"), "left_running") {
				t.Error(p.file("result.json"))
			}
		})
	}
}

// asPID1 changes a command of launch to run as PID 1 of a PID namespace, with the
// /proc of the namespace if mount is --mount-proc.
func asPID1(t *testing.T, mount ...string) func(*exec.Cmd) {
	t.Helper()
	testenv.Mount(t)
	testenv.Tool(t, "unshare")
	return func(cmd *exec.Cmd) {
		path, err := exec.LookPath(cmd.Args[0])
		testenv.Must(t, err)
		cmd.Path = testenv.Tool(t, "unshare")
		cmd.Args = append(append(append([]string{"unshare", "-pf", "--kill-child"}, mount...), path), cmd.Args[1:]...)
	}
}

// As PID 1, run reaps the processes whose parents have ended, while the command runs.
func TestRun_pid1_reaps(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), asPID1(t, "--mount-proc"), "run", "--", "sh", "-c",
		`i=0; while [ $i -lt 300 ]; do (sleep 0 &); i=$((i+1)); done
		echo KIND=ready >&3
		while grep -lE "\) Z |sleep" /proc/[0-9]*/stat; do :; done 2>/dev/null >/dev/null
		exit 7`)
	p.exits(7)
	p.hasEvents(3)
	if strings.Contains(p.file("result.json"), "left_running") {
		t.Error(p.file("result.json"))
	}
}

// When PID 1 exits, the kernel kills the descendants, so none is left.
func TestRun_pid1_left_running(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	testenv.Must(t, err)
	defer read.Close()
	as := asPID1(t, "--mount-proc")
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) {
		as(cmd)
		cmd.Stdout = write
	}, "run", "--", "sh", "-c", `setsid sleep 1000 3>&- 2>/dev/null & exit 4`)
	write.Close()
	p.exits(4)
	if strings.Contains(p.file("result.json"), "left_running") {
		t.Error(p.file("result.json"))
	}
	if _, err := read.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("a process is left: %v", err)
	}
}

// PID 1 cannot end by SIGINT.
func TestRun_pid1_interrupted(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), asPID1(t, "--mount-proc"), "run", "--", "sh", "-c", `kill -INT 1; exec sleep 1000`)
	p.exits(130)
	p.contains("result.json", `"signal":"SIGINT"`)
}

// If /proc is not that of the PID namespace, run cannot count the processes.
func TestRun_left_running_unknown(t *testing.T) {
	t.Parallel()
	as := asPID1(t)
	asPID2 := func(cmd *exec.Cmd) {
		as(cmd)
		cmd.Args = slices.Insert(cmd.Args, 3, "sh", "-c", `"$@"; exit`, "sh")
	}
	p := launch(t, t.TempDir(), asPID2, "run", "--", "sh", "-c", `setsid sleep 1000 3>&- 2>/dev/null & exit 0`)
	p.exits(0)
	p.contains("result.json", `"details": {"left_running":"unknown"}`)
	q := launch(t, t.TempDir(), asPID2, "run", "--timeout", "3s", "--kill-after", "100ms", "--", "sh", "-c", `trap "" TERM; sleep 1000 & wait; sleep 1000`)
	q.exits(exitTimeout)
	q.contains("result.json", `"signal":"SIGKILL"`)
}

// hidepid hides the processes of other users, which a descendant may have become.
func TestRun_left_running_hidepid(t *testing.T) {
	testenv.Root(t)
	testenv.Mount(t)
	testenv.Tools(t, "unshare", "mount", "setpriv")
	for _, value := range []string{"1", "2"} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			p := launch(t, openDir(t), func(cmd *exec.Cmd) {
				script := `mount -t proc -o hidepid=` + value + ` proc /proc && exec setpriv --reuid=61235 --regid=61235 --clear-groups "$@"`
				cmd.Args[0] = testenv.Program(t)
				cmd.Path = testenv.Tool(t, "unshare")
				cmd.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh"}, cmd.Args...)
			}, "run", "--", "sh", "-c", `sleep 3 3>&- 2>/dev/null & exit 0`)
			p.exits(0)
			p.contains("result.json", `"details": {"left_running":"unknown"}`)
		})
	}
}

// Another process has sent these signals, so run forwards them and records the result.
func TestRun_crash_signals_forwarded(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGSYS, unix.SIGTRAP, unix.SIGSTKFLT} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			t.Parallel()
			p := launch(t, t.TempDir(), nil, "run", "--", "sh", "-c", `ulimit -c 0; echo STATE=ready >&3; exec sleep 1000`)
			p.await("status.json", `"state": "ready"`)
			p.signal(s)
			if text := p.exits(128 + int(s)); text != "" {
				t.Errorf("stderr %q", text)
			}
			p.contains("result.json", fmt.Sprintf(`"signal":%q`, unix.SignalName(s)))
		})
	}
}

// A fault of this program is not treated as a signal to forward.
func TestForwardedSignals_fault(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	c := make(chan os.Signal, 1)
	for _, s := range forwardedSignals() {
		signal.Notify(c, s)
	}
	defer func() {
		if recover() == nil || len(c) > 0 {
			t.Errorf("%d signals were received", len(c))
		}
	}()
	var nowhere *command
	nowhere.pid++
}
