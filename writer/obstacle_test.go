package writer

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// An obstacle is an object that the owner of the directory creates under the name of a
// file. The directory outside belongs to another user.
type obstacle struct {
	name string
	make func(path, outside string) error
	root bool // only root can create it
}

var obstacles = []obstacle{
	{"symlink", func(path, outside string) error { return os.Symlink(filepath.Join(outside, "victim"), path) }, false},
	{"relative symlink", func(path, outside string) error { return os.Symlink("../outside/victim", path) }, false},
	{"dangling symlink", func(path, outside string) error { return os.Symlink(filepath.Join(outside, "new"), path) }, false},
	{"symlink beside", func(path, outside string) error {
		return os.Symlink(filepath.Base(path)+"x", path)
	}, false},
	{"hard link", func(path, outside string) error { return os.Link(filepath.Join(outside, "victim"), path) }, false},
	{"FIFO", func(path, outside string) error { return unix.Mkfifo(path, 0o666) }, false},
	{"directory", func(path, outside string) error { return os.Mkdir(path, 0o777) }, false},
	{"full directory", func(path, outside string) error { return os.MkdirAll(filepath.Join(path, "a"), 0o777) }, false},
	{"socket", func(path, outside string) error { return unix.Mknod(path, unix.S_IFSOCK|0o666, 0) }, false},
	{"device", func(path, outside string) error {
		return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) // /dev/zero never ends
	}, true},
}

// A job uses the files in names. If one of them is an obstacle, do must return
// an error that contains its directory, unless replaces is set.
type job struct {
	name     string
	names    []string
	replaces bool // do replaces the object, unless that is a directory
	before   func(t *testing.T, d *Dir)
	do       func(d *Dir) error
}

var jobs = []job{
	{"append", []string{"events.jsonl", "events.jsonl.seq", "events.jsonl.1"}, false, nil, func(d *Dir) error {
		return tryAppend(&d.Events, batchOf("m"))
	}},
	{"append by an open log", []string{"events.jsonl", "events.jsonl.seq"}, false, func(t *testing.T, d *Dir) {
		appendTo(t, &d.Events, "before")
	}, func(d *Dir) error { return tryAppend(&d.Events, batchOf("m")) }},
	{"repair", []string{"events.jsonl.torn"}, false, func(t *testing.T, d *Dir) {
		put(t, d.Events.Path, testLines(1, 2)+"torn")
	}, func(d *Dir) error { return tryAppend(&d.Events, batchOf("m")) }},
	{"rotate", []string{"events.jsonl.1"}, true, func(t *testing.T, d *Dir) {
		put(t, d.Events.Path, testLines(1, 2))
		d.Events.RotateAt = 1
	}, func(d *Dir) error { return cmp.Or(tryAppend(&d.Events, batchOf("m")), d.Events.RotateError()) }},
	{"reject", []string{"rejected.jsonl"}, false, nil, func(d *Dir) error { return d.Rejects.Append([]byte("{}\n")) }},
	{"repair rejects", []string{"rejected.jsonl.torn"}, false, func(t *testing.T, d *Dir) {
		put(t, d.Rejects.Path, "{}\ntorn")
	}, func(d *Dir) error { return d.Rejects.Append([]byte("{}\n")) }},
	{"replace status", []string{"status.json"}, true, nil, func(d *Dir) error { return d.Status.Replace(numbered(1)) }},
	{"replace result", []string{"result.json"}, true, nil, func(d *Dir) error { return d.Result.Replace(testResult()) }},
	{"keep result", []string{"result.json.prev"}, true, func(t *testing.T, d *Dir) {
		testenv.Must(t, d.Result.Replace(testResult()))
	}, func(d *Dir) error { return d.Result.CopyToPrevious() }},
	{"move result", []string{"result.json.prev"}, true, func(t *testing.T, d *Dir) {
		testenv.Must(t, d.Result.Replace(testResult()))
	}, func(d *Dir) error { return d.Result.MoveToPrevious() }},
	{"sweep", []string{".status.json123456789012345"}, true, nil, func(d *Dir) error { return d.Status.Replace(numbered(1)) }},
}

func testResult() *artifact.Result {
	return &artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("m")}
}

// owner is the user that owns the directory in these tests, if they run as root.
const owner = 65534

// victim is the content of a file outside. It is valid as a status and as a result.
const victim = `{"schema_version":1,"state":"ready","updated_at":"2026-03-25T20:00:00.123Z",` +
	`"status":"failed","finished_at":"2026-03-25T20:00:00.123Z","message":"m","seq":7}`

// hostileDir returns a state directory that belongs to another user if the tests
// run as root, and a directory that does not.
func hostileDir(t *testing.T) (dir, outside string) {
	t.Helper()
	base := testenv.TempDir(t)
	dir, outside = filepath.Join(base, "state"), filepath.Join(base, "outside")
	testenv.Must(t, os.Mkdir(dir, 0o755))
	testenv.Must(t, os.Mkdir(outside, 0o755))
	put(t, filepath.Join(outside, "victim"), victim)
	testenv.Must(t, os.Chmod(filepath.Join(outside, "victim"), 0o640))
	if testenv.IsRoot() {
		testenv.Must(t, os.Chown(dir, owner, owner))
	}
	return dir, outside
}

// place creates an obstacle under the name of a file, as the owner of the directory
// could.
func place(t *testing.T, object obstacle, dir, name, outside string) (path string) {
	t.Helper()
	if object.root && !testenv.CanMknod() {
		testenv.Missing(t, "to make a device; run as root with CAP_MKNOD")
	}
	path = filepath.Join(dir, name)
	testenv.Must(t, os.RemoveAll(path))
	testenv.Must(t, object.make(path, outside))
	if testenv.IsRoot() && object.name != "hard link" {
		testenv.Must(t, os.Lchown(path, owner, owner))
	}
	return path
}

// snapshot describes everything in a directory: names, modes, owners, contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	testenv.Must(t, err)
	for _, e := range entries {
		var st unix.Stat_t
		testenv.Must(t, unix.Lstat(filepath.Join(dir, e.Name()), &st))
		fmt.Fprintln(&b, e.Name(), st.Ino, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, testenv.ReadIfExists(t, filepath.Join(dir, e.Name())))
	}
	return b.String()
}

// The owner of the directory creates an obstacle under the name of a file. The writer,
// which is root if possible, changes nothing outside the directory, does not block,
// and either returns an error or replaces the object.
func TestObstacle_write(t *testing.T) {
	for _, j := range jobs {
		for _, name := range j.names {
			for _, object := range obstacles {
				t.Run(j.name+"/"+name+"/"+object.name, func(t *testing.T) {
					dir, outside := hostileDir(t)
					d := In(dir)
					d.Rejects.MaxBytes = 1 << 20
					if j.before != nil {
						j.before(t, d)
					}
					path := place(t, object, dir, name, outside)
					before := snapshot(t, outside)
					var err error
					within(t, time.Minute, func() { err = j.do(d) })
					if after := snapshot(t, outside); after != before {
						t.Errorf("the directory outside was changed:\n%sbefore\n%s", after, before)
					}
					j.checkOutcome(t, object, path, err)
				})
			}
		}
	}
}

// checkOutcome checks the error, and whether the object was replaced.
func (j *job) checkOutcome(t *testing.T, object obstacle, path string, err error) {
	t.Helper()
	info, statErr := os.Lstat(path)
	directory := strings.HasSuffix(object.name, "directory")
	readable := j.name == "append" && filepath.Base(path) == "events.jsonl.1" && object.name == "hard link"
	switch {
	case j.name == "sweep" || readable:
		testenv.Must(t, err)
	case j.replaces && !directory:
		if err != nil || statErr != nil || !info.Mode().IsRegular() {
			t.Errorf("%v, %v: %v", info, statErr, err)
		}
	case err == nil || !strings.Contains(err.Error(), filepath.Dir(path)):
		t.Errorf("%v, expected an error that names the directory", err)
	case statErr != nil || info.Mode().IsRegular() != (object.name == "hard link"):
		t.Errorf("the object is gone: %v, %v", info, statErr)
	}
}

// Read returns an error for an obstacle, except for a hard link, which is
// a regular file.
func TestObstacle_read(t *testing.T) {
	for _, object := range obstacles {
		t.Run(object.name, func(t *testing.T) {
			dir, outside := hostileDir(t)
			d := In(dir)
			place(t, object, dir, StatusName, outside)
			place(t, object, dir, ResultName, outside)
			within(t, time.Minute, func() {
				_, statusErr := d.Status.Read()
				_, resultErr := d.Result.Read()
				keepErr := d.Result.CopyToPrevious()
				if readable := object.name == "hard link"; readable != (statusErr == nil) ||
					readable != (resultErr == nil) || readable != (keepErr == nil) {
					t.Errorf("%v, %v, %v", statusErr, resultErr, keepErr)
				}
			})
		})
	}
}

// After the obstacle is removed, writing succeeds.
func TestObstacle_removed(t *testing.T) {
	for _, name := range []string{"events.jsonl", "events.jsonl.seq"} {
		for _, object := range obstacles {
			dir, outside := hostileDir(t)
			l := logIn(dir)
			if object.root && !testenv.CanMknod() {
				continue // TestObstacle_write checks this
			}
			path := place(t, object, dir, name, outside)
			b := batchOf("m")
			if err := tryAppend(l, b); err == nil {
				t.Errorf("%s as %s is accepted", object.name, name)
			}
			testenv.Must(t, os.RemoveAll(path))
			testenv.Must(t, tryAppend(l, b))
			if b.Seq(0) != 1 || testenv.ReadIfExists(t, l.Path) != testLine(1, "m") {
				t.Errorf("%s as %s: seq %d:\n%s", object.name, name, b.Seq(0), testenv.ReadIfExists(t, l.Path))
			}
		}
	}
}
