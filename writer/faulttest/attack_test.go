//go:build linux && amd64

package faulttest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A trap is an object by which an attacker, who owns the directory, replaces a file.
// set creates it at path. The canary is a file outside the directory.
type trap struct {
	name string
	set  func(path, canary string) error
}

func traps() []trap {
	return []trap{
		{"absolute link", func(path, canary string) error { return os.Symlink(canary, path) }},
		{"relative link", func(path, canary string) error { return os.Symlink("../../outside/canary", path) }},
		{"dangling link", func(path, canary string) error { return os.Symlink(canary+".new", path) }},
		{"hard link", func(path, canary string) error { return os.Link(canary, path) }},
		{"FIFO", func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
		{"device", func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"directory", func(path, _ string) error { return os.Mkdir(path, 0o777) }},
	}
}

// attacked returns the names of the files that the attacker replaces.
func attacked() []string {
	return []string{"status.json", "events.jsonl", "events.jsonl.seq", "result.json", "rejected.jsonl",
		"events.jsonl.torn", "events.jsonl.1", "result.json.prev"}
}

// nobody is the user that owns the attacked directory if the tests run as root.
const nobody = 65534

const canaryText = "outside\n"

// setCanary creates the canary, with an old modification time, and gives the
// directory to the user nobody.
func (b *bench) setCanary() error {
	path := filepath.Join(b.outside(), "canary")
	if err := os.WriteFile(path, []byte(canaryText), 0o600); err != nil {
		return err
	}
	long := time.Unix(1e9, 0)
	if err := os.Chtimes(path, long, long); err != nil || !testenv.IsRoot() {
		return err
	}
	for _, name := range append(namesIn(b.dir()), ".") {
		if err := os.Lchown(filepath.Join(b.dir(), name), nobody, nobody); err != nil {
			return err
		}
	}
	return nil
}

// checkCanary checks that nothing outside the directory was changed, and that the
// program exited without a crash or a kill.
func checkCanary(b *bench, j *job, tl *trial, g *ledger) {
	if !slices.Contains([]int{0, 1, j.s.code}, tl.exit.code) || strings.Contains(tl.stderr, "goroutine ") {
		g.find(blocked, "exit %d", tl.exit.code)
	}
	if err := os.RemoveAll(b.dir()); err != nil { // also the hard link to the canary
		g.find(notRepaired, "%v", err)
	}
	path := filepath.Join(b.outside(), "canary")
	text, _ := os.ReadFile(path)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		g.find(changedOutside, "%v", err)
	}
	if string(text) != canaryText || st.Mode != unix.S_IFREG|0o600 || int(st.Uid) != os.Getuid() || st.Nlink != 1 || st.Mtim.Sec != 1e9 {
		g.find(changedOutside, "the canary: %q, %+v", text, st)
	}
	if names := namesIn(b.outside()); !slices.Equal(names, []string{"canary"}) {
		g.find(changedOutside, "the files outside are %q", names)
	}
}

// swapJob replaces the file called name by a trap.
func swapJob(s *scenario, c *call, tp trap, name string) job {
	arm := func(b *bench) func(int) error {
		err := b.setCanary()
		return func(int) error {
			path := filepath.Join(b.dir(), name)
			if err == nil {
				err = os.RemoveAll(path)
			}
			if err == nil {
				err = tp.set(path, filepath.Join(b.outside(), "canary"))
			}
			return err
		}
	}
	return job{s: s, call: c.String(), arm: arm, check: checkCanary, owned: true,
		f: fault{act: hooked, at: c.n, label: ": " + name + " becomes a " + tp.name}}
}

// attackJobs returns the jobs that replace files at every call, with every kind of
// trap: the file that the call uses, and another one.
func attackJobs(s *scenario, calls []*call) (jobs []job) {
	names := attacked()
	for _, c := range calls {
		for k, tp := range traps() {
			if tp.name == "device" && !testenv.CanMknod() {
				continue
			}
			other := names[(c.n*3+k)%len(names)]
			if name := filepath.Base(c.object); slices.Contains(names, name) && name != other {
				jobs = append(jobs, swapJob(s, c, tp, name))
			}
			jobs = append(jobs, swapJob(s, c, tp, other))
		}
	}
	return jobs
}

// TestAttack_swapped_files replaces files by traps, as the owner of the directory
// could, while the writer runs, as root if possible.
func TestAttack_swapped_files(t *testing.T) {
	t.Parallel()
	program, n := program(t), share(t, 120)
	if !testenv.IsRoot() {
		t.Log("not root: the owner of the directory is not changed")
	}
	minPoints := 3690
	if !testenv.CanMknod() {
		t.Log("no CAP_MKNOD: devices are not tried")
		minPoints = minPoints * 6 / 7
	}
	var jobs []job
	for _, name := range []string{"status/existing", "event/existing", "event/torn line", "result/existing",
		"ingest/run in one commit", "ingest/rejects", "ingest/rotation"} {
		s := named(t, name)
		calls := callsOf(t, program, s)
		if s.ingests() {
			s.args = append(s.args, "--write-timeout=1ms", "--grace=1s")
		}
		jobs = append(jobs, attackJobs(s, calls)...)
	}
	trySome(t, program, "attacker swaps", jobs, n, minPoints)
}
