package nix_test

import (
	"slices"
	"strings"
	"testing"
)

func TestOptions_documented(t *testing.T) {
	t.Parallel()
	var options []struct {
		Name, Type, Description string
		Example                 bool
	}
	eval(t, "import ./nix/testdata/options.nix", &options)
	if len(options) < 25 {
		t.Errorf("found %d options; expected at least 25", len(options))
	}
	for _, o := range options {
		if o.Type == "" || len(o.Description) < 10 || !strings.HasSuffix(strings.TrimSpace(o.Description), ".") || !o.Example {
			t.Errorf("%+v: expected a type, a sentence and an example", o)
		}
	}
}

// evalError evaluates a system that is invalid, and returns the error.
func evalError(t *testing.T, modules ...string) string {
	t.Helper()
	_, stderr, err := nix(t, "nix-instantiate", "--eval", "--strict", "--json", "-E", "("+systemOf(modules...)+").built")
	if err == nil {
		t.Errorf("%s: the system is valid; expected an error", modules)
	}
	return stderr
}

func TestModule_invalid_settings(t *testing.T) {
	t.Parallel()
	const agent, ci = "./nix/incus/managed-agent-image.nix", "./nix/incus/ci-image.nix"
	for _, c := range []struct{ image, config, why string }{
		{"", `stateDir = "run/pika-cloud";`, `stateDir is "run/pika-cloud"; expected an absolute path`},
		{"", `stateDir = "/run/../etc";`, `stateDir is "/run/../etc"; expected an absolute path`},
		{"", `stateDir = "/run/./pika-cloud";`, `stateDir is "/run/./pika-cloud"; expected`},
		{"", `stateDir = "/run/pika-cloud/";`, `stateDir is "/run/pika-cloud/"; expected`},
		{"", `stateDir = "/run//pika-cloud";`, `stateDir is "/run//pika-cloud"; expected`},
		{"", `stateDir = "/";`, `stateDir is "/"; expected`},
		{"", `stateDir = "/run/pika cloud";`, `stateDir is "/run/pika cloud"; expected`},
		{"", `stateDir = "/run/%i";`, `stateDir is "/run/%i"; expected`},
		{"", `owner = "no-user";`, `owner is "no-user", which users.users does not define`},
		{"", `group = "no-group";`, `services.pika-cloud-lifecycle.group is "no-group", which users.groups does not define`},
		{"", `fifo = { enable = true; path = "/run/other"; };`, `fifo.path is "/run/other"; expected a path inside /run/pika-cloud`},
		{"", `fifo = { enable = true; path = "/run/pika-cloud-fifo"; };`, `fifo.path is "/run/pika-cloud-fifo"; expected a path inside`},
		{"", `fifo = { enable = true; path = "/run/pika-cloud/../x"; };`, `expected a path inside`},
		{"", `fifo = { enable = true; group = "no-group"; };`, `fifo.group is "no-group", which users.groups does not define`},
		{"", `mode = "rwxr-xr-x";`, "services.pika-cloud-lifecycle.mode' is not of type"},
		{"", `fifo.mode = "9";`, "services.pika-cloud-lifecycle.fifo.mode' is not of type"},
		{"", `journal = "yes";`, `services.pika-cloud-lifecycle.journal' is not of type`},
		{"", `notify = "lxd";`, `services.pika-cloud-lifecycle.notify' is not of type`},
		{"", `rateLimit.burst = 0;`, "rateLimit.burst' is not of type"},
		{"", `rateLimit.interval = "0";`, "rateLimit.interval' is not of type"},
		{"", `ingestFlags = [ ];`, "ingestFlags' is read-only"},
		{"", `stateDirectory = "/run";`, "services.pika-cloud-lifecycle.stateDirectory' does not exist"},
		{agent, ``, "services.pika-cloud-managed-agent.command' is used but not defined"},
		{agent, `command = [ ]; probe = "true";`, "command is empty; expected the agent and its arguments"},
		{agent, `command = [ "x" ];`, "services.pika-cloud-managed-agent.probe' is used but not defined"},
		{agent, `command = [ "x" ]; probe = "true"; user = "root";`, `user is "root", which owns /run/pika-cloud, so the agent could forge`},
		{ci, `user = "root";`, `user is "root", which owns /run/pika-cloud, so a job could forge`},
		{ci, `artifactsSize = "plenty";`, "artifactsSize' is not of type"},
	} {
		service, module := "pika-cloud-lifecycle", "./nix/module.nix"
		switch c.image {
		case agent:
			service, module = "pika-cloud-managed-agent", agent
		case ci:
			service, module = "pika-cloud-ci", ci
		}
		why := evalError(t, module, "{ services."+service+" = { "+c.config+" }; }", "{ services.pika-cloud-lifecycle = { enable = true; fifo.enable = true; }; }")
		if !strings.Contains(strings.ReplaceAll(why, "\n", " "), c.why) {
			t.Errorf("%s%s: the error is\n%s\nexpected %s", c.image, c.config, why, c.why)
		}
	}
}

// A module that is imported but not enabled changes nothing.
func TestModule_disabled_by_default(t *testing.T) {
	t.Parallel()
	s := evalSystem(t, "./nix/module.nix")
	if len(s.Services)+len(s.Sockets)+len(s.Rules)+len(s.Path) != 0 {
		t.Errorf("the system is %+v; expected an empty one", s)
	}
}

func TestModule_settings_in_units(t *testing.T) {
	t.Parallel()
	s := evalSystem(t, "./nix/incus/managed-agent-image.nix", "./nix/incus/ci-image.nix", `{
		services.pika-cloud-lifecycle = {
			stateDir = "/var/lib/pika-cloud";
			mode = "0750";
			journal = "always";
			notify = "incus";
			rateLimit = { interval = "10s"; burst = 12345; };
			fifo = { enable = true; mode = "0622"; };
		};
		services.pika-cloud-managed-agent = {
			command = [ "agent" "with space" "100% $HOME" ];
			probe = "true";
			stopSeconds = 33;
		};
		services.pika-cloud-ci = { request = "/srv/request.json"; killAfterSeconds = 44; logsSize = "7M"; };
	}`)
	text, _ := s.files()
	if !slices.Equal(s.Rules, []string{"d /var/lib/pika-cloud 0750 root root -", "p! /var/lib/pika-cloud/lifecycle.fifo 0600 root root -"}) {
		t.Errorf("the tmpfiles rules are %q", s.Rules)
	}
	flags := "--state-dir=/var/lib/pika-cloud --journal=always --notify=incus"
	limits := "LogRateLimitBurst=12345\nLogRateLimitIntervalSec=10s\n"
	for name, wants := range map[string][]string{
		"pika-cloud-lifecycle.service": {" ingest " + flags + " --require-result --grace", limits, "ReadWritePaths=/var/lib/pika-cloud\n"},
		"pika-cloud-lifecycle.socket":  {"ListenFIFO=/var/lib/pika-cloud/lifecycle.fifo\n", "SocketMode=0622\n"},
		"pika-cloud-managed-agent.service": {`INGEST_FLAGS=` + flags + `"`, limits, "Type=simple\n", "AGENT_STOP_SECONDS=33", "TimeoutStopSec=78\n", "KillMode=mixed\n",
			`"agent" "with space" "100%% $$HOME"`, "ExecStopPost=" + s.Path[0] + "/bin/pika-cloud-lifecycle ingest " + flags + " --require-result\n"},
		"pika-cloud-ci.service": {`INGEST_FLAGS=` + flags + `"`, limits, `"--kill-after=44" "/srv/request.json"`, "KillMode=mixed\n", "OOMPolicy=continue\n", "StandardOutput=null\n", "ConditionPathExists=/srv/request.json\n",
			"RequiresMountsFor=/var/lib/pika-cloud/logs\nRequiresMountsFor=/var/lib/pika-cloud/artifacts\n"},
		`var-lib-pika\x2dcloud-logs.mount`: {"Where=/var/lib/pika-cloud/logs\n", "Options=size=7M,"},
	} {
		for _, want := range wants {
			if !strings.Contains(text[name], want) {
				t.Errorf("%s is missing %q:\n%s", name, want, text[name])
			}
		}
	}
}
