package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// launchFIFO starts run --fifo with a bash script as its command.
func launchFIFO(t *testing.T, dir, fifo, script string) *process {
	t.Helper()
	testenv.Tool(t, "bash")
	return launch(t, dir, func(cmd *exec.Cmd) { cmd.Dir = dir }, "run", "--fifo", fifo, "--", "bash", "-c", script)
}

// hasMessages checks the messages of all events but the first, which is starting.
func (p *process) hasMessages(want ...string) {
	p.Helper()
	var got []string
	for _, line := range linesOf(p.file("events.jsonl"))[1:] {
		var event struct{ Message string }
		testenv.Must(p.T, json.Unmarshal([]byte(line), &event))
		got = append(got, event.Message)
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		p.Errorf("the messages are %q; expected %q", got, want)
	}
}

// The command has the FIFO as descriptor, for writing only and without O_NONBLOCK, and its
// absolute path. The FIFO is removed at the end if run has created it.
func TestRunFIFO(t *testing.T) {
	for name, c := range map[string]struct {
		fifo string // in the state directory, which is the working directory
		mode os.FileMode
		made bool // before run
	}{
		"created":               {"fifo", 0o600, false},
		"created with a parent": {"some new/fi fo", 0o600, false},
		"exists":                {"fifo", 0o622, true},
	} {
		for _, form := range []string{"relative", "absolute"} {
			t.Run(strings.ReplaceAll(name+" "+form, " ", "_"), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				path := filepath.Join(dir, c.fifo)
				given := c.fifo
				if form == "absolute" {
					given = path
				}
				if c.made {
					testenv.Must(t, unix.Mkfifo(path, 0), os.Chmod(path, c.mode))
				}
				p := launchFIFO(t, dir, given, `cd /
					echo "KIND=ready MESSAGE=descriptor" >&"$PIKA_LIFECYCLE_FD"
					printf "KIND=ready MESSAGE=%q\n" "$PIKA_LIFECYCLE_FIFO $(stat -L -c %i-%a "$PIKA_LIFECYCLE_FIFO" "/proc/self/fd/$PIKA_LIFECYCLE_FD" | xargs)" >"$PIKA_LIFECYCLE_FIFO"
					while read -r key value; do [ "$key" != flags: ] || flags=$value; done <"/proc/self/fdinfo/$PIKA_LIFECYCLE_FD"
					env -i sh -c 'echo "KIND=ready MESSAGE=$1" >"$2"' sh "$((flags & 3))-$((flags & `+fmt.Sprint(unix.O_NONBLOCK)+`))" "$PIKA_LIFECYCLE_FIFO"
					exec sleep 1000`)
				var st unix.Stat_t
				waitUntil(t, "the FIFO exists", func() bool { return unix.Stat(path, &st) == nil })
				if st.Mode != unix.S_IFIFO|uint32(c.mode) {
					t.Errorf("the mode is %o", st.Mode)
				}
				p.await("events.jsonl", `"seq":4`)
				testenv.Must(t, unix.Kill(p.commandPID(), unix.SIGKILL))
				p.exits(128 + int(unix.SIGKILL))
				id := fmt.Sprintf("%d-%o", st.Ino, c.mode)
				p.hasMessages("descriptor", path+" "+id+" "+id, "1-0", "bash was ended by SIGKILL")
				if _, err := os.Lstat(path); (err == nil) != c.made {
					t.Errorf("at the end: %v", err)
				}
			})
		}
	}
}

// What the command writes to the path right before it exits is recorded. A process that
// keeps the FIFO open does not keep run alive. Once the result is on disk, no program can
// open the FIFO any more.
func TestRunFIFO_end(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "bash")
	dir := t.TempDir()
	fifo := dir + "/fifo"
	p := launch(t, dir, nil, "run", "--fifo", fifo, "--tail", "1", "--", "bash", "-c", `cd "$PIKA_LIFECYCLE_DIR"
		exec 8<>"$PIKA_LIFECYCLE_FIFO"; sleep 1000 2>&- & echo $! >pid
		head -c 100000 /dev/zero >&2 # run waits for the reader after it has recorded the result
		echo "KIND=ready MESSAGE=last" >"$PIKA_LIFECYCLE_FIFO"; exit 3`)
	p.await("result.json", "}\n")
	p.absent("fifo")
	select {
	case <-p.ended:
		t.Error("run has exited, so the test has looked too late")
	default:
	}
	p.exits(3)
	p.hasMessages("last", "bash exited with 3")
	var pid int
	_, err := fmt.Sscan(p.file("pid"), &pid)
	testenv.Must(t, err, unix.Kill(pid, unix.SIGKILL))
}

// Nothing is lost if the command ends directly after it has written to the FIFO, by its
// descriptor or by its path, or to one that run has created again.
func TestRunFIFO_nothing_lost(t *testing.T) {
	for name, before := range map[string]string{
		"first FIFO": "",
		"created again": `rm "$PIKA_LIFECYCLE_FIFO"; until [ -p "$PIKA_LIFECYCLE_FIFO" ]; do sleep 0.01; done
			until exec 8>"$PIKA_LIFECYCLE_FIFO"; do :; done 2>/dev/null; exec 8>&-;`,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := launchFIFO(t, t.TempDir(), "fifo", before+`
				for i in {1..100}; do echo "KIND=ready MESSAGE=$i" >"$PIKA_LIFECYCLE_FIFO"; done
				for i in {1..900}; do echo "KIND=ready MESSAGE=$i"; done >&"$PIKA_LIFECYCLE_FD"
				for i in {1..900}; do echo "KIND=ready MESSAGE=$i"; done >"$PIKA_LIFECYCLE_FIFO"`)
			if before != "" {
				p.awaitStderr("run: " + p.dir + "/fifo: the FIFO was removed; created it again\n")
			}
			p.exits(exitOK)
			p.hasEvents(1 + 1900 + 1)
			p.absent("fifo")
			p.checkDir()
		})
	}
}

// If the FIFO cannot be used, the command is not started, and the result has the reason.
func TestRunFIFO_unusable(t *testing.T) {
	testenv.Tool(t, "bash")
	dir := t.TempDir()
	testenv.Must(t, os.WriteFile(dir+"/file", []byte("data"), 0o600), os.Mkdir(dir+"/dir", 0o700),
		unix.Mkfifo(dir+"/used", 0o600), os.Symlink("used", dir+"/link"), os.Mkdir(dir+"/gone", 0o700))
	holder, err := os.OpenFile(dir+"/used", os.O_RDWR, 0)
	testenv.Must(t, err)
	defer holder.Close()
	testenv.Must(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	for name, c := range map[string]struct{ fifo, what, remedy string }{
		"file":           {dir + "/file", "--fifo " + dir + "/file is not a FIFO", "name another path, or remove it if a program has created it by mistake"},
		"directory":      {dir + "/dir", "--fifo " + dir + "/dir is not a FIFO", "name another path, or remove it if a program has created it by mistake"},
		"link":           {dir + "/link", "--fifo " + dir + "/link is a symbolic link", "name the FIFO itself"},
		"in use":         {dir + "/used", "--fifo " + dir + "/used: another run or ingest reads it", "stop that one, or name another path"},
		"below a file":   {dir + "/file/fifo", "--fifo: mkdir " + dir + "/file: not a directory", "name another path"},
		"not creatable":  {"/proc/fifo", "--fifo: mkfifo /proc/fifo: no such file or directory", "name another path"},
		"no working dir": {"fifo", "--fifo fifo: getwd: no such file or directory", "give an absolute path"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			state := t.TempDir()
			p := launch(t, state, func(cmd *exec.Cmd) {
				if c.fifo == "fifo" {
					cmd.Args = append([]string{"bash", "-c", `cd "$0"; rmdir "$0"; exec "$@"`, dir + "/gone"}, cmd.Args...)
					cmd.Path = "/bin/bash"
				}
			}, "run", "--fifo", c.fifo, "--", "touch", state+"/started")
			if stderr := p.exits(exitNotStarted); stderr != "pika-cloud-lifecycle: run: "+c.what+"; "+c.remedy+"\n" {
				t.Errorf("stderr\n%s", stderr)
			}
			p.absent("started")
			p.contains("result.json", `"details": {"reason":"not_started"}`)
			p.contains("result.json", fmt.Sprintf(`"message": "touch cannot be run: %s"`, c.what))
			p.hasEvents(2)
			p.checkDir()
		})
	}
	if testenv.ReadFile(t, dir+"/file") != "data" {
		t.Error("the file has changed")
	}
}

// An ordinary user cannot create a FIFO in a directory of another user.
func TestRunFIFO_permission(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "bash")
	dir := testenv.TempDir(t)
	testenv.Must(t, os.Chmod(dir, 0o755))
	code, stderr := limitedRun(t, ":", &syscall.Credential{Uid: 54321, Gid: 54321}, "run", "--fifo", dir+"/fifo", "--", "true")
	if want := "run: --fifo: mkfifo " + dir + "/fifo: permission denied; run it as root, or name another path\n"; code != exitNotStarted || !strings.HasSuffix(stderr, want) {
		t.Errorf("exit code %d, stderr\n%s", code, stderr)
	}
}

// If run is killed, the FIFO stays. The next run uses it, and keeps it.
func TestRunFIFO_killed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := launchFIFO(t, dir, "fifo", `echo STATE=ready >"$PIKA_LIFECYCLE_FIFO"; exec sleep 1000`)
	p.await("status.json", `"state": "ready"`)
	child := p.commandPID()
	p.signal(unix.SIGKILL)
	p.awaitEnd()
	testenv.Must(t, unix.Kill(child, unix.SIGKILL))
	p = launchFIFO(t, dir, "fifo", `echo STATE=ready MESSAGE=again >"$PIKA_LIFECYCLE_FIFO"`)
	p.exits(exitOK)
	p.contains("events.jsonl", `"message":"again"`)
	if info, err := os.Lstat(dir + "/fifo"); err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A second run, in the command of the first one or beside it, does not get its FIFO, and
// does not remove it.
func TestRunFIFO_second_run(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := launchFIFO(t, dir, "fifo", program+` run --fifo fifo -- true; same=$?
		`+program+` run --fifo fifo --state-dir other -- true; other=$?
		`+program+` run --fifo second -- true; second=$?
		`+program+` run --fifo third --state-dir third.d -- bash -c 'echo "KIND=ready MESSAGE=third" >"$PIKA_LIFECYCLE_FIFO"'; third=$?
		PIKA_LIFECYCLE_FIFO= printf 'KIND=ready MESSAGE=%q\n' "$same $other $second $third $(echo fi*) $(echo se*)" >fifo`)
	p.exits(exitOK)
	p.hasMessages("125 126 125 0 fifo se*", "bash exited with 0")
	if events := testenv.ReadFile(t, dir+"/third.d/events.jsonl"); !strings.Contains(events, `"message":"third"`) {
		t.Errorf("the run with another FIFO recorded\n%s", events)
	}
}

// Without --fifo, the command does not have the variable, which names the FIFO of another
// stream.
func TestRunFIFO_inherited_variable(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "PIKA_LIFECYCLE_FIFO=/outer") },
		"run", "--", "sh", "-c", `echo "KIND=ready MESSAGE=${PIKA_LIFECYCLE_FIFO-unset}" >&"$PIKA_LIFECYCLE_FD"`)
	p.exits(exitOK)
	p.hasMessages("unset", "sh exited with 0")
}

func TestRunFIFO_empty_path(t *testing.T) {
	p := launch(t, t.TempDir(), nil, "run", "--fifo", "", "--", "true")
	if stderr := p.exits(exitUsage); stderr != "pika-cloud-lifecycle: run: --fifo is empty; expected the path of a FIFO\n" {
		t.Errorf("stderr\n%s", stderr)
	}
	p.absent("status.json")
}

// Readers of the state directory wait for ever if one of its files is a FIFO.
func TestRunFIFO_name_of_a_state_file(t *testing.T) {
	for _, name := range []string{"status.json", "events.jsonl", "events.jsonl.seq", "result.json", "result.json.prev", "rejected.jsonl", "writer.lock"} {
		dir := t.TempDir()
		p := launch(t, dir, nil, "run", "--fifo", dir+"/"+name, "--", "true")
		if stderr := p.exits(exitUsage); !strings.Contains(stderr, "a name of the state files") {
			t.Errorf("stderr\n%s", stderr)
		}
		p.absent(name)
	}
}

// If nothing else has the FIFO open, run ends with the command: it does not wait for the
// half second that a process with the FIFO has.
func TestRunFIFO_ends_with_command(t *testing.T) {
	dir := t.TempDir()
	for range 20 { // this machine may be slow
		start := time.Now()
		launch(t, dir, nil, "run", "--fifo", dir+"/fifo", "--", "true").exits(exitOK)
		if time.Since(start) < drainTime {
			return
		}
	}
	t.Errorf("each run lasts longer than %v", drainTime)
}
