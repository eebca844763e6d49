//go:build linux && amd64

package faulttest

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// guestLines is the input of ingest in the guest, more than it has time to read.
var guestLines = many(3000)[0]

// TestKilledMachine kills a machine under load several times, and checks its disk at
// each next boot.
func TestKilledMachine(t *testing.T) {
	kernel := needMachines(t)
	cycles, _ := strconv.Atoi(os.Getenv("PIKA_QEMU_CYCLES"))
	if cycles == 0 {
		testenv.Missing(t, "PIKA_QEMU_CYCLES, the number of machines to kill")
	}
	ext4 := guestFileSystem{fileSystem: fileSystems()[0], modules: []string{"crc32c_generic", "ext4"}}
	m := newMachine(t, testenv.Program(t), kernel, ext4)
	ty, acks := m.cycles(t, cycles)
	t.Logf("lines acknowledged: %d", acks)
	ty.report(t, "machines killed", cycles)
	t.Run("mutant", func(t *testing.T) {
		mutant := powerMutants()[withoutLogSync]
		m := newMachine(t, mutant.build(t), kernel, ext4)
		if ty, _ := m.cycles(t, 1); ty.kinds[lost] == 0 {
			t.Errorf("the program %s has lost nothing: %s", mutant.name, ty.shown)
		}
	})
}

// needMachines returns the directory with the kernel for the guests. It ends the test if
// no guest can be started.
func needMachines(t *testing.T) (kernel string) {
	t.Helper()
	if os.Getenv("SWEEP") == "" {
		t.Skip("starts machines, which takes minutes; set SWEEP=full and PIKA_QEMU_KERNEL, see docs/reliability.md")
	}
	kernel = os.Getenv("PIKA_QEMU_KERNEL")
	if kernel == "" {
		testenv.Missing(t, "PIKA_QEMU_KERNEL, with what testdata/qemu/fetch-kernel fetched")
	}
	testenv.Tool(t, "qemu-system-x86_64")
	return kernel
}

// A guestFileSystem is a file system on the disk of a guest, or a directory of the host
// that the guest mounts.
type guestFileSystem struct {
	fileSystem
	modules []string // those that they depend on are found, except that of a checksum
	shared  bool     // a directory of the host
}

// A machine is a guest with a disk, or with a directory of the host.
type machine struct {
	fs           guestFileSystem
	kernel       string
	initrd       string
	disk, shared string // paths on the host
}

// newMachine creates a disk, and an initramfs with the program.
func newMachine(t *testing.T, program, kernel string, fs guestFileSystem) *machine {
	t.Helper()
	dir := t.TempDir()
	found, err := filepath.Glob(filepath.Join(kernel, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has the kernels %q: %v", kernel, found, err)
	}
	m := &machine{fs: fs, kernel: found[0], initrd: filepath.Join(dir, "initrd")}
	if fs.shared {
		m.shared = mountTmpfs(t).dir
	} else {
		m.disk = filepath.Join(dir, "disk")
		testenv.Tool(t, fs.mkfs[0])
		testenv.Must(t, os.WriteFile(m.disk, nil, 0o600), os.Truncate(m.disk, 64<<20))
		run(t, append(fs.mkfs, m.disk)...)
	}
	initial := filepath.Join(dir, "init")
	testenv.Must(t, testenv.Build(initial, "./testdata/qemu/init"))
	checker, err := conformance()
	testenv.Must(t, err)
	var a archive
	a.addFile(t, "init", initial)
	a.addFile(t, "program", program)
	a.addFile(t, "conformance", checker)
	for i, path := range modulePaths(t, kernel, append([]string{"virtio_pci", "virtio_blk"}, fs.modules...)) {
		a.addFile(t, fmt.Sprintf("modules/%03d.ko", i), path)
	}
	input := ""
	for _, l := range guestLines {
		input += l.text + "\n"
	}
	a.add("input", 0o100644, []byte(input))
	a.add("next", 0o100644, []byte(nextInput()))
	a.add("TRAILER!!!", 0, nil)
	testenv.Must(t, os.WriteFile(m.initrd, a.Bytes(), 0o600))
	return m
}

// modulePaths returns the paths of the modules and of all that they depend on, in the
// order in which they are loaded.
func modulePaths(t *testing.T, kernel string, names []string) (paths []string) {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(kernel, func(path string, _ fs.DirEntry, err error) error {
		if name, isModule := strings.CutSuffix(filepath.Base(path), ".ko"); isModule {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	testenv.Must(t, err)
	added := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if name == "" || added[name] {
			return
		}
		added[name] = true
		if all[name] == "" {
			testenv.Missing(t, "a kernel with the module %s", name)
		}
		for _, other := range strings.Split(moduleInfo(t, all[name])["depends"], ",") {
			add(strings.ReplaceAll(other, "-", "_"))
		}
		paths = append(paths, all[name])
	}
	for _, name := range names {
		add(name)
	}
	return paths
}

// moduleInfo returns what modinfo(8) prints.
func moduleInfo(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := elf.Open(path)
	testenv.Must(t, err)
	defer file.Close()
	text, err := file.Section(".modinfo").Data()
	testenv.Must(t, err)
	info := map[string]string{}
	for _, field := range strings.Split(string(text), "\x00") {
		name, value, _ := strings.Cut(field, "=")
		info[name] = value
	}
	return info
}

// An archive is a cpio archive that the kernel unpacks into its initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	bytes.Buffer
	dirs map[string]bool
}

func (a *archive) addFile(t *testing.T, name, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	testenv.Must(t, err)
	if dir := filepath.Dir(name); dir != "." && !a.dirs[dir] {
		a.dirs = map[string]bool{dir: true}
		a.add(dir, 0o040755, nil)
	}
	a.add(name, 0o100755, data)
}

func (a *archive) add(name string, mode int, data []byte) {
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.Len()+1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

// cycles boots and kills the machine n times. At each boot it checks that everything
// that was acknowledged before is on the disk. acks is the number of acknowledged lines.
func (m *machine) cycles(t *testing.T, n int) (ty *tally, acks int) {
	t.Helper()
	ty = newTally()
	b := m.boot(t, "load=cycle-0")
	for i := range n {
		acked := b.killAt(t, 20+37*i%200)
		acks += acked
		if i+1 < n {
			b = m.boot(t, fmt.Sprintf("read=cycle-%d load=cycle-%d", i, i+1))
		} else {
			b = m.boot(t, fmt.Sprintf("read=cycle-%d", i))
		}
		ty.points["kill"]++
		for _, f := range b.examine(t, acked) {
			ty.kinds[f.kind]++
			ty.shown = append(ty.shown, fmt.Sprintf("cycle %d, line %d acknowledged: %s: %s", i, acked, f.kind, f.text))
		}
	}
	b.killAt(t, 0)
	return ty, acks
}

// A boot is a running machine.
type boot struct {
	cmd     *exec.Cmd
	out     *os.File // what console reads
	console *bufio.Reader
}

// boot starts the machine. It does not use KVM, which most CI systems do not have.
func (m *machine) boot(t *testing.T, options string) *boot {
	t.Helper()
	args := []string{"-M", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-smp", "1",
		"-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-net", "none", "-kernel", m.kernel, "-initrd", m.initrd,
		"-append", fmt.Sprintf("console=ttyS0 quiet panic=-1 fs=%s fsoptions=%s %s", m.fs.kind, m.fs.options, options)}
	switch m.fs.kind {
	case "9p":
		args = append(args, sharedWith9p(m.shared)...)
	case "virtiofs":
		args = append(args, sharedWithVirtiofs(m.serve(t))...)
	default:
		args = append(args, "-drive", "file="+m.disk+",if=virtio,format=raw,cache=writeback")
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	testenv.Must(t, cmd.Start())
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); r.Close() })
	return &boot{cmd, r, bufio.NewReader(r)}
}

// sharedWith9p returns the arguments of qemu that share a directory of the host.
func sharedWith9p(dir string) []string {
	return []string{"-virtfs", "local,security_model=passthrough,mount_tag=shared,path=" + dir}
}

// sharedWithVirtiofs returns the arguments of qemu that share the directory of the virtiofsd
// that listens on the socket.
func sharedWithVirtiofs(socket string) []string {
	return []string{"-object", "memory-backend-memfd,id=memory,size=512M,share=on", "-numa", "node,memdev=memory",
		"-chardev", "socket,id=fs,path=" + socket, "-device", "vhost-user-fs-pci,chardev=fs,tag=shared"}
}

// virtiofsd is the path of the server of virtiofs, which is not in PATH (package
// qemu-system-common).
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// serve starts a server of virtiofs for one boot, and returns the path of its socket. The
// server ends when the machine does.
func (m *machine) serve(t *testing.T) (socket string) {
	t.Helper()
	testenv.Tool(t, virtiofsd)
	socket = filepath.Join(testenv.PlainDir(t), "socket")
	cmd := exec.Command(virtiofsd, "--socket-path="+socket, "-f", "-o", "source="+m.shared, "-o", "sandbox=chroot")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	testenv.Must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		select {
		case err := <-ended:
			t.Fatalf("%s: %v\n%s", virtiofsd, err, &text)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen", virtiofsd)
	return ""
}

// guestLimit is the limit for each line of the guest. Without KVM, a busy machine boots a
// guest in up to a minute.
const guestLimit = 4 * time.Minute

// line returns the next line that the guest writes for the test; "" if the machine has
// ended.
func (b *boot) line(t *testing.T) string {
	t.Helper()
	for {
		testenv.Must(t, b.out.SetReadDeadline(time.Now().Add(guestLimit)))
		text, err := b.console.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the machine hangs; %q", text)
		}
		if err != nil {
			return ""
		}
		text = strings.TrimRight(text, "\r\n")
		if strings.HasPrefix(text, "@ERROR") {
			t.Fatal(text)
		}
		if strings.HasPrefix(text, "@") {
			return text
		}
	}
}

// killAt kills the machine when the line with this number is acknowledged, and returns
// the number of the last acknowledged line.
func (b *boot) killAt(t *testing.T, number int) (acked int) {
	t.Helper()
	for acked < number {
		text := b.line(t)
		if _, err := fmt.Sscanf(text, "@ACK %d", &acked); err != nil {
			t.Fatalf("%q instead of the acknowledgement of line %d: %v", text, number, err)
		}
	}
	testenv.Must(t, b.cmd.Process.Kill())
	_ = b.cmd.Wait() // returns an error, because the machine was killed
	for text := b.line(t); text != ""; text = b.line(t) {
		if n, _ := fmt.Sscanf(text, "@ACK %d", &number); n == 1 {
			acked = number
		}
	}
	return acked
}

// examine checks the files on the disk of the machine, as they are at boot and after the
// next writer has run.
func (b *boot) examine(t *testing.T, acked int) []finding {
	t.Helper()
	found, repaired, code := map[string]string{}, map[string]string{}, 0
	for text := b.line(t); text != "@SHOWN"; text = b.line(t) {
		words := strings.Split(text, " ") // an empty file has an empty text
		switch {
		case len(words) == 3 && words[0] == "@FOUND":
			addFile(t, found, words)
		case len(words) == 3 && words[0] == "@REPAIRED":
			addFile(t, repaired, words)
		case len(words) > 1 && words[0] == "@NEXT":
			code, _ = strconv.Atoi(words[1])
		default:
			t.Fatalf("unexpected line %q", text)
		}
	}
	before := pictureOf(found, allowance{torn: []string{eventsLog, rejectsLog}, nuls: true})
	g := &ledger{before: new(picture), lines: guestLines, acked: acked}
	g.check(before)
	if len(before.invalidFiles) > 0 {
		return g.findings
	}
	now, next := pictureOf(repaired, allowance{}), &ledger{before: before, lines: nextLines(), acked: len(nextLines())}
	if code != nextCode {
		next.find(notRepaired, "the next writer exited with %d, want %d", code, nextCode)
	}
	next.check(now)
	next.checkRepaired(now)
	return append(g.findings, next.findings...)
}

func addFile(t *testing.T, files map[string]string, words []string) {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(words[2])
	testenv.Must(t, err)
	files[words[1]] = string(text)
}
