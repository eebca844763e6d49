package verify

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// lockShared takes the writers' lock, shared, without creating the seq file. If
// the file is missing or may not be opened, there is no lock to take: the caller
// could not hold up a writer either. An error reports that a writer did not
// release the lock in time.
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
