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

// DefaultLockWait is how long a writer waits for the lock. A commit holds the
// lock for far less than that, and a person at a boot console can wait that long.
const DefaultLockWait = 5 * time.Second

// maxAbandoned is how many waits for a lock on a file that has been replaced may
// be in progress. Each occupies a thread, and the owner of the directory could
// cause a new one every DefaultLockWait.
const maxAbandoned = 8

// A LockError reports that another process still held the lock of the events log
// when the writer stopped waiting for it.
type LockError struct {
	Path   string // of the seq file, which writers lock
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

// A seqFile is the file that contains the last seq. All writers of the log lock
// it with flock(2).
//
// If another process holds the lock, a goroutine waits for it. When lock returns at its
// time limit, that goroutine continues to wait, and the next call of lock uses it again. So
// the writer keeps its place in the queue and occupies only one thread.
//
// While waiting is not nil, that goroutine waits for the lock on file, which must
// stay open.
type seqFile struct {
	location
	file      *dirfs.File
	unusable  bool // a sync of file has failed
	waiting   *dirfs.LockWait
	abandoned chan struct{} // one element for each wait on a replaced file
}

// lock locks the seq file at path, which it creates if it is missing. It waits at
// most for limit. Once it has the lock, it checks that the file still has its
// name: a lock on a file that has been removed or replaced excludes no other
// writer. It then tries again with the new file. limit applies to all attempts
// together, because the owner of the directory could replace the file repeatedly.
func (l *seqFile) lock(path string, limit time.Duration) error {
	for start := time.Now(); ; {
		if err := l.openFile(path); err != nil {
			return err
		}
		err := l.acquire(start, limit)
		if err == nil && l.hasName() {
			return nil
		}
		if err != nil && err != errReplaced {
			return err
		}
		l.close()
		if time.Since(start) > limit {
			return pathError("lock", path, errReplacedOften)
		}
	}
}

// errReplaced reports that the open file has lost its name.
var errReplaced = errors.New("the file has been replaced")

var errReplacedOften = errors.New("another process keeps replacing the file; check which users may write to the directory")

func (l *seqFile) unlock() {
	_ = unix.Flock(l.file.Fd(), unix.LOCK_UN)
}

// openFile opens the seq file, if it is not open. If a wait for the lock is in progress, it
// first checks that the file still has its name. Otherwise lock does so later.
func (l *seqFile) openFile(path string) error {
	if err := l.open(path); err != nil {
		return err
	}
	if l.file != nil && !l.unusable && l.file.Dir() == l.Dir.ID() && (l.waiting == nil || l.hasName()) {
		return nil
	}
	l.close()
	f, err := l.OpenFile(l.name, unix.O_RDWR|unix.O_CREAT, seqMode)
	l.file, l.unusable = f, false
	return err
}

// hasName reports whether the open file is still the one at the path.
func (l *seqFile) hasName() bool {
	st, err := l.StatFile(l.name)
	return err == nil && dirfs.IDOf(&st) == l.file.ID() && dirfs.CheckRegular(&st, true) == nil
}

// close closes the file and thereby releases a lock on it. If a goroutine still
// waits for the lock, the descriptor is closed when that wait ends.
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

// acquire waits for the lock on the open file. It returns a *LockError if limit
// has passed since start. It does not begin to wait for a file that has lost its name,
// and then returns errReplaced.
func (l *seqFile) acquire(start time.Time, limit time.Duration) error {
	if l.waiting == nil {
		locked, err := dirfs.TryLock(l.file.Fd(), unix.LOCK_EX)
		if locked || err != nil {
			return pathError("lock", l.path, err)
		}
		if !l.hasName() {
			return errReplaced
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

// lockHolder returns the ID and the name of the process that holds the flock on a
// file; "" if they are unknown. It reads /proc/locks (proc_locks(5)) and
// /proc/PID/comm.
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
