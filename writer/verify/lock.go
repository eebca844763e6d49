package verify

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A lockFunc acquires the lock of the writers of the directory. unlock is never nil.
// An error reports that the lock was not acquired; a check continues without it.
type lockFunc func(dir string) (unlock func(), err error)

// noLock is the lockFunc of a caller that holds the lock.
func noLock(string) (unlock func(), err error) { return func() {}, nil }

// lockShared acquires a shared lock. It does not create the seq file. If the file is
// missing, or the user may not open it, lockShared returns no error, and the check
// continues without the lock.
func lockShared(dir string) (unlock func(), err error) {
	f, err := dirfs.Open(dir, writer.SeqName)
	if err != nil {
		return func() {}, nil
	}
	fd := int(f.Fd())
	locked, err := dirfs.TryLock(fd, unix.LOCK_SH)
	if locked || err != nil {
		return func() { f.Close() }, err
	}
	wait := dirfs.WaitLock(fd, unix.LOCK_SH)
	over, err := wait.Within(writer.DefaultLockWait)
	if !over {
		wait.Abandon(func() { f.Close() })
		return func() {}, &writer.LockError{Path: filepath.Join(dir, writer.SeqName), Waited: writer.DefaultLockWait}
	}
	return func() { f.Close() }, err
}
