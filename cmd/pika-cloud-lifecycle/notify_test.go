package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A notifySocket is the socket of a fake service manager.
type notifySocket struct {
	path string

	mu       sync.Mutex
	received []string
}

func newNotifySocket(t *testing.T) *notifySocket {
	t.Helper()
	s := &notifySocket{path: testenv.PlainDir(t) + "/notify"}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	testenv.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf, rights := make([]byte, 8192), make([]byte, 128)
		for {
			n, nRights, _, _, err := conn.ReadMsgUnix(buf, rights)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.received = append(s.received, string(buf[:n]))
			s.mu.Unlock()
			messages, _ := unix.ParseSocketControlMessage(rights[:nRights])
			for i := range messages { // of BARRIER=1
				fds, _ := unix.ParseUnixRights(&messages[i])
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
	}()
	return s
}

// count returns how many datagrams are equal to text.
func (s *notifySocket) count(text string) (n int) {
	for _, got := range s.all() {
		if got == text {
			n++
		}
	}
	return n
}

func (s *notifySocket) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// launchUnit starts run as systemd starts the main process of a unit that has a
// socket and a watchdog. script is the command of run.
func (s *notifySocket) launchUnit(t *testing.T, watchdog time.Duration, notify, script string) *process {
	t.Helper()
	return launch(t, t.TempDir(), func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `export WATCHDOG_PID=$$ LISTEN_PID=$$; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = testenv.Tool(t, "sh")
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()),
			"LISTEN_FDS=1", "LISTEN_FDNAMES=web", "LISTEN_PIDFDID=1")
	}, "run", "--notify", notify, "--", "sh", "-c", script)
}

// TestNotify_rows tests each row of the table in docs/notify.md. TestSystemd_notify tests
// them with a real systemd and a fake Incus host.
func TestNotify_rows(t *testing.T) {
	for _, row := range []struct {
		notify  string
		systemd bool // run notifies systemd; otherwise the command does
	}{
		{"auto", true},
		{"never", false},
		{"systemd", true},
		{"incus", false},
		{"systemd,incus", true},
	} {
		t.Run(row.notify, func(t *testing.T) {
			t.Parallel()
			s := newNotifySocket(t)
			env := t.TempDir() + "/env"
			p := s.launchUnit(t, time.Minute, row.notify, `env >`+env+`; echo STATE=ready >&$PIKA_LIFECYCLE_FD`)
			p.exits(0)
			var variables []string
			for _, line := range linesOf(testenv.ReadFile(t, env)) {
				name, _, _ := strings.Cut(line, "=")
				if name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "WATCHDOG_") || strings.HasPrefix(name, "LISTEN_") {
					variables = append(variables, line)
				}
			}
			slices.Sort(variables)
			got := s.all()
			if !row.systemd {
				if want := []string{"NOTIFY_SOCKET=" + s.path, "WATCHDOG_USEC=60000000"}; !slices.Equal(variables, want) {
					t.Errorf("the command sees %q, want %q", variables, want)
				}
				if len(got) > 0 {
					t.Errorf("run sends %q", got)
				}
				return
			}
			if len(variables) > 0 {
				t.Errorf("the command sees %q", variables)
			}
			text := strings.Join(got, "\n") + "\n"
			for _, want := range []string{"WATCHDOG=1\n", "STATUS=", "\nREADY=1\n", "\nSTATUS=completed: sh exited with 0\nSTOPPING=1\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("run sends %q, without %q", got, want)
				}
			}
			if len(got) == 0 || got[len(got)-1] != "BARRIER=1" {
				t.Errorf("run sends %q; want BARRIER=1 last", got)
			}
		})
	}
}

// A watchdog that is for another process is not for run, and not for the command.
func TestNotify_watchdog_of_other_process(t *testing.T) {
	s := newNotifySocket(t)
	other := strconv.Itoa(os.Getpid())
	for notify, want := range map[string]string{"never": other, "auto": ""} {
		p := launch(t, t.TempDir(), func(cmd *exec.Cmd) {
			cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=60000000", "WATCHDOG_PID="+other)
		}, "run", "--notify", notify, "--", "sh", "-c", `test "$WATCHDOG_PID" = "`+want+`"`)
		p.exits(0)
	}
	if n := s.count("WATCHDOG=1"); n > 0 {
		t.Errorf("run sends WATCHDOG=1 %d times", n)
	}
}

// If $NOTIFY_SOCKET cannot be used, run warns and leaves it to the command.
func TestNotify_unusable_socket(t *testing.T) {
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=vsock:2:1234") },
		"run", "--", "sh", "-c", `test "$NOTIFY_SOCKET" = vsock:2:1234`)
	if text := p.exits(0); !strings.Contains(text, `run: $NOTIFY_SOCKET is "vsock:2:1234", so systemd is not notified`) {
		t.Errorf("stderr is %q", text)
	}
}

// If $WATCHDOG_USEC is invalid, run warns, and otherwise works as usual.
func TestNotify_invalid_watchdog(t *testing.T) {
	s := newNotifySocket(t)
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=1s") },
		"run", "--", "true")
	if text := p.exits(0); !strings.Contains(text, `run: the watchdog is not notified: $WATCHDOG_USEC is "1s"; expected microseconds, from 1 to 9007199254740991`) {
		t.Errorf("stderr is %q", text)
	}
	if s.count("BARRIER=1") != 1 || s.count("WATCHDOG=1") != 0 {
		t.Errorf("run sends %q", s.all())
	}
}

// run and ingest send WATCHDOG=1 again and again.
func TestNotify_watchdog(t *testing.T) {
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		s := newNotifySocket(t)
		end := t.TempDir() + "/end"
		p := s.launchUnit(t, 20*time.Millisecond, "auto", `until [ -e `+end+` ]; do sleep 0.02; done`)
		waitUntil(t, "20 datagrams", func() bool { return s.count("WATCHDOG=1") >= 20 })
		testenv.Must(t, os.WriteFile(end, nil, 0o600))
		p.exits(0)
	})
	t.Run("ingest", func(t *testing.T) {
		t.Parallel()
		s := newNotifySocket(t)
		p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) {
			cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=20000")
		})
		waitUntil(t, "20 datagrams", func() bool { return s.count("WATCHDOG=1") >= 20 })
		p.in.Close()
		p.exits(0)
	})
}

// ingest notifies systemd for the same values of --notify as run.
func TestNotify_ingest(t *testing.T) {
	for notify, sends := range map[string]bool{"auto": true, "never": false, "systemd": true, "incus": false, "systemd,incus": true} {
		t.Run(notify, func(t *testing.T) {
			t.Parallel()
			s := newNotifySocket(t)
			p := startIn(t, t.TempDir(), func(cmd *exec.Cmd) {
				cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=60000000")
			}, "--notify", notify)
			p.write("STATE=ready")
			p.in.Close()
			p.exits(0)
			want := []string{"WATCHDOG=1", "STATUS=ready: ready\nREADY=1", "BARRIER=1"}
			if !sends {
				want = nil
			}
			if got := s.all(); !slices.Equal(got, want) {
				t.Errorf("ingest sends %q, want %q", got, want)
			}
		})
	}
}

// Nothing reads the socket. run waits for 2 s, warns, and exits with the exit code of the
// command.
func TestNotify_socket_not_read(t *testing.T) {
	path := testenv.PlainDir(t) + "/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	testenv.Must(t, err)
	defer conn.Close()
	p := launch(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path) },
		"run", "--", "sh", "-c", "exit 3")
	const want = "systemd did not accept the last notification within 2s; the files are not affected\n"
	if text := p.exits(3); !strings.Contains(text, want) {
		t.Errorf("stderr is %q, without %q", text, want)
	}
}

// systemd passes a socket to run. The command gets it with the line that docs/notify.md
// shows.
func TestNotify_socket_for_command(t *testing.T) {
	testenv.Tool(t, "systemd-socket-activate")
	python := testenv.Python(t)
	path := testenv.PlainDir(t) + "/socket"
	const check = `
import ctypes, os, socket
systemd = ctypes.CDLL("libsystemd.so.0")
print(systemd.sd_listen_fds(0), os.environ.get("LISTEN_FDNAMES"), os.environ["PIKA_LIFECYCLE_FD"], socket.socket(fileno=3).getsockname(), flush=True)`
	cmd := limitedCommand("systemd-socket-activate", "--listen="+path, testenv.Program(t), "run", "--state-dir", t.TempDir(), "--",
		"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", python, "-c", check)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	testenv.Must(t, cmd.Start())
	waitUntil(t, "the socket", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err == nil
	})
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, problems.String())
	}
	if want := "1 None 4 " + path + "\n"; out.String() != want {
		t.Errorf("the command prints %q, want %q", out.String(), want)
	}
}

// A real systemd starts the units in testdata/boot/notify.
func TestSystemd_notify(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "python3") // of the container
	lab := boot(t, "notify")
	requests := lab.read(t, "requests")
	for _, row := range []struct{ notify, status, variables, incus string }{
		{"auto", "ready: ready", "", "Ready Started"},
		{"never", "from the command", "NOTIFY_SOCKET WATCHDOG_USEC", ""},
		{"systemd", "ready: ready", "", ""},
		{"incus", "from the command", "NOTIFY_SOCKET WATCHDOG_USEC", "Ready Started"},
		{"systemd,incus", "ready: ready", "", "Ready Started"},
	} {
		t.Run(row.notify, func(t *testing.T) {
			lab.checkOut(t, "row_"+row.notify, "active "+row.status)
			if got := strings.Join(strings.Fields(lab.read(t, "row-"+row.notify)), " "); got != row.variables {
				t.Errorf("the command sees the variables %q, want %q", got, row.variables)
			}
			before, after, ok := strings.Cut(requests, row.notify+"\n")
			requests = after
			got := strings.Join(strings.Fields(strings.NewReplacer("PATCH /1.0", "", `{"state":"`, "", `"}`, "").Replace(before)), " ")
			if !ok || !strings.HasSuffix(got, row.incus) || (row.incus == "" && got != "") {
				t.Errorf("the host receives %q, want %q", got, row.incus)
			}
		})
	}
	t.Run("sender exits", func(t *testing.T) { lab.checkOut(t, "quick", "20") })
	t.Run("watchdog", func(t *testing.T) {
		lab.checkOut(t, "alive", "success")
		lab.checkOut(t, "hung", "watchdog")
	})
	t.Run("watchdog of the command", func(t *testing.T) {
		lab.checkOut(t, "own@4", "success")
		lab.checkOut(t, "own@0", "watchdog")
		lab.checkOut(t, "ready", "ready: from the command")
		lab.checkOut(t, "ready@4.0", "success")
		lab.checkOut(t, "ready@0.0", "watchdog")
		for _, name := range []string{"own-4", "own-0", "own-4.0", "own-0.0"} {
			if got, want := lab.read(t, name), "1 1000000\n"; got != want {
				t.Errorf("sd_watchdog_enabled returns %q, want %q", got, want)
			}
		}
	})
}
