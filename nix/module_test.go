package nix_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
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
		{"", `stateDir = "/run/\${X}";`, `stateDir is "/run/${X}"; expected`},
		{"", `stateDir = "/run/$X";`, `stateDir is "/run/$X"; expected`},
		{"", `stateDir = "/run/a;b";`, `stateDir is "/run/a;b"; expected`},
		{"", `stateDir = "/run/a\\b";`, `stateDir is "/run/a\b"; expected`},
		{"", `stateDir = "/run/\"a\"";`, `stateDir is "/run/"a""; expected`},
		{"", `stateDir = "/run/it's";`, `stateDir is "/run/it's"; expected`},
		{"", `stateDir = "/run/a\nb";`, "stateDir is \"/run/a"},
		{"", `stateDir = "/run/größe";`, `stateDir is "/run/größe"; expected`},
		{"", `owner = "a b";`, "services.pika-cloud-lifecycle.owner' is not of type"},
		{"", `group = "%n";`, "services.pika-cloud-lifecycle.group' is not of type"},
		{"", `fifo.group = "a;b";`, "services.pika-cloud-lifecycle.fifo.group' is not of type"},
		{"", `stateDir = "/var/tmp/state";`, `stateDir is "/var/tmp/state", which the unit of the FIFO cannot see`},
		{"", `stateDir = "/root";`, `stateDir is "/root", which the unit of the FIFO cannot see`},
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
		{"", `rateLimit.burst = 4294967296;`, "rateLimit.burst' is not of type"},
		{"", `rateLimit.interval = "0";`, "rateLimit.interval' is not of type"},
		{"", `rateLimit.interval = "99999999999999h";`, "rateLimit.interval' is not of type"},
		{"", `ingestFlags = [ ];`, "ingestFlags' is read-only"},
		{"", `stateDirectory = "/run";`, "services.pika-cloud-lifecycle.stateDirectory' does not exist"},
		{agent, `probe = "true";`, "services.pika-cloud-managed-agent.command' is used but not defined"},
		{agent, `command = [ ]; probe = "true";`, "command' is not of type `non-empty list of string'"},
		{agent, `command = [ "x" ];`, "services.pika-cloud-managed-agent.probe' is used but not defined"},
		{agent, `command = [ "x" ]; probe = "true"; user = "root";`, `user is "root", which owns /run/pika-cloud, so the agent could forge`},
		{ci, `user = "root";`, `user is "root", which owns /run/pika-cloud, so a job could forge`},
		{agent, `command = [ "x" ]; probe = "true"; stopSeconds = 3601;`, "stopSeconds' is not of type"},
		{ci, `artifactsSize = "plenty";`, "artifactsSize' is not of type"},
		{ci, `artifactsSize = "9999999G";`, "artifactsSize' is not of type"},
		{ci, `logsSize = "900%";`, "logsSize' is not of type"},
		{ci, `logsSize = "101%";`, "logsSize' is not of type"},
		{ci, `uid = 65535;`, "uid' is not of type"},
		{ci, `processes = 4194305;`, "processes' is not of type"},
		{ci, `killAfterSeconds = 3601;`, "killAfterSeconds' is not of type"},
		{ci, `request = "request.json";`, "request' is not of type `absolute path without control characters"},
		{ci, `request = "/srv/a\\";`, "request' is not of type"},
		{ci, `request = "/srv/a ";`, "request' is not of type"},
		{ci, `request = "/srv/a\nUser=nobody";`, "request' is not of type"},
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

// The path of a FIFO cannot be that of a file that the program writes. docs/format.md
// lists these.
func TestModule_fifo_not_an_artifact(t *testing.T) {
	t.Parallel()
	table := regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|.*\\| 0[0-7]{3}.*\\|").FindAllStringSubmatch(testenv.ReadFile(t, "../docs/format.md"), -1)
	var names []string
	for _, row := range table {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			names = append(names, strings.Replace(m[1], "N", "7", 1))
		}
	}
	if len(names) < 15 || !slices.Contains(names, "status.json") || !slices.Contains(names, ".result.json.prev7") {
		t.Fatalf("docs/format.md lists the files %q; expected at least 15", names)
	}
	names = append(names, "status.json/fifo", "fifo")
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	var valid []string
	eval(t, `builtins.filter (name: (builtins.tryEval (`+systemOf("./nix/module.nix", `{
		services.pika-cloud-lifecycle = { enable = true; fifo = { enable = true; path = "/run/pika-cloud/${name}"; }; };
	}`)+`).built).success) (builtins.fromJSON ''`+string(list)+`'')`, &valid)
	if !slices.Equal(valid, []string{"fifo"}) {
		t.Errorf("of %q, the FIFO may be at %q; expected only fifo", names, valid)
	}
}

// A module that is imported but not enabled changes nothing, and neither does an image
// whose module is disabled: its unit would have no state directory.
func TestModule_disabled(t *testing.T) {
	t.Parallel()
	for _, modules := range [][]string{
		{"./nix/module.nix"},
		{"./nix/incus/ci-image.nix", "{ services.pika-cloud-lifecycle.enable = false; }"},
		{"./nix/incus/managed-agent-image.nix", "./nix/incus/ci-image.nix", "({ lib, ... }: { services.pika-cloud-lifecycle.enable = lib.mkForce false; })"},
	} {
		s := evalSystem(t, modules...)
		if len(s.Services)+len(s.Sockets)+len(s.Mounts)+len(s.Rules)+len(s.Path) != 0 || len(s.Users) != 1 {
			t.Errorf("the system of %v is %+v; expected an empty one", modules, s)
		}
	}
}

// A request that is a file of the configuration is copied to the store: the guest does
// not have the path of the machine that builds the image.
func TestCIImage_request_of_configuration(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]string{
		"./VERSION":                             storeDir() + "/",
		`(builtins.toFile "request.json" "{}")`: storeDir() + "/",
		`"/srv/request.json"`:                   "/srv/request.json",
	} {
		s := evalSystem(t, "./nix/incus/ci-image.nix", "{ services.pika-cloud-ci.request = "+request+"; }")
		unit := s.Services["pika-cloud-ci"]
		condition, _ := unit.UnitConfig["ConditionPathExists"].(string)
		if command := fmt.Sprint(unit.ServiceConfig["ExecStart"]); !strings.HasPrefix(condition, want) || !strings.HasSuffix(command, ` "`+condition+`"`) {
			t.Errorf("%s: the condition is %s, and the command %s; expected %s in both", request, condition, command, want)
		}
		if _, err := os.Stat(condition); err != nil && want != condition {
			t.Error(err)
		}
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
			probe = "date +%s";
			publish = "echo %n";
			stopSeconds = 33;
		};
		services.pika-cloud-ci = { request = "/srv/100%n \"$X\\.json"; killAfterSeconds = 44; logsSize = "7%"; };
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
		"pika-cloud-managed-agent.service": {`INGEST_FLAGS=` + flags + `"`, limits, "Type=simple\n", "AGENT_STOP_SECONDS=33", `"AGENT_PROBE=date +%%s"`, `"AGENT_PUBLISH=echo %%n"`, "TimeoutStopSec=78\n", "KillMode=mixed\n",
			`"agent" "with space" "100%% $$HOME"`, "ExecStopPost=" + s.Path[0] + "/bin/pika-cloud-lifecycle ingest " + flags + " --require-result\n"},
		"pika-cloud-ci.service": {`INGEST_FLAGS=` + flags + `"`, limits, `"--kill-after=44" "/srv/100%%n \"$$X\\.json"`, "KillMode=mixed\n", "OOMPolicy=continue\n", "StandardOutput=null\n", "ConditionPathExists=/srv/100%%n \"$X\\.json\n",
			"RequiresMountsFor=/var/lib/pika-cloud/logs\nRequiresMountsFor=/var/lib/pika-cloud/artifacts\n"},
		`var-lib-pika\x2dcloud-logs.mount`: {"Where=/var/lib/pika-cloud/logs\n", "Options=size=7%%,"},
	} {
		for _, want := range wants {
			if !strings.Contains(text[name], want) {
				t.Errorf("%s is missing %q:\n%s", name, want, text[name])
			}
		}
	}
}
