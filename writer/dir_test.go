package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// TestExposedNamesWhoElseMayWrite: an operator is to know who could have
// forged what stands in a state directory.
func TestExposedNamesWhoElseMayWrite(t *testing.T) {
	for _, c := range []struct {
		mode os.FileMode
		uid  int
		want string
	}{
		{0o755, os.Getuid(), ""},
		{0o700, os.Getuid(), ""},
		{0o757, os.Getuid(), "every user"},
		{0o775, os.Getuid(), fmt.Sprintf("group %d", os.Getgid())},
		{0o755, 65534, "user 65534"},
	} {
		path := filepath.Join(t.TempDir(), "d")
		check(t, os.Mkdir(path, 0o700))
		if c.uid != os.Getuid() {
			if os.Getuid() != 0 {
				continue // only root gives a directory away
			}
			check(t, os.Chown(path, c.uid, -1))
		}
		check(t, os.Chmod(path, c.mode))
		d := In(path)
		if who := d.OtherWriters(); who != "" {
			t.Errorf("%s before the directory was opened", who)
		}
		_, _ = d.Status.Read() // there is none
		if who := d.OtherWriters(); who != c.want {
			t.Errorf("mode %o of user %d: %q, expected %q", c.mode, c.uid, who, c.want)
		}
		d.Close()
	}
}

// TestReplacedDirectoryIsNotMixed: what is written through os.Root goes to the
// directory that is open, or nowhere.
func TestReplacedDirectoryIsNotMixed(t *testing.T) {
	dir := filepath.Join(fastDir(t), "state")
	d := In(dir)
	defer d.Close()
	check(t, os.Mkdir(dir, 0o755))
	check(t, d.Status.current.open(d.Status.Path))
	check(t, os.Rename(dir, dir+".away"))
	check(t, os.Mkdir(dir, 0o755))
	if _, err := d.Status.current.Root(); !errors.Is(err, dirfs.ErrReplaced) {
		t.Errorf("opened the other directory: %v", err)
	}
	check(t, d.Status.Replace(numbered(1)))
	if got := get(t, filepath.Join(dir, StatusName)); !strings.Contains(got, `"seq": 1`) {
		t.Errorf("the status:\n%s", got)
	}
}

// TestArtifactsShareADirectory: one descriptor serves a whole state directory,
// and a seq file elsewhere has its own.
func TestArtifactsShareADirectory(t *testing.T) {
	d := In(fastDir(t))
	defer d.Close()
	for _, p := range d.locations() {
		if p.Dir != d.Events.lines.Dir {
			t.Error("an artifact has a directory of its own")
		}
	}
	l := EventLog{Path: filepath.Join(fastDir(t), EventsName), SeqPath: filepath.Join(fastDir(t), "seq")}
	appendTo(t, &l, "event 1")
	appendTo(t, &l, "event 2")
	if l.lines.Dir == l.seq.Dir || get(t, l.Path) != testLines(1, 2) || get(t, l.SeqPath) != "2\n" {
		t.Errorf("%s%s", get(t, l.Path), get(t, l.SeqPath))
	}
}
