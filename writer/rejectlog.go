package writer

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// A RejectLog is rejected.jsonl: the input lines that were rejected. The caller of
// a method holds the lock of the events log in the same directory. A RejectLog is not
// safe for concurrent use.
type RejectLog struct {
	Path string // required

	// MaxBytes is the maximum size of the file in bytes; 0 means that nothing is
	// written.
	MaxBytes int64

	lines lineFile
}

// Append appends as many of the given lines as fit into MaxBytes, makes them
// durable and drops the rest; the status still counts the dropped lines. After an
// error the next call must begin with the same lines.
func (l *RejectLog) Append(lines []byte) error {
	if l.MaxBytes == 0 {
		return nil
	}
	kept, err := l.lines.resolve(l.Path)
	if err != nil {
		return err
	}
	if _, err := l.lines.prepare(l.Path); err != nil {
		return err
	}
	for range kept {
		lines = lines[bytes.IndexByte(lines, '\n')+1:]
	}
	free := l.MaxBytes - l.lines.end
	if int64(len(lines)) > free {
		lines = lines[:bytes.LastIndexByte(lines[:max(free, 0)], '\n')+1]
	}
	if len(lines) == 0 {
		return nil
	}
	return l.lines.append(lines)
}

// AppendLeading appends lines as Append does, but only as many of the first ones as fit on
// the disk. It returns the rest and, if there is one, an error. reserve has the same
// meaning as for EventLog.AppendLeading.
func (l *RejectLog) AppendLeading(lines []byte, reserve int64) (rest []byte, err error) {
	n, err := l.lines.fitting(l.Path, lines, reserve)
	if err != nil {
		return lines, err
	}
	err = pathError("write", l.Path, unix.ENOSPC)
	for n > 0 {
		size := lineEnd(lines, n)
		failed := l.Append(lines[:size])
		if failed == nil && size == len(lines) {
			return nil, nil
		}
		if failed == nil {
			return lines[size:], err
		}
		err = failed
		if reserve > 0 || !IsFull(err) || l.lines.unconfirmed != nil {
			break
		}
		n = fewer(n, l.lines.fitted)
	}
	return lines, err
}

// lineEnd returns the offset after the first n lines of text.
func lineEnd(text []byte, n int) (end int) {
	for range n {
		end += bytes.IndexByte(text[end:], '\n') + 1
	}
	return end
}

// RepairTail moves a torn line to rejected.jsonl.torn, as the next Append would.
// The caller holds the lock of the events log.
func (l *RejectLog) RepairTail() error {
	_, err := l.lines.prepare(l.Path)
	return err
}
