//go:build linux && amd64

package faulttest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// A mounted directory is on the file system under test. other is the same directory on
// the file system below, or "" if there is none. disk is nil unless the file system is on
// a loop device.
type mounted struct {
	dir, other string
	disk       *disk
}

// mounts returns the functions that mount the file systems of this kernel, by name.
func mounts() map[string]func(*testing.T) mounted {
	all := map[string]func(*testing.T) mounted{"tmpfs": mountTmpfs, "overlayfs": mountOverlay, "FUSE (bindfs)": mountBindfs}
	for _, fs := range append(fileSystems(), fileSystem{"btrfs", "btrfs", 128 << 20, "", []string{"mkfs.btrfs", "-q"}}) {
		name := strings.TrimSuffix(fs.name, "-ordered")
		all[name] = func(t *testing.T) mounted {
			needLoop(t)
			fs.need(t)
			d := fs.newDisk(t)
			return mounted{dir: d.root, disk: d}
		}
	}
	delete(all, "ext4-writeback")
	return all
}

// mountTmpfs mounts a file system in memory, small enough to be filled.
func mountTmpfs(t *testing.T) mounted {
	testenv.Mount(t)
	dir := testenv.TempDir(t)
	testenv.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return mounted{dir: dir}
}

// mountOverlay mounts an overlay. Its lower directory has the files of an earlier run in
// the state directory of one check, so the program changes files of the lower directory.
func mountOverlay(t *testing.T) mounted {
	base := mountTmpfs(t).dir
	at := func(name string) string { return filepath.Join(base, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		testenv.Must(t, os.Mkdir(at(name), 0o755))
	}
	cmd := exec.Command(testenv.Program(t), "ingest", "--state-dir="+at("lower/verify"))
	cmd.Stdin = strings.NewReader("STATE=starting\nSTATE=completed\n")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
		testenv.Missing(t, "a kernel with overlayfs (%v)", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at("merged"), unix.MNT_DETACH) })
	return mounted{dir: at("merged")}
}

func mountBindfs(t *testing.T) mounted {
	base := mountTmpfs(t).dir
	lower, merged := filepath.Join(base, "lower"), filepath.Join(base, "merged")
	testenv.Must(t, os.Mkdir(lower, 0o755), os.Mkdir(merged, 0o755))
	testenv.Bindfs(t, lower, merged)
	return mounted{dir: merged, other: lower}
}

// An answer is the result of a check: "yes", "no" or "skip".
type answer struct{ word, remark string }

// conformance builds the program that checks a file system, once for all tests. It reads
// the source files, so that the test cache of go test depends on them.
var conformance = sync.OnceValues(func() (path string, err error) {
	sources, err := filepath.Glob("testdata/conformance/*.go")
	for _, source := range sources {
		if _, err := os.ReadFile(source); err != nil {
			return "", err
		}
	}
	path = filepath.Join(testenv.Shared(), "conformance")
	return path, errors.Join(err, testenv.Build(path, "./testdata/conformance"))
})

// runConformance runs the program that checks a file system, and returns its answers by
// the name of the check.
func runConformance(t *testing.T, checker string, args ...string) map[string]answer {
	t.Helper()
	cmd := exec.Command(checker, args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	testenv.Must(t, err)
	answers := map[string]answer{}
	for line := range strings.Lines(string(text)) {
		addAnswer(t, line, answers)
	}
	return answers
}

func addAnswer(t *testing.T, line string, answers map[string]answer) {
	t.Helper()
	var name string
	var a answer
	if _, err := fmt.Sscanf(strings.TrimSpace(line), "@CHECK %s %s %q", &name, &a.word, &a.remark); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	answers[name] = a
}

// TestFileSystems checks what the program promises on the file systems of this kernel,
// and compares the answers with the table in docs/reliability.md.
func TestFileSystems(t *testing.T) {
	program, python := testenv.Program(t), testenv.Python(t)
	checker, err := conformance()
	testenv.Must(t, err)
	for name, mount := range mounts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mount(t)
			answers := runConformance(t, checker, "-python", python, "-writer", module+"/testdata/python_writer.py",
				"-other", m.other, program, m.dir)
			if name == "tmpfs" {
				answers["power"] = answer{"no", "it is in memory"}
			} else if m.disk != nil {
				answers["power"] = m.disk.survivesPowerLoss(t, program, checker)
			}
			compareWithTable(t, name, answers)
		})
	}
	if os.Getenv("SWEEP") == "" {
		return // only the sweeps build the mutant
	}
	t.Run("mutant", func(t *testing.T) {
		mutant := powerMutants()[withoutLogSync].build(t)
		for name, mount := range mounts() {
			if d := mount(t).disk; d != nil && d.survivesPowerLoss(t, mutant, checker).word != "no" {
				t.Errorf("%s: the program without the sync of the log has lost nothing", name)
			}
		}
	})
}

// guestFileSystems returns the file systems that are tested in a guest, because the kernel
// of a test machine often lacks them.
func guestFileSystems() map[string]guestFileSystem {
	return map[string]guestFileSystem{
		"f2fs":  {fileSystem: fileSystem{kind: "f2fs", mkfs: []string{"mkfs.f2fs", "-q", "-f"}}, modules: []string{"crc32_generic", "f2fs"}},
		"vfat":  {fileSystem: fileSystem{kind: "vfat", mkfs: []string{"mkfs.vfat"}}, modules: []string{"vfat", "nls_cp437", "nls_ascii"}},
		"exfat": {fileSystem: fileSystem{kind: "exfat", mkfs: []string{"mkfs.exfat"}}, modules: []string{"exfat", "nls_utf8"}},
		"9p": {fileSystem: fileSystem{kind: "9p", options: "trans=virtio,version=9p2000.L"},
			modules: []string{"9p", "9pnet_virtio"}, shared: true},
		"virtiofs": {fileSystem: fileSystem{kind: "virtiofs"}, modules: []string{"virtiofs"}, shared: true},
	}
}

// TestFileSystems_guest does the same in guests, each with a file system. It also kills a
// guest under load, and checks the files at its next boot.
func TestFileSystems_guest(t *testing.T) {
	kernel, program := needMachines(t), testenv.Program(t)
	for name, fs := range guestFileSystems() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, program, kernel, fs)
			answers := m.check(t, program)
			answers["power"] = m.killed(t, 3)
			compareWithTable(t, name, answers)
		})
	}
}

// check boots the guest and reads the answers.
func (m *machine) check(t *testing.T, program string) map[string]answer {
	t.Helper()
	answers := map[string]answer{}
	option := "check=checks"
	if m.fs.shared {
		option = "check-shared=checks"
	}
	b := m.boot(t, option)
	for text := b.line(t); text != "@END" && text != ""; text = b.line(t) {
		var name string
		if _, err := fmt.Sscanf(text, "@WRITE %s", &name); err != nil {
			addAnswer(t, text, answers)
		} else {
			run(t, program, "status", "--state-dir="+filepath.Join(m.shared, "checks", name), "--state=ready", "--message=now")
		}
	}
	testenv.Must(t, b.cmd.Wait())
	return answers
}

// killed kills the guest n times. The answer is "no" if a promise is broken at one of the
// next boots.
func (m *machine) killed(t *testing.T, n int) answer {
	t.Helper()
	found, acks := m.cycles(t, n)
	if len(found.shown) > 0 {
		return answer{"no", strings.Join(found.shown, "\n")}
	}
	return answer{"yes", fmt.Sprintf("%d lines were acknowledged", acks)}
}

// survivesPowerLoss kills ingest under load, copies the image of the disk as it is at
// that moment, and checks that the copy has every acknowledged line. The copy lacks all
// that the kernel has not written to the device, as after a power loss. This is possible
// with every file system; the ioctl of [disk.losePower] exists only for some.
func (d *disk) survivesPowerLoss(t *testing.T, program, checker string) (last answer) {
	t.Helper()
	for round := range 3 {
		acked, name := 10+20*round, fmt.Sprintf("round-%d", round)
		d.killWriter(t, program, filepath.Join(d.root, name, "power"), acked)
		image := d.copyImage(t)
		testenv.Must(t, d.unmount()) // before the copy is mounted, because both have the same UUID
		later := &disk{fileSystem: d.fileSystem, base: filepath.Dir(image), root: filepath.Join(filepath.Dir(image), "watched")}
		testenv.Must(t, os.Mkdir(later.root, 0o755))
		later.attach(t, image)
		testenv.Must(t, later.mount())
		last = runConformance(t, checker, "-acked", fmt.Sprint(acked), program, filepath.Join(later.root, name))["power"]
		later.remove(t, image)
		testenv.Must(t, d.mount())
		if last.word != "yes" {
			break
		}
	}
	return last
}

// copyImage returns a copy of the image as it was at one moment. The kernel may write to
// the image while it is copied, so copyImage copies it again until it has not changed.
func (d *disk) copyImage(t *testing.T) (path string) {
	t.Helper()
	image, path := filepath.Join(d.base, "image"), filepath.Join(testenv.TempDir(t), "image")
	for range 20 {
		run(t, "cp", image, path)
		if exec.Command("cmp", "--silent", image, path).Run() == nil {
			return path
		}
	}
	t.Fatalf("%s changes all the time", image)
	return ""
}

// killWriter kills ingest when it has acknowledged this many lines, and has more to read.
func (d *disk) killWriter(t *testing.T, program, dir string, acked int) {
	t.Helper()
	s := startStream(t, program, dir)
	for i := range acked + 5 {
		s.write(t, line{text: fmt.Sprintf("STATE=ready MESSAGE=line-%d", i+1)})
		if i < acked {
			s.acknowledged(t, i+1)
		}
	}
	testenv.Must(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait() // returns an error, because ingest was killed
}

// columns lists the checks that each column of the table in docs/reliability.md
// summarises, in the order of the columns.
var columns = [][]string{
	{"crash", "torn", "verify"},
	{"power"},
	{"seq", "rotation"},
	{"replace"},
	{"full"},
	{"repair"},
	{"wait"},
	{"wait-other"},
	{"links"},
	{"modes"},
}

// compareWithTable compares the answers with the row of the file system in the table in
// docs/reliability.md. A cell is "yes" if all of its checks are; "no" if one of them is;
// "not always" if the answers of these checks differ from run to run; "not tested", or "–"
// if that makes no sense, if one could not be done.
func compareWithTable(t *testing.T, fs string, answers map[string]answer) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		t.Logf("%-10s %-4s %s", name, answers[name].word, answers[name].remark)
	}
	cells := tableRow(t, fs)
	for i, names := range columns {
		want := "yes"
		for _, name := range names {
			a, done := answers[name]
			if !done || a.word == "skip" {
				want = "not tested"
			} else if a.word == "no" {
				want = "no"
				break
			}
		}
		cell := cells[i]
		switch {
		case cell == want:
		case cell == "–" && want == "not tested":
		case cell == "not always" && want != "not tested":
		default:
			t.Errorf("the table says %q about %v, but the test found %q", cell, names, want)
		}
	}
}

// tableRow returns the cells of the row of a file system, without the first.
func tableRow(t *testing.T, fs string) []string {
	t.Helper()
	for row := range strings.Lines(testenv.ReadFile(t, module+"/docs/reliability.md")) {
		cells := strings.Split(strings.Trim(row, "|\n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == fs && len(cells) == len(columns)+1 {
			return cells[1:]
		}
	}
	t.Fatalf("docs/reliability.md has no row for %s with %d cells", fs, len(columns)+1)
	return nil
}
