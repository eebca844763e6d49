package writer

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A BootList is events.jsonl.boots. The file exists only in a copy, that is, a state
// directory rebuilt from a journal. Each line is the ID of a boot whose events in the
// copy are followed by events of another boot. The caller of Append holds the lock of the
// log. A BootList is not safe for concurrent use.
type BootList struct {
	Path string // required

	lines lineFile
}

const bootIDLen = len("6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11")

// Append appends a boot ID to the list and makes it durable. If a call fails and
// is repeated, the list may contain the ID twice.
func (l *BootList) Append(bootID string) error {
	if _, err := l.lines.resolve(l.Path); err != nil {
		return err
	}
	l.lines.isComplete = func(line []byte) bool { return len(line) == bootIDLen }
	if _, err := l.lines.prepare(l.Path); err != nil {
		return err
	}
	return l.lines.append([]byte(bootID + "\n"))
}

// Read returns the boot IDs, oldest first; none if the file is missing.
func (l *BootList) Read() ([]string, error) {
	text, err := l.lines.read(l.Path, artifact.MaxSize)
	if dirfs.Cause(err) == unix.ENOENT {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}
