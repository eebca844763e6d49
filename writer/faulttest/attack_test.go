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

// A replacement is an object with which an attacker, who owns the directory, replaces a
// file. create creates it at path. outside is the path of a file outside the directory.
type replacement struct {
	name   string
	create func(path, outside string) error
}

func replacements() []replacement {
	return []replacement{
		{"absolute link", func(path, outside string) error { return os.Symlink(outside, path) }},
		{"relative link", func(path, outside string) error { return os.Symlink("../../outside/file", path) }},
		{"dangling link", func(path, outside string) error { return os.Symlink(outside+".new", path) }},
		{"hard link", func(path, outside string) error { return os.Link(outside, path) }},
		{"FIFO", func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
		{"device", func(path, _ string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"directory", func(path, _ string) error { return os.Mkdir(path, 0o777) }},
	}
}

// attackedFiles returns the names of the files that the attacker replaces.
func attackedFiles() []string {
	return []string{"status.json", "events.jsonl", "events.jsonl.seq", "result.json", "rejected.jsonl",
		"events.jsonl.torn", "events.jsonl.1", "result.json.prev", "writer.lock"}
}

// attackerID is the user that owns the attacked directory if the tests run as root.
const attackerID = 65534

const outsideText = "outside\n"

// prepareAttack creates the file outside the directory, with an old modification time. As
// root, it gives the directory to the user attackerID.
func (b *bench) prepareAttack() error {
	path := filepath.Join(b.outside(), "file")
	if err := os.WriteFile(path, []byte(outsideText), 0o600); err != nil {
		return err
	}
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(path, old, old); err != nil || !testenv.IsRoot() {
		return err
	}
	for _, name := range append(namesIn(b.dir()), ".") {
		if err := os.Lchown(filepath.Join(b.dir(), name), attackerID, attackerID); err != nil {
			return err
		}
	}
	return nil
}

// checkOutsideFile checks that nothing outside the directory was changed, and that the
// program did not crash and was not killed.
func checkOutsideFile(b *bench, j *job, tl *trial, g *ledger) {
	if !slices.Contains([]int{0, 1, j.s.code}, tl.exit.code) || strings.Contains(tl.stderr, "goroutine ") {
		g.find(blocked, "exit %d", tl.exit.code)
	}
	if err := os.RemoveAll(b.dir()); err != nil { // with the hard link to the file outside
		g.find(notRepaired, "%v", err)
	}
	path := filepath.Join(b.outside(), "file")
	text, _ := os.ReadFile(path)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		g.find(changedOutside, "%v", err)
	}
	if string(text) != outsideText || st.Mode != unix.S_IFREG|0o600 || int(st.Uid) != os.Getuid() || st.Nlink != 1 || st.Mtim.Sec != 1e9 {
		g.find(changedOutside, "the file contains %q and has the status %+v", text, st)
	}
	if names := namesIn(b.outside()); !slices.Equal(names, []string{"file"}) {
		g.find(changedOutside, "the files outside are %q", names)
	}
}

// replaceJob replaces the file called name.
func replaceJob(s *scenario, c *call, r replacement, name string) job {
	newHook := func(b *bench) func(int) error {
		err := b.prepareAttack()
		return func(int) error {
			path := filepath.Join(b.dir(), name)
			if err == nil {
				err = os.RemoveAll(path)
			}
			if err == nil {
				err = r.create(path, filepath.Join(b.outside(), "file"))
			}
			return err
		}
	}
	return job{s: s, call: c.String(), newHook: newHook, check: checkOutsideFile, attacked: true,
		f: fault{act: hooked, at: c.n, label: ": " + name + " is replaced: " + r.name}}
}

// attackJobs returns the jobs that replace a file at a call, for every call and every
// kind of replacement: the file that the call uses, and another one.
func attackJobs(s *scenario, calls []*call) (jobs []job) {
	names := attackedFiles()
	for _, c := range calls {
		for k, r := range replacements() {
			if r.name == "device" && !testenv.CanMknod() {
				continue
			}
			other := names[(c.n*3+k)%len(names)]
			if name := filepath.Base(c.object); slices.Contains(names, name) && name != other {
				jobs = append(jobs, replaceJob(s, c, r, name))
			}
			jobs = append(jobs, replaceJob(s, c, r, other))
		}
	}
	return jobs
}

// TestAttack_replaced_files replaces files , as the owner of the directory
// could, while the writer runs, as root if possible.
func TestAttack_replaced_files(t *testing.T) {
	t.Parallel()
	program, n := program(t), sampleOneIn(t, 120)
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
		s := scenarioNamed(t, name)
		calls := callsOf(t, program, s)
		if s.ingests() {
			s.args = append(s.args, "--write-timeout=1ms", "--grace=1s")
		}
		jobs = append(jobs, attackJobs(s, calls)...)
	}
	sweepSample(t, program, "replaced files", jobs, n, minPoints)
}
