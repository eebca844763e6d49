package writer

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// absent stands for the content of a file that does not exist.
const absent = "\x00absent"

func putUnlessAbsent(t testing.TB, path, text string) {
	t.Helper()
	if text != absent {
		put(t, path, text)
	}
}

// The next seq is determined from the log; if that has none, from the log before the
// rotation; if that has none, from the seq file.
func TestNextSeq(t *testing.T) {
	old := `{"kind":"ready"}` + "\n" // an event without a seq
	for _, c := range []struct {
		name          string
		log, old, seq string
		next          uint64
	}{
		{"nothing", absent, absent, absent, 1},
		{"empty files", "", "", "", 1},
		{"seq file only", absent, absent, "41\n", 42},
		{"seq file only, log empty", "", absent, "41\n", 42},
		{"seq file only, both empty", "", "", "41\n", 42},
		{"seq without newline", absent, absent, "41", 42},
		{"seq with spaces", absent, absent, " 41 \r\n\n", 42},
		{"seq garbage", absent, absent, "garbage\n", 1},
		{"seq negative", absent, absent, "-1\n", 1},
		{"seq signed", absent, absent, "+41\n", 1},
		{"seq fraction", absent, absent, "41.0\n", 1},
		{"seq NULs", absent, absent, "\x00\x00\x00", 1},
		{"seq two numbers", absent, absent, "41\n42\n", 1},
		{"seq beyond int64", absent, absent, "9223372036854775808\n", 1},
		{"seq max int64", absent, absent, "9223372036854775807\n", 1 << 63},
		{"seq max uint64", absent, absent, "18446744073709551615\n", 1},
		{"seq beyond uint64", absent, absent, "18446744073709551616\n", 1},
		{"seq long", absent, absent, strings.Repeat("1", 100) + "\n", 1},
		{"seq newlines, then number", absent, absent, strings.Repeat("\n", 40) + "41\n", 1},
		{"log, no seq file", testLines(1, 3), absent, absent, 4},
		{"log, seq empty", testLines(1, 3), absent, "", 4},
		{"log, seq equal", testLines(1, 3), absent, "3\n", 4},
		{"log, seq low", testLines(5, 12), absent, "2\n", 13},
		{"log, seq high", testLines(1, 3), absent, "90\n", 4},
		{"log, seq garbage", testLines(1, 3), absent, "\xff\xff", 4},
		{"log, seq max uint64", testLines(1, 3), absent, "18446744073709551615\n", 4},
		{"log starts higher", testLines(100, 101), absent, "101\n", 102},
		{"log beyond double", testLine(1<<53+1, "m"), absent, absent, 1<<53 + 2},
		{"log beyond int64", testLine(1<<63+5, "m"), absent, absent, 1<<63 + 6},
		{"old log", absent, testLines(1, 3), "90\n", 4},
		{"old log, log empty", "", testLines(1, 3), "90\n", 4},
		{"old log, log has more", testLines(4, 5), testLines(1, 3), "5\n", 6},
		{"old log torn", absent, testLines(1, 3) + "torn", "90\n", 4},
		{"old log without last newline", absent, strings.TrimSuffix(testLines(1, 3), "\n"), "90\n", 4},
		{"old log without seqs", absent, old + old, "41\n", 42},
		{"log without seqs", old + old, absent, "41\n", 42},
		{"log without seqs, old log", old, testLines(1, 3), "41\n", 4},
		{"seqs, then none", testLines(1, 3) + old + "garbage\n\n[]\n" + `{"seq":1.5}` + "\n", absent, "41\n", 4},
		{"long lines before it", testLines(1, 3) + strings.Repeat("x", 2*chunk) + "\n", absent, "41\n", 4},
		{"seq across pages", testLines(1, 3) + strings.Repeat("x", page-40) + "\n", absent, "41\n", 4},
		{"seq across chunks", testLines(1, 3) + strings.Repeat("x", chunk-40) + "\n", absent, "41\n", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := logIn(testenv.TempDir(t))
			putUnlessAbsent(t, l.Path, c.log)
			putUnlessAbsent(t, l.Path+".1", c.old)
			putUnlessAbsent(t, l.Path+".seq", c.seq)
			b := batchOf("one", "two", "three")
			testenv.Must(t, tryAppend(l, b))
			for i := range uint64(3) {
				if got := b.Seq(int(i)); got != c.next+i {
					t.Errorf("event %d: seq %d, expected %d", i, got, c.next+i)
				}
			}
			if got, want := testenv.ReadIfExists(t, l.Path+".seq"), fmt.Sprintln(c.next+2); got != want {
				t.Errorf("the seq file contains %.40q, expected %q", got, want)
			}
			log := strings.TrimPrefix(c.log, absent)
			want := log + testLine(c.next, "one") + testLine(c.next+1, "two") + testLine(c.next+2, "three")
			if got := testenv.ReadIfExists(t, l.Path); got != want {
				t.Errorf("the log:\n%.2000s", got)
			}
			if old := strings.TrimPrefix(c.old, absent); testenv.ReadIfExists(t, l.Path+".1") != old {
				t.Errorf("the old log was changed")
			}
			other := logIn(filepath.Dir(l.Path))
			if got := appendTo(t, other, "four"); got != c.next+3 {
				t.Errorf("another writer: seq %d, expected %d", got, c.next+3)
			}
			if got := appendTo(t, l, "five"); got != c.next+4 {
				t.Errorf("the first writer after that: seq %d, expected %d", got, c.next+4)
			}
		})
	}
}

// A seq file of a gigabyte is not read, and is cut down to its number.
func TestSeqFile_huge(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	put(t, l.Path+".seq", "5\n")
	testenv.Must(t, os.Truncate(l.Path+".seq", 1<<30))
	put(t, l.Path, testLines(1, 3))
	if seq := appendTo(t, l, "after"); seq != 4 {
		t.Errorf("seq %d", seq)
	}
	if info, err := os.Stat(l.Path + ".seq"); err != nil || info.Size() != 2 {
		t.Fatalf("%v, %v", info.Size(), err)
	}
	if got := testenv.ReadIfExists(t, l.Path+".seq"); got != "4\n" {
		t.Errorf("%q", got)
	}
}

// After the largest seq, Append returns an error.
func TestSeq_maximum(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	text := testLine(math.MaxUint64-1, "m")
	put(t, l.Path, text)
	if err := tryAppend(l, batchOf("one", "two")); !errors.Is(err, errNoSeqLeft) || !strings.Contains(err.Error(), l.Path) {
		t.Errorf("%v", err)
	}
	if got := testenv.ReadIfExists(t, l.Path); got != text {
		t.Errorf("the log:\n%s", got)
	}
	if seq := appendTo(t, l, "one"); seq != math.MaxUint64 {
		t.Errorf("seq %d", seq)
	}
	if err := tryAppend(l, batchOf("two")); !errors.Is(err, errNoSeqLeft) {
		t.Errorf("%v", err)
	}
}

// The seqs continue in the new log, no event is lost, and no log exceeds the limit.
func TestRotation(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.RotateAt = 600
	all, before := "", ""
	for seq := uint64(1); seq <= 50; seq++ {
		message := fmt.Sprint("event ", seq)
		if got := appendTo(t, l, message); got != seq {
			t.Fatalf("seq %d, expected %d", got, seq)
		}
		text, old := testenv.ReadIfExists(t, l.Path), testenv.ReadIfExists(t, l.Path+".1")
		if int64(len(text)) > l.RotateAt || int64(len(old)) > l.RotateAt {
			t.Fatalf("%d and %d bytes", len(text), len(old))
		}
		if old != before {
			all, before = all+old, old
		}
		if all+text != testLines(1, seq) {
			t.Fatalf("missing events:\n%s%s", all, text)
		}
	}
	if all == "" {
		t.Fatal("never rotated")
	}
}

// A batch larger than the limit is written to a new log.
func TestRotation_batch_over_limit(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.RotateAt = 300
	put(t, l.Path, testLines(1, 1))
	b := new(Batch)
	for seq := uint64(2); seq <= 9; seq++ {
		b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(fmt.Sprint("event ", seq))})
	}
	testenv.Must(t, tryAppend(l, b))
	if testenv.ReadIfExists(t, l.Path) != testLines(2, 9) || testenv.ReadIfExists(t, l.Path+".1") != testLines(1, 1) {
		t.Errorf("%s", testenv.ReadIfExists(t, l.Path))
	}
}

// A crash during a rotation leaves no log or an empty one. The seqs continue in both
// cases, whatever the seq file contains.
func TestRotation_crash(t *testing.T) {
	for _, hint := range []string{absent, "", "2\n", "3\n", "9\n"} {
		for _, log := range []string{absent, ""} {
			l := logIn(testenv.TempDir(t))
			l.RotateAt = 600
			putUnlessAbsent(t, l.Path, log)
			put(t, l.Path+".1", testLines(1, 3))
			putUnlessAbsent(t, l.Path+".seq", hint)
			if seq := appendTo(t, l, "after"); seq != 4 {
				t.Errorf("log %q, seq file %q: seq %d", log, hint, seq)
			}
		}
	}
}

// An EventLog that has the old log open continues in the new one.
func TestRotation_by_another_writer(t *testing.T) {
	dir := testenv.TempDir(t)
	l, other := logIn(dir), logIn(dir)
	other.RotateAt = 1
	appendTo(t, l, "event 1")
	if seq := appendTo(t, other, "event 2"); seq != 2 {
		t.Fatalf("seq %d", seq)
	}
	if seq := appendTo(t, l, "event 3"); seq != 3 {
		t.Fatalf("seq %d", seq)
	}
	if testenv.ReadIfExists(t, l.Path+".1") != testLines(1, 1) || testenv.ReadIfExists(t, l.Path) != testLines(2, 3) {
		t.Errorf("%s", testenv.ReadIfExists(t, l.Path))
	}
}

// The log is removed, renamed or emptied while an EventLog has it open. The next
// append writes to the file that is then at the path.
func TestEventLog_removed_or_replaced(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"removed":   os.Remove,
		"moved":     func(path string) error { return os.Rename(path, path+".away") },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"directory": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			l := logIn(filepath.Join(testenv.TempDir(t), "state"))
			appendTo(t, l, "one", "two")
			testenv.Must(t, take(l.Path))
			const first = 3 // from the seq file or, without one, after the last append
			if seq := appendTo(t, l, "three"); seq != first {
				t.Errorf("seq %d, expected %d", seq, first)
			}
			if got := testenv.ReadIfExists(t, l.Path); got != testLine(first, "three") {
				t.Errorf("the log:\n%s", got)
			}
		})
	}
}

// In a new directory, an EventLog continues after its last seq, even if it first cannot look for
// the last event.
func TestEventLog_directory_removed_after_error(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "state")
	l := logIn(dir)
	appendTo(t, l, "one", "two")
	old := l.Path + oldSuffix
	testenv.Must(t, os.RemoveAll(dir), os.MkdirAll(old, 0o755))
	if err := tryAppend(l, batchOf("three")); err == nil {
		t.Error("appended, although the rotated log is a directory")
	}
	testenv.Must(t, os.Remove(old))
	if seq := appendTo(t, l, "three"); seq != 3 {
		t.Errorf("seq %d; expected 3", seq)
	}
}

// Append without the lock returns an error and writes nothing.
// If another writer was first in a new directory, its seq decides.
func TestEventLog_directory_of_another_writer(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "state")
	l := logIn(dir)
	appendTo(t, l, "one", "two")
	testenv.Must(t, os.RemoveAll(dir))
	appendTo(t, logIn(dir), "event 1")
	appendTo(t, l, "event 2")
	if got := testenv.ReadFile(t, l.Path); got != testLines(1, 2) {
		t.Errorf("the log:\n%s", got)
	}
}

func TestAppend_without_lock(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	if err := l.Append(batchOf("m")); !errors.Is(err, errNotLocked) {
		t.Errorf("%v", err)
	}
	unlock, err := l.Lock()
	testenv.Must(t, err)
	unlock()
	if err := l.Append(batchOf("m")); !errors.Is(err, errNotLocked) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(l.Path); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// All users can read the artifacts, but only the owner can lock the seq file. The
// umask makes no difference.
func TestModes_any_umask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		dir := testenv.TempDir(t)
		d := In(dir)
		d.Rejects.MaxBytes = 1 << 20
		put(t, filepath.Join(dir, EventsName), "torn")
		testenv.Must(t, os.Chmod(filepath.Join(dir, EventsName), 0o600)) // an existing log with another mode
		before := unix.Umask(umask)
		err := errors.Join(tryAppend(&d.Events, batchOf("m")), d.Rejects.Append([]byte("{}\n")),
			d.Status.Replace(&artifact.Status{State: artifact.Ready, Time: testTime, Message: quoted("m")}),
			d.Result.Replace(&artifact.Result{Outcome: artifact.OutcomeFailed, Time: testTime, Message: quoted("m")}), d.Result.CopyToPrevious())
		unix.Umask(before)
		testenv.Must(t, err)
		names, err := os.ReadDir(dir)
		testenv.Must(t, err)
		if len(names) != 7 {
			t.Errorf("%v", names)
		}
		for _, name := range names {
			want := os.FileMode(0o644)
			if name.Name() == EventsName+".seq" {
				want = 0o600
			}
			if info, err := name.Info(); err != nil || info.Mode() != want {
				t.Errorf("umask %o: %s is %v, expected %v, %v", umask, name.Name(), info.Mode(), want, err)
			}
		}
	}
}

// The predicted seqs are wrong if another writer appends before the lock is held. The
// events then get the right seqs.
func TestPredict_other_writer(t *testing.T) {
	for _, predicted := range []uint64{0, 1, 8, 9, 10, 1000} {
		dir := testenv.TempDir(t)
		l, other := logIn(dir), logIn(dir)
		appendTo(t, l, "event 1", "event 2", "event 3", "event 4", "event 5", "event 6", "event 7")
		var b Batch
		b.Predict(predicted)
		var added []byte
		for seq := uint64(8); seq < 17; seq += 3 { // other appends every third event
			for i := range uint64(2) {
				b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(fmt.Sprint("event ", seq+i))})
			}
			testenv.Must(t, tryAppend(l, &b))
			added = append(added, b.Text()...)
			b.Reset()
			appendTo(t, other, fmt.Sprint("event ", seq+2))
		}
		b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 17")})
		testenv.Must(t, tryAppend(l, &b))
		if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 17) {
			t.Errorf("predicted %d:\n%s", predicted, got)
		}
		if want := testLines(8, 9) + testLines(11, 12) + testLines(14, 15); string(added) != want {
			t.Errorf("predicted %d: added\n%s", predicted, added)
		}
	}
}

// The batch that AppendLeading returns numbers its events again if their predicted seqs were
// wrong. That does not change what the original batch predicts for later events.
func TestPredict_after_leading_events(t *testing.T) {
	dir := testenv.TempDir(t)
	l, other := logIn(dir), logIn(dir)
	b := new(Batch)
	b.Predict(1001) // but the seqs will be 1 to 3
	for seq := range 3 {
		b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted(fmt.Sprint("event ", seq+1))})
	}
	err := locked(t, l, func() error {
		_, err := l.AppendLeading(b, 0)
		return err
	})
	testenv.Must(t, err)
	testenv.Must(t, appendCopy(t, other, copyOf(1003)))
	b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 1004")})
	l.text = nil
	testenv.Must(t, tryAppend(l, b))
	if l.text != nil {
		t.Error("the prediction is wrong, so this test shows nothing")
	}
	want := testLines(1, 3) + testLines(1003, 1004)
	if got := testenv.ReadIfExists(t, l.Path); got != want {
		t.Errorf("\n%sexpected\n%s", got, want)
	}
}

// TestAppendSeq_any_order checks the lines of seqs that do not follow each other.
func TestAppendSeq_any_order(t *testing.T) {
	var enc artifact.EventEncoder
	for _, seq := range []uint64{1, 2, 9, 10, 9, 11, 20, 19, 99, 100, 0, 5, math.MaxUint64, math.MaxUint64 - 1, 7, math.MaxUint64 - 5} {
		if got, want := string(enc.AppendSeq([]byte("x"), seq)), fmt.Sprintf("x,\"seq\":%d}\n", seq); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}

// Grow keeps the events of the batch, and does not move them if there is enough memory.
func TestBatch_Grow(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	b := batchOf("event 1", "event 2")
	b.Grow(1 << 20)
	if cap(b.text) < 1<<20 {
		t.Errorf("memory for %d bytes", cap(b.text))
	}
	before := &b.text[0]
	b.Grow(1 << 10)
	if &b.text[0] != before {
		t.Error("the events were moved")
	}
	b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 3")})
	testenv.Must(t, tryAppend(l, b))
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 3) {
		t.Errorf("%s", got)
	}
}

// If the predicted seqs are right, Append does not copy the lines.
func TestPredict_right(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	var b Batch
	b.Predict(1)
	for range 20 {
		b.Add(benchEvent())
		b.Add(benchEvent())
		testenv.Must(t, tryAppend(l, &b))
		b.Reset()
	}
	if l.text != nil {
		t.Errorf("%d bytes were copied", len(l.text))
	}
}
