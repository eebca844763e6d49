package writerlock

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A Kind is what a writer is: the subcommand that has started the stream.
type Kind string

// The kinds. Readers accept others, which later versions may add.
const (
	Run     Kind = "run"
	Ingest  Kind = "ingest"
	Rebuild Kind = "rebuild"
)

// recordSize is the size in bytes of a record, and of a slot. The longest record has 115.
const recordSize = 128

// blank returns the content of a slot without a record. It is a function, because each
// process would initialise a variable at its start.
func blank() []byte { return append(bytes.Repeat([]byte{' '}, recordSize-1), '\n') }

// isBlank reports whether text contains no record.
func isBlank(text []byte) bool { return len(bytes.Trim(text, " \n\x00")) == 0 }

// A record describes a writer. start is CLOCK_BOOTTIME in nanoseconds: it makes all records
// of a boot different, even those of a process that starts again with the same PID.
type record struct {
	kind   Kind
	pid    int
	bootID string // noBootID if it is unknown
	file   dirfs.ID
	start  int64
}

// noBootID is the boot ID of a writer that could not read it.
const noBootID = "-"

func newRecord(kind Kind, bootID string, file dirfs.ID) *record {
	if bootID == "" {
		bootID = noBootID
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return &record{kind: kind, pid: os.Getpid(), bootID: bootID, file: file, start: now.Nano()}
}

// text returns the record, padded with spaces, and a newline.
func (r *record) text() []byte {
	line := fmt.Sprintf("%s %d %s %d:%d %d", r.kind, r.pid, r.bootID, r.file.Dev, r.file.Ino, r.start)
	return fmt.Appendf(nil, "%-*.*s\n", recordSize-1, recordSize-1, line)
}

// parse decodes a record. Anything could have written it.
func parse(text []byte) (r record, ok bool) {
	if len(text) != recordSize || text[recordSize-1] != '\n' {
		return r, false
	}
	fields := bytes.Split(bytes.TrimRight(text, " \n"), []byte{' '})
	if len(fields) != 5 || !isName(fields[0]) {
		return r, false
	}
	dev, ino, _ := bytes.Cut(fields[3], []byte{':'})
	pid, err1 := strconv.ParseUint(string(fields[1]), 10, 31)
	d, err2 := strconv.ParseUint(string(dev), 10, 64)
	i, err3 := strconv.ParseUint(string(ino), 10, 64)
	start, err4 := strconv.ParseUint(string(fields[4]), 10, 63)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return r, false
	}
	return record{Kind(fields[0]), int(pid), string(fields[2]), dirfs.ID{Dev: d, Ino: i}, int64(start)}, true
}

// isName reports whether text may be a kind: a reader prints it.
func isName(text []byte) bool {
	for _, c := range text {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return len(text) > 0
}

// isOf reports whether the lock of the slot shows whether the writer is alive: the record
// was written in this boot, and into this file.
func (r *record) isOf(bootID string, file dirfs.ID) bool {
	return bootID != "" && r.bootID == bootID && r.file == file
}
