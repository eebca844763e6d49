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
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// unconfirmedLog returns a log with two events, and a batch whose append has failed
// and could not be undone. text is the part that is in the file. The function sets
// this state directly, because no injected fault produces it reliably.
func unconfirmedLog(t *testing.T, dir, text string) (*EventLog, *Batch) {
	t.Helper()
	l := logIn(dir)
	appendTo(t, l, "event 1", "event 2")
	b := batchOf("event 3", "event 4", "event 5")
	l.tried = 3
	l.lines.unconfirmed = newUnconfirmed(l.lines.file, l.lines.end, []byte(testLines(3, 5)))
	l.lines.close()
	put(t, l.Path, testLines(1, 2)+text)
	put(t, l.Path+".seq", "5\n")
	return l, b
}

// seqs returns the seqs of a batch.
func seqs(b *Batch) (all []uint64) {
	for i := range b.Len() {
		all = append(all, b.Seq(i))
	}
	return all
}

// After a failed append, whatever part of it is in the file, the next attempt does not
// duplicate or lose an event, and does not change the events of another writer.
func TestUnconfirmed(t *testing.T) {
	ours := testLines(3, 5)
	two := testLines(3, 4)
	for _, c := range []struct {
		name  string
		there string // the part of the batch that is in the file
		other string // the text that another writer appends after it, or ""
		log   string // the final log, after the first two events
		seqs  [3]uint64
	}{
		{"nothing", "", "", ours, [3]uint64{3, 4, 5}},
		{"all", ours, "", ours, [3]uint64{3, 4, 5}},
		{"all but the newline", ours[:len(ours)-1], "", ours, [3]uint64{3, 4, 5}},
		{"some", two + "{", "", ours, [3]uint64{3, 4, 5}},
		{"some, whole lines", two, "", ours, [3]uint64{3, 4, 5}},
		{"nothing, then another", "", "other",
			testLine(3, "other") + testLine(4, "event 3") + testLine(5, "event 4") + testLine(6, "event 5"), [3]uint64{4, 5, 6}},
		{"torn first line, then another", `{"schema`, "o",
			testLine(3, "o") + testLine(4, "event 3") + testLine(5, "event 4") + testLine(6, "event 5"), [3]uint64{4, 5, 6}},
		{"torn first line, then a long one", `{"schema`, strings.Repeat("long", 200),
			testLine(3, strings.Repeat("long", 200)) + testLine(4, "event 3") + testLine(5, "event 4") + testLine(6, "event 5"), [3]uint64{4, 5, 6}},
		{"two lines, then another", two, "other", two + testLine(5, "other") + testLine(6, "event 5"), [3]uint64{3, 4, 6}},
		{"two lines and a torn one, then another", two + `{"sch`, "other", two + testLine(5, "other") + testLine(6, "event 5"), [3]uint64{3, 4, 6}},
		{"all, then another", ours, "other", ours + testLine(6, "other"), [3]uint64{3, 4, 5}},
		{"all but the newline, then another", ours[:len(ours)-1], "other", ours + testLine(6, "other"), [3]uint64{3, 4, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testenv.TempDir(t)
			l, b := unconfirmedLog(t, dir, c.there)
			if c.other != "" {
				appendTo(t, logIn(dir), c.other)
			}
			testenv.Must(t, tryAppend(l, b))
			if got := seqs(b); [3]uint64(got) != c.seqs {
				t.Errorf("seqs %v, expected %v", got, c.seqs)
			}
			if got, want := testenv.ReadIfExists(t, l.Path), testLines(1, 2)+c.log; got != want {
				t.Errorf("the log:\n%sexpected\n%s", got, want)
			}
			if l.lines.unconfirmed != nil {
				t.Error("the append is still unconfirmed")
			}
			records := mustLoad(t, l.Path)
			if seq := appendTo(t, l, "last"); seq != records[len(records)-1].seq+1 {
				t.Errorf("the next event has seq %d", seq)
			}
		})
	}
}

// If the log is removed or replaced after a failed append, the next attempt writes all
// events to the new log.
func TestUnconfirmed_log_replaced(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, path string) (before string){
		"removed": func(t *testing.T, path string) string { testenv.Must(t, os.Remove(path)); return "" },
		"replaced": func(t *testing.T, path string) string {
			testenv.Must(t, os.Rename(path, path+".away"))
			put(t, path, testLines(8, 9))
			return testLines(8, 9)
		},
		"cut": func(t *testing.T, path string) string {
			testenv.Must(t, os.Truncate(path, int64(len(testLines(1, 1)))))
			return testLines(1, 1)
		},
		"directory removed": func(t *testing.T, path string) string {
			testenv.Must(t, os.RemoveAll(filepath.Dir(path)))
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, b := unconfirmedLog(t, filepath.Join(testenv.TempDir(t), "state"), testLine(3, "event 3"))
			before := take(t, l.Path)
			records, err := load(before)
			testenv.Must(t, err)
			first := uint64(6) // from the seq file
			if name == "directory removed" {
				first = 3 // the last append that succeeded was of event 2
			} else if len(records) > 0 {
				first = records[len(records)-1].seq + 1
			}
			testenv.Must(t, tryAppend(l, b))
			want := before + testLine(first, "event 3") + testLine(first+1, "event 4") + testLine(first+2, "event 5")
			if got := testenv.ReadIfExists(t, l.Path); got != want {
				t.Errorf("the log:\n%sexpected\n%s", got, want)
			}
		})
	}
}

// While the log cannot be opened, because it has a second link, Append writes nothing
// and keeps the state of the failed append.
func TestUnconfirmed_log_hard_linked(t *testing.T) {
	dir := testenv.TempDir(t)
	l, b := unconfirmedLog(t, dir, testLine(3, "event 3")+"{")
	testenv.Must(t, os.Link(l.Path, l.Path+".link"))
	for range 2 {
		if err := tryAppend(l, b); !errors.Is(err, dirfs.ErrLinked) || !strings.Contains(err.Error(), l.Path) {
			t.Fatalf("%v", err)
		}
	}
	testenv.Must(t, os.Remove(l.Path+".link"))
	testenv.Must(t, tryAppend(l, b))
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 5) {
		t.Errorf("the log:\n%s", got)
	}
}

// A batch may grow between a failed append and the next attempt.
func TestUnconfirmed_batch_grows(t *testing.T) {
	dir := testenv.TempDir(t)
	l, b := unconfirmedLog(t, dir, testLines(3, 5))
	appendTo(t, logIn(dir), "other")
	b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 7")})
	testenv.Must(t, tryAppend(l, b))
	if got, want := testenv.ReadIfExists(t, l.Path), testLines(1, 5)+testLine(6, "other")+testLine(7, "event 7"); got != want {
		t.Errorf("the log:\n%s", got)
	}
	if b.Seq(2) != 5 || b.Seq(3) != 7 {
		t.Errorf("seqs %v", seqs(b))
	}
	if got, want := string(b.Text()), testLines(3, 5)+testLine(7, "event 7"); got != want {
		t.Errorf("the batch:\n%s", got)
	}
	b.Reset()
	b.Add(&artifact.Event{Kind: artifact.Ready, Time: testTime, Message: quoted("event 8")})
	testenv.Must(t, tryAppend(l, b))
	if b.Len() != 1 || b.Seq(0) != 8 || mustLoad(t, l.Path)[7].message != "event 8" {
		t.Errorf("seqs %v:\n%s", seqs(b), testenv.ReadIfExists(t, l.Path))
	}
}

// A failed append to rejected.jsonl is resolved in the same way.
func TestUnconfirmed_reject(t *testing.T) {
	for _, c := range []struct{ there, other, want string }{
		{"{1}\n{2", "", "{0}\n{1}\n{2}\n{3}\n"},
		{"{1}\n{2}\n", "", "{0}\n{1}\n{2}\n{3}\n"},
		{"{1}\n{2}\n", "{x}\n", "{0}\n{1}\n{2}\n{x}\n{3}\n"},
		{"{1}\n", "{x}\n", "{0}\n{1}\n{x}\n{2}\n{3}\n"},
		{"", "{x}\n", "{0}\n{x}\n{1}\n{2}\n{3}\n"},
	} {
		d := In(testenv.TempDir(t))
		r := &d.Rejects
		r.MaxBytes = 1 << 10
		testenv.Must(t, r.Append([]byte("{0}\n")))
		r.lines.unconfirmed = newUnconfirmed(r.lines.file, r.lines.end, []byte("{1}\n{2}\n"))
		r.lines.close()
		put(t, r.Path, "{0}\n"+c.there+c.other)
		testenv.Must(t, r.Append([]byte("{1}\n{2}\n{3}\n")))
		if got := testenv.ReadIfExists(t, r.Path); got != c.want {
			t.Errorf("%+v:\n%s", c, got)
		}
	}
}

// AppendLeading removes the events that are in the log already from the batch, even if no
// other event fits.
func TestAppendLeading_unconfirmed(t *testing.T) {
	dir := testenv.TempDir(t)
	l, b := unconfirmedLog(t, dir, testLines(3, 4))
	appendTo(t, logIn(dir), "other")
	unlock, err := l.Lock()
	testenv.Must(t, err)
	defer unlock()
	written, err := l.AppendLeading(b, math.MaxInt64)
	if got := fmt.Sprint(seqs(written), b.Len()); !errors.Is(err, unix.ENOSPC) || got != "[3 4] 1" {
		t.Errorf("without space: %s, %v", got, err)
	}
	written, err = l.AppendLeading(b, 0)
	if got := fmt.Sprint(seqs(written), b.Len()); err != nil || got != "[6] 0" {
		t.Errorf("with space: %s, %v", got, err)
	}
	if got, want := testenv.ReadIfExists(t, l.Path), testLines(1, 4)+testLine(5, "other")+testLine(6, "event 5"); got != want {
		t.Errorf("the log:\n%sexpected\n%s", got, want)
	}
}
