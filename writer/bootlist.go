package writer

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/dirfs"
)

// A BootList is events.jsonl.boots, beside a log that is a copy: the boot IDs,
// one a line, whose events the log has had and the events of another boot have
// followed. It is written under the lock of the log. Not for concurrent use.
type BootList struct {
	Path string // required

	lines lineFile
}

const bootIDLen = len("6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11")

// Append makes a boot ID durable in the list. After an error and another call
// the list may contain the ID twice.
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

// Read returns the list; it is empty if there is no file.
func (l *BootList) Read() ([]string, error) {
	text, err := l.lines.read(l.Path, artifact.MaxSize)
	if dirfs.Cause(err) == unix.ENOENT {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}
