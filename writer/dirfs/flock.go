package dirfs

import (
	"time"

	"golang.org/x/sys/unix"
)

// TryLock locks fd with flock(2) if it can do so without waiting, and reports
// whether it did. how is unix.LOCK_SH or unix.LOCK_EX.
func TryLock(fd, how int) (bool, error) {
	err := Retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// A LockWait is a goroutine that waits for a flock(2). flock has no time limit,
// and a process that only tries repeatedly might never get a lock that other
// processes use heavily. The goroutine stays in the queue of the lock until it has the
// lock, even while no call of Within is in progress. The descriptor must stay open until
// then. A LockWait is not safe for concurrent use.
type LockWait struct{ done chan error }

// WaitLock starts to wait for a flock on fd. how is unix.LOCK_SH or unix.LOCK_EX.
func WaitLock(fd, how int) *LockWait {
	w := &LockWait{make(chan error, 1)}
	go func() { w.done <- Retry(func() error { return unix.Flock(fd, how) }) }()
	return w
}

// Within waits for at most limit. done is true once flock has returned; err is
// then its error, and w must not be used again. done is false if the limit has
// passed; Within may then be called again.
func (w *LockWait) Within(limit time.Duration) (done bool, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return true, err
	case <-timer.C:
		return false, nil
	}
}

// Abandon makes another goroutine call f once flock has returned. w must not be
// used again.
func (w *LockWait) Abandon(f func()) {
	go func() {
		<-w.done
		f()
	}()
}
