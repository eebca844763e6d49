package ingest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// asOrdinaryUser calls f with the rights of an ordinary user, because root may write
// to every directory. It uses a separate thread, which ends with f.
func asOrdinaryUser(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	testenv.Root(t)
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		unix.Setfsuid(65534)
		f()
	}()
	<-done
}

// An unusableDir is a state directory that stays unusable however long a stream
// waits.
type unusableDir struct {
	name string
	err  error
	make func(t *testing.T, dir string) (path string) // dir is an empty directory
}

func unusableDirs() []unusableDir {
	return []unusableDir{
		{"file", unix.ENOTDIR, func(t *testing.T, dir string) string {
			testenv.Must(t, os.WriteFile(dir+"/file", nil, 0o644))
			return dir + "/file"
		}},
		{"below a file", unix.ENOTDIR, func(t *testing.T, dir string) string {
			testenv.Must(t, os.WriteFile(dir+"/file", nil, 0o644))
			return dir + "/file/state"
		}},
		{"dangling symlink", dirfs.ErrDangling, func(t *testing.T, dir string) string {
			testenv.Must(t, os.Symlink("missing", dir+"/link"))
			return dir + "/link"
		}},
		{"symlink to itself", unix.ELOOP, func(t *testing.T, dir string) string {
			testenv.Must(t, os.Symlink("link", dir+"/link"))
			return dir + "/link"
		}},
		{"long name", unix.ENAMETOOLONG, func(t *testing.T, dir string) string {
			return filepath.Join(dir, strings.Repeat("x", 256))
		}},
		{"proc", fs.ErrNotExist, func(*testing.T, string) string { return "/proc/pika-cloud" }},
		{"directory not writable", fs.ErrPermission, func(t *testing.T, dir string) string {
			testenv.Must(t, os.Mkdir(dir+"/state", 0o755), os.Chmod(dir+"/state", 0o555))
			return dir + "/state"
		}},
		{"parent not writable", fs.ErrPermission, func(t *testing.T, dir string) string {
			testenv.Must(t, os.Chmod(dir, 0o555))
			return dir + "/state"
		}},
		{"parent not searchable", fs.ErrPermission, func(t *testing.T, dir string) string {
			testenv.Must(t, os.Mkdir(dir+"/private", 0o700), os.Mkdir(dir+"/private/state", 0o777), os.Chmod(dir+"/private", 0))
			return dir + "/private/state"
		}},
	}
}

// forEachUnusable calls check with a stream in each kind of unusable directory. An
// input can be read from its pipe.
func forEachUnusable(t *testing.T, check func(g *guest, in pipe, u *unusableDir)) {
	for _, u := range unusableDirs() {
		t.Run(strings.ReplaceAll(u.name, " ", "_"), func(t *testing.T) {
			g := newGuest(t)
			testenv.OpenToAll(t, g.path)
			parent := g.path
			path := u.make(t, parent)
			t.Cleanup(func() { // so that an ordinary user can remove it
				os.Chmod(parent, 0o755)
				os.Chmod(parent+"/private", 0o755)
			})
			g.path, g.Dir = path, writer.In(path)
			in := newPipe(t)
			g.In = int(in.r.Fd())
			_, err := in.w.WriteString("STATE=ready\n")
			testenv.Must(t, err, in.w.Close())
			asOrdinaryUser(t, func() { check(g, in, &u) })
		})
	}
}

// A stream that can never write returns the error before it reads anything.
func TestStream_unusable_directory(t *testing.T) {
	forEachUnusable(t, func(g *guest, in pipe, u *unusableDir) {
		sum, err := g.Stream.Run()
		if !errors.Is(err, u.err) || sum.Lines != 0 || len(g.warned) > 0 {
			g.t.Errorf("%v, %+v; warnings:\n%s", err, sum, g.warnings())
		}
		if isQuiet(g.t.(*testing.T), in) {
			g.t.Error("the input was read")
		}
	})
}

// With a supervisor the program runs anyway, and only one warning is logged.
func TestSupervisor_unusable_directory(t *testing.T) {
	forEachUnusable(t, func(g *guest, _ pipe, u *unusableDir) {
		started := false
		g.Supervisor = &fakeSupervisor{result: failedWith(3), opened: func() { started = true }}
		var reported []error
		g.Unusable = func(err error) { reported = append(reported, err) }
		sum, err := g.Stream.Run()
		if !started || err != nil || !sum.Unusable || sum.Lines != 1 || sum.Dropped != 3 {
			g.t.Errorf("started %v, %v, %+v", started, err, sum)
		}
		if len(reported) != 1 || !errors.Is(reported[0], u.err) || len(g.warned) > 0 {
			g.t.Errorf("reported %v; warnings:\n%s", reported, g.warnings())
		}
	})
}

// If the directory becomes usable while the program runs, the files are written.
func TestSupervisor_directory_becomes_usable(t *testing.T) {
	g := newGuest(t)
	path := filepath.Join(g.path, "state")
	testenv.Must(t, os.WriteFile(path, nil, 0o644))
	g.path, g.Dir = path, writer.In(path)
	g.Unusable = func(error) {}
	g.Supervisor = &fakeSupervisor{result: failedWith(3), over: func() { testenv.Must(t, os.Remove(path)) }}
	if sum := g.feed("STATE=ready\n"); sum.Unusable || sum.Dropped > 0 {
		t.Errorf("%+v", sum)
	}
	g.checkContains("result.json", `"exit_code": 3`)
	g.checkSeqs(3)
	check(t, "the warnings", g.warnings(), recoveredText)
}

// A file system that is read-only or full may become writable: the stream warns
// immediately, also for an empty input, and waits.
func TestStream_directory_temporarily_unusable(t *testing.T) {
	if !testenv.AloneWithMounts(t) {
		return
	}
	for _, c := range []struct{ name, options, cause string }{
		{"read-only", "ro", "read-only file system; mount the file system read-write"},
		{"full", "nr_inodes=1", "no space left on device; free disk space or inodes"},
	} {
		g := newGuest(t)
		flags := uintptr(0)
		if c.options == "ro" {
			flags, c.options = unix.MS_RDONLY, ""
		}
		testenv.Must(t, unix.Mount("tmpfs", g.path, "tmpfs", flags, c.options))
		mounted := g.path
		g.path = filepath.Join(mounted, "state")
		g.Dir = writer.In(g.path)
		g.warn = make(chan string, 100)
		w := g.open()
		w.waitForWarning("mkdir " + g.path + ": " + c.cause + "; trying again")
		w.print("STATE=ready\n")
		testenv.Must(t, unix.Mount("", mounted, "", unix.MS_REMOUNT, "nr_inodes=100"))
		if sum := w.close(); sum.Degraded || sum.Dropped > 0 {
			t.Errorf("%s: %+v", c.name, sum)
		}
		g.checkSeqs(1)
		testenv.Must(t, unix.Unmount(mounted, 0))
	}
}

// A dry run creates nothing, and rejects a state directory that is a file.
func TestDryRun_unusable_directory(t *testing.T) {
	g := newGuest(t)
	g.DryRun = new(strings.Builder)
	file := g.file("file")
	testenv.Must(t, os.WriteFile(file, nil, 0o644))
	g.Dir = writer.In(file)
	_, err := g.Stream.Run()
	if !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("error %v", err)
	}
	missing := g.file("missing")
	g.Dir = writer.In(missing)
	g.feed("STATE=ready\n")
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was created: %v", err)
	}
}
