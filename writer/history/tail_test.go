package history_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
	"github.com/sledtools/pika-cloud-lifecycle/writer/verify"
)

// A tailed is a log, which may be missing at first, and a Tail that reads it.
type tailed struct {
	*testing.T
	dir  string
	path string
	tail history.Tail
}

func newTailed(t *testing.T) *tailed {
	dir := filepath.Join(testenv.TempDir(t), "run")
	path := filepath.Join(dir, writer.EventsName)
	l := &tailed{T: t, dir: dir, path: path, tail: history.Tail{Path: path}}
	t.Cleanup(l.tail.Close)
	return l
}

// append appends one event for each message, in one commit. It rotates the log first if it
// would exceed rotateAt.
func (l *tailed) append(rotateAt int64, messages ...string) {
	l.Helper()
	testenv.Must(l, os.MkdirAll(l.dir, 0o755))
	log, batch := writer.EventLog{Path: l.path, RotateAt: rotateAt}, new(writer.Batch)
	for _, m := range messages {
		batch.Add(&artifact.Event{Kind: artifact.Ready, Time: time.Now(), Message: strictjson.AppendText(nil, m)})
	}
	unlock, err := log.Lock()
	testenv.Must(l, err)
	defer unlock()
	testenv.Must(l, log.Append(batch))
}

// appendText appends text that no writer of this program has written.
func (l *tailed) appendText(text string) {
	l.Helper()
	testenv.Must(l, os.MkdirAll(l.dir, 0o755))
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	testenv.Must(l, err)
	_, err = f.WriteString(text)
	testenv.Must(l, err, f.Close())
}

// want checks the messages of all new events. A line that is not an event counts as its
// text in angle brackets.
func (l *tailed) want(messages ...string) {
	l.Helper()
	var got []string
	for {
		line, err := l.tail.Next()
		switch {
		case err == io.EOF:
			if fmt.Sprint(got) != fmt.Sprint(messages) {
				l.Fatalf("got %q, want %q", got, messages)
			}
			return
		case err == history.ErrMore:
		case err != nil:
			l.Fatal(err)
		case line.Long:
			got = append(got, "<long>")
		case line.Event == nil:
			got = append(got, "<"+string(line.Text)+">")
		default:
			text, _ := line.Event.Message.Text()
			got = append(got, text)
		}
	}
}

func TestTail_start(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	l.append(1, "two", "three") // a rotation
	l.want("one", "two", "three")

	skipOld := tailed{T: t, tail: history.Tail{Path: l.path}}
	defer skipOld.tail.Close()
	testenv.Must(t, skipOld.tail.SkipOld())
	skipOld.want("two", "three")

	skip := tailed{T: t, tail: history.Tail{Path: l.path}}
	defer skip.tail.Close()
	testenv.Must(t, skip.tail.Skip())
	skip.want()
	l.append(0, "four")
	skip.want("four")
	skipOld.want("four")
	l.want("four")
}

func TestTail_missing_directory(t *testing.T) {
	for _, start := range []string{"all", "Skip"} {
		t.Run(start, func(t *testing.T) {
			l := newTailed(t)
			if start == "Skip" {
				testenv.Must(t, l.tail.Skip())
			}
			l.want()
			l.append(0, "one")
			l.append(1, "two") // before the first read
			l.want("one", "two")
			testenv.Must(t, os.RemoveAll(l.dir))
			l.want()
			l.append(0, "another one", "another two")
			l.want("another one", "another two")
			testenv.Must(t, os.Rename(l.dir, l.dir+".old"))
			l.append(0, "a third one", "a third two")
			l.want("a third one", "a third two")
		})
	}
}

func TestTail_rotation(t *testing.T) {
	for _, start := range []string{"all", "Skip"} {
		t.Run(start, func(t *testing.T) {
			l := newTailed(t)
			l.append(0, "one")
			if start == "Skip" {
				testenv.Must(t, l.tail.Skip())
			} else {
				l.want("one")
			}
			l.append(0, "two")
			l.append(1, "three") // once between two reads
			l.want("two", "three")
			l.append(0, "four")
			l.append(1, "five")
			l.append(0, "six")
			l.append(1, "seven") // twice
			l.append(0, "eight")
			l.want("four", "five", "six", "seven", "eight")
			l.append(1, "nine")
			l.want("nine")
			testenv.Must(t, os.Rename(l.path, l.path+".1")) // a writer was killed before it created the new log
			l.want()
			l.append(0, "ten")
			l.append(1, "eleven")
			l.want("ten", "eleven")
		})
	}
}

// A log that was rotated before the start is not read again, whichever files the rotation
// has left.
func TestTail_skip_after_rotation(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	testenv.Must(t, os.Rename(l.path, l.path+".1"), l.tail.Skip())
	l.want()
	l.append(0, "two")
	l.want("two")
	l.append(1, "three")
	l.append(1, "four")
	l.want("three", "four")
}

// A user names the rotated log events.jsonl again, and the writer rotates it once more.
func TestTail_skip_and_rename_back(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	testenv.Must(t, os.Rename(l.path, l.path+".1"), l.tail.Skip(), os.Rename(l.path+".1", l.path))
	l.append(0, "two")
	l.append(1, "three")
	l.want("two", "three")
}

func TestTail_repair(t *testing.T) {
	for _, start := range []string{"all", "Skip"} {
		t.Run(start, func(t *testing.T) {
			l := newTailed(t)
			l.append(0, "one", "two")
			l.appendText("what is this\n")
			if start == "Skip" {
				testenv.Must(t, l.tail.Skip())
			} else {
				l.want("one", "two", "<what is this>")
			}
			l.append(0, "three")
			_, err := verify.Repair(l.dir)
			testenv.Must(t, err)
			if strings.Contains(testenv.ReadFile(t, l.path), "what is this") {
				t.Fatal("the log was not replaced")
			}
			l.append(0, "four")
			l.want("three", "four")
		})
	}
}

func TestTail_truncated(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	kept := testenv.ReadFile(t, l.path)
	l.append(0, "two", "three")
	l.want("one", "two", "three")
	size := int64(len(kept))
	for _, replacement := range []string{"2", "a much longer event than those that were there before, with the same seq as one that was removed"} {
		testenv.Must(t, os.Truncate(l.path, size)) // as a writer does after an append that has failed
		l.append(0, replacement, "3")
		l.want(replacement, "3")
	}
	testenv.Must(t, os.Truncate(l.path, size))
	l.want()
	l.append(0, "after a read")
	l.want("after a read")

	testenv.Must(t, os.Truncate(l.path, 0))
	l.append(0, "in an empty log")
	l.want("in an empty log")
	testenv.Must(t, os.Truncate(l.path, 0))
	l.want()
	l.append(0, "in an empty log, after a read")
	l.want("in an empty log, after a read")
}

// More lines are removed than are compared: no event is returned twice.
func TestTail_truncated_far(t *testing.T) {
	l := newTailed(t)
	var messages []string
	for i := range 1000 {
		messages = append(messages, fmt.Sprint("event ", i))
	}
	l.append(0, messages...)
	l.want(messages...)
	text := testenv.ReadFile(t, l.path)
	testenv.Must(t, os.Truncate(l.path, int64(strings.Index(text, "\n"))+1))
	l.want()
	l.appendText(text[strings.Index(text, "\n")+1:]) // the writer tries again
	l.append(0, "new")
	l.want("new")
}

func TestTail_incomplete_line(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	line := strings.ReplaceAll(testenv.ReadFile(t, l.path), "one", "two")
	l.appendText(line[:50])
	l.want("one")
	testenv.Must(t, os.Truncate(l.path, int64(len(line))))
	l.appendText(strings.ReplaceAll(line, "two", "2")[:60])
	l.want()
	l.appendText(strings.ReplaceAll(line, "two", "2")[60:])
	l.want("2")
}

// The copy that verify --repair has made is rotated before it is read.
func TestTail_repair_and_rotation(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one", "two")
	l.appendText("what is this\n")
	l.want("one", "two", "<what is this>")
	_, err := verify.Repair(l.dir)
	testenv.Must(t, err)
	l.append(0, "three")
	l.append(1, "four")
	l.want("three", "four")
}

// Skip finds the last seq before a long line, and continues in the middle of a line that
// is too long to be read.
func TestTail_skip_long_line(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	text := testenv.ReadFile(t, l.path)
	l.appendText(strings.Repeat("x", 200<<10) + "\n")
	testenv.Must(t, l.tail.Skip())
	testenv.Must(t, os.WriteFile(l.path+".new", []byte(text), 0o644), os.Rename(l.path+".new", l.path)) // as verify --repair does
	l.append(0, "two")
	l.want("two")

	l.appendText(strings.Repeat("x", artifact.MaxSize+1<<20))
	skip := tailed{T: t, tail: history.Tail{Path: l.path}}
	defer skip.tail.Close()
	testenv.Must(t, skip.tail.Skip())
	l.appendText("\n")
	l.append(0, "three")
	skip.want("<long>", "three")
}

func TestTail_line_number(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	size := int64(len(testenv.ReadFile(t, l.path)))
	l.append(0, "two", "three")
	l.want("one", "two", "three")
	testenv.Must(t, os.Truncate(l.path, size))
	l.append(0, "2")
	if line, err := l.tail.Next(); err != nil || line.Number != 2 || line.Offset != size || line.File != writer.EventsName {
		t.Errorf("%+v, %v", line, err)
	}
}

// A writer rotates the log all the time. Every event is returned once, and in order: the
// writer never gets so far ahead that a log is lost.
func TestTail_concurrent(t *testing.T) {
	const rotations, perLog = 1000, 3
	l := newTailed(t)
	next := make(chan bool, 1)
	done := make(chan error, 1)
	go func() {
		log := writer.EventLog{Path: l.path}
		done <- func() error {
			for i := range rotations {
				unlock, err := log.Lock()
				if err != nil {
					return err
				}
				if i > 0 {
					err = log.Rotate()
				}
				for range perLog {
					batch := new(writer.Batch)
					batch.Add(&artifact.Event{Kind: artifact.Ready, Time: time.Now(), Message: strictjson.Value(`"m"`)})
					err = errors.Join(err, log.Append(batch))
				}
				unlock()
				if err != nil {
					return err
				}
				next <- true // at most two logs are not read yet, so none is overwritten
			}
			return nil
		}()
	}()
	for seq := uint64(1); seq <= rotations*perLog; {
		line, err := l.tail.Next()
		switch {
		case err == history.ErrMore:
		case err == io.EOF:
			select {
			case err := <-done:
				testenv.Must(t, err)
				done <- nil
			default:
			}
		case err != nil:
			t.Fatal(err)
		case line.Event.Seq != seq:
			t.Fatalf("seq %d after %d", line.Event.Seq, seq-1)
		default:
			if seq%perLog == 0 {
				<-next
			}
			seq++
		}
	}
	testenv.Must(t, <-done)
	l.want()
}

// Every file that is not a plain log gives an error, or is passed over, and none blocks.
func TestTail_other_files(t *testing.T) {
	for name, create := range map[string]func(path string) error{
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o644) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"symlink":   func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newTailed(t)
			l.append(0, "one")
			testenv.Must(t, create(l.path+".1"))
			l.want("one")
			testenv.Must(t, os.Remove(l.path), create(l.path))
			var pathErr *os.PathError
			_, err := l.tail.Next()
			for err == history.ErrMore {
				_, err = l.tail.Next()
			}
			if err == io.EOF || errors.As(err, &pathErr) && pathErr.Path != l.path {
				t.Errorf("Next returned %v", err)
			}
			if err := (&history.Tail{Path: l.path}).Skip(); err == nil {
				t.Error("Skip returned no error")
			}
		})
	}
}

// A Tail leaves out the log that was renamed by the last rotation if its user may not read it.
func TestTail_unreadable_old_log(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	testenv.Must(t, os.WriteFile(l.path+".1", nil, 0))
	if os.Geteuid() == 0 {
		testenv.Root(t)
		testenv.OpenToAll(t, l.dir)
		runtime.LockOSThread() // never unlocked, so the thread ends with the test
		testenv.Must(t, unix.Setfsuid(1000))
		defer unix.Setfsuid(0) // for the removal of the directory
	}
	l.want("one")
	if err := (&history.Tail{Path: l.path}).Skip(); err != nil {
		t.Error(err)
	}
}

// A sparse log has a line that never ends in this test: each call returns after a bounded
// amount of work, so that the caller can end.
func TestTail_endless_line(t *testing.T) {
	l := newTailed(t)
	l.append(0, "one")
	l.want("one")
	if err := os.Truncate(l.path, 1<<42); err != nil {
		testenv.Missing(t, "a file system with sparse files; set TMPDIR to one (%v)", err)
	}
	for range 40 {
		if _, err := l.tail.Next(); err != history.ErrMore {
			t.Fatal(err)
		}
	}
	skip := history.Tail{Path: l.path}
	defer skip.Close()
	testenv.Must(t, skip.Skip())
	if _, err := skip.Next(); err != io.EOF {
		t.Error(err)
	}
}

// Lines of a copy that are left out count as work too.
func TestTail_long_log(t *testing.T) {
	l := newTailed(t)
	messages := make([]string, 20000)
	l.append(0, messages...)
	l.want(messages...)
	copied := testenv.ReadFile(t, l.path)
	testenv.Must(t, os.WriteFile(l.path+".new", []byte(copied), 0o644), os.Rename(l.path+".new", l.path))
	if _, err := l.tail.Next(); err != history.ErrMore {
		t.Errorf("Next returned %v; want ErrMore", err)
	}
	l.want()
	l.append(0, "new")
	l.want("new")
}
