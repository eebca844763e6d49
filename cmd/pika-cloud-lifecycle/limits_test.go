package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// limitedRun runs the program from a shell that first runs a command such as ulimit. It
// returns the exit code, or -1 if a signal ended the program, and the output on stderr.
func limitedRun(t *testing.T, before string, user *syscall.Credential, args ...string) (code int, stderr string) {
	t.Helper()
	dir := testenv.TempDir(t)
	program := filepath.Join(dir, "program")
	testenv.Must(t, copyFile(testenv.Program(t), program))
	testenv.Must(t, os.Chmod(dir, 0o777)) // for user
	cmd := limitedCommand("bash", append([]string{"-c", before + `; exec "$@"`, "bash", program}, args...)...)
	cmd.Env = append(os.Environ(), "PIKA_LIFECYCLE_DIR="+filepath.Join(dir, "state"))
	cmd.Stdin = strings.NewReader("STATE=ready\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}

// smallCommands are command lines that end soon.
var smallCommands = [][]string{
	{"event", "--kind", "ready", "--message", "m"},
	{"status", "--state", "ready", "--message", "m"},
	{"ingest", "--write-timeout", "10ms"},
	{"--version"},
}

// TestLimits_open_files checks that a low limit of open files does not crash the program:
// it either works or names the limit.
func TestLimits_open_files(t *testing.T) {
	testenv.Tool(t, "bash")
	for limit := 4; limit <= 16; limit++ {
		for _, args := range smallCommands {
			code, stderr := limitedRun(t, fmt.Sprint("ulimit -n ", limit), nil, args...)
			if code != exitOK && (code != exitFailed || !strings.Contains(stderr, "ulimit -n")) {
				t.Errorf("%s with %d open files: exit code %d, stderr\n%.500s", args[0], limit, code, stderr)
			}
		}
	}
}

// TestLimits_run_open_files checks that run records a result, or names the limit, with any
// limit of open files.
func TestLimits_run_open_files(t *testing.T) {
	testenv.Tool(t, "bash")
	t.Run("pipe", func(t *testing.T) { checkOpenFiles(t) })
	t.Run("FIFO", func(t *testing.T) { checkOpenFiles(t, "--fifo", testenv.TempDir(t)+"/fifo") })
}

func checkOpenFiles(t *testing.T, flags ...string) {
	recorded := map[int]int{} // the lowest limit with each exit code in the result
	for limit := 28; limit >= 4; limit-- {
		state := testenv.TempDir(t)
		args := append([]string{"run", "--state-dir", state}, flags...)
		code, stderr := limitedRun(t, fmt.Sprint("ulimit -n ", limit), nil, append(args, "--", "true")...)
		result, err := os.ReadFile(filepath.Join(state, "result.json"))
		inResult := strings.Contains(string(result), fmt.Sprintf(`"exit_code": %d,`, code))
		switch {
		case code == exitOK && stderr == "" && inResult,
			code == exitNotStarted && strings.Contains(stderr, "ulimit -n") && inResult && strings.Contains(string(result), `"reason":"not_started"`):
			recorded[code] = limit
		case code == exitNotStarted && strings.Contains(stderr, "ulimit -n") && err != nil && recorded[exitNotStarted] > 0:
		case code == exitFailed && strings.Contains(stderr, "ulimit -n") && err != nil && limit < 8: // main cannot start
		default:
			t.Errorf("%d open files: exit code %d, stderr\n%.500s\nresult\n%s", limit, code, stderr, result)
		}
	}
	if recorded[exitOK] == 0 || recorded[exitNotStarted] == 0 || recorded[exitNotStarted] >= recorded[exitOK] {
		t.Errorf("the lowest limits with a result are %v", recorded)
	}
}

// TestLimits_closed_descriptors checks that the program works without standard streams,
// and that the files it opens are not mistaken for them.
func TestLimits_closed_descriptors(t *testing.T) {
	testenv.Tool(t, "bash")
	for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&- 2>&-"} {
		for _, args := range smallCommands {
			code, stderr := limitedRun(t, "exec "+closed, nil, args...)
			if code != exitOK || stderr != "" {
				t.Errorf("%s with %s: exit code %d, stderr\n%.500s", args[0], closed, code, stderr)
			}
		}
	}
}

// TestLimits_threads checks that a crash of the Go runtime ends with SIGABRT: its usual
// exit code 2 means wrong usage. The runtime needs four threads before the program starts,
// and crashes with 2 if it cannot create them.
func TestLimits_threads(t *testing.T) {
	testenv.Tool(t, "bash")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to become a user without other processes")
	}
	crashed := 0
	for limit := 4; limit <= 8; limit++ {
		user := &syscall.Credential{Uid: 54321, Gid: 54321}
		code, stderr := limitedRun(t, fmt.Sprint("ulimit -u ", limit), user, "ingest")
		switch {
		case code == exitUsage && !strings.Contains(stderr, "main.main("):
			t.Logf("%d threads: the runtime cannot start", limit)
		case code == -1 && strings.Contains(stderr, "failed to create new OS thread"):
			crashed++
		case code != exitOK:
			t.Errorf("%d threads: exit code %d, stderr\n%.3000s", limit, code, stderr)
		}
	}
	t.Logf("%d crashes", crashed)
}
