package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// TestUnderSystemd has a real systemd start, kill and stop the units in
// testdata/boot/result, and looks at what it made of them and at the artifacts
// that they left.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	lab := boot(t, "result")
	t.Run("a unit is active from ready on", func(t *testing.T) {
		lab.told(t, "notify_before", "activating")
		lab.told(t, "notify_ready", "active ready ready: listening on 8080")
		lab.told(t, "notify_after", "failed 3 failed: job exited with 3")
		lab.left(t, "notify", "starting ready failed", `"exit_code": 3`)
	})
	t.Run("a hardened unit", func(t *testing.T) {
		lab.told(t, "hardened", "exit-code 139")
		lab.left(t, "hardened", "starting ready failed", `"signal":"SIGSEGV"`)
	})
	t.Run("a stream beside the main process", func(t *testing.T) {
		lab.told(t, "stream", "active ready: ready")
		lab.left(t, "stream", "starting ready failed", `"exit_code": 7`)
	})
	t.Run("a FIFO of a socket unit", func(t *testing.T) {
		lab.told(t, "fifo_mode", "600")
		lab.told(t, "fifo", "success 0")
		lab.left(t, "fifo", "starting ready failed starting ready failed", `"reason":"stream_ended"`)
	})
	t.Run("all of a unit is killed", func(t *testing.T) {
		lab.told(t, "killed", "signal")
		lab.left(t, "killed", "starting ready failed",
			`{"reason":"stream_ended","service_result":"signal","main_code":"killed","main_status":"KILL"}`)
	})
	t.Run("a unit is stopped", func(t *testing.T) {
		lab.told(t, "stop", "success 0")
		p := lab.left(t, "stop", "starting ready stopped completed stopped", `"exit_code": 0`)
		p.holds("status.json", `"state": "stopped"`)
		p.holds("status.json", `"message": "asked"`)
	})
	t.Run("the host of an instance", func(t *testing.T) {
		lab.left(t, "incus", "starting ready completed", `"exit_code": 0`)
		const want = `PATCH /1.0 {"state":"Ready"}` + "\n" + `PATCH /1.0 {"state":"Started"}` + "\n"
		if told := lab.read(t, "requests"); !strings.HasSuffix(told, want) {
			t.Errorf("told\n%swant\n%s", told, want)
		}
	})
}

// A lab is the folder that a booted systemd leaves its findings in.
type lab string

// boot boots the units of a folder of testdata/boot.
func boot(t *testing.T, name string) lab {
	t.Helper()
	testenv.Tool(t, "python3")
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

// told demands what the test script has told of a name.
func (l lab) told(t *testing.T, name, want string) {
	t.Helper()
	_, rest, _ := strings.Cut("\n"+l.read(t, "out"), "\n"+name+"=")
	if got, _, _ := strings.Cut(rest, "\n"); got != want {
		t.Errorf("%s is %q, want %q\n%s", name, got, want, l.read(t, "journal"))
	}
}

// left demands the kinds of the events of a unit, numbered without a gap, and a
// text in its result.
func (l lab) left(t *testing.T, name, kinds, text string) *process {
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
	p.seqs(len(got))
	p.holds("result.json", text)
	p.sound()
	return p
}
