package dirfs

import (
	"time"

	"golang.org/x/sys/unix"
)

// TryLock takes a flock(2) on fd if it is free, and reports whether it did. how
// is LOCK_SH or LOCK_EX.
func TryLock(fd, how int) (bool, error) {
	err := Retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// A LockWait is a flock(2) that is being waited for on its own goroutine,
// because flock has no time limit and repeated attempts without waiting starve
// beside a busy process. It keeps its place in the queue while nobody waits in
// Within. The descriptor must stay open until the wait is over.
type LockWait struct{ done chan error }

// WaitLock starts to wait for a flock on fd. how is LOCK_SH or LOCK_EX.
func WaitLock(fd, how int) *LockWait {
	w := &LockWait{make(chan error, 1)}
	go func() { w.done <- Retry(func() error { return unix.Flock(fd, how) }) }()
	return w
}

// Within waits until the lock is taken, at most for limit; ok is false if the
// limit is over. After it has returned true, the wait is over and must not be
// used again; err is then the error of flock.
func (w *LockWait) Within(limit time.Duration) (ok bool, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return true, err
	case <-timer.C:
		return false, nil
	}
}

// Abandon calls f, on another goroutine, when the wait is over.
func (w *LockWait) Abandon(f func()) {
	go func() {
		<-w.done
		f()
	}()
}
