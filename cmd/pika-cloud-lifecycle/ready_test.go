package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/ingest"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// notifier is a Python program: it defines send(text, *fds), which sends a datagram to
// $NOTIFY_SOCKET, and continues with the code of its first argument.
const notifier = `
import array, os, random, socket, sys, time
name = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def send(text, *fds):
    s.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [], 0, name)
def barrier():
    r, w = os.pipe()
    send("BARRIER=1", w)
    os.close(w)
    os.read(r, 1)
exec(sys.argv[1])
`

// launchReady starts the released program, so with the real clock, as run --ready HOW.
func launchReady(t *testing.T, how string, change func(*exec.Cmd), flags []string, command ...string) *process {
	t.Helper()
	return launch(t, t.TempDir(), func(cmd *exec.Cmd) {
		cmd.Path = testenv.Program(t)
		if change != nil {
			change(cmd)
		}
	}, slices.Concat([]string{"run", "--ready", how}, flags, []string{"--"}, command)...)
}

// python returns the command line that continues notifier with code.
func python(t *testing.T, code string) []string {
	return []string{testenv.Python(t), "-c", notifier, code}
}

var uptime = regexp.MustCompile(`"kind":"ready".*"uptime_ms":(\d+)`)

// Ready is never recorded before the daemon reports it, and always before its result.
func TestReady_never_early(t *testing.T) {
	starts := 20
	if fullLoad() {
		starts = 500
	}
	for _, how := range []string{"notify", "fd:5"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			code := `
time.sleep(random.random() / 20)
sys.stdout.write(str(int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)))
sys.stdout.flush()
`
			if how == "notify" {
				code += `send("READY=1")`
			} else {
				code += `os.write(5, b"up\n")`
			}
			for range starts / 2 {
				out := t.TempDir() + "/out"
				p := launchReady(t, how, func(cmd *exec.Cmd) {
					f, err := os.Create(out)
					testenv.Must(t, err)
					t.Cleanup(func() { f.Close() })
					cmd.Stdout = f
				}, nil, python(t, code)...)
				p.exits(0)
				p.hasEvents(3)
				match := uptime.FindStringSubmatch(p.file("events.jsonl"))
				if match == nil {
					t.Fatalf("no ready in %s", p.file("events.jsonl"))
				}
				ready, err := strconv.Atoi(match[1])
				testenv.Must(t, err)
				sent, err := strconv.Atoi(testenv.ReadFile(t, out))
				testenv.Must(t, err)
				if ready < sent {
					t.Fatalf("ready is recorded at %d ms, and was sent at %d ms", ready, sent)
				}
			}
		})
	}
}

// When systemd-notify returns, ready is in the log.
func TestReady_barrier(t *testing.T) {
	testenv.Tools(t, "bash", "systemd-notify")
	p := launchReady(t, "notify", nil, nil, "bash", "-c", `
cd "$PIKA_LIFECYCLE_DIR"
for i in {1..100}; do
	systemd-notify --ready --status="start $i" || exit 8
	[[ $(tail -n 1 events.jsonl) == *'"kind":"ready"'*"\"start $i\""* ]] || { tail events.jsonl; exit 9; }
	echo "STATE=starting MESSAGE=$i" >&$PIKA_LIFECYCLE_FD
	until [[ $(<status.json) == *'"state": "starting"'*"\"$i\""* ]]; do :; done
done`)
	p.exits(0)
	p.hasEvents(202)
}

// A status is a new message of the current state.
func TestReady_status(t *testing.T) {
	p := launchReady(t, "notify", nil, nil, python(t, `
send("STATUS=loading")
barrier()
print(open(os.environ["PIKA_LIFECYCLE_DIR"] + "/status.json").read(), file=sys.stderr)
send("READY=1\nSTATUS=up")
send("STATUS=\xff 7 requests")
barrier()
print(open(os.environ["PIKA_LIFECYCLE_DIR"] + "/status.json").read(), file=sys.stderr)
`)...)
	text := p.exits(0)
	for _, want := range []string{`"message": "loading"`, `"argv":[`, `"seq": 1`, `"message": "ÿ 7 requests"`, `"seq": 2`} {
		if !strings.Contains(text, want) {
			t.Errorf("the statuses are %s; want %s", text, want)
		}
	}
	p.hasEvents(3)
	p.contains("events.jsonl", `"message":"up"`)
}

// Only the notifications of descendants count: of the command, of its children, and of a
// daemon whose parent has ended. A sender that was reaped is judged by its user.
func TestReady_sender(t *testing.T) {
	perl := testenv.Tool(t, "perl")      // Python may be in a directory that other users cannot enter
	other := func(t *testing.T) string { // the start of a command line of another user
		testenv.Root(t)
		testenv.Tool(t, "setpriv")
		return "setpriv --reuid=61234 --regid=61234 --clear-groups "
	}
	for _, c := range []struct {
		name, script string // P sends READY=1, Q sends it as another user; run is stopped until the script has printed go
		ready        bool
		otherUser    bool
	}{
		{"child", `$P; echo go; sleep 0.3`, true, false},
		{"child, reaped", `$P; echo go; exec sleep 0.3`, true, false},
		{"the command", `echo go; exec $P`, true, false},
		{"orphan", `setsid sh -c "$P & exit" >/dev/null; sleep 0.2; echo go; sleep 0.3`, true, false},
		{"child of another user", `$Q sleep & until [ -e sent ]; do sleep 0.01; done; echo go; wait`, true, true},
		{"child of another user, reaped", `$Q; echo go; sleep 0.3`, false, true},
		{"orphan of another user, not reaped", `(setsid $Q &); until [ -e sent ]; do sleep 0.01; done; sleep 0.2; echo go; exec sleep 0.3`, true, true},
		{"the command of another user, not reaped", `exec $Q go`, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testenv.Tools(t, "sh", "setsid")
			dir := testenv.TempDir(t)
			testenv.OpenToAll(t, dir)
			testenv.Must(t, os.Chmod(dir, 0o777))
			code := `
use Socket;
socket(S, AF_UNIX, SOCK_DGRAM, 0);
send(S, "READY=1", 0, pack("S a*", AF_UNIX, "\0" . substr($ENV{NOTIFY_SOCKET}, 1))) or die $!;
open(F, ">sent") or die $!;
sleep 1 if $ARGV[0] eq "sleep";
syswrite(STDOUT, "go\n") if $ARGV[0] eq "go";
`
			testenv.Must(t, os.WriteFile(dir+"/send.pl", []byte(code), 0o644))
			send := perl + " send.pl"
			q := send
			if c.otherUser {
				q = other(t) + send
			}
			out, outEnd, err := os.Pipe()
			testenv.Must(t, err)
			defer out.Close()
			p := launchReady(t, "notify", func(cmd *exec.Cmd) {
				cmd.Dir, cmd.Stdout = dir, outEnd
				cmd.Env = append(cmd.Env, "P="+send, "Q="+q)
			}, nil, "sh", "-c", "echo up; until [ -e begin ]; do sleep 0.01; done; "+c.script)
			outEnd.Close()
			_, err = out.Read(make([]byte, 3))
			testenv.Must(t, err)
			command := p.commandPID()
			p.signal(syscall.SIGSTOP) // datagrams wait in the socket
			testenv.Must(t, os.WriteFile(dir+"/begin", nil, 0o600))
			_, err = out.Read(make([]byte, 3))
			testenv.Must(t, err)
			if strings.HasPrefix(c.name, "the command") {
				waitUntil(t, "the command has ended", func() bool { return isZombie(command) })
			}
			p.signal(syscall.SIGCONT)
			p.exits(0)
			if ready := strings.Contains(p.file("events.jsonl"), `"kind":"ready"`); ready != c.ready {
				t.Errorf("ready is %v, want %v", ready, c.ready)
			}
		})
	}
}

// A process that run has not started cannot notify, even as root.
func TestReady_stranger(t *testing.T) {
	testenv.Tool(t, "sh")
	dir := t.TempDir()
	p := launchReady(t, "notify", nil, nil, "sh", "-c", `echo "$NOTIFY_SOCKET" >"$0/name"; until [ -e "$0/end" ]; do sleep 0.02; done`, dir)
	var name string
	waitUntil(t, "the name of the socket", func() bool {
		name = strings.TrimSpace(testenv.ReadIfExists(t, dir+"/name"))
		return name != ""
	})
	if !regexp.MustCompile(`^@[0-9a-f]{5}$`).MatchString(name) {
		t.Errorf("the socket is %q, want an abstract name", name)
	}
	conn, err := net.Dial("unixgram", name)
	testenv.Must(t, err)
	_, err = conn.Write([]byte("READY=1\nSTATUS=forged"))
	testenv.Must(t, err, conn.Close())
	time.Sleep(50 * time.Millisecond)
	testenv.Must(t, os.WriteFile(dir+"/end", nil, 0o600))
	p.exits(0)
	p.hasEvents(2)
}

// The command sees only the socket of run. With a watchdog, it notifies it while it runs;
// run does so only before that.
func TestReady_variables(t *testing.T) {
	for notify, want := range map[string]string{
		"systemd": "NOTIFY_SOCKET=@ WATCHDOG_USEC=60000000",
		"auto":    "NOTIFY_SOCKET=@ WATCHDOG_USEC=60000000",
		"never":   "NOTIFY_SOCKET=@",
		"incus":   "NOTIFY_SOCKET=@",
	} {
		t.Run(notify, func(t *testing.T) {
			t.Parallel()
			testenv.Tool(t, "sh")
			s := newNotifySocket(t)
			env := t.TempDir() + "/env"
			p := launch(t, t.TempDir(), func(cmd *exec.Cmd) {
				cmd.Args = append([]string{"sh", "-c", `export WATCHDOG_PID=$$; exec "$0" "$@"`, testenv.Program(t)}, cmd.Args[1:]...)
				cmd.Path = testenv.Tool(t, "sh")
				cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=60000000")
			}, "run", "--notify", notify, "--ready", "notify", "--", "sh", "-c", "env >"+env)
			p.exits(0)
			var got []string
			for _, line := range linesOf(testenv.ReadFile(t, env)) {
				if name, _, _ := strings.Cut(line, "="); name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "WATCHDOG_") {
					got = append(got, regexp.MustCompile("@.*").ReplaceAllString(line, "@"))
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, " "); text != want {
				t.Errorf("the command sees %s, want %s", text, want)
			}
			if n := s.count("WATCHDOG=1"); n > 1 || (n == 1 && !strings.Contains(want, "WATCHDOG")) {
				t.Errorf("run sends %q", s.all())
			}
		})
	}
}

// What only systemd can use is forwarded to it. A status in a reload does not end it.
func TestReady_forwarded(t *testing.T) {
	s := newNotifySocket(t)
	p := s.launchReadyUnit(t, `
def until(count):
    while not os.path.exists("%s/" + str(count)): time.sleep(0.01)
send("EXTEND_TIMEOUT_USEC=5000000\nX=1")
send("RELOADING=1\nMONOTONIC_USEC=1")
send("STATUS=loading")
send("WATCHDOG=1")
barrier()
send("READY=1\nMAINPID=1\nWATCHDOG_USEC=1")
until(1)
send("RELOADING=1\nMONOTONIC_USEC=77")
send("STATUS=reading the configuration")
until(2)
send("READY=1")
send("STATUS=idle")
send("STOPPING=1")
until(3)
`)
	end := func(n int) { testenv.Must(t, os.WriteFile(fmt.Sprintf("%s/%d", p.dir, n), nil, 0o600)) }
	waitUntil(t, "ready", func() bool { return s.count("STATUS=ready: ready\nREADY=1") == 1 })
	end(1)
	waitUntil(t, "a status in the reload", func() bool { return s.count("STATUS=ready: reading the configuration") == 1 })
	end(2)
	waitUntil(t, "a status after the reload", func() bool { return s.count("STATUS=ready: idle\nREADY=1") == 1 })
	end(3)
	p.exits(0)
	completed := "STATUS=completed: " + filepath.Base(testenv.Python(t)) + " exited with 0"
	var got []string
	for _, text := range s.all() {
		if !strings.HasPrefix(text, "STATUS=starting") && text != completed { // some come only if there is time
			got = append(got, text)
		}
	}
	want := []string{"EXTEND_TIMEOUT_USEC=5000000", "WATCHDOG=1", "STATUS=ready: ready\nREADY=1", "RELOADING=1\nMONOTONIC_USEC=77",
		"STATUS=ready: reading the configuration", "READY=1", "STATUS=ready: idle\nREADY=1",
		completed + "\nSTOPPING=1", "BARRIER=1"}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("systemd receives %q\nwant %q", got, want)
	}
}

// Without a valid watchdog, the rest is forwarded too.
func TestReady_forwarded_invalid_watchdog(t *testing.T) {
	s := newNotifySocket(t)
	t.Setenv("WATCHDOG_USEC", "soon")
	p := s.launchReadyUnit(t, `send("EXTEND_TIMEOUT_USEC=5000000")`)
	if text := p.exits(0); !strings.Contains(text, "the watchdog is not notified") {
		t.Errorf("stderr is %q", text)
	}
	if s.count("EXTEND_TIMEOUT_USEC=5000000") != 1 {
		t.Errorf("systemd receives %q", s.all())
	}
}

// The command notifies the watchdog only while it runs. After that, run does, until the
// result is on disk.
func TestReady_watchdog_after_command(t *testing.T) {
	s := newNotifySocket(t)
	t.Setenv("WATCHDOG_USEC", "400000")
	p := s.launchReadyUnit(t, `
send("READY=1")
while not os.path.exists("%s/end"): time.sleep(0.01)
`)
	waitUntil(t, "ready", func() bool { return s.count("STATUS=ready: ready\nREADY=1") == 1 })
	before := s.count("WATCHDOG=1")
	time.Sleep(time.Second) // the test cannot fail because of it
	if n := s.count("WATCHDOG=1"); n != before {
		t.Errorf("run sends WATCHDOG=1 %d times while the command runs", n-before)
	}
	lock, err := os.OpenFile(filepath.Join(p.dir, "events.jsonl.seq"), os.O_RDWR, 0)
	testenv.Must(t, err, unix.Flock(int(lock.Fd()), unix.LOCK_EX), os.WriteFile(filepath.Join(p.dir, "end"), nil, 0o600))
	waitUntil(t, "WATCHDOG=1 of run", func() bool { return s.count("WATCHDOG=1") >= before+3 })
	testenv.Must(t, lock.Close())
	p.exits(0)
}

// The watchdog is left to the command only if the command has its interval. Otherwise nobody
// would notify it.
func TestReady_watchdog_without_command(t *testing.T) {
	for usec, want := range map[string]bool{"": true, "60000000": false} {
		reports, err := ingest.NewReports()
		testenv.Must(t, err)
		called := false
		stream := &ingest.Stream{Reports: reports, Watchdog: ingest.Watchdog{Interval: time.Second, Alive: func() bool { called = true; return true }}}
		s := &supervisor{command: new(command)}
		s.runs.Store(true)
		testenv.Must(t, s.expectNotify(stream, &notifiers{watchdogUsec: usec}))
		if stream.Watchdog.Alive(); called != want {
			t.Errorf("with %q the stream notifies the watchdog: %v, want %v", usec, called, want)
		}
	}
}

// launchReadyUnit starts run --ready notify in a unit with this socket. %s in the code is the
// state directory.
func (s *notifySocket) launchReadyUnit(t *testing.T, code string) *process {
	t.Helper()
	dir := t.TempDir()
	return launch(t, dir, func(cmd *exec.Cmd) {
		cmd.Path = testenv.Program(t)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path)
	}, append([]string{"run", "--notify", "systemd", "--ready", "notify", "--"}, python(t, strings.ReplaceAll(code, "%s", dir))...)...)
}

// A child that floods the socket delays neither lines nor the result, and run needs little
// memory and few descriptors.
func TestReady_flood(t *testing.T) {
	testenv.Tools(t, "bash")
	flood := `
r, w = os.pipe()
while True:
    for text in "STATUS=" + "x" * 4000 + str(time.time()), "READY=1", "READY=1\nSTATUS=y" + str(time.time()), "x" * 9000, "\0":
        send(text)
    send("BARRIER=1", w)
    send("FDSTORE=1", w, w, w)
`
	p := launchReady(t, "notify", nil, nil, append([]string{"bash", "-c", `
"$@" & "$@" & flood=$!
cd "$PIKA_LIFECYCLE_DIR"
until [[ $(<events.jsonl) == *'"ready"'* ]]; do :; done
for i in {1..20}; do
	echo "KIND=ready MESSAGE='line $i'" >&$PIKA_LIFECYCLE_FD
	until [[ $(<events.jsonl) == *"\"line $i\""* ]]; do :; done
done
grep VmHWM /proc/$PPID/status >&2
ls /proc/$PPID/fd | wc -l >&2
kill %1 %2
exit 7`, "bash"}, python(t, flood)...)...)
	text := p.exits(7)
	p.hasEvents(23)
	match := regexp.MustCompile(`VmHWM:\s*(\d+) kB\n(\d+)\n`).FindStringSubmatch(text)
	if match == nil {
		t.Fatal(text)
	}
	memory, _ := strconv.Atoi(match[1])
	descriptors, _ := strconv.Atoi(match[2])
	if memory > 32<<10 || descriptors > 50 {
		t.Errorf("run has %d KiB and %d descriptors", memory, descriptors)
	}
}

// A command that ends, or is ended, before it is ready has its usual result.
func TestReady_never(t *testing.T) {
	testenv.Tools(t, "sh", "sleep")
	for _, how := range []string{"notify", "fd:3"} {
		p := launchReady(t, how, nil, nil, "sh", "-c", "exit 3")
		p.exits(3)
		p.hasEvents(2)
		p = launchReady(t, how, nil, []string{"--timeout", "100ms"}, "sleep", "1000")
		p.exits(exitTimeout)
		p.hasEvents(2)
		p.contains("result.json", `"reason":"timeout"`)
	}
}

// The first line on the descriptor means ready. The descriptor is not that of the stream,
// and replaces an inherited one. The command has no other descriptors of run.
func TestReady_line(t *testing.T) {
	testenv.Tools(t, "bash", "ls")
	for _, c := range []struct {
		name           string
		how, inherited string // descriptors that run has inherited
		stream         int    // the descriptor of the stream
		descriptors    string // of the command; ls opens one more, the first that is free
	}{
		{"first", "fd:3", "", 4, "0 1 2 3 4 5"},
		{"second", "fd:4", "", 3, "0 1 2 3 4 5"},
		{"higher", "fd:7", "", 3, "0 1 2 3 4 7"},
		{"not for a shell", "fd:200", "", 3, "0 1 2 200 3 4"},
		{"inherited", "fd:3", "3 5", 4, "0 1 2 3 4 5 6"},
		{"inherited, higher", "fd:6", "3 4 6 8", 5, "0 1 2 3 4 5 6 7 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := t.TempDir() + "/inherited"
			script := `cd "$PIKA_LIFECYCLE_DIR"
echo "address $0" >/dev/fd/$0
yes 2>/dev/null | head -c 1000000 >/dev/fd/$0
until [[ $(<status.json) == *'"message": "ready: address '$0'"'* ]]; do :; done
echo STATE=ready MESSAGE=again >&$PIKA_LIFECYCLE_FD`
			list := `echo $PIKA_LIFECYCLE_FD >&2; exec ls -1 /proc/self/fd >&2`
			redirections := ""
			for _, fd := range strings.Fields(c.inherited) {
				redirections += fd + ">>" + file + " "
			}
			fd := strings.TrimPrefix(c.how, "fd:")
			inherit := func(cmd *exec.Cmd) {
				cmd.Args = append([]string{"bash", "-c", `
for fd in /proc/$$/fd/*; do
	fd=${fd##*/}
	((fd < 3)) || eval "exec $fd>&-"
done
exec ` + redirections + `; exec "$0" "$@"`, testenv.Program(t)}, cmd.Args[1:]...)
				cmd.Path = testenv.Tool(t, "bash")
			}
			p := launch(t, t.TempDir(), inherit, "run", "--ready", c.how, "--", "sh", "-c", list)
			text := p.exits(0)
			text = strings.Join(strings.Fields(text[:max(0, strings.Index(text, "pika-cloud"))]), " ")
			if want := fmt.Sprintf("%d %s", c.stream, c.descriptors); text != want {
				t.Errorf("the descriptors are %q, want %q", text, want)
			}
			p = launch(t, t.TempDir(), inherit, "run", "--ready", c.how, "--", "bash", "-c", script, fd)
			p.exits(0)
			p.hasEvents(4)
			if got := testenv.ReadIfExists(t, file); got != "" {
				t.Errorf("the inherited descriptor gets %.100q", got)
			}
		})
	}
}

// A line without a newline is not ready.
func TestReady_line_incomplete(t *testing.T) {
	testenv.Tools(t, "bash")
	for script, want := range map[string]string{
		"printf unix:path >&5":           "run: --ready fd:5: the descriptor was closed before the end of the first line, so ready is not recorded; end the line with a newline",
		"exec 5>&-; sleep 0.1":           "run: --ready fd:5: the descriptor was closed before a line was written, so ready is not recorded; check that the command writes to it",
		"head -c 3000000 /dev/zero >&5":  "before the end of the first line",
		"echo >&5; exec 5>&-; sleep 0.1": "",
	} {
		p := launchReady(t, "fd:5", nil, nil, "bash", "-c", script)
		if text := p.exits(0); !strings.Contains(text, want) || (want == "") != (text == "") {
			t.Errorf("%s: stderr is %q, want %q", script, text, want)
		}
		events := 2
		if want == "" {
			events = 3
		}
		p.hasEvents(events)
	}
}

// A command that ends without a report, and a daemon whose first process exits, are usually
// started in the wrong way.
func TestReady_ended(t *testing.T) {
	testenv.Tools(t, "bash", "setsid")
	const leave = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >&2; "
	const foreground = "it has left processes running: start the daemon in the foreground\n"
	for _, c := range []struct{ how, script, want string }{
		{"notify", "exit 0", "run: --ready notify: bash has ended without READY=1; check that it supports systemd (Type=notify)\n"},
		{"notify", "exit 3", ""}, // its failure is the cause
		{"notify", leave, "run: --ready notify: bash has ended without READY=1; " + foreground},
		{"fd:5", leave, "run: --ready fd:5: bash has ended without a line on this descriptor; " + foreground},
		{"fd:5", leave + "echo >&5", "run: --ready fd:5: bash has ended; " + foreground},
		{"fd:5", "echo >&5", ""},
	} {
		p := launchReady(t, c.how, nil, nil, "bash", "-c", c.script)
		code := 0
		if c.script == "exit 3" {
			code = 3
		}
		text := p.exits(code)
		pid, warnings, _ := strings.Cut(text, "pika-cloud-lifecycle: ")
		if pid, err := strconv.Atoi(strings.TrimSpace(pid)); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if !strings.Contains(warnings, c.want) || (c.want == "") != (warnings == "") || strings.Contains(warnings, "pika-cloud") {
			t.Errorf("%s, %s: stderr is %q, want %q", c.how, c.script, text, c.want)
		}
	}
}

// A line of a command that ends at once is ready, too.
func TestReady_line_at_the_end(t *testing.T) {
	testenv.Tools(t, "bash")
	for range 10 {
		p := launchReady(t, "fd:5", nil, nil, "bash", "-c", "echo x >&5")
		p.exits(0)
		p.hasEvents(3)
	}
}

// Wrong values of --ready are usage errors, and the command is not started.
func TestReady_usage(t *testing.T) {
	last := lastReadyFD()
	for value, want := range map[string]string{
		"":                         `expected notify, or fd:N with a descriptor from 3 to %d`,
		"yes":                      `expected notify, or fd:N with a descriptor from 3 to %d`,
		"notify,fd:3":              `expected notify, or fd:N with a descriptor from 3 to %d`,
		"fd":                       `expected notify, or fd:N with a descriptor from 3 to %d`,
		"fd:":                      `expected fd:N with a descriptor from 3 to %d`,
		"fd:x":                     `expected fd:N with a descriptor from 3 to %d`,
		"fd:1":                     `expected fd:N with a descriptor from 3 to %d`,
		"fd:-1":                    `expected fd:N with a descriptor from 3 to %d`,
		"fd:1024":                  `expected fd:N with a descriptor from 3 to %d`,
		"fd:99999":                 `expected fd:N with a descriptor from 3 to %d`,
		"fd:123456789012345678901": `expected fd:N with a descriptor from 3 to %d`,
	} {
		p := launch(t, t.TempDir(), nil, "run", "--ready", value, "--", "false")
		text := p.exits(2)
		if want := fmt.Sprintf("--ready is %q; "+want, value, last); !strings.Contains(text, want) {
			t.Errorf("%q: stderr is %q, want %q", value, text, want)
		}
		p.absent("status.json")
	}
}

// A recordingReceiver records the state of a process when Drain is called.
type recordingReceiver struct {
	pid  int
	seen []bool // the process was a zombie
}

func (r *recordingReceiver) Receive()        {}
func (r *recordingReceiver) Drain()          { r.seen = append(r.seen, isZombie(r.pid)) }
func (r *recordingReceiver) IsPending() bool { return false }

// What a child has sent is handled before the child is reaped, and so while /proc shows
// whose child it was.
func TestReady_drain_before_reaping(t *testing.T) {
	if !testenv.Alone(t) { // reapOrphans reaps every child of this process
		return
	}
	testenv.Tool(t, "true")
	for name, reap := range map[string]func(c *command){
		"orphan": func(c *command) { c.reapOrphans() },
		"the command": func(c *command) {
			c.terminal, c.pid = -1, c.ready.(*recordingReceiver).pid
			c.reap(new(exit), time.Time{})
		},
	} {
		cmd := exec.Command("true")
		testenv.Must(t, cmd.Start())
		r := &recordingReceiver{pid: cmd.Process.Pid}
		waitUntil(t, "the child has ended", func() bool { return isZombie(r.pid) })
		reap(&command{ready: r})
		if len(r.seen) != 1 || !r.seen[0] || isZombie(r.pid) {
			t.Errorf("%s: Drain sees a zombie: %v; the zombie still exists: %v", name, r.seen, isZombie(r.pid))
		}
	}
}

// Without a descriptor for the socket, run warns and starts the command anyway.
func TestReady_no_socket(t *testing.T) {
	if !testenv.Alone(t) { // it changes a limit
		return
	}
	var warned string
	s := &supervisor{command: new(command), warn: func(line string) { warned = line }}
	var limit unix.Rlimit
	testenv.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	limit.Cur = 3
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	stream := new(ingest.Stream)
	s.expectReady(stream, readyWay{notify: true}, new(notifiers))
	const want = "run: --ready: create an eventfd: too many open files; the command cannot report that it is ready in this way"
	if warned != want || s.ready != nil || stream.Reports != nil {
		t.Errorf("the warning is %q, want %q", warned, want)
	}
}

// Each descriptor that --ready accepts can be used, also at a low limit of open files.
func TestReady_fd_limit(t *testing.T) {
	testenv.Tools(t, "bash")
	for _, limit := range []int{64, maxReadyFD + 1} {
		last := limit - 1 - spareFDs
		for fd, want := range map[int]int{last: exitOK, last + 1: exitUsage} {
			code, stderr := limitedRun(t, fmt.Sprint("ulimit -n ", limit), nil, "run", "--state-dir", t.TempDir(), "--ready", fmt.Sprint("fd:", fd),
				"--tail", "1", "--", "bash", "-c", fmt.Sprintf("echo >&%d", fd))
			if code != want || (want == exitUsage) != strings.Contains(stderr, fmt.Sprintf("expected fd:N with a descriptor from 3 to %d", last)) {
				t.Errorf("fd:%d of %d: exit code %d, want %d, stderr\n%s", fd, limit, code, want, stderr)
			}
		}
	}
}

// Barriers that wait for a commit leave enough descriptors for it.
func TestReady_barriers_few_files(t *testing.T) {
	testenv.Tools(t, "bash")
	dir := t.TempDir()
	args := append([]string{"run", "--state-dir", dir, "--ready", "notify", "--"}, python(t, `
send("STATUS=a")
time.sleep(0.03)
send("STATUS=b") # is committed later, as are the barriers
r, w = os.pipe()
for i in range(30):
    send("BARRIER=1", w)
os.close(w)
os.read(r, 1)
send("READY=1")`)...)
	code, stderr := limitedRun(t, "ulimit -n 31", nil, args...)
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, stderr\n%s", code, stderr)
	}
}

// systemd-notify of root sends with the process ID of its parent, which may be run.
func TestReady_systemd_notify_is_the_command(t *testing.T) {
	testenv.Tools(t, "systemd-notify")
	p := launchReady(t, "notify", nil, nil, "systemd-notify", "--ready")
	p.exits(0)
	p.hasEvents(3)
}
