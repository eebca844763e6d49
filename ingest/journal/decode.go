package journal

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// readFields are the fields that a Rebuilder reads.
var readFields = [...]field{fieldMessageID, fieldEventsPath, fieldEvent, fieldResult, fieldUID, fieldMachineID}

// A rawEntry is one line of the output of journalctl -o json: the values of readFields in
// JSON, or nil for a field that the entry does not have.
type rawEntry [endOfFields]strictjson.Value

// parseLine parses a line. The rawEntry does not share memory with the line.
func parseLine(n *strictjson.Normaliser, line []byte) (*rawEntry, error) {
	object, err := n.Normalise(nil, line)
	if err != nil || object[0] != '{' {
		return nil, errors.New("not a journal entry; expected the output of journalctl -o json --all")
	}
	raw := new(rawEntry)
	strictjson.Members(object, func(name, value strictjson.Value, _ int) {
		for _, f := range readFields {
			if string(name[1:len(name)-1]) == fieldNames[f] {
				raw[f] = value
			}
		}
	})
	return raw, nil
}

// artifactField returns the field that has the event or result of the entry. ok is false if
// the entry is about neither. The field or the MESSAGE_ID shows what the entry is about:
// artifactField recognises an entry that has lost one of the two, not one that has lost both.
func (raw *rawEntry) artifactField() (f field, ok bool) {
	id, _ := raw[fieldMessageID].Text()
	switch {
	case raw[fieldEvent] != nil || isIDOf(eventIDs, id):
		return fieldEvent, true
	case raw[fieldResult] != nil || isIDOf(resultIDs, id):
		return fieldResult, true
	}
	return 0, false
}

// isComplete reports whether the entry has the fields that a Rebuilder needs, besides _UID.
// journalctl and systemd-journal-upload 252 silently omit a field that they cannot read
// while journald writes the file (sd_journal_enumerate_data(3)).
func (raw *rawEntry) isComplete(artifact field) bool {
	return raw[artifact] != nil && raw[fieldEventsPath] != nil && raw[fieldMachineID] != nil
}

// text returns the value of a field, or "" if it is absent. journalctl prints a
// value with unprintable characters as an array of bytes, a field that occurs
// several times as an array of values, and a value that is too large to be printed
// without --all as null (journalctl(1), --output=json).
func (raw *rawEntry) text(f field) (string, error) {
	v := raw[f]
	if v == nil {
		return "", nil
	}
	switch v[0] {
	case '"':
		text, _ := v.Text()
		return text, nil
	case 'n':
		return "", fmt.Errorf("journalctl left out %s because it is large; add --all to journalctl, and rebuild into an empty directory", fieldNames[f])
	case '[':
		text, ok := bytesOf(v)
		if !ok {
			return "", fmt.Errorf("%s has several values; expected one", fieldNames[f])
		}
		return string(text), nil
	}
	return "", fmt.Errorf("%s is %.40s; expected a string or an array of bytes", fieldNames[f], v)
}

// bytesOf returns the bytes of an array of numbers.
func bytesOf(array strictjson.Value) (text []byte, ok bool) {
	text = make([]byte, 0, bytes.Count(array, []byte{','})+1)
	for number := range bytes.SplitSeq(array[1:len(array)-1], []byte{','}) {
		b, err := strconv.ParseUint(string(number), 10, 8)
		if err != nil {
			return nil, false
		}
		text = append(text, byte(b))
	}
	return text, true
}

// An entry is the decoded form of a journal entry. Either event or result is set.
//
// bootID and seq are equal to those of the event or result, except if the guest
// did not know its boot ID: then the Rebuilder sets bootID to the current boot.
type entry struct {
	machineID  string
	eventsPath string
	bootID     string
	seq        uint64 // 0 for a result that was written without an event
	event      *artifact.Event
	result     *artifact.Result
}

// decode decodes a complete entry (see isComplete), whose artifact is in field f.
func (raw *rawEntry) decode(f field) (*entry, error) {
	text, err := raw.text(f)
	if err != nil {
		return nil, err
	}
	e := new(entry)
	messageID, err := e.decodeArtifact(f, text)
	if err == artifact.ErrNewer {
		return nil, fmt.Errorf("%s %w", fieldNames[f], err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fieldNames[f], err)
	}
	if err := raw.checkMessageID(messageID, f); err != nil {
		return nil, err
	}
	e.machineID, err = raw.text(fieldMachineID)
	if err != nil {
		return nil, err
	}
	e.eventsPath, err = raw.text(fieldEventsPath)
	return e, err
}

// decodeArtifact decodes the artifact and returns its MESSAGE_ID.
func (e *entry) decodeArtifact(f field, text string) (messageID string, err error) {
	if f == fieldEvent {
		e.event, err = new(artifact.Decoder).Event([]byte(text))
		if err != nil {
			return "", err
		}
		messageID, e.seq, e.bootID = eventIDs[e.event.Kind], e.event.Seq, e.event.BootID
	} else {
		e.result, err = new(artifact.Decoder).Result([]byte(text))
		if err != nil {
			return "", err
		}
		messageID, e.seq, e.bootID = resultIDs[e.result.Outcome], e.result.Seq, e.result.BootID
	}
	if e.bootID != "" && !isBootID(e.bootID) {
		return "", fmt.Errorf("boot_id is %s; expected a UUID in lower case", quoted(e.bootID))
	}
	return messageID, nil
}

// checkMessageID returns an error if the entry has another MESSAGE_ID than its artifact
// requires.
func (raw *rawEntry) checkMessageID(want string, artifact field) error {
	got, err := raw.text(fieldMessageID)
	if err != nil || raw[fieldMessageID] == nil || got == want {
		return err
	}
	return fmt.Errorf("MESSAGE_ID is %s; expected %s, according to %s", quoted(got), want, fieldNames[artifact])
}

// quoted quotes at most the first 40 bytes of a value.
func quoted(value string) string { return strconv.QuoteToASCII(value[:min(len(value), 40)]) }

// isBootID reports whether text has the format of the kernel's boot IDs: a UUID in
// lower case. The boots of a copy are lines of a file.
func isBootID(text string) bool {
	if len(text) != len("6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11") {
		return false
	}
	for i, c := range []byte(text) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			isHex := ('0' <= c && c <= '9') || ('a' <= c && c <= 'f')
			if !isHex {
				return false
			}
		}
	}
	return true
}
