package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A real systemd starts, kills and stops the units in testdata/boot/result. The test
// checks the states of the units and their artifacts.
func TestSystemd(t *testing.T) {
	t.Parallel()
	lab := boot(t, "result")
	t.Run("notify", func(t *testing.T) {
		lab.checkOut(t, "notify_before", "activating")
		lab.checkOut(t, "notify_ready", "active ready ready: listening on 8080")
		lab.checkOut(t, "notify_after", "failed 3 failed: job exited with 3")
		lab.checkArtifacts(t, "notify", "starting ready failed", `"exit_code": 3`)
	})
	t.Run("hardened unit", func(t *testing.T) {
		lab.checkOut(t, "hardened", "exit-code 139")
		lab.checkArtifacts(t, "hardened", "starting ready failed", `"signal":"SIGSEGV"`)
	})
	t.Run("stream beside main process", func(t *testing.T) {
		lab.checkOut(t, "stream", "active ready: ready")
		lab.checkArtifacts(t, "stream", "starting ready failed", `"exit_code": 7`)
	})
	t.Run("socket unit", func(t *testing.T) {
		lab.checkOut(t, "fifo_mode", "600")
		lab.checkOut(t, "fifo", "success 0")
		lab.checkArtifacts(t, "fifo", "starting ready failed starting ready failed", `"reason":"stream_ended"`)
	})
	t.Run("unit killed", func(t *testing.T) {
		lab.checkOut(t, "killed", "signal")
		lab.checkArtifacts(t, "killed", "starting ready failed",
			`{"reason":"stream_ended","service_result":"signal","main_code":"killed","main_status":"KILL"}`)
	})
	t.Run("unit stopped", func(t *testing.T) {
		lab.checkOut(t, "stop", "success 0")
		p := lab.checkArtifacts(t, "stop", "starting ready stopped completed stopped", `"exit_code": 0`)
		p.contains("status.json", `"state": "stopped"`)
		p.contains("status.json", `"message": "asked"`)
	})
}

// A lab is the directory into which the script on a booted systemd writes.
type lab string

// boot boots the units of a folder of testdata/boot.
func boot(t *testing.T, name string) lab {
	t.Helper()
	testenv.Systemd(t)
	dir := t.TempDir()
	testenv.Must(t, os.CopyFS(dir, os.DirFS("../../testdata/boot/"+name+"/lab")))
	for _, file := range globOf(t, dir+"/*") {
		testenv.Must(t, os.Chmod(file, 0o755))
	}
	text, err := os.ReadFile(testenv.Program(t))
	testenv.Must(t, err, os.WriteFile(filepath.Join(dir, program), text, 0o755))
	out, err := exec.Command("../../testdata/boot/boot", "../../testdata/boot/"+name+"/units", dir, name+".target").CombinedOutput()
	l := lab(dir)
	if err != nil || !strings.Contains(l.read(t, "out"), "end=reached\n") {
		t.Fatalf("%v\n%s\n%s\n%s", err, out, l.read(t, "out"), l.read(t, "log"))
	}
	return l
}

func (l lab) read(t *testing.T, name string) string {
	text, err := os.ReadFile(filepath.Join(string(l), name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// checkOut checks the value that the script has written for a name.
func (l lab) checkOut(t *testing.T, name, want string) {
	t.Helper()
	_, rest, _ := strings.Cut("\n"+l.read(t, "out"), "\n"+name+"=")
	if got, _, _ := strings.Cut(rest, "\n"); got != want {
		t.Errorf("%s is %q, want %q\n%s", name, got, want, l.read(t, "journal"))
	}
}

// checkArtifacts checks the kinds of the events of a unit, which are numbered without
// a gap, and a text in its result.
func (l lab) checkArtifacts(t *testing.T, name, kinds, text string) *process {
	t.Helper()
	p := &process{T: t, dir: filepath.Join(string(l), name)}
	var got []string
	for _, line := range linesOf(p.file("events.jsonl")) {
		_, rest, _ := strings.Cut(line, `"kind":"`)
		kind, _, _ := strings.Cut(rest, `"`)
		got = append(got, kind)
	}
	if strings.Join(got, " ") != kinds {
		t.Errorf("events %q, want %s", got, kinds)
	}
	p.hasEvents(len(got))
	p.contains("result.json", text)
	p.checkDir()
	return p
}
