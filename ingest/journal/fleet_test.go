package journal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A host receives the journals of guests through the loopback interface, and has a
// state directory for each guest.
type host struct {
	testing.TB
	url     string
	address string
	journal string // the directory of systemd-journal-remote
	fleet   string // the parent of the state directories
	remote  *exec.Cmd
}

func newHost(t testing.TB) *host {
	t.Helper()
	testenv.Tools(t, remote, upload, "bash", "journalctl")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testenv.Must(t, err)
	address := l.Addr().String()
	l.Close()
	h := &host{TB: t, address: address, url: "http://" + address, journal: testenv.PlainDir(t), fleet: testenv.PlainDir(t)}
	h.start()
	return h
}

// start starts systemd-journal-remote and waits until it listens.
func (h *host) start() {
	h.Helper()
	h.remote = localCommand(remote, "--listen-http="+h.address, "--output="+h.journal, "--split-mode=host")
	testenv.Must(h, h.remote.Start())
	h.Cleanup(h.stopRemote)
	await(h, "systemd-journal-remote listens", func() bool {
		conn, err := net.Dial("tcp", h.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stopRemote stops systemd-journal-remote, which completes its journal file first.
func (h *host) stopRemote() {
	if h.remote != nil {
		h.remote.Process.Signal(syscall.SIGTERM)
		h.remote.Wait()
	}
	h.remote = nil
}

// dir returns the state directory of a guest on the host.
func (h *host) dir(m *machine) string { return filepath.Join(h.fleet, m.id) }

// startUnit runs the command of a guest's unit, with the paths of the host and the state
// directory of the guest.
func (h *host) startUnit(m *machine, guest string) unitProcess {
	h.Helper()
	unit, err := os.ReadFile("../../docs/units/pika-cloud-fleet@.service")
	testenv.Must(h, err)
	_, line, ok := strings.Cut(string(unit), "\nExecStart=/usr/bin/env bash -c '")
	line, _, ok2 := strings.Cut(line, "'\n")
	if !ok || !ok2 {
		h.Fatal("ExecStart= of the unit is not a bash -c command")
	}
	line = strings.NewReplacer("%i", m.id, "/run/pika-cloud/", guest+"/", "/var/lib/pika-cloud-fleet", h.fleet, "/var/log/journal/remote", h.journal,
		Identifier+" rebuild", "'"+testenv.Program(h)+"' rebuild").Replace(line)
	cmd := localCommand("bash", "-c", line)
	cmd.SysProcAttr.Setpgid = true
	stderr, err := os.OpenFile(h.dir(m)+".stderr", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	testenv.Must(h, err)
	defer stderr.Close()
	cmd.Stderr = stderr
	testenv.Must(h, cmd.Start())
	stop := func() {
		if cmd.ProcessState == nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		}
	}
	h.Cleanup(stop)
	return unitProcess{cmd.Process.Pid, stop}
}

// A unitProcess is the process group of a unit.
type unitProcess struct {
	pid  int
	stop func()
}

// upload sends the guest's journal to a host until it is stopped or the host is
// unreachable.
func (m *machine) upload(h *host) (stop func()) {
	m.Helper()
	m.run("", "journalctl", "--sync")
	cmd := m.command(upload, "-u", h.url, "-D", "/var/log/journal/"+m.id, "--save-state=/run/upload", "--follow")
	testenv.Must(m, cmd.Start())
	stop = func() {
		if cmd.ProcessState == nil {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	m.Cleanup(stop)
	return stop
}

// awaitCopy waits until the host has the guest's status and result.
func (h *host) awaitCopy(m *machine, guest string) {
	h.Helper()
	want := testenv.ReadIfExists(h, filepath.Join(guest, "status.json"))
	for until := time.Now().Add(time.Minute); testenv.ReadIfExists(h, filepath.Join(h.dir(m), "status.json")) != want ||
		testenv.ReadIfExists(h, filepath.Join(h.dir(m), "result.json")) != testenv.ReadIfExists(h, filepath.Join(guest, "result.json")); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			h.Fatalf("the status or result did not arrive within a minute; the host has\n%s%sthe guest has\n%s", testenv.ReadIfExists(h, filepath.Join(h.dir(m), "events.jsonl")), testenv.ReadIfExists(h, filepath.Join(h.dir(m), "status.json")), want)
		}
	}
	h.checkEvents(m, guest)
}

// checkEvents checks that the host has each event of the guest. One may be missing if
// rebuild has warned about it, because systemd's programs may omit a field of an entry
// that is being written.
func (h *host) checkEvents(m *machine, guest string) {
	h.Helper()
	has, stderr := testenv.ReadIfExists(h, filepath.Join(h.dir(m), "events.jsonl")), testenv.ReadIfExists(h, filepath.Join(h.fleet, m.id+".stderr"))
	lost := 0
	for line := range strings.Lines(testenv.ReadIfExists(h, filepath.Join(guest, "events.jsonl"))) {
		if rest, ok := strings.CutPrefix(has, line); ok {
			has = rest
		} else {
			lost++
		}
	}
	if has != "" || lost > 1 || (lost > 0 && !strings.Contains(stderr, " is missing; ")) {
		h.Errorf("%d events of the guest are missing; these are extra:\n%.2000s\nstderr\n%s", lost, has, stderr)
	}
	if lost > 0 {
		h.Logf("systemd omitted a field of an entry:\n%s", stderr)
	}
}

// The host is unreachable for a while, and its units are restarted. Then the
// directory of each guest is complete again. In each guest, somebody has tried ingest with
// another state directory first.
func TestFleet_host_restarted(t *testing.T) {
	h := newHost(t)
	guests := []*machine{newJournal(t, 41), newJournal(t, 42)}
	var dirs []string
	var stops []func()
	for i, m := range guests {
		dir := testenv.TempDir(t)
		m.ingest(testenv.TempDir(t), "STATE=ready\n")
		m.ingest(dir, strings.ReplaceAll(exampleRun, "it failed", fmt.Sprint("guest ", i, " failed")))
		dirs, stops = append(dirs, dir), append(stops, m.upload(h), h.startUnit(m, dir).stop)
	}
	for i, m := range guests {
		h.awaitCopy(m, dirs[i])
	}

	h.stopRemote()
	for i, m := range guests {
		m.ingest(dirs[i], "STATE=starting MESSAGE='while the host is down'\n")
	}
	for _, stop := range stops {
		stop()
	}
	h.start()
	for i, m := range guests {
		m.upload(h)
		h.startUnit(m, dirs[i])
		h.awaitCopy(m, dirs[i])
		if got := seqs(t, h.dir(m), "events.jsonl"); got != "1 2 3 4 5 6" {
			t.Errorf("the copy has seqs %s, want 1 to 6", got)
		}
	}
	if text := testenv.ReadIfExists(t, filepath.Join(h.dir(guests[0]), "result.json")); text != "" {
		t.Errorf("the copy has a result after the start of a run\n%s", text)
	}
}

// Many guests write at the same time. The test measures the time until the host has
// all events, and the memory that the host needs.
func TestFleet_many_guests(t *testing.T) {
	n := 3
	if os.Getenv("SWEEP") != "" {
		n = 50
	}
	h := newHost(t)
	guests, dirs := make([]*machine, n), make([]string, n)
	var followers []int
	for i := range guests {
		guests[i], dirs[i] = newJournal(t, 100+i), testenv.TempDir(t)
		guests[i].ingest(dirs[i], exampleRun)
		guests[i].upload(h)
	}
	start := time.Now()
	for i, m := range guests {
		followers = append(followers, h.startUnit(m, dirs[i]).pid)
	}
	for i, m := range guests {
		h.awaitCopy(m, dirs[i])
	}
	caughtUp := time.Since(start)
	start = time.Now()
	for i, m := range guests {
		m.ingest(dirs[i], many(99)+"STATE=failed EXIT_CODE=1\n")
	}
	written := time.Since(start)
	for i, m := range guests {
		h.awaitCopy(m, dirs[i])
	}
	all := time.Since(start)
	t.Logf("%d guests: the units read the existing entries in %v; the guests wrote 100 events each in %v, and the host had them all after %v; memory: %d MiB for systemd-journal-remote, %d MiB for the units (shared pages counted once)",
		n, caughtUp.Round(time.Millisecond), written.Round(time.Millisecond), all.Round(time.Millisecond), memory(t, h.remote.Process.Pid), memory(t, followers...))
}

// memory returns the memory of process groups in MiB. If n processes share a page,
// it counts as 1/n for each.
func memory(t testing.TB, groups ...int) int {
	t.Helper()
	kib := 0
	paths, err := filepath.Glob("/proc/[0-9]*/smaps_rollup")
	testenv.Must(t, err)
	for _, path := range paths {
		var pid int
		fmt.Sscanf(path, "/proc/%d/", &pid)
		group, err := syscall.Getpgid(pid)
		if err != nil || (!slices.Contains(groups, group) && !slices.Contains(groups, pid)) {
			continue
		}
		text, _ := os.ReadFile(path)
		_, pss, _ := strings.Cut(string(text), "\nPss:")
		var n int
		fmt.Sscan(pss, &n)
		kib += n
	}
	return kib >> 10
}
