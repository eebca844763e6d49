package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// processLimit is a limit of processes and threads that run and a small command fit.
const processLimit = 40

// limitRounds is how often each test of a limit is repeated.
const limitRounds = 4

// forkAll is a Perl program that forks until it cannot, and then continues with what is
// appended. Its children end when this program and its parent have ended. (A shell tries
// again to fork, or exits. Python may be in a directory that other users cannot enter.)
const forkAll = `
use strict;
my ($run, $job, $n) = (getppid, $$, 0);
open(my $stream, ">>&=3");
while (defined(my $pid = fork)) {
	if ($pid == 0) {
		close($stream) if $stream;
		select(undef, undef, undef, 0.05) while getppid == $run || getppid == $job;
		exit;
	}
	$n++;
}
`

// reportAll prints directives slowly enough for the stream to commit many times, and each
// commit may need another thread.
const reportAll = forkAll + `
for (0..199) {
	syswrite($stream, "KIND=ready MESSAGE=$_\n");
	select(undef, undef, undef, 0.001);
}
print STDERR "forked $n\n";
exit 5;
`

// enterCgroup creates a cgroup with a limit of processes. It returns the start of a
// command line that enters the cgroup and executes the rest of the line.
func enterCgroup(t *testing.T, limit int) []string {
	t.Helper()
	testenv.Root(t)
	parent := "/sys/fs/cgroup/pids" // version 1
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		parent = "/sys/fs/cgroup"
		_ = os.WriteFile(parent+"/cgroup.subtree_control", []byte("+pids"), 0)
	}
	dir, err := os.MkdirTemp(parent, "pika-test")
	if err != nil {
		testenv.Missing(t, "permission to create a pids cgroup; run as root outside a container (%v)", err)
	}
	t.Cleanup(func() {
		waitUntil(t, "the cgroup is empty and removed", func() bool {
			pids, _ := os.ReadFile(dir + "/cgroup.procs")
			for _, pid := range strings.Fields(string(pids)) {
				n, _ := strconv.Atoi(pid)
				_ = unix.Kill(n, unix.SIGKILL)
			}
			return unix.Rmdir(dir) == nil
		})
	})
	if err := os.WriteFile(dir+"/pids.max", []byte(strconv.Itoa(limit)), 0); err != nil {
		testenv.Missing(t, "a pids cgroup; enable the controller (%v)", err)
	}
	return []string{"sh", "-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, dir}
}

// asLimitedUser returns the start of a command line that executes the rest of the line
// with RLIMIT_NPROC, as a user to whom the limit applies. It does not apply to root.
func asLimitedUser(t *testing.T, limit int) []string {
	t.Helper()
	testenv.Tools(t, "prlimit", "setpriv")
	if testenv.IsRoot() {
		const user = "61234" // has no other processes
		t.Cleanup(func() { waitUntil(t, "the processes have ended", func() bool { return !ownsProcess(t, user) }) })
		return []string{"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "prlimit", fmt.Sprintf("--nproc=%d", limit)}
	}
	tasks, err := filepath.Glob("/proc/[0-9]*/task/*")
	testenv.Must(t, err)
	return []string{"prlimit", fmt.Sprintf("--nproc=%d", limit+len(tasks))} // at least as many as this user has
}

// ownsProcess reports whether a user has a process.
func ownsProcess(t *testing.T, user string) bool {
	t.Helper()
	for _, name := range globOf(t, "/proc/[0-9]*") {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && strconv.Itoa(int(st.Uid)) == user {
			return true
		}
	}
	return false
}

// limitedProcess changes a command of launch to run the released program through enter.
// GOGC makes the Go runtime collect garbage all the time, which needs threads.
func limitedProcess(t *testing.T, enter []string) func(*exec.Cmd) {
	t.Helper()
	return func(cmd *exec.Cmd) {
		cmd.Args[0] = testenv.Program(t)
		cmd.Path = testenv.Tool(t, enter[0])
		cmd.Args = append(enter, cmd.Args...)
		cmd.Env = append(cmd.Env, "GOGC=1", "GOMAXPROCS=8")
	}
}

// openDir returns a state directory that every user may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	testenv.Must(t, os.Chmod(dir, 0o777))
	return dir
}

// A command that starts as many processes as it may does not prevent its result.
func TestRun_process_limit(t *testing.T) {
	perl := testenv.Tool(t, "perl")
	for name, limit := range map[string]func(*testing.T, int) []string{"cgroup": enterCgroup, "RLIMIT_NPROC": asLimitedUser} {
		for round := range limitRounds {
			t.Run(fmt.Sprintf("%s/%d", name, round), func(t *testing.T) {
				p := launch(t, openDir(t), limitedProcess(t, limit(t, processLimit)), "run", "--", perl, "-e", reportAll)
				text := p.exits(5)
				p.hasEvents(202)
				_, n, _ := strings.Cut(text, "forked ")
				p.contains("result.json", `"exit_code": 5,`)
				p.contains("result.json", `"left_running":`+strings.TrimSpace(n)+"}")
			})
		}
	}
}

// ingest continues beside a program that starts as many processes as it may.
func TestIngest_process_limit(t *testing.T) {
	perl := testenv.Tool(t, "perl")
	for round := range limitRounds {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			enter := enterCgroup(t, processLimit)
			p := startIn(t, openDir(t), limitedProcess(t, enter))
			p.write("KIND=ready")
			p.ackUpTo(1)
			job := limitedCommand(enter[0], append(enter[1:], perl, "-e", forkAll+`$| = 1; print "\n"; sleep 1000`)...)
			full, err := job.StdoutPipe()
			testenv.Must(t, err)
			testenv.Must(t, job.Start())
			t.Cleanup(func() {
				job.Process.Kill()
				job.Wait()
			})
			_, err = io.ReadFull(full, make([]byte, 1))
			testenv.Must(t, err)
			for line := 2; line <= 200; line++ {
				p.write("KIND=ready")
				p.ackUpTo(line)
			}
			p.in.Close()
			p.exits(exitOK)
			p.hasEvents(200)
		})
	}
}

// If the limit of processes is reached before the command starts, the message names it.
func TestRun_process_limit_before_start(t *testing.T) {
	c := &command{argv: []string{"true"}, path: os.Getenv("PATH")}
	err := c.explainStart(syscall.EAGAIN)
	if !strings.Contains(err.what, "the limit of processes is reached") || err.code != exitNotStarted {
		t.Errorf("%+v", err)
	}
}

// startThreads starts threads, and starts none if there are enough.
func TestStartThreads(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	startThreads()
	count := func() int {
		names, err := readNames("/proc/self/task")
		testenv.Must(t, err)
		return len(names)
	}
	before := count()
	if before < spareThreads+1 {
		t.Errorf("%d threads", before)
	}
	block := make(chan struct{})
	after := 0
	for range 3 { // the Go runtime may start one for itself, once
		before = count()
		for range spareThreads - maxProcs {
			go func() {
				time := unix.NsecToTimespec(int64(50 * time.Millisecond))
				_ = unix.Nanosleep(&time, nil)
				block <- struct{}{}
			}()
		}
		for range spareThreads - maxProcs {
			<-block
		}
		after = count()
		if after <= before {
			return
		}
	}
	t.Errorf("%d threads, %d at first", after, before)
}
