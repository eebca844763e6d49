package writer

import "bytes"

// A RejectLog is rejected.jsonl: the input lines that were refused. It is
// written under the lock of the events log beside it. Not for concurrent use.
type RejectLog struct {
	Path string // required

	// MaxBytes is the size that the file does not exceed; 0 means that it
	// is not written at all.
	MaxBytes int64

	lines jsonl
}

// Append makes as many of lines durable as MaxBytes lets in; the others are
// dropped, for their input is hostile or broken and is counted elsewhere. On
// an error the next call must be given lines that begin with the same.
func (l *RejectLog) Append(lines []byte) error {
	if l.MaxBytes == 0 {
		return nil
	}
	kept, err := l.lines.settle(l.Path)
	if err != nil {
		return err
	}
	l.lines.whole = func([]byte) bool { return false } // a torn reject is set aside
	if _, err := l.lines.ready(l.Path); err != nil {
		return err
	}
	for range kept {
		lines = lines[bytes.IndexByte(lines, '\n')+1:]
	}
	if room := l.MaxBytes - l.lines.end; int64(len(lines)) > room {
		lines = lines[:bytes.LastIndexByte(lines[:max(room, 0)], '\n')+1]
	}
	if len(lines) == 0 {
		return nil
	}
	return l.lines.append(lines)
}
