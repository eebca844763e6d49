package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main{M: m}.Run()) }

const (
	journald = "/lib/systemd/systemd-journald"
	remote   = "/lib/systemd/systemd-journal-remote"
	upload   = "/lib/systemd/systemd-journal-upload"
)

// A machine has its own journald, machine ID and boot ID, in a mount namespace that
// a shell keeps open until the test ends.
type machine struct {
	testing.TB
	id, boot  string
	namespace *exec.Cmd // the shell that keeps the mount namespace
	journald  *exec.Cmd // nil if it is not running
}

// setUp is the script of that shell. It mounts the machine's IDs over the real ones.
const setUp = `set -e
mount -t tmpfs t /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log
touch /run/systemd/journal/flushed
mount -t tmpfs t /var/log
mkdir /var/log/journal
printf '%s\n' '[Journal]' Storage=persistent ReadKMsg=no RateLimitIntervalSec=0 ForwardToSyslog=no "$3" >/run/systemd/journald.conf.d/t.conf
echo "$1" >/run/machine-id; mount --bind /run/machine-id /etc/machine-id
echo "$2" >/run/boot_id; mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
echo ready; exec cat >/dev/null`

// newMachine returns a machine without starting its journald. options are lines of
// journald.conf.
func newMachine(t testing.TB, number int, options ...string) *machine {
	t.Helper()
	testenv.Tools(t, "unshare", "nsenter", "mount", "journalctl", journald)
	m := &machine{TB: t, id: fmt.Sprintf("%032x", 0xabc000+number)}
	m.boot = fmt.Sprintf("%08x-1111-4222-8333-444444444444", number)
	args := []string{"--mount"}
	if !testenv.CanMount() {
		args = append(args, "--user", "--map-root-user")
	}
	m.namespace = exec.Command("unshare", append(args, "sh", "-c", setUp, "sh", m.id, m.boot, strings.Join(options, "\n"))...)
	m.namespace.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := m.namespace.StdinPipe()
	testenv.Must(t, err)
	stdout, err := m.namespace.StdoutPipe()
	testenv.Must(t, err)
	var stderr bytes.Buffer
	m.namespace.Stderr = &stderr
	testenv.Must(t, m.namespace.Start())
	t.Cleanup(func() { stdin.Close(); m.namespace.Wait() })
	if ready := make([]byte, 6); !readFull(stdout, ready) || string(ready) != "ready\n" {
		stdin.Close()
		m.namespace.Wait() // for all of stderr
		testenv.Missing(t, "a mount namespace, or a user namespace to make one; run as root with CAP_SYS_ADMIN (%s)",
			strings.TrimSpace(stderr.String()))
	}
	return m
}

func readFull(f interface{ Read([]byte) (int, error) }, text []byte) bool {
	n, err := f.Read(text)
	return n == len(text) && err == nil
}

// newJournal returns a machine and starts its journald.
func newJournal(t testing.TB, number int, options ...string) *machine {
	t.Helper()
	m := newMachine(t, number, options...)
	m.start()
	return m
}

// root returns the path outside the machine of a path inside it.
func (m *machine) root(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.namespace.Process.Pid, path)
}

// command returns a command that runs in the machine.
func (m *machine) command(argv ...string) *exec.Cmd {
	args := []string{"--target", fmt.Sprint(m.namespace.Process.Pid), "--mount", "--wdns=" + testenv.Shared()}
	if !testenv.CanMount() {
		args = append(args, "--user", "--preserve-credentials")
	}
	cmd := exec.Command("nsenter", append(append(args, "--"), argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// start starts journald and waits for its sockets. The one for journalctl comes
// last.
func (m *machine) start() {
	m.Helper()
	sockets := []string{DefaultSocket, "/run/systemd/journal/io.systemd.journal"}
	for _, path := range sockets {
		os.Remove(m.root(path)) // journald does not remove them when it ends
	}
	m.journald = m.command(journald)
	testenv.Must(m, m.journald.Start())
	m.Cleanup(m.kill)
	for _, path := range sockets {
		await(m, path, func() bool {
			_, err := os.Stat(m.root(path))
			return err == nil
		})
	}
}

func (m *machine) signal(s syscall.Signal) {
	m.Helper()
	testenv.Must(m, m.journald.Process.Signal(s))
}

func (m *machine) kill() {
	if m.journald != nil {
		m.journald.Process.Kill()
		m.journald.Wait()
	}
	m.journald = nil
}

// run runs a command in the machine and returns its stdout. The command must
// succeed.
func (m *machine) run(stdin string, argv ...string) string {
	m.Helper()
	out, stderr, code := m.try(stdin, argv...)
	if code != 0 {
		m.Fatalf("%q: exit %d\n%s", argv, code, stderr)
	}
	return out
}

// try runs a command in the machine. The command may fail.
func (m *machine) try(stdin string, argv ...string) (stdout, stderr string, code int) {
	m.Helper()
	cmd := m.command(argv...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	testenv.Must(m, cmd.Start())
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // the caller checks the exit code
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ingest runs ingest with --journal=always and returns its stderr.
func (m *machine) ingest(dir, stdin string, args ...string) (stderr string) {
	m.Helper()
	_, stderr, code := m.try(stdin, append([]string{testenv.Program(m), "ingest", "--state-dir", dir, "--journal=always"}, args...)...)
	if code != 0 {
		m.Fatalf("exit %d\n%s", code, stderr)
	}
	return stderr
}

// journalJSON returns the program's entries in the machine's journal as JSON.
func (m *machine) journalJSON(args ...string) string {
	m.Helper()
	m.run("", "journalctl", "--sync")
	return m.run("", append([]string{"journalctl", "--no-pager", "-o", "json", "--all", "-D", "/var/log/journal",
		"SYSLOG_IDENTIFIER=" + Identifier}, args...)...)
}

// A storedEntry is an entry in the journal: the values of its fields by name.
type storedEntry map[string]string

// entries returns the program's entries in the machine's journal.
func (m *machine) entries(args ...string) (all []storedEntry) {
	m.Helper()
	for line := range strings.Lines(m.journalJSON(args...)) {
		var raw map[string]any
		testenv.Must(m, json.Unmarshal([]byte(line), &raw))
		e := storedEntry{}
		for name, value := range raw {
			e[name] = fieldText(m, value)
		}
		all = append(all, e)
	}
	return all
}

// fieldText returns the text of a value in journalctl's JSON.
func fieldText(t testing.TB, value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []any:
		var text []byte
		for _, b := range v {
			text = append(text, byte(b.(float64)))
		}
		return string(text)
	}
	t.Fatalf("a field has the value %v; want a string or an array of bytes", value)
	return ""
}

// sent returns the fields that the sender set.
func (e storedEntry) sent() storedEntry {
	own := storedEntry{}
	for name, value := range e {
		if !strings.HasPrefix(name, "_") {
			own[name] = value
		}
	}
	return own
}

// localCommand returns a command that runs outside of all machines, and is killed when
// this process ends.
func localCommand(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// await waits until condition is true.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// awaitEntries waits until the journal has at least n entries.
func (m *machine) awaitEntries(n int) {
	m.Helper()
	await(m, fmt.Sprint(n, " entries"), func() bool { return len(m.entries()) >= n })
}

// A lockedText is an io.Writer whose text may be read at the same time.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
