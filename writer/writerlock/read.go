package writerlock

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A State is what is known about a writer.
type State int

// The states.
const (
	Unknown State = iota // the record is of another boot or another file, or could not be tested
	Alive                // the writer holds its lock
	Dead                 // the writer has died, or has ended without its last status or result on disk
)

// A Writer is a process that has a record in the file. PID is in the PID namespace of that
// process.
type Writer struct {
	Kind  Kind
	PID   int
	State State
}

// Read returns the writers that have a record in the file of the directory at path dir.
// bootID is the ID of the current boot. Read takes no lock and changes nothing.
//
// If the file is missing, there are no writers: none has died, or all wrote with a program
// that does not have the file. The error reports that the file may not be read, or is not a
// regular file; then nothing is known.
func Read(dir, bootID string) ([]Writer, error) {
	f, err := dirfs.Open(dir, Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := dirfs.Retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	all, err := readAll(fd)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	var writers []Writer
	for slot := range slots {
		if isBlank(slotOf(all, slot)) {
			continue
		}
		w, ok := readWriter(fd, slot, bootID, dirfs.IDOf(&st), hasWriter)
		if ok {
			writers = append(writers, w)
		}
	}
	return writers, nil
}

// maxReads limits how often readWriter looks at a slot that changes.
const maxReads = 8

// readWriter returns the writer that has a record in a slot. A writer may start or end at
// any moment, but it has its lock for as long as its record exists. Therefore the test of
// the lock is valid only if the same record is there before and after it. No record is
// written twice, see record.start. test is hasWriter, except in tests.
func readWriter(fd, slot int, bootID string, file dirfs.ID, test func(fd int, slot byteRange) (bool, error)) (w Writer, ok bool) {
	for range maxReads {
		before, err := readSlot(fd, slot)
		r, valid := parse(before)
		if err != nil || !valid {
			return w, false
		}
		w = Writer{Kind: r.kind, PID: r.pid}
		if !r.isOf(bootID, file) {
			return w, true
		}
		isAlive, err := test(fd, slotRange(slot))
		if err != nil {
			return w, true
		}
		after, err := readSlot(fd, slot)
		if err != nil || !bytes.Equal(before, after) {
			continue
		}
		w.State = Dead
		if isAlive {
			w.State = Alive
		}
		return w, true
	}
	return w, true // it changes all the time
}
