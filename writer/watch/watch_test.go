package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// limit is for a wait that should end.
const limit = 30 * time.Second

// A change happens to the directory a/b/c below root, or on the path to it.
type change struct {
	name   string
	before func(root string) error // if nil, a/b/c exists
	change func(root string) error
}

func mkdir(root string) error { return os.MkdirAll(root+"/a/b/c", 0o755) }

func write(path string) error { return os.WriteFile(path, []byte("x"), 0o644) }

func all(errs ...error) error { return errors.Join(errs...) }

func changes() []change {
	return []change{
		{"file created", nil, func(r string) error { return write(r + "/a/b/c/f") }},
		{"file written in place", func(r string) error { return all(mkdir(r), write(r+"/a/b/c/f")) },
			func(r string) error {
				f, err := os.OpenFile(r+"/a/b/c/f", os.O_WRONLY|os.O_APPEND, 0)
				_, err2 := f.WriteString("y")
				return all(err, err2, f.Close())
			}},
		{"file replaced", func(r string) error { return all(mkdir(r), write(r+"/a/b/c/f"), write(r+"/a/b/c/.f1")) },
			func(r string) error { return os.Rename(r+"/a/b/c/.f1", r+"/a/b/c/f") }},
		{"file removed", func(r string) error { return all(mkdir(r), write(r+"/a/b/c/f")) },
			func(r string) error { return os.Remove(r + "/a/b/c/f") }},
		{"file moved out", func(r string) error { return all(mkdir(r), write(r+"/a/b/c/f")) },
			func(r string) error { return os.Rename(r+"/a/b/c/f", r+"/a/b/f") }},
		{"file made readable", func(r string) error { return all(mkdir(r), write(r+"/a/b/c/f"), os.Chmod(r+"/a/b/c/f", 0)) },
			func(r string) error { return os.Chmod(r+"/a/b/c/f", 0o644) }},
		{"directory created", func(r string) error { return os.MkdirAll(r+"/a/b", 0o755) }, mkdir},
		{"parents created", func(string) error { return nil }, mkdir},
		{"directory removed", nil, func(r string) error { return os.Remove(r + "/a/b/c") }},
		{"directory renamed", nil, func(r string) error { return os.Rename(r+"/a/b/c", r+"/a/b/d") }},
		{"directory replaced", func(r string) error { return all(mkdir(r), os.Mkdir(r+"/a/b/d", 0o755), write(r+"/a/b/d/f")) },
			func(r string) error {
				return unix.Renameat2(unix.AT_FDCWD, r+"/a/b/c", unix.AT_FDCWD, r+"/a/b/d", unix.RENAME_EXCHANGE)
			}},
		{"parent renamed", nil, func(r string) error { return os.Rename(r+"/a", r+"/x") }},
		{"parent replaced", func(r string) error { return all(mkdir(r), os.MkdirAll(r+"/x/b/c", 0o755)) },
			func(r string) error {
				return unix.Renameat2(unix.AT_FDCWD, r+"/a", unix.AT_FDCWD, r+"/x", unix.RENAME_EXCHANGE)
			}},
		{"link to the directory replaced", func(r string) error {
			return all(os.MkdirAll(r+"/a/b", 0o755), os.Mkdir(r+"/1", 0o755), os.Mkdir(r+"/2", 0o755),
				os.Symlink("../../1", r+"/a/b/c"), os.Symlink("../../2", r+"/a/b/d"))
		}, func(r string) error { return os.Rename(r+"/a/b/d", r+"/a/b/c") }},
		{"target of a link created", func(r string) error {
			return all(os.MkdirAll(r+"/a/b", 0o755), os.Symlink(r+"/1/2", r+"/a/b/c"))
		}, func(r string) error { return os.MkdirAll(r+"/1/2", 0o755) }},
		{"target of a link replaced", func(r string) error {
			return all(os.MkdirAll(r+"/1/c", 0o755), os.Mkdir(r+"/a", 0o755), os.Symlink("../1/./../1", r+"/a/b"))
		}, func(r string) error { return all(os.Rename(r+"/1", r+"/2"), os.MkdirAll(r+"/1/c", 0o755)) }},
		{"file replaced by directory", func(r string) error { return all(os.MkdirAll(r+"/a/b", 0o755), write(r+"/a/b/c")) },
			func(r string) error { return all(os.Remove(r+"/a/b/c"), os.Mkdir(r+"/a/b/c", 0o755)) }},
	}
}

func TestWait(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			before := c.before
			if before == nil {
				before = mkdir
			}
			testenv.Must(t, before(root))
			d := open(t, root+"/a/b/c")
			checkNoChange(t, d)
			testenv.Must(t, c.change(root))
			for awaitChange(t, d, limit); awaitChange(t, d, 0); { // until all changes are reported
			}
			// The path is watched as it is now.
			testenv.Must(t, mkdir(root), write(root+"/a/b/c/next"))
			for range 4 { // directories are created one by one
				awaitChange(t, d, limit)
				if _, err := os.Stat(root + "/a/b/c/next"); err == nil {
					break
				}
			}
			for awaitChange(t, d, 0) {
			}
			testenv.Must(t, write(root+"/a/b/c/last"))
			if !awaitChange(t, d, limit) {
				t.Error("the next change was not seen")
			}
		})
	}
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	testenv.Must(t, err)
	t.Cleanup(d.Close)
	return d
}

// awaitChange waits for a change. Unless the timeout is 0, there must be one.
func awaitChange(t *testing.T, d *Dir, timeout time.Duration) bool {
	t.Helper()
	changed, err := d.Wait(timeout)
	if err != nil || (!changed && timeout != 0) {
		t.Fatalf("changed %v, %v", changed, err)
	}
	return changed
}

// checkNoChange checks that nothing has changed.
func checkNoChange(t *testing.T, d *Dir) {
	t.Helper()
	if awaitChange(t, d, 0) {
		t.Fatal("a change was seen, but there was none")
	}
}

func TestWait_ignores_other_files(t *testing.T) {
	root := t.TempDir()
	testenv.Must(t, mkdir(root))
	d := open(t, root+"/a/b/c")
	testenv.Must(t, write(root+"/a/f"), os.Mkdir(root+"/a/x", 0o755), write(root+"/f"), write(root+"/a/b/c/.status.json123"),
		os.Remove(root+"/a/b/c/.status.json123"))
	checkNoChange(t, d)
}

func TestWait_queue_overflow(t *testing.T) {
	root := t.TempDir()
	testenv.Must(t, mkdir(root))
	d := open(t, root+"/a/b/c")
	// Ignored names fill the queue, and the events after them are lost.
	most, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	testenv.Must(t, err)
	var n int
	if _, err := fmt.Sscan(string(most), &n); err != nil || n > 1<<17 {
		testenv.Missing(t, "an inotify queue that can be filled; set fs.inotify.max_queued_events to at most 131072 (%d, %v)", n, err)
	}
	for i := 0; i <= n/2; i++ {
		testenv.Must(t, write(root+"/a/b/c/.t"), os.Remove(root+"/a/b/c/.t"))
	}
	testenv.Must(t, write(root+"/a/b/c/f"))
	awaitChange(t, d, limit)
	testenv.Must(t, write(root+"/a/b/c/g"))
	awaitChange(t, d, limit)
}

func TestWait_timeout(t *testing.T) {
	d := open(t, t.TempDir())
	if changed, err := d.Wait(time.Millisecond); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestWait_stop(t *testing.T) {
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer r.Close()
	d := open(t, t.TempDir())
	d.Stop = int(r.Fd())
	testenv.Must(t, w.Close())
	for range 2 {
		ended := make(chan bool, 1)
		go func() {
			changed, err := d.Wait(-1)
			ended <- changed || err != nil
		}()
		select {
		case wrong := <-ended:
			if wrong {
				t.Error("Wait reported a change or an error")
			}
		case <-time.After(limit):
			t.Fatal("the wait did not end")
		}
	}
}

// Wait ends when the reader of the output is closed, and not before, although the
// descriptor of a socket is readable.
func TestWait_output(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	testenv.Must(t, err)
	r, w, err := os.Pipe()
	testenv.Must(t, err)
	defer w.Close()
	defer unix.Close(pair[0])
	_, err = unix.Write(pair[1], []byte("text"))
	testenv.Must(t, err)
	for name, output := range map[string]struct {
		fd    int
		close func() error
	}{
		"pipe":   {int(w.Fd()), r.Close},
		"socket": {pair[0], func() error { return unix.Close(pair[1]) }},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d := open(t, root)
			d.Output = output.fd
			testenv.Must(t, os.WriteFile(root+"/f", nil, 0o644))
			if changed, err := d.Wait(limit); !changed || err != nil {
				t.Fatalf("changed %v, %v; want a change while the output is open", changed, err)
			}
			for { // the change may have been more than one event
				changed, err := d.Wait(0)
				testenv.Must(t, err)
				if !changed {
					break
				}
			}
			testenv.Must(t, output.close())
			ended := make(chan bool, 1)
			go func() {
				changed, err := d.Wait(-1)
				ended <- changed || err != nil
			}()
			select {
			case wrong := <-ended:
				if wrong {
					t.Error("Wait reported a change or an error")
				}
			case <-time.After(limit):
				t.Fatal("the wait did not end")
			}
		})
	}
}

func TestOpen_unreadable_directory(t *testing.T) {
	root := t.TempDir()
	testenv.Must(t, os.Chmod(filepath.Dir(root), 0o755), os.Chmod(root, 0o777))
	asOrdinaryUser(t, root)
	testenv.Must(t, mkdir(root), os.Chmod(root+"/a/b/c", 0o311))
	if d, err := Open(root + "/a/b/c"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("opened %v, %v", d, err)
	}
	testenv.Must(t, os.Chmod(root+"/a/b/c", 0o755), os.Chmod(root+"/a/b", 0o311))
	d := open(t, root+"/a/b/c") // the path can be searched
	testenv.Must(t, write(root+"/a/b/c/f"))
	awaitChange(t, d, limit)
	testenv.Must(t, os.Chmod(root+"/a/b", 0o755)) // for the removal of the directory
}

// asOrdinaryUser lets a test that runs as root access files as user 1000, without
// capabilities (setfsuid(2), credentials(7)).
func asOrdinaryUser(t *testing.T, root string) {
	if os.Geteuid() != 0 {
		return
	}
	testenv.Root(t)
	testenv.OpenToAll(t, root)
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	testenv.Must(t, unix.Setfsuid(1000))
	t.Cleanup(func() { unix.Setfsuid(0) })
}

func TestWait_mount(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	root := t.TempDir()
	testenv.Must(t, mkdir(root))
	d := open(t, root+"/a/b/c")
	checkNoChange(t, d)
	testenv.Must(t, unix.Mount("t", root+"/a/b", "tmpfs", 0, ""))
	awaitChange(t, d, limit)
	for awaitChange(t, d, 0) {
	}
	testenv.Must(t, mkdir(root))
	awaitChange(t, d, limit)
	for awaitChange(t, d, 0) {
	}
	testenv.Must(t, unix.Unmount(root+"/a/b", unix.MNT_DETACH))
	awaitChange(t, d, limit)
}

// In each round of TestWait_busy_writer, a writer creates and renames the directory as
// fast as it can, and a reader waits for the file that the writer creates at the end. If
// Wait misses a change, the reader waits until the limit.
func TestWait_busy_writer(t *testing.T) {
	const rounds = 100
	root := t.TempDir()
	d := open(t, root+"/a/b/c")
	for n := range rounds {
		go changeRepeatedly(root, n)
		for !fileExists(root, n) {
			awaitChange(t, d, limit)
		}
	}
}

// changeRepeatedly replaces the directory and its parents several times, and creates the
// file n in it at the end.
func changeRepeatedly(root string, n int) {
	for i := range n % 7 {
		dir := filepath.Join(root, []string{"a", "a/b", "a/b/c"}[i%3])
		mkdir(root)
		os.Rename(dir, fmt.Sprintf("%s/x%d-%d", root, n, i))
	}
	mkdir(root)
	os.WriteFile(root+"/a/b/c/.tmp", nil, 0o644)
	os.Rename(root+"/a/b/c/.tmp", fmt.Sprintf("%s/a/b/c/%d", root, n))
}

func fileExists(root string, n int) bool {
	_, err := os.Stat(fmt.Sprintf("%s/a/b/c/%d", root, n))
	return err == nil
}

// On a shared file system inotify does not report changes that are made elsewhere. Wait
// returns in time for the caller to look again.
func TestWait_shared_file_system(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	root := t.TempDir()
	testenv.Must(t, os.Mkdir(root+"/elsewhere", 0o755), os.Mkdir(root+"/a", 0o755))
	testenv.Bindfs(t, root+"/elsewhere", root+"/a")
	d := open(t, root+"/a/b/c")
	testenv.Must(t, os.MkdirAll(root+"/elsewhere/b/c", 0o755), write(root+"/elsewhere/b/c/f"))
	start := time.Now()
	awaitChange(t, d, limit)
	if waited := time.Since(start); waited > 3*PollInterval {
		t.Errorf("waited %v", waited)
	}
	if d.watches.target < 0 {
		t.Error("the new directory is not watched")
	}
	for awaitChange(t, d, 0) {
	}
	start = time.Now()
	testenv.Must(t, write(root+"/a/b/c/g")) // a change on this machine is reported at once
	awaitChange(t, d, limit)
	if waited := time.Since(start); waited > PollInterval/2 {
		t.Errorf("waited %v for a local change", waited)
	}
	checkNoChange(t, d)
	start = time.Now()
	if changed, err := d.Wait(PollInterval / 10); changed || err != nil || time.Since(start) > PollInterval/2 {
		t.Errorf("changed %v, %v after %v", changed, err, time.Since(start))
	}
}

// ignoreMounts makes a Dir ignore mounts: the tests of other packages may mount something.
func ignoreMounts(d *Dir) {
	if d.mounts >= 0 {
		unix.Close(d.mounts)
		d.mounts = -1
	}
}

// A local file system is not polled.
func TestWait_local_file_system(t *testing.T) {
	t.Parallel()
	d := open(t, "/run/pika-test/missing")
	ignoreMounts(d)
	if isShared("/run") {
		testenv.Missing(t, "/run on a local file system; mount a tmpfs there")
	}
	if changed, err := d.Wait(PollInterval * 3 / 2); changed || err != nil || d.watches.shared {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestHas9p(t *testing.T) {
	const mounts = `22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 28 0:42 / /mnt rw,noatime shared:1 master:2 - 9p share rw,trans=virtio
37 28 0:43 / /mnt/9p\040- rw - tmpfs 9p rw
`
	for minor, want := range map[uint32]bool{21: false, 42: true, 43: false, 4: false} {
		if got := has9p(mounts, unix.Mkdev(0, minor)); got != want {
			t.Errorf("0:%d is 9p: %v", minor, got)
		}
	}
}

// Several waits that are shorter than PollInterval together see a change elsewhere.
func TestWait_shared_file_system_short(t *testing.T) {
	d := open(t, t.TempDir())
	ignoreMounts(d)
	d.watches.shared = true
	start := time.Now()
	for range 1000 {
		changed, err := d.Wait(PollInterval / 100)
		testenv.Must(t, err)
		if changed {
			if time.Since(start) < PollInterval {
				t.Errorf("polled after %v", time.Since(start))
			}
			return
		}
	}
	t.Errorf("no poll in %v", time.Since(start))
}

// While a limit of inotify is reached, Open succeeds, Wait polls, and the limit is named.
// Once the limit is raised, changes are reported at once.
func TestWait_limit(t *testing.T) {
	for _, name := range []string{"instances", "watches"} {
		t.Run(name, func(t *testing.T) {
			if !testenv.AloneWithUsers(t) {
				return
			}
			setLimit(t, name, 0)
			root := t.TempDir()
			d := open(t, root+"/a/b/c")
			if want := "fs.inotify.max_user_" + name; d.Limit() != want {
				t.Fatalf("limit %q, want %q", d.Limit(), want)
			}
			if changed, err := d.Wait(time.Millisecond); changed || err != nil {
				t.Errorf("changed %v, %v", changed, err)
			}
			testenv.Must(t, mkdir(root), write(root+"/a/b/c/f"))
			awaitChange(t, d, limit)
			if d.Limit() == "" || d.watches.fd >= 0 {
				t.Error("the limit is no longer reported")
			}
			setLimit(t, name, 100)
			awaitChange(t, d, limit)
			if d.Limit() != "" || d.watches.target < 0 {
				t.Errorf("limit %q, watches %+v after it was raised", d.Limit(), d.watches)
			}
		})
	}
}

// The watches of a Dir itself do not count towards the limit when they are set again.
func TestWait_last_instance(t *testing.T) {
	if !testenv.AloneWithUsers(t) {
		return
	}
	setLimit(t, "instances", 1)
	root := t.TempDir()
	d := open(t, root+"/a/b/c")
	if d.Limit() != "" {
		testenv.Missing(t, "an inotify instance in a new user namespace (%s)", d.Limit())
	}
	testenv.Must(t, mkdir(root))
	awaitChange(t, d, limit)
	if d.Limit() != "" {
		t.Errorf("limit %s", d.Limit())
	}
}

// setLimit sets a limit of inotify of this user namespace (namespaces(7)).
func setLimit(t *testing.T, name string, n int) {
	t.Helper()
	testenv.Must(t, os.WriteFile("/proc/sys/user/max_inotify_"+name, []byte(fmt.Sprint(n)), 0))
}

// The limit of open files is an error, not a limit of inotify: no file could be read.
func TestOpen_files_limit(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	root := t.TempDir()
	var old unix.Rlimit
	testenv.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}))
	d, err := Open(root)
	testenv.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("opened %v, %v", d, err)
	}
}
