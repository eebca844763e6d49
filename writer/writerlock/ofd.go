package writerlock

import (
	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A byteRange is a range of bytes that is locked. What a lock means depends on its range,
// which F_OFD_GETLK returns: a writer locks exactly the bytes of its slot; any other range
// is locked for a moment by a process that clears or truncates the file.
type byteRange struct{ start, len int64 }

// slotRange is what the writer in a slot locks.
func slotRange(slot int) byteRange { return byteRange{int64(slot) * recordSize, recordSize} }

// momentRange is what a process locks to clear a slot. It does not touch the ends of the
// slot: the kernel joins adjacent locks of one descriptor, and the lock of the process on
// its own slot would then have another range.
func momentRange(slot int) byteRange { return byteRange{int64(slot)*recordSize + 1, 1} }

// wholeRange is what a process locks to truncate the file.
var wholeRange = byteRange{0, fileSize}

// setLock locks a range for writing if no other descriptor has locked a part of it, and
// reports whether it did.
func setLock(fd int, r byteRange) (bool, error) {
	lock := r.flock(unix.F_WRLCK)
	err := dirfs.Retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock) })
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

// unlock unlocks a range.
func unlock(fd int, r byteRange) {
	lock := r.flock(unix.F_UNLCK)
	_ = dirfs.Retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock) })
}

// hasWriter reports whether a writer has locked a slot: a lock of another range, which a
// process holds for a moment, is not that of a writer.
func hasWriter(fd int, slot byteRange) (bool, error) {
	lock := slot.flock(unix.F_WRLCK)
	err := dirfs.Retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) })
	return err == nil && lock.Type != unix.F_UNLCK && byteRange{lock.Start, lock.Len} == slot, err
}

func (r byteRange) flock(kind int16) unix.Flock_t {
	return unix.Flock_t{Type: kind, Whence: unix.SEEK_SET, Start: r.start, Len: r.len}
}
