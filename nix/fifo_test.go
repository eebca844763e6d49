package nix_test

import (
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The FIFO of the module, with a unit that runs as a separate user.
func TestFIFO_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needPackage(t)
	s := evalSystem(t, "./nix/module.nix", `{
		users.users.reporter = { isSystemUser = true; group = "reporter"; };
		users.groups.reporter = { };
		users.groups.writers = { };
		services.pika-cloud-lifecycle = {
			enable = true;
			stateDir = "/var/lib/pika-cloud"; # writable for the unit only by ReadWritePaths
			owner = "reporter";
			group = "reporter";
			mode = "0750";
			rateLimit.burst = 54321;
			fifo = { enable = true; mode = "0620"; group = "writers"; };
		};
		systemd.services.early = {
			wantedBy = [ "sysinit.target" ];
			after = [ "systemd-tmpfiles-setup.service" ];
			before = [ "pika-cloud-lifecycle.socket" ];
			unitConfig.DefaultDependencies = false;
			serviceConfig.ExecStart = "/bin/sh -c 'echo STATE=booted MESSAGE=early >/var/lib/pika-cloud/lifecycle.fifo'";
		};
		systemd.services.farewell = {
			wantedBy = [ "multi-user.target" ];
			after = [ "pika-cloud-lifecycle.socket" "pika-cloud-lifecycle.service" ];
			serviceConfig = {
				Type = "oneshot";
				RemainAfterExit = true;
				ExecStart = "/bin/true";
				ExecStop = "/bin/sh -c 'echo STATE=stopped >/var/lib/pika-cloud/lifecycle.fifo'";
			};
		};
	}`)
	l.write("incus.py", testenv.ReadFile(t, "testdata/boot/incus.py"), 0o644)
	l.write("restart.sh", testenv.ReadFile(t, "testdata/boot/restart.sh"), 0o755)
	l.boot(&s, "fifo.sh")

	const usual = "prw--w---- reporter writers\n"
	for name, want := range map[string]string{
		"early":   "early\n",
		"restart": "exit code 0, active active, " + usual + "restarted\nopen\n",
		"mode":    "exit code 0, active active, prw-rw---- reporter reporter\nmode\nopen-mode\nexit code 0, active active, " + usual,
		"upgrade": "exit code 0\nexit code 0\nstopped\nstarted\nreexec\n",
		"killed":  "killed\n",
		"removed": "exit code 0, active active, " + usual + "removed\nregular file STATE=ready MESSAGE=lost\n",
		"link": "exit code 0, active active, " + usual + "-rw------- root root\nlinked\nuntouched\n" +
			"exit code 0, active active, " + usual + "exit code 0, active active, " + usual +
			"lifecycle.fifo.unread lifecycle.fifo.unread.~1~ lifecycle.fifo.unread.~2~ lifecycle.fifo.unread.~3~\n",
		"run":     "goes on\n",
		"stopped": "exit code 0\n1\nexit code 0\nwaits\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := testenv.ReadFile(t, l.path("out/rows/"+name)); got != want {
				t.Errorf("the row has\n%s\nexpected\n%s", got, want)
			}
		})
	}

	for name, want := range map[string]string{
		"modes":  "prw--w---- reporter writers\ndrwxr-x--- reporter reporter\n",
		"shown":  "LogRateLimitIntervalUSec=30s\nLogRateLimitBurst=54321\nUser=reporter\n",
		"result": "success\n",
		"mirror": "booted\nstarting\nready\nready\nreject\nfailed\nfailed\nbooted\n",
	} {
		if got := testenv.ReadFile(t, l.path("out/"+name)); got != want {
			t.Errorf("%s is %q; expected %q", name, got, want)
		}
	}
	requests := "PATCH /1.0 {\"state\":\"Started\"}\nPATCH /1.0 {\"state\":\"Ready\"}\nPATCH /1.0 {\"state\":\"Started\"}\n"
	if got := testenv.ReadFile(t, l.path("out/incus")); !strings.HasPrefix(got, requests) {
		t.Errorf("Incus received %s; expected %s", got, requests)
	}
	if r := l.guest("out/ended").Result; r == nil || r.Status != "failed" || r.Details["reason"] != "stream_ended" {
		t.Errorf("after the unit was stopped during a run, the result is %+v", r)
	}
	g := l.guest("out/off")
	if g.kinds(0) != "booted starting ready ready failed booted stopped" || g.Status.State != "stopped" || g.Status.Rejected != 0 || g.Result != nil {
		t.Errorf("events %s, status %+v, result %+v", g.kinds(0), g.Status, g.Result)
	}
	if g.Events[1].Message != "it's the second writer" {
		t.Errorf("the second writer's message is %q", g.Events[1].Message)
	}
}
