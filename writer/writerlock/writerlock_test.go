package writerlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

const (
	testBoot  = "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11"
	otherBoot = "00000000-53f0-4b3a-9c39-2f0c1a5d7b11"
)

func openDir(t testing.TB, path string) *dirfs.Dir {
	t.Helper()
	d := new(dirfs.Dir)
	testenv.Must(t, d.Open(path))
	t.Cleanup(d.Close)
	return d
}

// acquire acquires a lock in this process.
func acquire(t testing.TB, dir string, kind Kind) *Lock {
	t.Helper()
	l := new(Lock)
	testenv.Must(t, l.Acquire(openDir(t, dir), kind, testBoot))
	t.Cleanup(func() { l.Release(false) })
	return l
}

func expect(t testing.TB, dir string, want ...Writer) {
	t.Helper()
	got, err := Read(dir, testBoot)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("writers %v, %v; expected %v", got, err, want)
	}
}

func size(t testing.TB, dir string) int64 {
	t.Helper()
	info, err := os.Lstat(filepath.Join(dir, Name))
	testenv.Must(t, err)
	return info.Size()
}

func TestLock_killed(t *testing.T) {
	for _, kind := range []Kind{Run, Ingest, Rebuild} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()
			w := hold(t, dir, kind)
			expect(t, dir, Writer{kind, w.pid(), Alive})
			w.kill()
			expect(t, dir, Writer{kind, w.pid(), Dead})
		})
	}
}

// A process that exits without Release is dead too, for example after a panic.
func TestLock_exit_without_release(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Ingest)
	w.end()
	expect(t, dir, Writer{Ingest, w.pid(), Dead})
}

func TestLock_restart(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []Kind{Run, Ingest} {
		w := hold(t, dir, kind)
		w.kill()
		l := acquire(t, dir, kind)
		if !l.ReplacedDead() || l.slot != w.slot {
			t.Errorf("%s: replaced a dead writer %v, in slot %d; expected true, in slot %d", kind, l.ReplacedDead(), l.slot, w.slot)
		}
		expect(t, dir, Writer{kind, os.Getpid(), Alive})
		l.Release(false)
		expect(t, dir)
	}
}

func TestLock_one_of_two_dies(t *testing.T) {
	dir := t.TempDir()
	a, b := hold(t, dir, Ingest), hold(t, dir, Ingest)
	r := hold(t, dir, Run)
	expect(t, dir, Writer{Run, r.pid(), Alive}, Writer{Ingest, a.pid(), Alive}, Writer{Ingest, b.pid(), Alive})
	a.kill()
	expect(t, dir, Writer{Run, r.pid(), Alive}, Writer{Ingest, a.pid(), Dead}, Writer{Ingest, b.pid(), Alive})
	b.do("release")
	expect(t, dir, Writer{Run, r.pid(), Alive}, Writer{Ingest, a.pid(), Dead})
	r.do("clear")
	expect(t, dir, Writer{Run, r.pid(), Alive})
	r.do("release")
	expect(t, dir)
}

func TestLock_second_run(t *testing.T) {
	dir := t.TempDir()
	first := hold(t, dir, Run)
	var l Lock
	err := l.Acquire(openDir(t, dir), Run, testBoot)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != first.pid() || held.Kind != Run {
		t.Errorf("error %v; expected that PID %d holds the lock", err, first.pid())
	}
	expect(t, dir, Writer{Run, first.pid(), Alive})
	acquire(t, dir, Ingest)
	first.do("release")
	testenv.Must(t, l.Acquire(openDir(t, dir), Run, testBoot))
	l.Release(false)
}

// A run that has locked its slot and did not write its record yet excludes others too.
func TestLock_second_run_without_record(t *testing.T) {
	dir := t.TempDir()
	hold(t, dir, Run)
	f, err := os.OpenFile(filepath.Join(dir, Name), os.O_WRONLY, 0)
	testenv.Must(t, err)
	defer f.Close()
	_, err = f.WriteAt(blank(), 0)
	testenv.Must(t, err)
	var l Lock
	var held *HeldError
	err = l.Acquire(openDir(t, dir), Run, testBoot)
	if !errors.As(err, &held) || held.PID != 0 {
		t.Errorf("error %v; expected that an unknown process holds the lock", err)
	}
}

// The last of the writers truncates the file, in whatever order they end.
func TestRelease_truncates(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		dir := t.TempDir()
		locks := []*Lock{acquire(t, dir, Run), acquire(t, dir, Ingest), acquire(t, dir, Rebuild)}
		inode := locks[0].file.ID()
		for i, n := range order {
			if size(t, dir) == 0 {
				t.Errorf("order %v: truncated before writer %d ends", order, i)
			}
			locks[n].Release(false)
		}
		if size(t, dir) != 0 {
			t.Errorf("order %v: the file has %d bytes; expected 0", order, size(t, dir))
		}
		if again := acquire(t, dir, Run); again.file.ID() != inode || again.ReplacedDead() {
			t.Errorf("order %v: the next writer has file %v; expected %v, without a dead writer", order, again.file.ID(), inode)
		}
	}
}

func TestRelease_keep(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Ingest)
	w.do("keep")
	expect(t, dir, Writer{Ingest, w.pid(), Dead}) // the process still exists
	l := acquire(t, dir, Run)
	l.Release(false)
	expect(t, dir, Writer{Ingest, w.pid(), Dead})
	if size(t, dir) == 0 {
		t.Error("a clean end has truncated the record of a dead writer")
	}
	l = acquire(t, dir, Run)
	testenv.Must(t, l.ClearDead())
	l.Release(false)
	expect(t, dir)
	if size(t, dir) != 0 {
		t.Errorf("the file has %d bytes; expected 0", size(t, dir))
	}
}

func TestClearDead_own_and_others_records_stay(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Ingest)
	l := acquire(t, dir, Ingest)
	testenv.Must(t, l.ClearDead())
	expect(t, dir, Writer{Ingest, w.pid(), Alive}, Writer{Ingest, os.Getpid(), Alive})
	w.do("clear")
	expect(t, dir, Writer{Ingest, w.pid(), Alive}, Writer{Ingest, os.Getpid(), Alive})
	testenv.Must(t, new(Lock).ClearDead())
}

func TestRead_copied_directory(t *testing.T) {
	for _, dead := range []bool{false, true} {
		from, to := t.TempDir(), t.TempDir()
		w := hold(t, from, Run)
		if dead {
			w.kill()
		}
		text, err := os.ReadFile(filepath.Join(from, Name))
		testenv.Must(t, err, os.WriteFile(filepath.Join(to, Name), text, 0o600))
		expect(t, to, Writer{Run, w.pid(), Unknown})
		l := acquire(t, to, Run) // a record whose slot is not locked does not prevent a run
		if l.ReplacedDead() {
			t.Error("a record of another file counts as a dead writer")
		}
	}
}

func TestRead_other_boot(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Run)
	w.kill()
	for _, boot := range []string{otherBoot, ""} {
		got, err := Read(dir, boot)
		if want := []Writer{{Run, w.pid(), Unknown}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("boot %q: writers %v, %v; expected %v", boot, got, err, want)
		}
	}
	var l Lock
	testenv.Must(t, l.Acquire(openDir(t, dir), Ingest, otherBoot))
	testenv.Must(t, l.ClearDead())
	l.Release(false)
	if size(t, dir) != 0 {
		t.Error("a record of an earlier boot stays for ever")
	}
}

// Without a boot ID, nothing is known about a writer, dead or alive.
func TestLock_unknown_boot(t *testing.T) {
	dir := t.TempDir()
	var l Lock
	testenv.Must(t, l.Acquire(openDir(t, dir), Run, ""))
	for _, boot := range []string{"", noBootID, testBoot} {
		got, err := Read(dir, boot)
		if want := []Writer{{Run, os.Getpid(), Unknown}}; boot != noBootID && (err != nil || !slices.Equal(got, want)) {
			t.Errorf("writers %v, %v; expected %v", got, err, want)
		}
	}
	var held *HeldError
	if err := new(Lock).Acquire(openDir(t, dir), Run, ""); !errors.As(err, &held) {
		t.Errorf("error %v; expected that the first run holds the lock", err)
	}
	l.Release(false)
}

// A command that the writer has started lives on and has no descriptor of the file.
func TestLock_command_does_not_hold_it(t *testing.T) {
	testenv.Tool(t, "sleep")
	dir := t.TempDir()
	w := hold(t, dir, Run)
	fmt.Fprintln(w.in, "fork")
	command := w.number()
	w.line()
	t.Cleanup(func() { unix.Kill(command, unix.SIGKILL) })
	w.kill()
	if err := unix.Kill(command, 0); err != nil {
		t.Fatalf("the command has ended: %v", err)
	}
	expect(t, dir, Writer{Run, w.pid(), Dead})
}

func TestLock_all_slots(t *testing.T) {
	dir := t.TempDir()
	var locks []*Lock
	for slot := 1; slot < slots; slot++ {
		l := acquire(t, dir, Ingest)
		if l.slot != slot {
			t.Fatalf("got slot %d; expected %d", l.slot, slot)
		}
		locks = append(locks, l)
	}
	if err := new(Lock).Acquire(openDir(t, dir), Ingest, testBoot); !errors.Is(err, ErrNoSlot) {
		t.Errorf("error %v; expected %v", err, ErrNoSlot)
	}
	r := acquire(t, dir, Run) // has its own slot
	if writers, err := Read(dir, testBoot); len(writers) != slots || err != nil {
		t.Errorf("%d writers, %v; expected %d", len(writers), err, slots)
	}
	locks[9].Release(false)
	if l := acquire(t, dir, Ingest); l.slot != 10 {
		t.Errorf("got slot %d; expected 10", l.slot)
	}
	r.Release(false)
}

func TestLock_mode_and_umask(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	testenv.Must(t, os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o666))
	acquire(t, dir, Run)
	info, err := os.Stat(path)
	testenv.Must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v; expected 0600", info.Mode())
	}
}

func TestRead_missing(t *testing.T) { expect(t, t.TempDir()) }

// An ordinary user may not read the file of another user, and learns nothing.
func TestRead_of_another_user(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Run)
	w.kill()
	if os.Geteuid() == 0 {
		testenv.Root(t)
		testenv.Must(t, os.Chmod(filepath.Dir(dir), 0o755))
		testenv.OpenToAll(t, dir)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		testenv.Must(t, unix.Setfsuid(54321))
		defer unix.Setfsuid(0)
	} else {
		testenv.Must(t, os.Chmod(filepath.Join(dir, Name), 0))
	}
	writers, err := Read(dir, testBoot)
	if len(writers) != 0 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("writers %v, %v; expected a permission error", writers, err)
	}
	if err := new(Lock).Acquire(openDir(t, dir), Run, testBoot); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Acquire returns %v; expected a permission error", err)
	}
}

// Text that no writer wrote has no writers in it, and does not stop the next writer.
func TestRead_forged(t *testing.T) {
	valid := string((&record{kind: Run, pid: 1, bootID: testBoot}).text())
	for name, text := range map[string]string{
		"random":       strings.Repeat("\xff\x00\x1b[31m", 5000),
		"short":        "run 1",
		"no_newline":   strings.Repeat("run 1 ", 30)[:recordSize],
		"escapes":      strings.Replace(valid, "run", "\x1b[3", 1),
		"negative":     strings.Replace(valid, " 1 ", " -1", 1),
		"huge_number":  strings.Replace(valid, "run 1 ", "run 99999999999 ", 1)[:recordSize],
		"no_kind":      strings.Replace(valid, "run", "   ", 1),
		"more_fields":  strings.Replace(valid, "0:0 0", "0:0 0 7", 1)[:recordSize-1] + "\n",
		"two_newlines": strings.Replace(valid, "run 1", "run\n1", 1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			testenv.Must(t, os.WriteFile(filepath.Join(dir, Name), []byte(text), 0o600))
			expect(t, dir)
			l := acquire(t, dir, Run)
			expect(t, dir, Writer{Run, os.Getpid(), Alive})
			testenv.Must(t, l.ClearDead())
			l.Release(false)
			expect(t, dir)
		})
	}
}

// Only the slots are read, however long the file is.
func TestRead_endless(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	testenv.Must(t, os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
	start := time.Now()
	allocated := testing.AllocsPerRun(1, func() { expect(t, dir) })
	acquire(t, dir, Run)
	expect(t, dir, Writer{Run, os.Getpid(), Alive})
	if took := time.Since(start); took > 10*time.Second || allocated > 1000 {
		t.Errorf("took %v and %v allocations", took, allocated)
	}
}

func TestAcquire_other_kinds_of_file(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	testenv.Must(t, os.WriteFile(outside, []byte("x"), 0o644))
	for name, c := range map[string]struct {
		make func(path string) error
		want error
		read error
	}{
		"symlink":   {func(p string) error { return os.Symlink(outside, p) }, dirfs.ErrSymlink, dirfs.ErrSymlink},
		"link":      {func(p string) error { return os.Link(outside, p) }, dirfs.ErrLinked, nil},
		"fifo":      {func(p string) error { return unix.Mkfifo(p, 0o600) }, dirfs.ErrNotRegular, dirfs.ErrNotRegular},
		"directory": {func(p string) error { return os.Mkdir(p, 0o700) }, dirfs.ErrDirectory, dirfs.ErrDirectory},
		"device":    {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, dirfs.ErrNotRegular, dirfs.ErrNotRegular},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := c.make(filepath.Join(dir, Name))
			if errors.Is(err, unix.EPERM) {
				testenv.Missing(t, "the permission to create a device")
			}
			testenv.Must(t, err)
			if err := new(Lock).Acquire(openDir(t, dir), Ingest, testBoot); !errors.Is(err, c.want) {
				t.Errorf("Acquire returns %v; expected %v", err, c.want)
			}
			writers, err := Read(dir, testBoot)
			if len(writers) != 0 || (c.read != nil && !errors.Is(err, c.read)) {
				t.Errorf("Read returns %v, %v; expected %v", writers, err, c.read)
			}
			if text := testenv.ReadFile(t, outside); text != "x" {
				t.Errorf("the file outside contains %q", text)
			}
		})
	}
}

// Another process removes and replaces the file all the time.
func TestAcquire_swapped(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			os.Remove(path)
			switch n % 4 {
			case 0:
				unix.Mkfifo(path, 0o600)
			case 1:
				os.Symlink("/etc/hostname", path)
			case 2:
				os.WriteFile(path, []byte(strings.Repeat("x", 3*recordSize)), 0o600)
			}
		}
	}()
	start := time.Now()
	for range 200 {
		var l Lock
		_ = l.Acquire(openDir(t, dir), Run, testBoot)
		l.Release(false)
		_, _ = Read(dir, testBoot)
	}
	close(stop)
	<-stopped
	if took := time.Since(start); took > 100*time.Second {
		t.Errorf("took %v", took)
	}
}

// Another process holds a lock on the whole file.
func TestAcquire_locked_file(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, Name))
	testenv.Must(t, err)
	defer f.Close()
	locked, err := setLock(int(f.Fd()), wholeRange)
	if !locked || err != nil {
		t.Fatal(locked, err)
	}
	var l Lock
	for _, kind := range []Kind{Run, Ingest} {
		err := l.Acquire(openDir(t, dir), kind, testBoot)
		var held *HeldError
		if err == nil || errors.As(err, &held) {
			t.Errorf("%s: error %v; expected one that is not of a run", kind, err)
		}
	}
	if !l.hasWaited {
		t.Error("later calls wait again")
	}
	unlock(int(f.Fd()), wholeRange)
	testenv.Must(t, l.Acquire(openDir(t, dir), Run, testBoot))
	l.Release(false)
}

// Acquire waits for a process that clears slots or truncates the file.
func TestAcquire_waits_for_a_moment(t *testing.T) {
	for name, r := range map[string]byteRange{"clear": momentRange(0), "truncate": wholeRange} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := os.Create(filepath.Join(dir, Name))
			testenv.Must(t, err)
			defer f.Close()
			if locked, err := setLock(int(f.Fd()), r); !locked || err != nil {
				t.Fatal(locked, err)
			}
			unlocked := make(chan struct{})
			time.AfterFunc(20*time.Millisecond, func() {
				unlock(int(f.Fd()), r)
				close(unlocked)
			})
			acquire(t, dir, Run)
			<-unlocked
		})
	}
}

// A process that clears a slot is not its writer.
func TestRead_slot_being_cleared(t *testing.T) {
	dir := t.TempDir()
	w := hold(t, dir, Run)
	w.kill()
	f, err := os.OpenFile(filepath.Join(dir, Name), os.O_RDWR, 0)
	testenv.Must(t, err)
	defer f.Close()
	if locked, err := setLock(int(f.Fd()), momentRange(0)); !locked || err != nil {
		t.Fatal(locked, err)
	}
	expect(t, dir, Writer{Run, w.pid(), Dead})
}

// A stream whose directory was removed and created again has no lock in the new one.
func TestLock_directory_replaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := openDir(t, dir)
	var l Lock
	testenv.Must(t, l.Acquire(d, Run, testBoot))
	if !l.IsHeldIn(d) {
		t.Error("the lock is not held")
	}
	moved := dir + ".moved"
	testenv.Must(t, os.Rename(dir, moved), d.Open(dir))
	if l.IsHeldIn(d) {
		t.Error("the lock counts as held in the new directory")
	}
	testenv.Must(t, l.Acquire(d, Run, testBoot))
	expect(t, dir, Writer{Run, os.Getpid(), Alive})
	expect(t, moved)
	l.Release(false)
	if l.IsHeldIn(d) {
		t.Error("the lock counts as held after Release")
	}
}

// TestRead_race checks that a reader never takes a writer for dead while many processes
// acquire and release locks, and clear and truncate the file. No writer is killed.
func TestRead_race(t *testing.T) {
	dir := t.TempDir()
	var writers []*child
	for n := range 6 {
		kind := Ingest
		if n == 0 {
			kind = Run
		}
		writers = append(writers, start(t, "repeat", dir, kind))
	}
	deadline := time.Now().Add(3 * time.Second)
	alive, unknown, reads := 0, 0, 0
	for ; time.Now().Before(deadline) || (alive == 0 && reads < 1e6); reads++ {
		got, err := Read(dir, testBoot)
		testenv.Must(t, err)
		for _, w := range got {
			switch w.State {
			case Dead:
				t.Fatalf("read %d: %v is alive", reads, w)
			case Alive:
				alive++
			case Unknown:
				unknown++
			}
		}
	}
	total := 0
	for _, w := range writers {
		w.in.Close()
		n := w.number()
		if n == 0 {
			t.Error("a writer did not get the lock")
		}
		total += n
		testenv.Must(t, w.cmd.Wait())
	}
	expect(t, dir)
	acquire(t, dir, Run).Release(false) // of two writers that end at the same moment, neither truncates the file
	if size(t, dir) != 0 {
		t.Errorf("the file has %d bytes after all writers have ended", size(t, dir))
	}
	t.Logf("%d reads, %d alive, %d unknown; %d locks", reads, alive, unknown, total)
}

// A writer that has opened a file which is then removed or replaced tries again.
func TestAcquire_file_lost_its_name(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	d := openDir(t, dir)
	f, err := d.OpenFile(Name, unix.O_RDWR|unix.O_CREAT, 0o600)
	testenv.Must(t, err, os.Remove(path))
	defer f.Close()
	if _, err := lockFile(d, f, Run); !errors.Is(err, errReplaced) || !isBrief(err) {
		t.Errorf("removed: error %v; expected %v", err, errReplaced)
	}
	testenv.Must(t, os.WriteFile(path, nil, 0o600))
	if _, err := lockFile(d, f, Run); !errors.Is(err, errReplaced) || !isBrief(err) {
		t.Errorf("replaced: error %v; expected %v", err, errReplaced)
	}
	acquire(t, dir, Run)
}

// TestRead_writer_ends_meanwhile lets a writer end, and perhaps start again, between the
// two reads of a slot. The lock is then free when it is tested, and no writer has died.
func TestRead_writer_ends_meanwhile(t *testing.T) {
	for _, again := range []bool{false, true} {
		dir := t.TempDir()
		l := acquire(t, dir, Run)
		d := openDir(t, dir)
		f, err := d.OpenFile(Name, unix.O_RDONLY, 0)
		testenv.Must(t, err)
		defer f.Close()
		tests := 0
		w, ok := readWriter(f.Fd(), 0, testBoot, f.ID(), func(fd int, slot byteRange) (bool, error) {
			tests++
			if tests > 1 {
				return hasWriter(fd, slot)
			}
			l.Release(false)
			isAlive, err := hasWriter(fd, slot)
			if again {
				testenv.Must(t, l.Acquire(d, Run, testBoot))
			}
			return isAlive, err
		})
		if want := (Writer{Run, os.Getpid(), Alive}); ok != again || (again && w != want) {
			t.Errorf("it starts again: %v; the writer is %v, %v", again, w, ok)
		}
	}
}

// A slot that changes each time it is read has a writer whose state is unknown.
func TestRead_slot_changes_always(t *testing.T) {
	dir := t.TempDir()
	l := acquire(t, dir, Run)
	d := openDir(t, dir)
	f, err := d.OpenFile(Name, unix.O_RDONLY, 0)
	testenv.Must(t, err)
	defer f.Close()
	w, ok := readWriter(f.Fd(), 0, testBoot, f.ID(), func(int, byteRange) (bool, error) {
		l.Release(false)
		testenv.Must(t, l.Acquire(d, Run, testBoot))
		return false, nil
	})
	if want := (Writer{Run, os.Getpid(), Unknown}); !ok || w != want {
		t.Errorf("the writer is %v, %v; expected %v", w, ok, want)
	}
}
