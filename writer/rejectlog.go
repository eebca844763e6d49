package writer

import "bytes"

// A RejectLog is rejected.jsonl: the input lines that were rejected. It is
// written under the lock of the events log beside it. Not for concurrent use.
type RejectLog struct {
	Path string // required

	// MaxBytes is the size that the file does not exceed; 0 means that nothing
	// is written.
	MaxBytes int64

	lines lineFile
}

// Append makes as many of lines durable as fit into MaxBytes, and drops the
// others: their input is hostile or broken, and the status counts them. After an
// error the next call must be given lines that begin with the same.
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

// RepairTail moves a torn tail away, as the next Append would. The caller holds
// the lock of the events log.
func (l *RejectLog) RepairTail() error {
	_, err := l.lines.prepare(l.Path)
	return err
}
