package ingest

import (
	"errors"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/writerlock"
)

// A writerLock is the lock of a stream in writer.lock. It shows others that the stream
// writes to the directory, and that it has died if its process ends before end is called.
//
// err is the error of the last attempt to acquire the lock. A stream works on without it.
type writerLock struct {
	store         store
	warn          func(format string, args ...any)
	err           error
	nextTry       time.Time
	warned        bool
	statusWritten bool // the stream has written a status
}

// writerLockPause is the pause between two attempts to acquire the lock: an attempt makes
// several system calls.
const writerLockPause = time.Second

// acquire acquires the lock, unless the stream holds it.
func (w *writerLock) acquire() {
	if w.err != nil && time.Now().Before(w.nextTry) {
		return
	}
	w.err = w.store.lockWriter()
	if w.err != nil {
		w.nextTry = time.Now().Add(writerLockPause)
	}
}

// heldByRun returns the error of acquire if another run writes to the directory.
func (w *writerLock) heldByRun() error {
	var held *writerlock.HeldError
	if errors.As(w.err, &held) {
		return held
	}
	return nil
}

// committed is called after a commit that succeeded. A commit that starts a run or has a
// result makes the deaths of earlier writers irrelevant. A missing lock is reported only
// here: if the commit failed too, the cause is reported already.
func (w *writerLock) committed(startsOrEndsRun bool) {
	err := w.err
	if err == nil && startsOrEndsRun {
		err = w.store.clearDead()
	}
	if err == nil || w.warned {
		return
	}
	w.warned = true
	todo := Remedy(err)
	if todo != "" {
		todo = "; " + todo
	}
	w.warn("%v; wait cannot find out whether this process has died%s", err, todo)
}

// end releases the lock. Unless the stream leaves the files as they must be, it leaves its
// record, so that it counts as dead: if the status or the result was lost, or if another
// writer died before the stream and the stream has written no status since.
func (w *writerLock) end(lost bool) {
	w.store.unlockWriter(lost || (w.store.replacedDead() && !w.statusWritten))
}
