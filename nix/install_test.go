package nix_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// block returns the only code block of a page in a language that contains a text.
func block(t *testing.T, page, lang, holds string) (found string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+lang+"\n(.*?)^```$").FindAllStringSubmatch(testenv.ReadFile(t, page), -1) {
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

// blockScalar returns the more deeply indented lines below a line of a YAML text: the value
// of a block scalar.
func blockScalar(t *testing.T, yaml, line string) (text string) {
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

// Follows docs/install.md: packs the archive, and boots a system without the program, in which
// cloud-init runs the user data. Then the system reboots.
func TestInstallPage_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	testenv.Tools(t, "curl", "tar", "man", "cloud-init")
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
	l.copy(filepath.Join(pack.Dir, "pika-cloud-lifecycle.tar.gz"), l.path("pika-cloud-lifecycle.tar.gz"))

	data := block(t, page, "yaml", "#cloud-config")
	for _, r := range [][2]string{
		{"https://example.org/", "file:///opt/lab/"},
		{strings.Repeat("0", 64), strings.Fields(string(sum))[0]},
	} {
		if strings.Count(data, r[0]) != 1 {
			t.Fatalf("the user data has %s %d times; expected it once", r[0], strings.Count(data, r[0]))
		}
		data = strings.Replace(data, r[0], r[1], 1)
	}
	l.write("user-data", data, 0o644)
	l.write("farewell.service", block(t, page, "ini", "Report that the guest boots and stops"), 0o644)
	l.wants = []string{"cloud-init.target"}
	l.boot(new(system), "installed.sh")

	if got := testenv.ReadFile(t, l.path("out/verify")); got != "" {
		t.Errorf("systemd-analyze verify reports\n%s", got)
	}
	t.Log(regexp.MustCompile(`Overall.*`).FindString(testenv.ReadFile(t, l.path("out/security"))))
	for name, want := range map[string]string{
		"man":       "/man/man1/pika-cloud-lifecycle.1",
		"explained": "Subject: Guest has booted",
		"modes":     "prw--w---- root adm\nprw--w---- root adm\n",
	} {
		if got := testenv.ReadFile(t, l.path("out/"+name)); !strings.Contains(got, want) {
			t.Errorf("%s is missing %s:\n%s", name, want, got)
		}
	}
	if len(l.boots) != 2 || l.boots[0] == l.boots[1] {
		t.Fatalf("the boot IDs are %q; expected two boots", l.boots)
	}
	for boot, want := range []struct{ name, kinds string }{{"out/first", "booted stopped"}, {"out/off", "booted booted stopped"}} {
		g := l.guest(want.name)
		if g.kinds(0) != want.kinds || g.Status.State != "stopped" || g.Status.BootID != l.boots[boot] {
			t.Errorf("boot %d: events %s, status %+v; expected %s", boot+1, g.kinds(0), g.Status, want.kinds)
		}
	}
}

// The unit of the FIFO has the line that docs/install.md shows for hardened units. The
// boot tests run that unit in a container.
func TestInstallPage_boot_ID_line(t *testing.T) {
	t.Parallel()
	unit := strings.Split(testenv.ReadFile(t, "systemd/pika-cloud-lifecycle.service"), "\n")
	for line := range strings.Lines(block(t, "../docs/install.md", "ini", "BindReadOnlyPaths")) {
		if line = strings.TrimSpace(line); !slices.Contains(unit, line) {
			t.Errorf("docs/install.md has %s; nix/systemd/pika-cloud-lifecycle.service does not", line)
		}
	}
}

// The rate limit in docs/install.md is the one of the module.
func TestInstallPage_rate_limit_lines(t *testing.T) {
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
