package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Every command that prints to standard output exits with 1 if the disk is full, and
// prints why.
func TestOutput_full(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	environment{}.run("event", "--kind", "ready", "--message", "m", "--state-dir", dir)
	printing := [][]string{{"--help"}, {"help"}, {"--version"}, {"show", dir}, {"show", "--format", "json", dir},
		{"show", "--seq", dir}, {"show", "--follow", dir}, {"plot", dir}, {"verify", dir}, {"verify", "--format", "json", dir},
		{"schema"}, {"schema", "events"}, {"ingest", "--dry-run", "--state-dir", dir}}
	for _, c := range subcommands() {
		printing = append(printing, []string{c.name, "--help"}, []string{"help", c.name})
	}
	for _, args := range printing {
		t.Run(strings.ReplaceAll(strings.Join(args, " "), dir, "DIR"), func(t *testing.T) {
			t.Parallel()
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			var stderr bytes.Buffer
			cmd := testCommand(args...)
			cmd.Stdin = strings.NewReader("STATE=ready\n")
			cmd.Stdout, cmd.Stderr = full, &stderr
			_ = cmd.Run()
			const want = "pika-cloud-lifecycle: write /dev/stdout: no space left on device; free disk space or inodes\n"
			if code := cmd.ProcessState.ExitCode(); code != exitFailed || stderr.String() != want {
				t.Errorf("exit %d, stderr %q; want %q", code, &stderr, want)
			}
		})
	}
}

// If a repair fails, verify prints what the user can do.
func TestVerify_repair_remedy(t *testing.T) {
	err := repairFailed(&fs.PathError{Op: "open", Path: "d/events.jsonl.seq", Err: unix.EROFS})
	if got, want := err.Error(), "d/events.jsonl.seq: read-only file system; mount the file system read-write"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}
