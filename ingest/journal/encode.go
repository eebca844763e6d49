package journal

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxMessage limits the size of MESSAGE in bytes. MESSAGE is for people: the artifact in
// the entry has the whole message. Without --all, journalctl -o json omits a field that has
// more than 4,096 bytes with its name.
const maxMessage = 4000

// An encoder encodes entries in journald's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL). The names of the fields are fixed, so text
// from the input can only become the value of a field.
type encoder struct {
	eventsPath string
	head       []byte
}

// An encodedEntry is an entry in one or two parts. The second part, if any, is the artifact:
// it may be large, so a line is not copied. The first part is valid until the encoder is used
// again.
type encodedEntry [2][]byte

// begin starts an entry with the fields that all entries have.
func (e *encoder) begin(messageID string, p sd.Priority, message string) {
	e.head = e.head[:0]
	e.add(fieldMessageID, messageID)
	e.add(fieldPriority, strconv.Itoa(int(p)))
	e.add(fieldIdentifier, Identifier)
	e.add(fieldEventsPath, e.eventsPath)
	e.add(fieldMessage, shortened(message))
}

// shortened returns the first characters of a message, which fit into maxMessage. It marks
// a message that does not fit with an ellipsis.
func shortened(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const mark = "…"
	end := maxMessage - len(mark)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + mark
}

// startOf returns the text of a message, or more than its first maxMessage bytes. It does
// not decode the rest of a huge message, which would need its size in memory.
func startOf(message strictjson.Value) string {
	const longest = 6                 // size of the longest escape of one byte, such as \u0001
	end := 1 + longest*(maxMessage+1) // the opening quote, and one byte more than fits
	if len(message) <= end {
		text, _ := message.Text()
		return text
	}
	for {
		start := append(slices.Clip(message[:end]), '"')
		text, ok := start.Text()
		if ok {
			return text
		}
		end-- // an escape was cut
	}
}

// add adds a field.
func (e *encoder) add(f field, value string) {
	e.head = slices.Grow(e.head, len(fieldNames[f])+len(value)+16)
	e.addName(f, len(value), strings.IndexByte(value, '\n') >= 0)
	e.head = append(e.head, value...)
	e.head = append(e.head, '\n')
}

// addName adds the part of a field before its value: the name, and = or the size. The
// protocol requires the size before a value that contains a newline.
func (e *encoder) addName(f field, size int, hasNewline bool) {
	e.head = append(e.head, fieldNames[f]...)
	if !hasNewline {
		e.head = append(e.head, '=')
		return
	}
	e.head = append(e.head, '\n')
	e.head = binary.LittleEndian.AppendUint64(e.head, uint64(size))
}

// end adds the last field. text must end in a newline. It is not part of the value, but ends
// the field.
func (e *encoder) end(f field, text []byte, hasNewline bool) encodedEntry {
	e.addName(f, len(text)-1, hasNewline)
	return encodedEntry{e.head, text}
}

// priority returns the syslog priority of an entry about s.
func priority(s artifact.State) sd.Priority {
	switch s {
	case artifact.Failed:
		return sd.PriErr
	case artifact.Unreachable:
		return sd.PriWarning
	}
	return sd.PriInfo
}

// event encodes a line of events.jsonl.
func (e *encoder) event(line []byte) encodedEntry {
	var kind artifact.State
	var message strictjson.Value
	strictjson.Members(line, func(name, value strictjson.Value, _ int) {
		switch string(name) {
		case `"kind"`:
			kind = artifact.State(value[1 : len(value)-1])
		case `"message"`:
			message = value
		}
	})
	e.begin(eventIDs[kind], priority(kind), startOf(message))
	e.add(fieldKind, string(kind))
	return e.end(fieldEvent, line, false)
}

// result encodes a result. The artifact is a copy.
func (e *encoder) result(r *artifact.Result) encodedEntry {
	e.begin(resultIDs[r.Outcome], priority(artifact.State(r.Outcome)), startOf(r.Message))
	e.add(fieldOutcome, string(r.Outcome))
	parts := r.Parts(nil)
	return e.end(fieldResult, parts.Append(make([]byte, 0, parts.Size())), true)
}

// reject encodes a line of rejected.jsonl.
func (e *encoder) reject(line []byte) encodedEntry {
	var number, reason string
	strictjson.Members(line, func(name, value strictjson.Value, _ int) {
		switch string(name) {
		case `"line"`:
			number = string(value)
		case `"error"`:
			reason, _ = value.Text()
		}
	})
	e.begin(rejectID, sd.PriWarning, "line "+number+", "+reason)
	return e.end(fieldReject, line, false)
}

// missed encodes an entry with the number of entries that the journal missed.
func (e *encoder) missed(n uint64) encodedEntry {
	count := strconv.FormatUint(n, 10)
	entries := " entries"
	if n == 1 {
		entries = " entry"
	}
	e.begin(missedID, sd.PriWarning, "the journal missed "+count+entries+"; read "+e.eventsPath+" and the files beside it")
	e.add(fieldMissed, count)
	return encodedEntry{e.head}
}
