package dirfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	put := errors.Join(
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
		os.Symlink("file", filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	if put != nil {
		t.Fatal(put)
	}
	for name, want := range map[string]error{
		"file":      nil,
		"link":      dirfs.ErrSymlink,
		"fifo":      dirfs.ErrNotRegular,
		"directory": dirfs.ErrDirectory,
		"missing":   fs.ErrNotExist,
	} {
		f, err := dirfs.Open(dir, name)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if f != nil {
			f.Close()
		}
	}
}

// A new file may not be readable until its writer has set its mode. Open then tries again.
func TestOpen_mode_set_later(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	testenv.Must(t, os.WriteFile(path, nil, 0o600), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
	testenv.OpenToAll(t, dir)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	testenv.Must(t, unix.Setfsuid(1000))
	defer unix.Setfsuid(0)
	var err error
	for range 5 { // the other goroutine may be late
		done := make(chan error)
		go func() {
			time.Sleep(2 * time.Millisecond)
			done <- os.Chmod(path, 0o644)
		}()
		var f *os.File
		f, err = dirfs.Open(dir, "file")
		if chmodErr := <-done; chmodErr != nil {
			t.Fatal(chmodErr)
		}
		if err == nil {
			f.Close()
			break
		}
		testenv.Must(t, chmodAsRoot(path))
	}
	if err != nil {
		t.Error(err)
	}
	testenv.Must(t, chmodAsRoot(path))
	if _, err := dirfs.Open(dir, "file"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// chmodAsRoot makes the file unreadable for other users, on a thread that is still root.
func chmodAsRoot(path string) error {
	done := make(chan error)
	go func() { done <- os.Chmod(path, 0o600) }()
	return <-done
}
