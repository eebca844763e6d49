package journal

import (
	"strings"
	"testing"
)

// The message about missed entries has the plural only if there are several.
func TestEncoder_missed(t *testing.T) {
	e := encoder{eventsPath: "/run/pika-cloud/events.jsonl"}
	for n, message := range map[uint64]string{
		1: "the journal missed 1 entry; read /run/pika-cloud/events.jsonl and the files beside it",
		2: "the journal missed 2 entries; read /run/pika-cloud/events.jsonl and the files beside it",
	} {
		if entry := string(e.missed(n)[0]); !strings.Contains(entry, "\nMESSAGE="+message+"\n") {
			t.Errorf("the entry is\n%s\nwant the message\n%s", entry, message)
		}
	}
}
