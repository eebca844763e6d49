package nix_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// bootIDPath is the file with the boot ID. systemd-nspawn mounts another file over it,
// as LXD and Incus do.
const bootIDPath = "/proc/sys/kernel/random/boot_id"

// A lab is the directory that a test shares with a booted system, as /opt/lab.
type lab struct {
	t     *testing.T
	dir   string
	boots []string // the boot ID of each boot, as a shell in the system reads it
	wants []string // units of this machine that each boot starts
}

func newLab(t *testing.T) *lab {
	t.Helper()
	testenv.Tool(t, "jq")
	testenv.Systemd(t)
	dir, err := os.MkdirTemp(testenv.Shared(), "lab")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for other users of the system
		t.Fatal(err)
	}
	return &lab{t: t, dir: dir}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) write(name, text string, mode fs.FileMode) {
	l.t.Helper()
	if err := os.MkdirAll(filepath.Dir(l.path(name)), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(l.path(name), []byte(text), mode); err != nil {
		l.t.Fatal(err)
	}
}

// boot boots a system, runs a script of testdata/boot in it, and returns when the
// system has powered itself off.
func (l *lab) boot(s *system, script string) {
	l.t.Helper()
	l.writeUnits(s, script)
	cmd := exec.Command("../testdata/boot/boot", l.path("units"), l.dir, "lab.target", "240") // most take a few seconds, and the longest 20
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%v\n%s\n%s", err, out, l.output())
	}
	if done := testenv.ReadFile(l.t, l.path("out/done")); done != "0\n" {
		l.t.Fatalf("%s ended with %s%s", script, done, l.output())
	}
	l.boots = l.lines("boot_id")
	l.wantValid()
	l.wantContainerBootIDs()
	if verified := testenv.ReadFile(l.t, l.path("out/verified")); verified != "0\n" && len(s.Services) > 0 {
		l.t.Errorf("systemd-analyze verify reports %s", verified)
	}
}

// wantValid checks the state directories that the script kept, with verify.
func (l *lab) wantValid() {
	l.t.Helper()
	kept, err := filepath.Glob(l.path("out/*/status.json"))
	if err != nil || len(kept) == 0 {
		l.t.Fatalf("%d state directories were kept: %v", len(kept), err)
	}
	for _, status := range kept {
		dir := filepath.Dir(status)
		out, err := exec.Command(filepath.Join(needPackage(l.t), "bin", program), "verify", "--state-dir", dir).CombinedOutput()
		if err != nil {
			l.t.Errorf("%s: %v\n%s", filepath.Base(dir), err, out)
		}
	}
}

// wantContainerBootIDs checks that all artifacts that the script kept have the boot ID of the
// container, and not that of this machine.
func (l *lab) wantContainerBootIDs() {
	l.t.Helper()
	outer := strings.TrimSpace(testenv.ReadFile(l.t, bootIDPath))
	if slices.Contains(l.boots, outer) {
		l.t.Fatalf("the container has the boot ID of this machine, %s; the test needs different ones", outer)
	}
	kept, err := filepath.Glob(l.path("out/*/status.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, status := range kept {
		name := filepath.Join("out", filepath.Base(filepath.Dir(status)))
		g := l.guest(name)
		for i, e := range g.Events {
			l.wantContainerBootID(fmt.Sprintf("%s: event %d", name, i+1), &e)
		}
		l.wantContainerBootID(name+": the status", g.Status)
		l.wantContainerBootID(name+": the result", g.Result)
		l.wantContainerBootID(name+": the previous result", g.Prev)
	}
}

func (l *lab) wantContainerBootID(what string, a *fields) {
	l.t.Helper()
	if a != nil && !slices.Contains(l.boots, a.BootID) {
		l.t.Errorf("%s has the boot ID %q; the container had %q", what, a.BootID, l.boots)
	}
}

// output returns the output of the scripts of the boot, and the end of its journal.
func (l *lab) output() string {
	script := `cat output; grep pika journal | tail -n 30`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = l.path("out")
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// writeUnits writes the units and users of the system, and the files of its store.
func (l *lab) writeUnits(s *system, script string) {
	l.t.Helper()
	units, wanted := s.files()
	for name, text := range units {
		l.write("units/"+name, l.copyStorePaths(text), 0o644)
	}
	wants := strings.Join(slices.Concat(wanted["multi-user.target"], l.wants, []string{"lab.service"}), " ")
	l.write("units/lab.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=lab-keep.service "+wants+"\n", 0o644)
	for _, target := range []string{"sysinit.target", "sockets.target"} {
		for _, name := range wanted[target] {
			l.link(name, "units/"+target+".wants/"+name)
		}
	}
	for _, name := range []string{"lab.service", "lab-setup.service", "lab-keep.service"} {
		l.write("units/"+name, testenv.ReadFile(l.t, "testdata/boot/"+name), 0o644)
	}
	l.link("lab-setup.service", "units/sysinit.target.wants/lab-setup.service")
	l.write("tmpfiles.conf", strings.Join(s.Rules, "\n")+"\n"+s.homes(), 0o644)
	l.write("users.conf", s.sysusers(), 0o644)
	var path string
	for _, pkg := range s.Path {
		path += ":" + l.copyStorePaths(pkg) + "/bin"
	}
	for _, name := range []string{"setup.sh", "keep.sh", "lab.sh", script} {
		l.write(name, testenv.ReadFile(l.t, "testdata/boot/"+name), 0o755)
	}
	l.write("test", fmt.Sprintf("#!/bin/sh\nPATH=$PATH%s\ncat "+bootIDPath+" >>/opt/lab/out/boot_id\n/opt/lab/%s; echo $? >/opt/lab/out/done\n"+
		"systemd-analyze verify --man=no /etc/systemd/system/pika-cloud-*.s* >/opt/lab/out/verified 2>&1; echo $? >>/opt/lab/out/verified\n"+
		"journalctl -b -o short >/opt/lab/out/journal", path, script), 0o755)
	if err := os.MkdirAll(l.path("out"), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) link(name, from string) {
	l.t.Helper()
	if err := os.MkdirAll(filepath.Dir(l.path(from)), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Symlink("../"+name, l.path(from)); err != nil && !errors.Is(err, fs.ErrExist) {
		l.t.Fatal(err)
	}
}

// copyStorePaths copies the store paths in text to the lab, and returns text with the new paths.
func (l *lab) copyStorePaths(text string) string {
	l.t.Helper()
	for _, m := range regexp.MustCompile(regexp.QuoteMeta(storeDir())+`/([^/" ]+)`).FindAllStringSubmatch(text, -1) {
		to := l.path("store/" + m[1])
		if _, err := os.Stat(to); err == nil {
			continue
		}
		l.copy(m[0], to)
	}
	return strings.ReplaceAll(text, storeDir(), "/opt/lab/store")
}

func (l *lab) copy(from, to string) {
	l.t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
}

// sysusers renders the users and groups for systemd-sysusers.
func (s *system) sysusers() string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		fmt.Fprintf(&text, "g %s %s\n", name, number(s.Groups[name].GID))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		id := number(s.Users[name].UID)
		if id != "-" {
			id += ":" + s.Users[name].Group
		}
		fmt.Fprintf(&text, "u %s %s - %s /bin/sh\n", name, id, s.Users[name].Home)
	}
	return text.String()
}

func number(n *int) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// homes renders the users' homes for systemd-tmpfiles.
func (s *system) homes() (text string) {
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		text += fmt.Sprintf("d %s 0700 %s %s -\n", s.Users[name].Home, name, s.Users[name].Group)
	}
	return text
}

// fields are the fields of any artifact that the tests check.
type fields struct {
	State, Kind, Status, Message string
	ExitCode                     *int `json:"exit_code"`
	Details                      map[string]any
	Seq, Rejected                int
	BootID                       string `json:"boot_id"`
}

// code returns the exit code, or -1 if there is none.
func (a *fields) code() int {
	if a.ExitCode == nil {
		return -1
	}
	return *a.ExitCode
}

// A guest has the artifacts of a state directory after a boot.
type guest struct {
	Events               []fields
	Status, Result, Prev *fields
}

// guest reads the artifacts that a script kept under a name.
func (l *lab) guest(name string) (g guest) {
	l.t.Helper()
	g.Status, g.Result, g.Prev = l.readArtifact(name+"/status.json"), l.readArtifact(name+"/result.json"), l.readArtifact(name+"/result.json.prev")
	for line := range bytes.Lines([]byte(testenv.ReadFile(l.t, l.path(name+"/events.jsonl")))) {
		var a fields
		if err := json.Unmarshal(line, &a); err != nil {
			l.t.Fatal(err)
		}
		if a.Seq != len(g.Events)+1 {
			l.t.Errorf("%s: event %d has seq %d", name, len(g.Events)+1, a.Seq)
		}
		g.Events = append(g.Events, a)
	}
	return g
}

// readArtifact reads a file. It returns nil if the file does not exist.
func (l *lab) readArtifact(name string) *fields {
	l.t.Helper()
	text, err := os.ReadFile(l.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a := new(fields)
	if err := errors.Join(err, json.Unmarshal(text, a)); err != nil {
		l.t.Fatalf("%s: %v", name, err)
	}
	return a
}

// kinds returns the kinds of the events, starting with event n.
func (g *guest) kinds(n int) string {
	var kinds []string
	for _, e := range g.Events[n:] {
		kinds = append(kinds, e.Kind)
	}
	return strings.Join(kinds, " ")
}

// lines returns the lines of a file that a script wrote.
func (l *lab) lines(name string) []string {
	l.t.Helper()
	return strings.Split(strings.TrimSuffix(testenv.ReadFile(l.t, l.path("out/"+name)), "\n"), "\n")
}
