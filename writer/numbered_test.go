package writer

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// copyOf returns a batch of events with the given seqs, which are encoded as in
// testLines.
func copyOf(seqs ...uint64) *NumberedBatch {
	c := new(NumberedBatch)
	for _, seq := range seqs {
		c.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(fmt.Sprint("event ", seq)), Seq: seq})
	}
	return c
}

// locked calls f while it holds the lock of l.
func locked(t *testing.T, l *EventLog, f func() error) error {
	t.Helper()
	unlock, err := l.Lock()
	testenv.Must(t, err)
	defer unlock()
	return f()
}

func appendCopy(t *testing.T, l *EventLog, c *NumberedBatch) error {
	t.Helper()
	return locked(t, l, func() error { return l.AppendNumbered(c) })
}

func TestAppendNumbered(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	if err := l.AppendNumbered(copyOf(1)); !errors.Is(err, errNotLocked) {
		t.Errorf("without the lock: %v", err)
	}
	c := copyOf(3, 4, 9)
	if c.Len() != 3 || c.Last() != 9 || string(c.Text()) != testLines(3, 4)+testLines(9, 9) || c.Size() != len(c.Text()) {
		t.Errorf("%d events up to %d: %s", c.Len(), c.Last(), c.Text())
	}
	testenv.Must(t, appendCopy(t, l, c))
	for _, seq := range []uint64{9, 8, 1} {
		if err := appendCopy(t, l, copyOf(seq)); !errors.Is(err, errSeqInUse) {
			t.Errorf("seq %d: %v", seq, err)
		}
	}
	c.Reset()
	c.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 10"), Seq: 10})
	testenv.Must(t, appendCopy(t, logIn(filepath.Dir(l.Path)), c)) // with a new EventLog, which has to read the last seq
	if got, want := testenv.ReadIfExists(t, l.Path), testLines(3, 4)+testLines(9, 10); got != want {
		t.Errorf("the log is\n%swant\n%s", got, want)
	}
	if got := testenv.ReadIfExists(t, l.Path+".seq"); got != "10\n" {
		t.Errorf("the seq file contains %q", got)
	}
	if seq := appendTo(t, l, "event 11"); seq != 11 {
		t.Errorf("the next seq is %d", seq)
	}
}

// A write is cut short at each byte. After the next attempt, each event is in the
// log once.
func TestAppendNumbered_retried(t *testing.T) {
	if !testenv.Alone(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	before, text := testLines(1, 2), testLines(5, 6)
	for cut := range len(text) {
		dir := testenv.TempDir(t)
		l := logIn(dir)
		testenv.Must(t, appendCopy(t, l, copyOf(1, 2)))
		c := copyOf(5, 6)
		undo := setLimit(t, unix.RLIMIT_FSIZE, uint64(len(before)+cut))
		wantCause(t, appendCopy(t, l, c), l.Path, unix.EFBIG)
		undo()
		testenv.Must(t, appendCopy(t, l, c))
		if got := testenv.ReadIfExists(t, l.Path); got != before+text {
			t.Fatalf("cut at %d: the log is\n%s", cut, got)
		}
		l.close()
	}
}

// TestAppendNumbered_unconfirmed is TestUnconfirmed for AppendNumbered.
func TestAppendNumbered_unconfirmed(t *testing.T) {
	for kept := range 4 {
		dir := testenv.TempDir(t)
		l := logIn(dir)
		testenv.Must(t, appendCopy(t, l, copyOf(1, 2)))
		l.lines.unconfirmed = newUnconfirmed(l.lines.file, l.lines.end, []byte(testLines(3, 5)))
		l.lines.close()
		other := testLine(9, "other")
		put(t, l.Path, testLines(1, 2)+testLines(3, uint64(2+kept))+other)
		c := copyOf(3, 4, 5)
		err := appendCopy(t, l, c)
		if want := testLines(1, uint64(2+kept)) + other; testenv.ReadIfExists(t, l.Path) != want || (err == nil) != (kept == 3) {
			t.Errorf("%d kept: %v\n%s", kept, err, testenv.ReadIfExists(t, l.Path))
		}
	}
}

func TestAppendNumbered_new_log(t *testing.T) {
	dir := testenv.TempDir(t)
	l := logIn(dir)
	if err := l.Rotate(); !errors.Is(err, errNotLocked) {
		t.Errorf("without the lock: %v", err)
	}
	testenv.Must(t, locked(t, l, l.Rotate)) // an empty log is not renamed
	testenv.Must(t, appendCopy(t, l, copyOf(1, 2, 3)))
	testenv.Must(t, locked(t, l, l.Rotate))
	testenv.Must(t, locked(t, l, l.Rotate)) // a second time, as after a crash; the old log stays
	for range 2 {                           // the second time with a new EventLog, which has to read the last seq
		l = logIn(dir)
		var seq uint64
		testenv.Must(t, locked(t, l, func() (err error) { seq, _, err = l.Last(); return err }))
		if seq != 0 {
			t.Errorf("the last seq is %d", seq)
		}
	}
	testenv.Must(t, appendCopy(t, l, copyOf(1)))
	testenv.Must(t, appendCopy(t, l, copyOf(2)))
	if testenv.ReadIfExists(t, l.Path) != testLines(1, 2) || testenv.ReadIfExists(t, l.Path+".1") != testLines(1, 3) || testenv.ReadIfExists(t, l.Path+".seq") != "2\n" {
		t.Errorf("the log is\n%sthe previous log is\n%s", testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.Path+".1"))
	}
}

func TestAppendNumbered_rotation(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.RotateAt = int64(len(testLines(1, 2)))
	for seq := uint64(1); seq <= 3; seq++ {
		testenv.Must(t, appendCopy(t, l, copyOf(seq)))
	}
	if testenv.ReadIfExists(t, l.Path) != testLines(3, 3) || testenv.ReadIfExists(t, l.Path+".1") != testLines(1, 2) {
		t.Errorf("the log is\n%sthe previous log is\n%s", testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.Path+".1"))
	}
}

func TestEventLog_last(t *testing.T) {
	const boot = "6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11"
	withBoot := `{"schema_version":1,"kind":"ready","timestamp":"2026-03-25T20:00:00.123Z","message":"m","boot_id":"` + boot + `","seq":7}` + "\n"
	for text, want := range map[string]struct {
		seq  uint64
		boot string
	}{
		testLines(1, 2) + strings.Replace(withBoot, `"m"`, `"`+strings.Repeat("m", artifact.MaxSize)+`"`, 1): {2, ""},
		"":                                 {0, ""},
		testLines(1, 2):                    {2, ""},
		testLines(1, 2) + withBoot:         {7, boot},
		withBoot + testLines(8, 8):         {8, ""},
		withBoot + `{"schema`:              {7, boot},
		withBoot[:len(withBoot)-1]:         {7, boot},
		testLines(1, 2) + "no event\n":     {2, ""},
		testLines(1, 2) + "{\"boot_id\":1": {2, ""},
	} {
		l := logIn(testenv.TempDir(t))
		if _, _, err := l.Last(); !errors.Is(err, errNotLocked) {
			t.Errorf("without the lock: %v", err)
		}
		put(t, l.Path, text)
		testenv.Must(t, locked(t, l, func() error {
			seq, boot, err := l.Last()
			if seq != want.seq || boot != want.boot {
				t.Errorf("%q: seq %d of boot %q, want %d of %q", text, seq, boot, want.seq, want.boot)
			}
			return err
		}))
	}
}

func TestBootList(t *testing.T) {
	const a, b = "aaaaaaaa-53f0-4b3a-9c39-2f0c1a5d7b11", "bbbbbbbb-53f0-4b3a-9c39-2f0c1a5d7b11"
	dir := testenv.TempDir(t)
	boots := &In(dir).Boots
	if got, err := boots.Read(); len(got) != 0 || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
	for _, there := range []string{"", a + "\n", a, a[:10]} { // the file after a crash
		put(t, boots.Path, there)
		testenv.Must(t, boots.Append(b))
		got, err := boots.Read()
		want := []string{a, b}
		if len(there) < len(a) {
			want = want[1:]
		}
		if err != nil || len(got) != len(want) || got[0] != want[0] {
			t.Errorf("%q: %q, %v", there, got, err)
		}
	}
	info, err := os.Stat(boots.Path)
	testenv.Must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	testenv.Must(t, os.Remove(boots.Path))
	testenv.Must(t, os.Symlink("/etc/passwd", boots.Path))
	if _, err := boots.Read(); !errors.Is(err, dirfs.ErrSymlink) {
		t.Errorf("a symlink was read: %v", err)
	}
	if err := boots.Append(a); !errors.Is(err, dirfs.ErrSymlink) {
		t.Errorf("a symlink was written: %v", err)
	}
}
