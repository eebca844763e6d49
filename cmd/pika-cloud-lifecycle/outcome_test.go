package main

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// If a SIGTERM that run has received ended the command, the reason is terminated.
func TestRun_terminated(t *testing.T) {
	testenv.Tool(t, "bash")
	const ready = "echo STATE=ready >&3; "
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal // to run
		direct       syscall.Signal // to the command, before
		code         int
		details      string
	}{
		{"SIGTERM", ready + "exec sleep 1000", unix.SIGTERM, 0, 143, `{"reason":"terminated","signal":"SIGTERM"}`},
		{"SIGTERM to the command", ready + "exec sleep 1000", 0, unix.SIGTERM, 143, `{"signal":"SIGTERM"}`},
		{"SIGTERM to both", ready + "exec sleep 1000", unix.SIGTERM, unix.SIGTERM, 143, `{"reason":"terminated","signal":"SIGTERM"}`},
		{"caught", "trap 'wait; exit 143' TERM; " + ready + "sleep 1000 & wait", unix.SIGTERM, 0, 143, ""},
		{"another signal", ready + "exec sleep 1000", unix.SIGHUP, 0, 129, `{"signal":"SIGHUP"}`},
		{"killed after SIGTERM", "trap 'wait; kill -KILL $$' TERM; " + ready + "sleep 1000 & wait", unix.SIGTERM, 0, 137, `{"signal":"SIGKILL"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := launchRun(t, c.script)
			p.await("status.json", `"state": "ready"`)
			command := p.commandPID()
			if c.signal != 0 {
				// run is stopped meanwhile, so that it gets its signal and the end of the command together.
				testenv.Must(t, p.cmd.Process.Signal(unix.SIGSTOP))
				testenv.Must(t, p.cmd.Process.Signal(c.signal))
			}
			if c.direct != 0 {
				testenv.Must(t, unix.Kill(command, c.direct))
			}
			if c.signal != 0 {
				if c.direct != 0 {
					waitUntil(t, "the command has ended", func() bool { return isZombie(command) })
				}
				testenv.Must(t, p.cmd.Process.Signal(unix.SIGCONT))
			}
			p.exits(c.code)
			want := "\n  \"boot_id\""
			if c.details != "" {
				want = "\n  \"details\": " + c.details + ","
			}
			p.contains("result.json", "\","+want)
		})
	}
}
