package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/testenv"
)

// shortWait is the LockWait of writers that cannot get the lock. The tests do not
// depend on its length.
const shortWait = 20 * time.Millisecond

// The error names the process that holds the lock.
func TestLock_error_names_holder(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.LockWait = shortWait
	holder := child("hold", l.Path+".seq")
	stop := startChild(t, holder)
	_, err := l.Lock()
	var held *LockError
	if !errors.As(err, &held) || held.Path != l.Path+".seq" || held.Waited.Round(time.Millisecond) != shortWait {
		t.Fatalf("%#v", err)
	}
	comm := strings.TrimSpace(testenv.ReadIfExists(t, fmt.Sprintf("/proc/%d/comm", holder.Process.Pid)))
	want := fmt.Sprintf("lock %s.seq: still held by process %d %q after 20ms", l.Path, holder.Process.Pid, comm)
	if err.Error() != want {
		t.Errorf("%v, expected %s", err, want)
	}
	testenv.Must(t, stop())
	if seq := appendTo(t, l, "m"); seq != 1 {
		t.Errorf("seq %d", seq)
	}
	unknown := LockError{Path: "p", Waited: DefaultLockWait}
	if got := unknown.Error(); got != "lock p: still held by another process after 5s" {
		t.Errorf("%s", got)
	}
}

// The default time limit is five seconds.
func TestLock_default_wait(t *testing.T) {
	t.Parallel()
	l := logIn(testenv.TempDir(t))
	defer holdHere(t, l.Path+".seq")()
	start := time.Now()
	_, err := l.Lock()
	var held *LockError
	if waited := time.Since(start); !errors.As(err, &held) || waited < 5*time.Second || !strings.HasSuffix(err.Error(), " after 5s") {
		t.Errorf("%v after %v", err, waited)
	}
}

// lockInBackground calls Lock and returns while it waits. The channel receives
// the error.
func lockInBackground(t *testing.T, l *EventLog) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := l.Lock()
		done <- err
	}()
	awaitWaiters(t, l.Path+".seq", 1)
	return done
}

// The seq file is removed or replaced while a writer has it open or waits for the
// lock. The writer then locks the new file.
func TestLock_file_replaced(t *testing.T) {
	for name, swap := range map[string]func(path string) error{
		"unlinked": os.Remove,
		"swapped": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := logIn(testenv.TempDir(t))
			release := holdHere(t, l.Path+".seq")
			done := lockInBackground(t, l)
			testenv.Must(t, swap(l.Path+".seq"))
			release()
			testenv.Must(t, <-done)
			if !lockIsHeld(t, l.Path+".seq") {
				t.Error("the lock is not on the current file")
			}
			l.seq.unlock()
			testenv.Must(t, swap(l.Path+".seq"))
			unlock, err := l.Lock()
			testenv.Must(t, err)
			if !lockIsHeld(t, l.Path+".seq") {
				t.Error("the second lock is not on the current file")
			}
			unlock()
			if lockIsHeld(t, l.Path+".seq") {
				t.Error("not unlocked")
			}
		})
	}
}

// A process that holds the lock on a removed seq file does not block other writers.
func TestLock_file_removed(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.LockWait = shortWait
	appendTo(t, l, "m")
	defer holdHere(t, l.Path+".seq")()
	testenv.Must(t, os.Remove(l.Path+".seq"))
	if seq := appendTo(t, l, "m"); seq != 2 {
		t.Errorf("seq %d", seq)
	}
}

// lockIsHeld reports whether the file is locked.
func lockIsHeld(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	testenv.Must(t, err)
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// After a timeout, the goroutine that waits for the lock keeps its place in the
// queue, and the next attempt uses it again. No thread is leaked.
func TestLock_wait_resumed(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.LockWait = shortWait
	release := holdHere(t, l.Path+".seq")
	for range 5 {
		if _, err := l.Lock(); !errors.As(err, new(*LockError)) {
			t.Fatalf("%v", err)
		}
		if n := waiters(t, l.Path+".seq"); n != 1 {
			t.Fatalf("%d threads wait for the lock, want 1", n)
		}
	}
	other := logIn(filepath.Dir(l.Path))
	done := make(chan error, 1)
	go func() {
		_, err := other.Lock()
		done <- err
	}()
	awaitWaiters(t, l.Path+".seq", 2)
	release() // the first wait gets the lock, before another attempt
	awaitWaiters(t, l.Path+".seq", 1)
	unlock, err := l.Lock()
	testenv.Must(t, err)
	select {
	case <-done:
		t.Fatal("two writers hold the lock")
	default:
	}
	unlock()
	testenv.Must(t, <-done)
}

// A writer abandons its wait when the seq file is replaced. The number of abandoned
// waits is limited, and each ends when its lock is released.
func TestLock_abandoned_waits_limited(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.LockWait = shortWait
	before := runtime.NumGoroutine()
	var releases []func()
	for i := range 2 * maxAbandoned {
		if i > 0 {
			testenv.Must(t, os.Rename(l.Path+".seq", fmt.Sprint(l.Path, i)))
		}
		releases = append(releases, holdHere(t, l.Path+".seq"))
		if _, err := l.Lock(); !errors.As(err, new(*LockError)) {
			t.Fatalf("%v", err)
		}
	}
	if n := runtime.NumGoroutine() - before; n > 2*maxAbandoned+1 {
		t.Errorf("%d goroutines wait", n)
	}
	for _, release := range releases {
		release()
	}
	within(t, time.Minute, func() {
		for len(l.seq.abandoned) > 0 || runtime.NumGoroutine() > before+1 { // within uses one goroutine
			time.Sleep(time.Millisecond)
		}
	})
	if seq := appendTo(t, l, "m"); seq != 1 {
		t.Errorf("seq %d", seq)
	}
}

// The seq file is replaced each time that the writer gets the lock. The time limit
// applies to all attempts together.
func TestLock_file_swapped_repeatedly(t *testing.T) {
	l := logIn(testenv.TempDir(t))
	l.LockWait = 10 * shortWait
	path := l.Path + ".seq"
	release := holdHere(t, path)
	done := make(chan error, 1)
	go func() {
		_, err := l.Lock()
		done <- err
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		select {
		case err := <-done:
			release()
			if !errors.As(err, new(*LockError)) && !errors.Is(err, errReplacedOften) {
				t.Errorf("%v", err)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("still waiting after a minute of swaps")
		}
		if waiters(t, path) > 0 {
			next := holdHere(t, path+".new")
			testenv.Must(t, os.Rename(path+".new", path))
			release()
			release = next
		}
	}
}
