package nix_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The FIFO of the module, whose unit runs as a user of its own.
func TestFIFOInABootedSystem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needPackage(t)
	s := evalSystem(t, "./nix/module.nix", `{
		users.users.teller = { isSystemUser = true; group = "teller"; };
		users.groups.teller = { };
		users.groups.writers = { };
		services.pika-cloud-lifecycle = {
			enable = true;
			stateDir = "/var/lib/pika-cloud"; # which nothing but ReadWritePaths opens to the unit
			owner = "teller";
			group = "teller";
			mode = "0750";
			rateLimit.burst = 54321;
			fifo = { enable = true; mode = "0620"; group = "writers"; };
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
	l.write("incus.py", readFile(t, "testdata/boot/incus.py"), 0o644)
	l.boot(&s, "fifo.sh")

	for name, want := range map[string]string{
		"modes":  "prw--w---- teller writers\ndrwxr-x--- teller teller\n",
		"shown":  "LogRateLimitIntervalUSec=30s\nLogRateLimitBurst=54321\nUser=teller\n",
		"result": "success\n",
		"incus":  "PATCH /1.0 {\"state\":\"Started\"}\nPATCH /1.0 {\"state\":\"Ready\"}\n",
		"mirror": "booted\nstarting\nready\nready\nreject\nready\n",
	} {
		if got := readFile(t, l.path("out/"+name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	g := l.guest("out/off")
	if g.kinds(0) != "booted starting ready ready ready stopped" || g.Status.State != "stopped" || g.Status.Rejected != 0 || g.Status.BootID == "" || g.Result != nil {
		t.Errorf("the guest is %s, %+v, %+v", g.kinds(0), g.Status, g.Result)
	}
	if g.Events[1].Message != "it's the second writer" {
		t.Errorf("the second writer's message is %q", g.Events[1].Message)
	}
}

// block returns the one code block of a page in a language that holds a text.
func block(t *testing.T, page, lang, holds string) (found string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+lang+"\n(.*?)^```$").FindAllStringSubmatch(readFile(t, page), -1) {
		if strings.Contains(m[1], holds) {
			if found != "" {
				t.Fatalf("%s has two blocks with %s", page, holds)
			}
			found = m[1]
		}
	}
	if found == "" {
		t.Fatalf("%s has no block with %s", page, holds)
	}
	return found
}

// under returns the lines of a YAML text that stand deeper than the line given,
// below it: the value of a block scalar.
func under(t *testing.T, yaml, line string) (text string) {
	t.Helper()
	_, rest, ok := strings.Cut(yaml, "\n"+line+"\n")
	if !ok {
		t.Fatalf("the user data has no line %q", line)
	}
	indent := rest[:len(rest)-len(strings.TrimLeft(rest, " "))]
	for next := range strings.Lines(rest) {
		inner, deeper := strings.CutPrefix(next, indent)
		if !deeper {
			break
		}
		text += inner
	}
	return text
}

// What docs/install.md says, followed: the archive is packed, and unpacked by the
// user data of cloud-init, in a system that knows nothing of it.
func TestOtherImageInABootedSystem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	need(t, "curl", "tar", "man")
	page := "../docs/install.md"
	pack := exec.Command("bash", "-euc", block(t, page, "sh", "tar -C image"))
	pack.Dir = filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("cp", "-r", needTree(t), pack.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sum, err := pack.Output()
	if err != nil {
		t.Fatal(err)
	}
	l.copy(filepath.Join(pack.Dir, "pika-cloud-lifecycle.tar.gz"), l.path("archive.tar.gz"))

	data := block(t, page, "yaml", "#cloud-config")
	run := under(t, data, "  - |")
	run = strings.ReplaceAll(run, "https://example.org/pika-cloud-lifecycle.tar.gz", "file:///opt/lab/archive.tar.gz")
	run = strings.ReplaceAll(run, strings.Repeat("0", 64), strings.Fields(string(sum))[0])
	l.write("runcmd", run, 0o644)
	path := regexp.MustCompile(`(?m)^  - path: /etc/systemd/system/(.*)$`).FindStringSubmatch(data)
	l.write("units/"+path[1], under(t, data, "    content: |"), 0o644)
	l.write("farewell.service", block(t, page, "ini", "Says that the guest was stopped"), 0o644)
	l.boot(new(system), "installed.sh")

	if got := readFile(t, l.path("out/verify")); got != "" {
		t.Errorf("systemd-analyze verify says\n%s", got)
	}
	t.Log(regexp.MustCompile(`Overall.*`).FindString(readFile(t, l.path("out/security"))))
	for name, want := range map[string]string{
		"man":       "/man/man1/pika-cloud-lifecycle.1",
		"explained": "Subject: Guest has booted",
		"modes":     "prw--w---- root adm",
	} {
		if got := readFile(t, l.path("out/"+name)); !strings.Contains(got, want) {
			t.Errorf("%s does not have %s:\n%s", name, want, got)
		}
	}
	g := l.guest("out/off")
	if g.kinds(0) != "booted stopped" || g.Status.State != "stopped" {
		t.Errorf("the guest is %s, %+v", g.kinds(0), g.Status)
	}
}

// The lines of docs/install.md for a unit with a stream of its own are those
// that the module has.
func TestInstallPageHasTheModulesLinesForAStream(t *testing.T) {
	t.Parallel()
	s := evalSystem(t, "./nix/incus/ci-image.nix")
	text, _ := s.files()
	unit := strings.Split(text["pika-cloud-ci.service"], "\n")
	for line := range strings.Lines(block(t, "../docs/install.md", "ini", "LogRateLimitBurst")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "LogRateLimit") && !slices.Contains(unit, line) {
			t.Errorf("docs/install.md has %s; the units of the images do not", line)
		}
	}
}
