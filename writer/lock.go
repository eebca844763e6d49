package writer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// DefaultLockWait is how long a lock is waited for: far longer than a commit
// holds it, far shorter than a person waits at a boot console.
const DefaultLockWait = 5 * time.Second

// maxAbandoned is how many waits for locks on replaced files may be left behind.
// Each is a thread, and the owner of the directory could cause one every
// DefaultLockWait.
const maxAbandoned = 8

// A LockError reports that the lock of the events log was not free in time.
type LockError struct {
	Path   string // of the seq file, which bears the lock
	Holder string // the process that holds it, if /proc shows it
	Waited time.Duration
}

func (e *LockError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("lock %s: still held by %s after %v; stop that process", e.Path, holder, e.Waited.Round(time.Millisecond))
}

// A seqFile is the file that holds the last seq and bears the lock of all
// writers of the log, a flock(2).
//
// A lock that is not free is waited for on another goroutine. A wait that was
// given up is continued by the next lock: it keeps its place in the queue, and
// no thread is left behind.
//
// While waiting is not nil, it waits for a lock on file, which must stay open.
type seqFile struct {
	location
	file      *dirfs.File
	unusable  bool // a sync of file has failed
	waiting   *dirfs.LockWait
	abandoned chan struct{} // one element for each wait left behind
}

// lock locks the seq file at path, which it creates if it is missing. A lock on
// a file that was removed or replaced meanwhile excludes no other writer, so
// the name is checked again under the lock. limit is for all attempts together,
// because the owner of the directory could replace the file again and again.
func (l *seqFile) lock(path string, limit time.Duration) error {
	for start := time.Now(); ; {
		if err := l.openFile(path); err != nil {
			return err
		}
		if err := l.acquire(start, limit); err != nil {
			return err
		}
		if l.hasName() {
			return nil
		}
		l.close()
		if time.Since(start) > limit {
			return pathError("lock", path, errReplacedOften)
		}
	}
}

var errReplacedOften = errors.New("another process keeps replacing the file; check which users may write to the directory")

func (l *seqFile) unlock() {
	_ = unix.Flock(l.file.Fd(), unix.LOCK_UN)
}

// openFile opens the seq file, unless it is open and still has its name.
func (l *seqFile) openFile(path string) error {
	if err := l.open(path); err != nil {
		return err
	}
	if l.file != nil && !l.unusable && l.file.Dir() == l.Dir.ID() && l.hasName() {
		return nil
	}
	l.close()
	f, err := l.OpenFile(l.name, unix.O_RDWR|unix.O_CREAT, seqMode)
	l.file, l.unusable = f, false
	return err
}

// hasName reports whether the open file is still the one called name.
func (l *seqFile) hasName() bool {
	st, err := l.StatFile(l.name)
	return err == nil && dirfs.IDOf(&st) == l.file.ID() && dirfs.CheckRegular(&st, true) == nil
}

// close closes the file, and releases a lock on it. A wait in progress keeps the
// descriptor until it ends.
func (l *seqFile) close() {
	f, waiting := l.file, l.waiting
	l.file, l.waiting = nil, nil
	if waiting == nil {
		f.Close()
		return
	}
	if l.abandoned == nil {
		l.abandoned = make(chan struct{}, maxAbandoned)
	}
	abandoned := l.abandoned
	abandoned <- struct{}{}
	waiting.Abandon(func() {
		f.Close()
		<-abandoned
	})
}

// acquire waits for the lock on the open file until limit after start.
func (l *seqFile) acquire(start time.Time, limit time.Duration) error {
	if l.waiting == nil {
		locked, err := dirfs.TryLock(l.file.Fd(), unix.LOCK_EX)
		if locked || err != nil {
			return pathError("lock", l.path, err)
		}
		if len(l.abandoned) == maxAbandoned {
			return l.lockError(limit)
		}
		l.waiting = dirfs.WaitLock(l.file.Fd(), unix.LOCK_EX)
	}
	over, err := l.waiting.Within(limit - time.Since(start))
	if !over {
		return l.lockError(limit)
	}
	l.waiting = nil
	return pathError("lock", l.path, err)
}

func (l *seqFile) lockError(waited time.Duration) error {
	return &LockError{Path: l.path, Holder: lockHolder(l.file.ID()), Waited: waited}
}

// lockHolder names the process that holds the flock on a file, from /proc/locks
// (proc_locks(5)) and /proc/PID/comm.
func lockHolder(file dirfs.ID) string {
	table, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 1234 00:2a:17 0 EOF
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == id {
			comm, _ := os.ReadFile("/proc/" + f[4] + "/comm")
			name := strings.TrimSpace(string(comm))
			if name == "" { // it has ended, or is hidden; a child may hold the lock
				return "process " + f[4]
			}
			return fmt.Sprintf("process %s %.20q", f[4], name)
		}
	}
	return ""
}
