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

// OtherWriters names the users that can write to the state directory and so could
// forge its files.
func TestOtherWriters(t *testing.T) {
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
				continue // only root can change the owner of a directory
			}
			testenv.Must(t, os.Chown(path, c.uid, -1))
		}
		testenv.Must(t, os.Chmod(path, c.mode))
		d := In(path)
		if who := d.OtherWriters(); who != "" {
			t.Errorf("%q before the directory was opened", who)
		}
		_, _ = d.Status.Read() // opens the directory
		if who := d.OtherWriters(); who != c.want {
			t.Errorf("mode %o of user %d: %q, expected %q", c.mode, c.uid, who, c.want)
		}
		d.Close()
	}
}

// After the directory has been replaced, a write goes to the old one, which is
// open, or fails. It never goes to the new one.
func TestDir_replaced(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "state")
	d := In(dir)
	defer d.Close()
	testenv.Must(t, os.Mkdir(dir, 0o755))
	testenv.Must(t, d.Status.current.open(d.Status.Path))
	testenv.Must(t, os.Rename(dir, dir+".away"))
	testenv.Must(t, os.Mkdir(dir, 0o755))
	if _, err := d.Status.current.Root(); !errors.Is(err, dirfs.ErrReplaced) {
		t.Errorf("opened the new directory: %v", err)
	}
	testenv.Must(t, d.Status.Replace(numbered(1)))
	if got := testenv.ReadIfExists(t, filepath.Join(dir, StatusName)); !strings.Contains(got, `"seq": 1`) {
		t.Errorf("the status:\n%s", got)
	}
}

// All files of a state directory share one directory descriptor. A seq file in
// another directory has a separate one.
func TestDir_shared_by_artifacts(t *testing.T) {
	d := In(testenv.TempDir(t))
	defer d.Close()
	for _, p := range d.locations() {
		if p.Dir != d.Events.lines.Dir {
			t.Error("a file has a separate directory descriptor")
		}
	}
	l := EventLog{Path: filepath.Join(testenv.TempDir(t), EventsName), SeqPath: filepath.Join(testenv.TempDir(t), "seq")}
	appendTo(t, &l, "event 1")
	appendTo(t, &l, "event 2")
	if l.lines.Dir == l.seq.Dir || testenv.ReadIfExists(t, l.Path) != testLines(1, 2) || testenv.ReadIfExists(t, l.SeqPath) != "2\n" {
		t.Errorf("%s%s", testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.SeqPath))
	}
}
