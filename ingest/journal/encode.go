package journal

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	sd "github.com/coreos/go-systemd/v22/journal"
	"github.com/tidwall/gjson"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
)

// An encoder encodes entries in journald's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL). The names of the fields are fixed, so text
// from the input can only become the value of a field. An entry is valid until
// the next one is encoded.
type encoder struct {
	eventsPath string
	entry      []byte
	counted    int // fields of entry for which isCounted is true
}

// begin starts an entry with the fields that all entries have.
func (e *encoder) begin(messageID string, p sd.Priority) {
	e.entry, e.counted = e.entry[:0], 0
	e.add(fieldMessageID, messageID)
	e.add(fieldPriority, strconv.Itoa(int(p)))
	e.add(fieldIdentifier, Identifier)
	e.add(fieldEventsPath, e.eventsPath)
}

// add adds a field. The protocol requires the length before a value that contains
// a newline.
func (e *encoder) add(f field, value string) {
	name := fieldNames[f]
	if isCounted(name) {
		e.counted++
	}
	e.entry = slices.Grow(e.entry, len(name)+len(value)+16)
	e.entry = append(e.entry, name...)
	if strings.IndexByte(value, '\n') < 0 {
		e.entry = append(e.entry, '=')
	} else {
		e.entry = append(e.entry, '\n')
		e.entry = binary.LittleEndian.AppendUint64(e.entry, uint64(len(value)))
	}
	e.entry = append(e.entry, value...)
	e.entry = append(e.entry, '\n')
}

// addOptional adds a field unless its value is empty.
func (e *encoder) addOptional(f field, value string) {
	if value != "" {
		e.add(f, value)
	}
}

// end adds the number of fields and returns the entry. A Rebuilder compares this
// number with the fields it reads, because journalctl and systemd-journal-upload
// 252 silently omit a field that they cannot read while journald writes the file
// (sd_journal_enumerate_data(3)).
func (e *encoder) end() []byte {
	e.add(fieldCountOfFields, strconv.Itoa(e.counted+1))
	return e.entry
}

// trim drops the memory of a huge entry.
func (e *encoder) trim() {
	const kept = 64 << 10 // larger than nearly all entries
	if cap(e.entry) > kept {
		e.entry = nil
	}
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

// isPlain is the value of fieldTransition. Only events that do not change the state have
// that field.
const isPlain = "0"

// event encodes a line of events.jsonl.
func (e *encoder) event(line string) []byte {
	var kind artifact.State
	var time, message, bootID, details, uptime, transition, seq string
	gjson.Parse(line).ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "kind":
			kind = artifact.State(value.Str)
		case "timestamp":
			time = value.Str
		case "message":
			message = value.Str
		case "boot_id":
			bootID = value.Str
		case "details":
			details = value.Raw
		case "uptime_ms":
			uptime = value.Raw
		case "transition":
			if value.Type == gjson.False {
				transition = isPlain
			}
		case "seq":
			seq = value.Raw
		}
		return true
	})
	e.begin(eventIDs[kind], priority(kind))
	e.add(fieldMessage, message)
	e.add(fieldKind, string(kind))
	e.add(fieldSeq, seq)
	e.add(fieldTime, time)
	e.addOptional(fieldBootID, bootID)
	e.addOptional(fieldUptime, uptime)
	e.addOptional(fieldTransition, transition)
	e.addOptional(fieldDetails, details)
	return e.end()
}

// timeFormat is the format of times in the artifacts.
const timeFormat = "2006-01-02T15:04:05.000Z"

// result encodes a result.
func (e *encoder) result(r *artifact.Result) []byte {
	message, _ := r.Message.Text()
	e.begin(resultIDs[r.Outcome], priority(artifact.State(r.Outcome)))
	e.add(fieldMessage, message)
	e.add(fieldOutcome, string(r.Outcome))
	if r.ExitCode != nil {
		e.add(fieldExitCode, strconv.Itoa(int(*r.ExitCode)))
	}
	if r.Seq > 0 {
		e.add(fieldSeq, strconv.FormatUint(r.Seq, 10))
	}
	e.add(fieldTime, r.Time.UTC().Format(timeFormat))
	e.addOptional(fieldBootID, r.BootID)
	e.addOptional(fieldDetails, string(r.Details))
	return e.end()
}

// reject encodes a line of rejected.jsonl.
func (e *encoder) reject(line string) []byte {
	reject := gjson.Parse(line)
	number := reject.Get("line").Raw
	raw := reject.Get("raw").Str
	if encoded := reject.Get("raw_base64"); encoded.Exists() {
		decoded, _ := base64.StdEncoding.DecodeString(encoded.Str)
		raw = string(decoded)
	}
	e.begin(rejectID, sd.PriWarning)
	e.add(fieldMessage, "line "+number+", "+reject.Get("error").Str)
	e.add(fieldLine, number)
	e.add(fieldOffset, reject.Get("offset").Raw)
	e.add(fieldTime, reject.Get("timestamp").Str)
	e.add(fieldRaw, raw)
	return e.end()
}

// missed encodes an entry with the number of entries that the journal missed.
func (e *encoder) missed(n uint64) []byte {
	count := strconv.FormatUint(n, 10)
	e.begin(missedID, sd.PriWarning)
	entries := " entries"
	if n == 1 {
		entries = " entry"
	}
	e.add(fieldMessage, "the journal missed "+count+entries+"; read "+e.eventsPath+" and the files beside it")
	e.add(fieldMissed, count)
	return e.end()
}
