package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// damaged makes a state directory whose log has invalid lines, a repeated seq and an
// incomplete last line, and whose seq file is too low.
func damaged(t *testing.T) (dir, log string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	if err := os.CopyFS(dir, os.DirFS(lookDir+"/guest")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	log = strings.Replace(string(text), `"seq":5}`, `"seq":4}`, 1)
	log = strings.Replace(log, "\n", "\nwhat is this\n", 3) + `{"schema_version":1,"k`
	for name, text := range map[string]string{"events.jsonl": log, "events.jsonl.seq": "2\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "events.jsonl", "status.json", "result.json"} { // independent of the umask
		mode := os.FileMode(0o644)
		if name == "" {
			mode = 0o755
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir, log
}

// readAll returns the text of all files of a directory.
func readAll(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	names, err := namesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n%s\n", name, text)
	}
	return all.String()
}

// TestVerify_repair_killed kills a repair before each system call that changes a file.
// No line may be lost, the log must exist, and the next repair must complete.
func TestVerify_repair_killed(t *testing.T) {
	testenv.Tool(t, "strace")
	killed := 0
	for _, call := range []string{"openat", "write", "pwrite64", "ftruncate", "fdatasync", "fsync", "renameat2", "renameat", "fchmod"} {
		for n := 1; ; n++ {
			dir, log := damaged(t)
			// strace counts calls by thread, so a call may be tried twice, or not at all.
			cmd := limitedCommand("strace", "-f", "-qq", "-o", "/dev/null", "-P", dir, "-P", filepath.Join(dir, "events.jsonl"),
				"-P", filepath.Join(dir, "events.jsonl.seq"), "-P", filepath.Join(dir, "events.jsonl.torn"), "-P", filepath.Join(dir, "events.jsonl.damaged1"),
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), program, "verify", "--repair", "--state-dir", dir)
			cmd.Env = testCommand().Env
			out, err := cmd.CombinedOutput()
			if err == nil {
				break // all such calls were tried
			}
			if killed++; killed > 500 {
				t.Fatalf("%v\n%s", err, out)
			}
			at := fmt.Sprintf("killed before %s %d", call, n)
			kept := readAll(t, dir)
			for line := range strings.Lines(log) {
				if !strings.Contains(kept, line) {
					t.Errorf("%s: lost %s\n%s", at, line, out)
				}
			}
			if text, err := os.ReadFile(filepath.Join(dir, "events.jsonl")); err != nil || len(text) == 0 {
				t.Errorf("%s: the log has %d bytes, %v", at, len(text), err)
			}
			if r, err := verify.Repair(dir); err != nil || !r.Valid() || r.Events != 11 {
				t.Errorf("%s: the next repair leaves %+v, %v", at, r, err)
			}
		}
	}
	if killed < 15 {
		t.Errorf("killed %d times; expected more", killed)
	}
	t.Logf("killed at %d calls", killed)
}
