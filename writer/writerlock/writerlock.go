// Package writerlock records which processes write to a state directory, so that
// another process can find out that one of them has died.
//
// The file writer.lock is divided into slots of 128 bytes. A stream locks the bytes of
// one slot and then writes a record into it: who it is, in which boot, and in which
// file. The kernel releases the lock when the process ends, however that happens. Thus a
// record whose slot is not locked belongs to a writer that has died. A stream that ends
// cleanly blanks its record before it releases the lock.
//
// The locks are open file description locks (fcntl_locking(2)): they belong to the
// descriptor and not to the process, and F_OFD_GETLK tests them without taking any. The
// descriptor has FD_CLOEXEC, so a command that a writer starts does not hold the lock.
//
// A record of another boot, or of another file, because the directory was copied, says
// nothing about its writer: the state of that writer is [Unknown].
//
// The owner of the directory may be hostile. Every function reads at most 8 KiB, waits at
// most a second, and opens the file by the rules of package dirfs.
package writerlock

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// Name is the name of the file in a state directory. The file is never removed: a writer
// that holds a lock on a removed file is invisible to everyone else.
const Name = "writer.lock"

// slots is the number of slots. Slot 0 is for run only, so that two runs exclude each
// other.
const slots = 64

// fileSize is the size of a file in which all slots are used.
const fileSize = slots * recordSize

// lockWait is how long Acquire waits for a process that locks slots for a moment, and how
// long it tries if the file is replaced again and again.
const lockWait = time.Second

const lockPause = time.Millisecond

// A Lock is the lock of one stream on its slot. The zero Lock is not held. A Lock is not
// safe for concurrent use.
type Lock struct {
	file         *dirfs.File
	slot         int
	hasRecord    bool // the record was written
	replacedDead bool
	hasWaited    bool // Acquire has reached lockWait
}

// ErrNoSlot is returned by Acquire if all slots are locked.
var ErrNoSlot = errors.New("all slots are locked")

// The errors of an attempt that Acquire repeats for at most lockWait.
var (
	errBusy     = errors.New("another process locks this file again and again")
	errReplaced = errors.New("another process replaces this file again and again")
)

// isBrief reports whether the cause of an error is usually gone in a moment. A run that
// holds its slot and has no PID has not written its record yet.
func isBrief(err error) bool {
	var held *HeldError
	if errors.As(err, &held) {
		return held.PID == 0
	}
	return errors.Is(err, errBusy) || errors.Is(err, errReplaced)
}

// A HeldError reports that another run writes to the directory. PID is 0 if it is unknown.
type HeldError struct {
	Kind Kind
	PID  int
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another %s writes to this directory", e.Kind)
	}
	return fmt.Sprintf("%s with PID %d writes to this directory", e.Kind, e.PID)
}

// Acquire locks a slot of the file in the open directory dir, and writes a record into
// it. It creates the file if it is missing. If kind is Run and another run holds its slot,
// Acquire returns a *HeldError. After any other error, the caller can only try again later.
//
// If the record cannot be written, for example because the disk is full, the slot stays
// locked, so that a second run is rejected. The next call writes the record.
//
// Acquire never waits for a writer. It waits at most a second for processes that lock a
// slot for a moment; once it has reached that limit, later calls do not wait.
func (l *Lock) Acquire(dir *dirfs.Dir, kind Kind, bootID string) error {
	if l.file != nil && l.file.Dir() == dir.ID() && !l.hasRecord {
		return l.writeRecord(kind, bootID)
	}
	l.Release(false) // in a directory that is no longer at its path
	deadline := time.Now().Add(lockWait)
	for {
		err := l.try(dir, kind, bootID)
		if !isBrief(err) {
			return err
		}
		if l.hasWaited || time.Now().After(deadline) {
			l.hasWaited = true
			return err
		}
		time.Sleep(lockPause)
	}
}

// try tries once to lock a slot, without waiting.
func (l *Lock) try(dir *dirfs.Dir, kind Kind, bootID string) error {
	file, err := dir.OpenFile(Name, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	slot, err := lockFile(dir, file, kind)
	if err != nil {
		file.Close()
		return err
	}
	*l = Lock{file: file, slot: slot, hasWaited: l.hasWaited}
	return l.writeRecord(kind, bootID)
}

// lockFile locks a slot of a file that has just been opened in dir. Another process may
// have removed or replaced the file meanwhile.
func lockFile(dir *dirfs.Dir, file *dirfs.File, kind Kind) (slot int, err error) {
	slot, err = lockFree(file, kind)
	if err == nil {
		err = checkName(dir, file)
	}
	return slot, err
}

// lockFree locks the first free slot for a stream of a kind.
func lockFree(file *dirfs.File, kind Kind) (slot int, err error) {
	first, end := 1, slots
	if kind == Run {
		first, end = 0, 1
	}
	busy := false
	for slot := first; slot < end; slot++ {
		locked, err := setLock(file.Fd(), slotRange(slot)) //fault:lock-slot
		if locked || err != nil {
			return slot, lockError(file, err)
		}
		isTaken, err := hasWriter(file.Fd(), slotRange(slot))
		if err != nil {
			return 0, lockError(file, err)
		}
		busy = busy || !isTaken
	}
	switch {
	case busy:
		return 0, lockError(file, errBusy)
	case kind == Run:
		held := &HeldError{Kind: Run}
		text, err := readSlot(file.Fd(), 0)
		if r, ok := parse(text); ok && err == nil {
			held.PID = r.pid
		}
		return 0, held
	}
	return 0, lockError(file, ErrNoSlot)
}

// checkName returns errReplaced if the file, which is now locked, has lost its name.
func checkName(dir *dirfs.Dir, file *dirfs.File) error {
	st, err := dir.StatFile(Name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && dirfs.IDOf(&st) != file.ID()) {
		return lockError(file, errReplaced)
	}
	return err
}

// writeRecord writes the record of this process into its slot, which is locked.
func (l *Lock) writeRecord(kind Kind, bootID string) error {
	old, err := readSlot(l.file.Fd(), l.slot)
	if err != nil {
		return lockError(l.file, err)
	}
	r, ok := parse(old)
	l.replacedDead = l.replacedDead || (ok && r.isOf(bootID, l.file.ID()))
	text, at := newRecord(kind, bootID, l.file.ID()).text(), int64(l.slot)*recordSize
	_, err = l.file.WriteAt(text, at) //fault:write-record
	if err != nil {                   // perhaps a part of it was written
		_, _ = l.file.WriteAt(blank(), at)
	}
	l.hasRecord = err == nil
	return err
}

// IsHeldIn reports whether the lock is held in the open directory dir, with a record. It
// makes no system call.
func (l *Lock) IsHeldIn(dir *dirfs.Dir) bool {
	return l.file != nil && l.file.Dir() == dir.ID() && l.hasRecord
}

// ReplacedDead reports whether the record of this stream has replaced the record of a
// writer that had died.
func (l *Lock) ReplacedDead() bool { return l.file != nil && l.replacedDead }

// ClearDead blanks the records of all writers that have died. It does nothing if the lock
// is not held.
func (l *Lock) ClearDead() error {
	if l.file == nil {
		return nil
	}
	l.replacedDead = false
	return clearSlots(l.file, l.slot)
}

// ClearDead blanks the records of all writers that have died, as Lock.ClearDead does, for a
// program that holds no lock. It does nothing if the directory has no file.
func ClearDead(dir *dirfs.Dir) error {
	file, err := dir.OpenFile(Name, unix.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return clearSlots(file, -1)
}

// clearSlots blanks the records of dead writers in all slots but one.
func clearSlots(file *dirfs.File, except int) error {
	all, err := readAll(file.Fd())
	if err != nil {
		return lockError(file, err)
	}
	for slot := range slots {
		if slot == except || isBlank(slotOf(all, slot)) {
			continue
		}
		if err := clearSlot(file, slot); err != nil {
			return err
		}
	}
	return nil
}

// clearSlot blanks the record in a slot that no writer has locked.
func clearSlot(file *dirfs.File, slot int) error {
	locked, err := setLock(file.Fd(), momentRange(slot))
	if !locked || err != nil {
		return lockError(file, err)
	}
	_, err = file.WriteAt(blank(), int64(slot)*recordSize)
	unlock(file.Fd(), momentRange(slot))
	return err
}

// Release releases the lock. Unless keep is set, it blanks the record first; with keep,
// the writer counts as dead. If no other process writes to the directory and no record is
// left, Release truncates the file. It does nothing if the lock is not held.
func (l *Lock) Release(keep bool) {
	if l.file == nil {
		return
	}
	if !keep { //fault:blank-record
		_, _ = l.file.WriteAt(blank(), int64(l.slot)*recordSize) // if the disk is full, the file may still be truncated
		truncateIfUnused(l.file, l.slot)
	}
	l.file.Close()
	*l = Lock{hasWaited: l.hasWaited}
}

// truncateIfUnused truncates the file if it contains no record, except in slot own. While it
// looks, it holds a lock on all slots, so no writer can start.
func truncateIfUnused(file *dirfs.File, own int) {
	locked, err := setLock(file.Fd(), wholeRange)
	if !locked || err != nil {
		return
	}
	all, err := readAll(file.Fd())
	if err != nil {
		return
	}
	for slot := range slots {
		if slot != own && !isBlank(slotOf(all, slot)) {
			return
		}
	}
	_ = file.Truncate(0) // best effort: a file with blank records means the same
}

// readAll returns the start of a file, at most fileSize bytes.
func readAll(fd int) ([]byte, error) { return readAt(fd, make([]byte, fileSize), 0) }

// readSlot returns what a slot contains; less than recordSize bytes at the end of the file.
func readSlot(fd, slot int) ([]byte, error) {
	return readAt(fd, make([]byte, recordSize), int64(slot)*recordSize)
}

func readAt(fd int, text []byte, at int64) ([]byte, error) {
	n, err := dirfs.RetryInt(func() (int, error) { return unix.Pread(fd, text, at) })
	return text[:max(n, 0)], err
}

// slotOf returns the part of text, the start of a file, that is in a slot.
func slotOf(text []byte, slot int) []byte {
	from := min(slot*recordSize, len(text))
	to := min(from+recordSize, len(text))
	return text[from:to]
}

func lockError(file *dirfs.File, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "lock", Path: file.Path(), Err: err}
}
