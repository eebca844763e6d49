package writer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// Two writers hold locks on two seq files. The second waits until the first has
// released the lock on the log.
func TestLogLock_seq_file_removed(t *testing.T) {
	for name, rotates := range map[string]bool{"appended": false, "rotated": true} {
		t.Run(name, func(t *testing.T) {
			first := logIn(testenv.TempDir(t))
			second := logIn(filepath.Dir(first.Path))
			appendTo(t, first, "event 1", "event 2")
			unlock, err := first.Lock()
			testenv.Must(t, err)
			if rotates {
				testenv.Must(t, first.Rotate())
			}
			testenv.Must(t, first.Append(batchOf("event 3")))
			testenv.Must(t, os.Remove(first.Path+".seq"))
			done := make(chan uint64, 1)
			go func() { done <- appendTo(t, second, "event 5") }()
			time.Sleep(20 * time.Millisecond)
			select {
			case seq := <-done:
				t.Fatalf("the second writer has appended %d", seq)
			default:
			}
			testenv.Must(t, first.Append(batchOf("event 4")))
			unlock()
			if seq := <-done; seq != 5 {
				t.Errorf("seq %d", seq)
			}
			if seq := appendTo(t, first, "event 6"); seq != 6 {
				t.Errorf("seq %d", seq)
			}
			if got := testenv.ReadIfExists(t, first.Path+".1") + testenv.ReadIfExists(t, first.Path); got != testLines(1, 6) {
				t.Errorf("%s", got)
			}
		})
	}
}

// Two writers with two seq files rotate the log, and append to it, in turns.
func TestLogLock_two_rotations(t *testing.T) {
	first := logIn(testenv.TempDir(t))
	second := logIn(filepath.Dir(first.Path))
	second.SeqPath = first.Path + ".other"
	appendTo(t, first, "event 1")
	for seq := uint64(2); seq < 10; seq++ {
		l := []*EventLog{first, second}[seq%2]
		unlock, err := l.Lock()
		testenv.Must(t, err)
		testenv.Must(t, l.Rotate())
		b := batchOf("m")
		testenv.Must(t, l.Append(b))
		unlock()
		if b.Seq(0) != seq {
			t.Fatalf("seq %d, expected %d", b.Seq(0), seq)
		}
	}
}

// A process that holds a lock on the log delays a writer once, for a
// second. The writer warns once, and appends anyway.
func TestLogLock_held(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	var warnings []string
	l.Warn = func(text string) { warnings = append(warnings, text) }
	appendTo(t, l, "event 1")
	f, err := os.Open(l.Path)
	testenv.Must(t, err)
	testenv.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_SH))
	start := time.Now()
	appendTo(t, l, "event 2")
	if waited := time.Since(start); waited < logLockWait || waited > 5*logLockWait {
		t.Errorf("waited %v", waited)
	}
	start = time.Now()
	appendTo(t, l, "event 3")
	if waited := time.Since(start); waited > logLockWait/2 {
		t.Errorf("waited %v again", waited)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "lock "+l.Path+": held by process ") ||
		!strings.HasSuffix(warnings[0], "; appending without the lock; stop that process") {
		t.Errorf("%q", warnings)
	}
	testenv.Must(t, f.Close())
	unlock, err := l.Lock()
	testenv.Must(t, err)
	testenv.Must(t, l.Append(batchOf("event 4")))
	if !lockIsHeld(t, l.Path) {
		t.Error("the writer does not lock the log again")
	}
	unlock()
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 4) {
		t.Errorf("%s", got)
	}
	if lockIsHeld(t, l.Path) {
		t.Error("the log is still locked")
	}
}

// A failed append keeps the lock on the log until it is undone, and an append that
// could not be undone is resolved under the lock.
func TestLogLock_undo(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	other := logIn(filepath.Dir(l.Path))
	other.SeqPath = l.Path + ".other"
	appendTo(t, l, "event 1")
	unlock, err := l.Lock()
	testenv.Must(t, err)
	testenv.Must(t, l.Append(batchOf("event 2")))
	unlock()
	// As if the last append had failed and could not be undone.
	text := []byte(testLine(2, "event 2"))
	l.lines.unconfirmed = newUnconfirmed(l.lines.file, int64(len(testLines(1, 1))), text)
	l.tried = 2
	unlockOther, err := other.Lock()
	testenv.Must(t, err)
	testenv.Must(t, other.Append(batchOf("event 3")))
	done := make(chan uint64, 1)
	go func() { done <- appendTo(t, l, "event 2", "event 4") }()
	time.Sleep(20 * time.Millisecond)
	unlockOther()
	if seq := <-done; seq != 2 {
		t.Errorf("seq %d", seq)
	}
	if got := testenv.ReadIfExists(t, l.Path); got != testLines(1, 4) {
		t.Errorf("%s", got)
	}
}

// Without another process, the lock costs no pause.
func TestLogLock_free(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	appendTo(t, l, "event 1")
	const times = 500
	start := time.Now()
	for range times {
		testenv.Must(t, l.lines.acquire(l.lines.file))
		l.lines.unlock()
	}
	if took := time.Since(start); took > times*logLockPause/2 {
		t.Errorf("%d locks took %v", times, took)
	}
}
