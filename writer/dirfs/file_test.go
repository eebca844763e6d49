package dirfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
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
