//go:build linux && amd64

package faulttest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// guestModules lists the kernel modules for the disk, in the order in which they are
// loaded.
var guestModules = []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"}

// guestLines is the input of ingest in the guest, more than it has time to read.
var guestLines = many(3000)[0]

// TestKilledMachine kills a machine under load several times, and checks its disk at
// each next boot.
func TestKilledMachine(t *testing.T) {
	if os.Getenv("SWEEP") == "" {
		t.Skip("runs only with SWEEP=full")
	}
	cycles, _ := strconv.Atoi(os.Getenv("PIKA_QEMU_CYCLES"))
	kernel := os.Getenv("PIKA_QEMU_KERNEL")
	if cycles == 0 || kernel == "" {
		testenv.Missing(t, "PIKA_QEMU_CYCLES, and PIKA_QEMU_KERNEL with what testdata/qemu/fetch-kernel fetched")
	}
	testenv.Tools(t, "qemu-system-x86_64", "mkfs.ext4")
	m := newMachine(t, testenv.Program(t), kernel)
	ty, acks := m.cycles(t, cycles)
	t.Logf("lines acknowledged: %d", acks)
	ty.report(t, "machines killed", cycles)
	t.Run("mutant", func(t *testing.T) {
		mutant := powerMutants()[withoutLogSync]
		m := newMachine(t, mutant.build(t), kernel)
		if ty, _ := m.cycles(t, 1); ty.kinds[lost] == 0 {
			t.Errorf("the program %s has lost nothing: %s", mutant.name, ty.shown)
		}
	})
}

// A machine is a guest with a disk.
type machine struct{ kernel, initrd, disk string }

// newMachine creates a disk, and an initramfs with the program.
func newMachine(t *testing.T, program, kernel string) *machine {
	t.Helper()
	dir := t.TempDir()
	found, err := filepath.Glob(filepath.Join(kernel, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has the kernels %q: %v", kernel, found, err)
	}
	m := &machine{found[0], filepath.Join(dir, "initrd"), filepath.Join(dir, "disk")}
	testenv.Must(t, os.WriteFile(m.disk, nil, 0o600))
	testenv.Must(t, os.Truncate(m.disk, 64<<20))
	run(t, "mkfs.ext4", "-q", "-F", m.disk)
	initial := filepath.Join(dir, "init")
	testenv.Must(t, testenv.Build(initial, "./testdata/qemu/init"))
	var a archive
	a.addFile(t, "init", initial)
	a.addFile(t, "program", program)
	for i, name := range guestModules {
		a.addFile(t, fmt.Sprintf("modules/%d.ko", i), findModule(t, kernel, name))
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

func findModule(t *testing.T, kernel, name string) string {
	t.Helper()
	for _, pattern := range []string{"lib/modules/*/kernel/drivers/*", "usr/lib/modules/*/kernel/drivers/*"} {
		found, err := filepath.Glob(filepath.Join(kernel, pattern, name+".ko"))
		testenv.Must(t, err)
		if len(found) == 1 {
			return found[0]
		}
	}
	t.Fatalf("%s has no module %s", kernel, name)
	return ""
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
	console *bufio.Reader
}

// boot starts the machine. It does not use KVM, which most CI systems do not have.
func (m *machine) boot(t *testing.T, options string) *boot {
	t.Helper()
	cmd := exec.Command("qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-smp", "1",
		"-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-net", "none", "-kernel", m.kernel, "-initrd", m.initrd,
		"-append", "console=ttyS0 quiet panic=-1 "+options, "-drive", "file="+m.disk+",if=virtio,format=raw,cache=writeback")
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	testenv.Must(t, r.SetDeadline(time.Now().Add(waitLimit)))
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	testenv.Must(t, cmd.Start())
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); r.Close() })
	return &boot{cmd, bufio.NewReader(r)}
}

// line returns the next line that the guest writes for the test; "" if the machine has
// ended.
func (b *boot) line(t *testing.T) string {
	t.Helper()
	for {
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
	for repaired["status.json"] == "" { // the last file that the guest shows
		text := b.line(t)
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
