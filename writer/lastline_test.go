package writer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// The last line is found wherever its start is in the reads that search for it.
func TestLineBefore_any_length(t *testing.T) {
	var dir dirfs.Dir
	if err := dir.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, earlier := range []string{"", "\n", "an earlier line\n"} {
		for _, size := range []int{0, 1, firstRead - 2, firstRead - 1, firstRead, firstRead + 1,
			firstRead + chunk - 1, firstRead + chunk, firstRead + chunk + 1, artifact.MaxSize, artifact.MaxSize + 1} {
			line := bytes.Repeat([]byte{'x'}, size)
			path := filepath.Join(dir.Path(), "log")
			text := earlier + string(line) + "\n"
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := dir.OpenFile("log", unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			got, start, err := lineBefore(f, int64(len(text)))
			f.Close()
			if size > artifact.MaxSize {
				line = nil
			}
			if err != nil || start != int64(len(earlier)) || !bytes.Equal(got, line) || (got == nil) != (line == nil) {
				t.Errorf("%d bytes after %q: a line of %d bytes at %d, error %v", size, earlier, len(got), start, err)
			}
		}
	}
}
