package writer

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A writer waits at most logLockWait for the lock on the log itself. Every user who may
// read the log can lock it, and must not be able to stop its writers. Therefore the limit
// is short, although longer than almost every commit. Once a writer has reached it, its
// later waits are limited to logLockRetry, which is still longer than most commits.
const (
	logLockWait  = time.Second
	logLockRetry = 10 * time.Millisecond
)

// logLockPause is the pause between two attempts to lock the log. The lock is contended
// only after an accident, so a writer need not queue for it.
const logLockPause = 2 * time.Millisecond

// A logLock is the lock on the log itself. It is a second lock: a writer acquires it after
// the one on the seq file, and releases it first. It matters if the seq file is removed or
// replaced while a writer holds the first lock. The next writer then locks the new seq
// file, and only the lock on the log keeps the two writers apart.
//
// Closing the log releases the lock; held must then be reset. gaveUp is set once a wait has
// reached its limit, and stays set.
type logLock struct {
	held   bool
	gaveUp bool
}

// acquire locks the log f, at path. If another process holds the lock for too long,
// acquire returns without the lock, and the first time also calls warn.
func (l *logLock) acquire(f *dirfs.File, path string, warn func(text string)) error {
	limit := logLockWait
	if l.gaveUp {
		limit = logLockRetry
	}
	for start := time.Now(); !l.held; {
		locked, err := dirfs.TryLock(f.Fd(), unix.LOCK_EX)
		switch {
		case err != nil:
			return pathError("lock", path, err)
		case locked:
			l.held = true
		case time.Since(start) < limit:
			time.Sleep(logLockPause)
		default:
			if !l.gaveUp && warn != nil {
				warn(blockedText(path, f.ID()))
			}
			l.gaveUp = true
			return nil
		}
	}
	return nil
}

// blockedText is the warning about a lock that another process holds.
func blockedText(path string, id dirfs.ID) string {
	holder := lockHolder(id)
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("lock %s: held by %s; appending without the lock; stop that process", path, holder)
}

// release releases the lock on the log f.
func (l *logLock) release(f *dirfs.File) {
	if l.held && f != nil {
		_ = unix.Flock(f.Fd(), unix.LOCK_UN)
	}
	l.held = false
}
