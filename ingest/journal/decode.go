package journal

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A rawEntry is one line of the output of journalctl -o json. The values of its
// fields are JSON, not yet validated. For an absent field, Exists returns false.
type rawEntry struct {
	values  [endOfFields]gjson.Result
	counted int // number of fields for which isCounted is true, including unknown ones
}

// parseLine parses a line. The rawEntry does not refer to it.
func parseLine(n *strictjson.Normaliser, line []byte) (*rawEntry, error) {
	text, err := n.Normalise(nil, line)
	object := gjson.ParseBytes(text)
	if err != nil || !object.IsObject() {
		return nil, errors.New("not a journal entry; expected the output of journalctl -o json --all")
	}
	raw := new(rawEntry)
	object.ForEach(func(name, value gjson.Result) bool {
		raw.set(name.Str, value)
		return true
	})
	return raw, nil
}

func (raw *rawEntry) set(name string, value gjson.Result) {
	if isCounted(name) {
		raw.counted++
	}
	for f, known := range fieldNames {
		if known == name {
			raw.values[f] = value
			return
		}
	}
}

// isEventOrResult reports whether the entry describes an event or a result.
func (raw *rawEntry) isEventOrResult() bool {
	id := raw.values[fieldMessageID].Str
	return eventKind(id) != "" || resultOutcome(id) != ""
}

// isComplete reports whether the entry has all fields that the Mirror sent.
func (raw *rawEntry) isComplete() bool {
	return raw.values[fieldCountOfFields].Str == strconv.Itoa(raw.counted)
}

// text returns the value of a field, or "" if it is absent. journalctl prints a
// value with unprintable characters as an array of bytes, a field that occurs
// several times as an array of values, and a value that is too large to be printed
// without --all as null (journalctl(1), --output=json).
func (raw *rawEntry) text(f field) (string, error) {
	v := raw.values[f]
	switch {
	case v.Type == gjson.String || !v.Exists():
		return v.Str, nil
	case v.Type == gjson.Null:
		return "", fmt.Errorf("journalctl left out %s because it is large; add --all to journalctl", fieldNames[f])
	case !v.IsArray():
		return "", fmt.Errorf("%s is %.40s; expected a string or an array of bytes", fieldNames[f], v.Raw)
	}
	var text []byte
	for _, element := range v.Array() {
		b, err := strconv.ParseUint(element.Raw, 10, 8)
		if err != nil {
			return "", fmt.Errorf("%s has several values; expected one", fieldNames[f])
		}
		text = append(text, byte(b))
	}
	return string(text), nil
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

// fieldTexts holds the values of decodedFields; "" for an absent field.
type fieldTexts [endOfFields]string

// decode decodes an entry for which isEventOrResult is true.
func (raw *rawEntry) decode() (*entry, error) {
	var texts fieldTexts
	for _, f := range decodedFields {
		text, err := raw.text(f)
		if err != nil {
			return nil, err
		}
		texts[f] = text
	}
	kind, outcome := eventKind(texts[fieldMessageID]), resultOutcome(texts[fieldMessageID])
	e := &entry{machineID: texts[fieldMachineID], eventsPath: texts[fieldEventsPath], bootID: texts[fieldBootID]}
	if e.bootID != "" && !isBootID(e.bootID) {
		return nil, texts.invalid(fieldBootID, "a UUID in lower case")
	}
	if texts[fieldSeq] != "" || kind != "" {
		seq, err := strconv.ParseUint(texts[fieldSeq], 10, 64)
		if err != nil || seq == 0 {
			return nil, texts.invalid(fieldSeq, "a number of 1 or more")
		}
		e.seq = seq
	}
	var err error
	if kind != "" {
		e.event, err = texts.event(kind)
	} else {
		e.result, err = texts.result(outcome)
	}
	if err != nil {
		return nil, err
	}
	if e.event != nil {
		e.event.BootID, e.event.Seq = e.bootID, e.seq
	} else {
		e.result.BootID, e.result.Seq = e.bootID, e.seq
	}
	return e, nil
}

// event decodes an event without its boot ID and seq.
func (t *fieldTexts) event(kind artifact.State) (*artifact.Event, error) {
	if t[fieldKind] != string(kind) {
		return nil, t.invalid(fieldKind, string(kind)+", the kind of its MESSAGE_ID")
	}
	uptime, err := t.uptime()
	if err != nil {
		return nil, err
	}
	when, err := t.time()
	if err != nil {
		return nil, err
	}
	details, err := t.details()
	if err != nil {
		return nil, err
	}
	plain := t[fieldTransition] != ""
	if plain && t[fieldTransition] != isPlain {
		return nil, t.invalid(fieldTransition, isPlain)
	}
	return &artifact.Event{Kind: kind, Time: when, Uptime: uptime, Details: details, Plain: plain,
		Message: strictjson.AppendText(nil, t[fieldMessage])}, nil
}

// result decodes a result without its boot ID and seq.
func (t *fieldTexts) result(outcome artifact.Outcome) (*artifact.Result, error) {
	if t[fieldOutcome] != string(outcome) {
		return nil, t.invalid(fieldOutcome, string(outcome)+", the outcome of its MESSAGE_ID")
	}
	exitCode, err := t.exitCode()
	if err != nil {
		return nil, err
	}
	when, err := t.time()
	if err != nil {
		return nil, err
	}
	details, err := t.details()
	if err != nil {
		return nil, err
	}
	return &artifact.Result{Outcome: outcome, ExitCode: exitCode, Time: when, Details: details,
		Message: strictjson.AppendText(nil, t[fieldMessage])}, nil
}

func (t *fieldTexts) time() (time.Time, error) {
	when, ok := artifact.ParseTime([]byte(t[fieldTime]))
	if !ok {
		return when, t.invalid(fieldTime, "a time such as 2026-03-25T20:00:00.123Z")
	}
	return when, nil
}

// uptime returns the uptime, or 0 if it is absent.
func (t *fieldTexts) uptime() (time.Duration, error) {
	if t[fieldUptime] == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(t[fieldUptime], 10, 64)
	if err != nil || ms < 1 || ms > math.MaxInt64/int64(time.Millisecond) {
		return 0, t.invalid(fieldUptime, "milliseconds, 1 or more")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// exitCode returns the exit code, or nil if it is absent.
func (t *fieldTexts) exitCode() (*int32, error) {
	if t[fieldExitCode] == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(t[fieldExitCode], 10, 32)
	if err != nil {
		return nil, t.invalid(fieldExitCode, "an integer from -2147483648 to 2147483647")
	}
	code := int32(n)
	return &code, nil
}

// details returns the details, or nil if they are absent.
func (t *fieldTexts) details() (strictjson.Value, error) {
	if t[fieldDetails] == "" {
		return nil, nil
	}
	details, err := new(strictjson.Normaliser).Normalise(nil, []byte(t[fieldDetails]))
	if err != nil {
		return nil, t.invalid(fieldDetails, "JSON")
	}
	return details, nil
}

// invalid returns an error that quotes at most the first 40 bytes of a field.
func (t *fieldTexts) invalid(f field, expected string) error {
	value := t[f]
	return fmt.Errorf("%s is %s; expected %s", fieldNames[f], strconv.QuoteToASCII(value[:min(len(value), 40)]), expected)
}

// isBootID reports whether text has the format of the kernel's boot IDs: a UUID in
// lower case.
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
