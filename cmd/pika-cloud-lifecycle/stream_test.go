package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/bootid"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestLossText(t *testing.T) {
	for _, c := range []struct {
		events, rejects uint64
		want            string
	}{
		{1, 0, "1 event lost"},
		{2, 0, "2 events lost"},
		{0, 1, "1 rejected line lost"},
		{3, 1, "3 events and 1 rejected line lost"},
		{1, 12, "1 event and 12 rejected lines lost"},
	} {
		if got := lossText(c.events, c.rejects); got != c.want {
			t.Errorf("%d events and %d rejected lines: %q, expected %q", c.events, c.rejects, got, c.want)
		}
	}
}

// An ordinary user gets a remedy if the state directory cannot be created or
// written; run runs the command anyway.
func TestStateDir_ordinary_user(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "sh")
	dir := testenv.TempDir(t)
	testenv.OpenToAll(t, dir)
	testenv.Must(t, os.Mkdir(dir+"/there", 0o755))
	const remedy = "; use root, or set --state-dir or PIKA_LIFECYCLE_DIR"
	for _, c := range []struct {
		name, path, cause string
	}{
		{"missing", dir + "/missing", "mkdir " + dir + "/missing: permission denied"},
		{"not writable", dir + "/there", "create a file in " + dir + "/there: permission denied"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			for _, command := range []struct {
				args []string
				code int
				want string
			}{
				{[]string{"ingest"}, exitFailed, c.cause + remedy + "\n"},
				{[]string{"rebuild"}, exitFailed, remedy + "\n"},
				{[]string{"status", "--state", "ready", "--message", "m"}, exitFailed, remedy + "\n"},
				{[]string{"event", "--kind", "ready", "--message", "m"}, exitFailed, remedy + "\n"},
				{[]string{"result", "--status", "failed", "--message", "m"}, exitFailed, remedy + "\n"},
				{[]string{"run", "--", "sh", "-c", "exit 7"}, 7, "run: " + c.cause + "; the command runs, but nothing is recorded" + remedy + "\n"},
			} {
				cmd := limitedCommand(testenv.Program(t), command.args...)
				cmd.Env = append(os.Environ(), "PIKA_LIFECYCLE_DIR="+c.path)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != command.code || !strings.HasSuffix(string(out), command.want) || strings.Count(string(out), "\n") != 1 {
					t.Errorf("%s: %v\n%s", command.args[0], err, out)
				}
			}
		})
	}
}

// A boot ID that cannot be read is a warning with the cause, also of a one-shot
// command.
func TestBootID_warning(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	var stderr strings.Builder
	a := &app{stderr: &stderr}
	check := func(want string) {
		t.Helper()
		if id := a.readBootID(); id != "" {
			t.Errorf("boot ID %q", id)
		}
		if want = "pika-cloud-lifecycle: " + want + "\n"; stderr.String() != want {
			t.Errorf("%q, expected %q", stderr.String(), want)
		}
		stderr.Reset()
	}
	var limit unix.Rlimit
	testenv.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	check("open " + bootid.Path + ": too many open files; continuing without a boot ID; raise the limit of open files (ulimit -n)")
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))

	testenv.Must(t, unix.Mount("/dev/null", bootid.Path, "", unix.MS_BIND, ""))
	check("read " + bootid.Path + ": the file is empty, as if it were masked; continuing without a boot ID; make the file readable")
	dir := t.TempDir()
	out, err := limitedCommand(testenv.Program(t), "status", "--state-dir", dir, "--state", "ready", "--message", "m").CombinedOutput()
	if err != nil || strings.Count(string(out), "continuing without a boot ID") != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if text, err := os.ReadFile(dir + "/status.json"); err != nil || strings.Contains(string(text), "boot_id") {
		t.Errorf("%s, %v", text, err)
	}

	testenv.Must(t, unix.Unmount(bootid.Path, 0), unix.Mount("tmpfs", "/proc/sys", "tmpfs", 0, ""))
	check("open " + bootid.Path + ": no such file or directory; continuing without a boot ID; mount /proc")
	if _, err := bootid.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
