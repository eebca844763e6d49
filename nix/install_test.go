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

// Follows docs/install.md: packs the archive, and unpacks it with the user data of
// cloud-init in a system without the program.
func TestInstallPage_booted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	testenv.Tools(t, "curl", "tar", "man")
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
	run := blockScalar(t, data, "  - |")
	run = strings.ReplaceAll(run, "https://example.org/pika-cloud-lifecycle.tar.gz", "file:///opt/lab/archive.tar.gz")
	run = strings.ReplaceAll(run, strings.Repeat("0", 64), strings.Fields(string(sum))[0])
	l.write("runcmd", run, 0o644)
	path := regexp.MustCompile(`(?m)^  - path: /etc/systemd/system/(.*)$`).FindStringSubmatch(data)
	l.write("units/"+path[1], blockScalar(t, data, "    content: |"), 0o644)
	l.write("farewell.service", block(t, page, "ini", "Report that the guest boots and stops"), 0o644)
	l.boot(new(system), "installed.sh")

	if got := testenv.ReadFile(t, l.path("out/verify")); got != "" {
		t.Errorf("systemd-analyze verify reports\n%s", got)
	}
	t.Log(regexp.MustCompile(`Overall.*`).FindString(testenv.ReadFile(t, l.path("out/security"))))
	for name, want := range map[string]string{
		"man":       "/man/man1/pika-cloud-lifecycle.1",
		"explained": "Subject: Guest has booted",
		"modes":     "prw--w---- root adm",
	} {
		if got := testenv.ReadFile(t, l.path("out/"+name)); !strings.Contains(got, want) {
			t.Errorf("%s is missing %s:\n%s", name, want, got)
		}
	}
	g := l.guest("out/off")
	if g.kinds(0) != "booted stopped" || g.Status.State != "stopped" {
		t.Errorf("events %s, status %+v; expected booted stopped", g.kinds(0), g.Status)
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
