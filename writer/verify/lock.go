package verify

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/history"
)

// hold takes the writers' lock, shared, without making the seq file. Where there
// is none, or it may not be opened, nobody writes whom this could hold up. An error
// says that somebody did not let it go.
func hold(dir string) (unlock func(), err error) {
	f, err := history.Open(dir, seqName)
	if err != nil {
		return func() {}, nil
	}
	locked := make(chan error, 1)
	go func() {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		for err == unix.EINTR {
			err = unix.Flock(int(f.Fd()), unix.LOCK_SH)
		}
		locked <- err
	}()
	select {
	case err = <-locked:
		return func() { f.Close() }, err
	case <-time.After(writer.DefaultWait): // the wait dies with the process
		return func() {}, &writer.LockError{Path: filepath.Join(dir, seqName), Waited: writer.DefaultWait}
	}
}
