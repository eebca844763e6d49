package writer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultWait is how long a lock is waited for: far longer than any commit
// holds it, far shorter than anybody at a boot console waits.
const DefaultWait = 5 * time.Second

// maxAbandoned is how many waits for locks on replaced files may be left
// behind: each is a thread of ours, and who owns the directory could ask for
// one every DefaultWait.
const maxAbandoned = 8

// A LockError says that the lock of the events log could not be had in time.
type LockError struct {
	Path   string // of the seq file, which bears the lock
	Holder string // who holds it, as far as /proc tells; may be empty
	Waited time.Duration
}

func (e *LockError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("lock %s: still held by %s after %v", e.Path, holder, e.Waited.Round(time.Millisecond))
}

// A seqLock is the flock(2) on the seq file, shared with every other writer of
// the log.
//
// flock has no time limit, and asking again and again without waiting starves
// beside a writer that is busy. So a lock that is not free is waited for on a
// goroutine, and a wait that was given up is taken up again by the next try:
// it keeps its place in the queue, and no thread is left behind.
type seqLock struct {
	place
	file      *file
	spent     bool       // file is of no use after a failed sync
	waiting   chan error // of the flock under way on file; nil if none
	abandoned chan struct{}
}

// lock takes the lock of the seq file at path, which it makes if it is
// missing. A lock on a file that was unlinked or replaced meanwhile excludes
// nobody, so the name is looked at again once the lock is held. The wait is
// that of all tries together: who may replace the file could do it for ever.
func (l *seqLock) lock(path string, wait time.Duration) error {
	for start := time.Now(); ; {
		if err := l.openSeq(path); err != nil {
			return err
		}
		if err := l.acquire(start, wait); err != nil {
			return err
		}
		if l.seqStands() {
			return nil
		}
		l.drop()
		if time.Since(start) > wait {
			return pathError("lock", path, errSwapped)
		}
	}
}

var errSwapped = errors.New("the file was replaced again and again: see who may write to the directory")

func (l *seqLock) unlock() {
	_ = unix.Flock(l.file.fd, unix.LOCK_UN)
}

// openSeq opens the seq file, or keeps the open one if it still bears its name.
func (l *seqLock) openSeq(path string) error {
	if err := l.open(path); err != nil {
		return err
	}
	if l.file != nil && !l.spent && l.file.in == l.id && l.seqStands() {
		return nil
	}
	l.drop()
	l.spent = false
	f, err := l.openFile(l.name, unix.O_RDWR|unix.O_CREAT, seqMode)
	l.file = f
	return err
}

// seqStands reports whether the open seq file is the one that bears the name.
func (l *seqLock) seqStands() bool {
	st, err := l.stat(l.name)
	return err == nil && identify(&st) == l.file.id && plain(&st, true) == nil
}

// drop lets go of the open seq file and of a lock on it. A wait that is under
// way keeps the descriptor until it ends.
func (l *seqLock) drop() {
	f, waiting := l.file, l.waiting
	l.file, l.waiting = nil, nil
	if waiting == nil {
		f.close()
		return
	}
	if l.abandoned == nil {
		l.abandoned = make(chan struct{}, maxAbandoned)
	}
	l.abandoned <- struct{}{}
	go func(abandoned chan struct{}) {
		<-waiting
		f.close()
		<-abandoned
	}(l.abandoned)
}

// acquire waits for the lock on the open seq file, until wait after start.
func (l *seqLock) acquire(start time.Time, wait time.Duration) error {
	if l.waiting == nil {
		err := retry(func() error { return unix.Flock(l.file.fd, unix.LOCK_EX|unix.LOCK_NB) })
		if err != unix.EWOULDBLOCK {
			return pathError("lock", l.path, err)
		}
		if len(l.abandoned) == maxAbandoned {
			return l.held(wait)
		}
		l.wait()
	}
	timer := time.NewTimer(wait - time.Since(start))
	defer timer.Stop()
	select {
	case err := <-l.waiting:
		l.waiting = nil
		return pathError("lock", l.path, err)
	case <-timer.C:
		return l.held(wait)
	}
}

// wait starts a flock that is waited for.
func (l *seqLock) wait() {
	fd, waiting := l.file.fd, make(chan error, 1)
	l.waiting = waiting
	go func() {
		waiting <- retry(func() error { return unix.Flock(fd, unix.LOCK_EX) })
	}()
}

func (l *seqLock) held(wait time.Duration) error {
	return &LockError{Path: l.path, Holder: lockHolder(l.file.id), Waited: wait}
}

// lockHolder names the process that holds the flock on the file id, as
// /proc/locks (proc_locks(5)) and /proc/PID/comm tell.
func lockHolder(id identity) string {
	table, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(id.dev), unix.Minor(id.dev), id.ino)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 1234 00:2a:17 0 EOF
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == file {
			comm, _ := os.ReadFile("/proc/" + f[4] + "/comm")
			return strings.TrimSpace(fmt.Sprintf("process %s %.20q", f[4], strings.TrimSpace(string(comm))))
		}
	}
	return ""
}

var errNotLocked = errors.New("the log is not locked by the caller")
