package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// The warning names who else can write to the state directory, and so could
// have forged its files.
func TestDir_exposed(t *testing.T) {
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
		testenv.Must(t, os.Mkdir(path, 0o700))
		if c.uid != os.Getuid() {
			if !testenv.IsRoot() {
				continue // only root gives a directory away
			}
			testenv.Must(t, os.Chown(path, c.uid, -1))
		}
		testenv.Must(t, os.Chmod(path, c.mode))
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

// Writes go to the directory that is open, or fail. They never go to its
// replacement.
func TestDir_replaced(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "state")
	d := In(dir)
	defer d.Close()
	testenv.Must(t, os.Mkdir(dir, 0o755))
	testenv.Must(t, d.Status.current.open(d.Status.Path))
	testenv.Must(t, os.Rename(dir, dir+".away"))
	testenv.Must(t, os.Mkdir(dir, 0o755))
	if _, err := d.Status.current.Root(); !errors.Is(err, dirfs.ErrReplaced) {
		t.Errorf("opened the other directory: %v", err)
	}
	testenv.Must(t, d.Status.Replace(numbered(1)))
	if got := testenv.ReadIfExists(t, filepath.Join(dir, StatusName)); !strings.Contains(got, `"seq": 1`) {
		t.Errorf("the status:\n%s", got)
	}
}

// One descriptor serves a whole state directory. A seq file elsewhere has its
// own.
func TestDir_shared_by_artifacts(t *testing.T) {
	d := In(testenv.TempDir(t))
	defer d.Close()
	for _, p := range d.locations() {
		if p.Dir != d.Events.lines.Dir {
			t.Error("an artifact has a directory of its own")
		}
	}
	l := EventLog{Path: filepath.Join(testenv.TempDir(t), EventsName), SeqPath: filepath.Join(testenv.TempDir(t), "seq")}
	appendTo(t, &l, "event 1")
	appendTo(t, &l, "event 2")
	if l.lines.Dir == l.seq.Dir || testenv.ReadIfExists(t, l.Path) != testLines(1, 2) || testenv.ReadIfExists(t, l.SeqPath) != "2\n" {
		t.Errorf("%s%s", testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.SeqPath))
	}
}
