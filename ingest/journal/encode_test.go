package journal

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
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

// eventLine returns a line of events.jsonl.
func eventLine(message string) []byte {
	var enc artifact.EventEncoder
	text := enc.Append(nil, &artifact.Event{Kind: artifact.Ready, Time: time.Unix(1, 0), Uptime: time.Hour, BootID: bootA,
		Message: strictjson.AppendText(nil, message), Details: []byte(`{"port":8080}`)})
	return enc.AppendSeq(text, 7)
}

// An entry has few fields, because each one costs journald 4 to 5 percent of its time for
// the entry.
func TestEncoder_fields(t *testing.T) {
	e, line := encoder{eventsPath: "/run/pika-cloud/events.jsonl"}, eventLine("probe passed")
	got := e.event(line)
	const want = "MESSAGE_ID=7e7929a6816c44579adeca16394df20e\nPRIORITY=6\nSYSLOG_IDENTIFIER=pika-cloud-lifecycle\n" +
		"PIKA_EVENTS_PATH=/run/pika-cloud/events.jsonl\nMESSAGE=probe passed\nPIKA_KIND=ready\nPIKA_EVENT="
	if text := string(got[0]) + string(got[1]); text != want+string(line) {
		t.Errorf("the entry is\n%s\nwant\n%s%s", text, want, line)
	}
}

// A large line or result is not copied for its entry, nor is its message decoded.
func TestEncoder_memory(t *testing.T) {
	e := encoder{eventsPath: "/run/pika-cloud/events.jsonl"}
	text := strings.Repeat("\x01\x7f", 1<<19)
	line := eventLine(text)
	result := &artifact.Result{Outcome: artifact.OutcomeFailed, Message: strictjson.AppendText(nil, text)}
	for _, c := range []struct {
		name   string
		copies int // of the text
		encode func() encodedEntry
	}{
		{"event", 0, func() encodedEntry { return e.event(line) }},
		{"result", 1, func() encodedEntry { return e.result(result) }},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := c.encode()
		runtime.ReadMemStats(&after)
		size := len(got[1])
		const small = 256 << 10
		if used := int(after.TotalAlloc - before.TotalAlloc); size < 3<<20 || used > c.copies*size+small {
			t.Errorf("%s: encoding %d bytes allocates %d; want at most %d copies", c.name, size, used, c.copies)
		}
	}
}

// MESSAGE is cut between two characters, for any length of the message and with escapes of
// any size before the end.
func TestEncoder_long_message(t *testing.T) {
	e := encoder{eventsPath: "/e"}
	for _, character := range []string{"x", "é", "€", "𝄞", "\n", "\x01", `"`, `\`, "\u2028"} {
		for offset := range 8 {
			for _, size := range []int{1, 3980 / len(character), 3990 / len(character), 5_000, 25_000} {
				message := strings.Repeat("x", offset) + strings.Repeat(character, size)
				entry := e.event(eventLine(message))
				got := messageOf(entry)
				if len(message) <= 4000 {
					if got != message {
						t.Fatalf("%d bytes of %q: MESSAGE has %d bytes", len(message), character, len(got))
					}
					continue
				}
				start, ok := strings.CutSuffix(got, "…")
				if !ok || len(got) > 4000 || len(got) < 3996 || !strings.HasPrefix(message, start) || (len(start)-offset)%len(character) != 0 {
					t.Fatalf("%d bytes of %q: MESSAGE has %d bytes and ends with %q", len(message), character, len(got), got[max(0, len(got)-20):])
				}
			}
		}
	}
}

// messageOf returns the value of MESSAGE.
func messageOf(entry encodedEntry) string {
	_, rest, _ := strings.Cut(string(entry[0]), "\nMESSAGE")
	if value, ok := strings.CutPrefix(rest, "="); ok {
		value, _, _ = strings.Cut(value, "\n")
		return value
	}
	size := 0
	for i := 8; i >= 1; i-- {
		size = size<<8 | int(rest[i])
	}
	return rest[9 : 9+size]
}
