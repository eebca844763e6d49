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

// A field is one of those of an entry that are read back.
type field uint8

const (
	fieldID field = iota
	fieldUID
	fieldMachine
	fieldPath
	fieldMessage
	fieldKind
	fieldSeq
	fieldTime
	fieldUptime
	fieldBoot
	fieldDetails
	fieldOutcome
	fieldExitCode
	fieldFields
	fieldCount
)

// fieldNames are the names of the fields, in the order of the constants.
var fieldNames = [fieldCount]string{"MESSAGE_ID", "_UID", "_MACHINE_ID", "PIKA_EVENTS_PATH",
	"MESSAGE", "PIKA_KIND", "PIKA_SEQ", "PIKA_TIMESTAMP", "PIKA_UPTIME_MS", "PIKA_BOOT_ID",
	"PIKA_DETAILS", "PIKA_OUTCOME", "PIKA_EXIT_CODE", "PIKA_FIELDS"}

// An entry is what journalctl -o json prints on one line, as far as it is read.
type entry struct {
	fields  [fieldCount]gjson.Result
	counted int // how many fields of ours there are
}

// set keeps a field if it is one that is read.
func (e *entry) set(name, value gjson.Result) bool {
	for f, known := range fieldNames {
		if known == name.Str {
			e.fields[f] = value
		}
	}
	if isCounted(name.Str) {
		e.counted++
	}
	return true
}

// isWhole reports whether the entry has all the fields that it was sent with.
func (e *entry) isWhole() bool { return e.fields[fieldFields].Str == strconv.Itoa(e.counted) }

// readEntry reads a line.
func readEntry(n *strictjson.Normaliser, line []byte) (e entry, err error) {
	text, err := n.Normalise(nil, line)
	object := gjson.ParseBytes(text)
	if err != nil || !object.IsObject() {
		return e, errors.New("not an entry; expected what journalctl -o json --all prints")
	}
	object.ForEach(e.set)
	return e, nil
}

// text returns the value of a field, empty if there is none. journalctl prints
// a value that is no text for a terminal as an array of its bytes, one that is
// given several times as an array of them all, and null for a large one.
func (e *entry) text(f field) (string, error) {
	v := e.fields[f]
	switch {
	case v.Type == gjson.String || !v.Exists():
		return v.Str, nil
	case v.Type == gjson.Null:
		return "", fmt.Errorf("%s was left out because it is large; run journalctl with --all", fieldNames[f])
	case !v.IsArray():
		return "", fmt.Errorf("%s is %.40s; expected what journalctl -o json prints", fieldNames[f], v.Raw)
	}
	var bytes []byte
	ok := true
	v.ForEach(func(_, b gjson.Result) bool {
		n, err := strconv.ParseUint(b.Raw, 10, 8)
		bytes, ok = append(bytes, byte(n)), ok && err == nil
		return ok
	})
	if !ok {
		return "", fmt.Errorf("%s stands in the entry more than once", fieldNames[f])
	}
	return string(bytes), nil
}

// wrong says what a field is and what was expected.
func wrong(f field, is, expected string) error {
	return fmt.Errorf("%s is %s; expected %s", fieldNames[f], strconv.QuoteToASCII(is[:min(len(is), 40)]), expected)
}

// A facts is an entry, understood: an event or a result.
type facts struct {
	machine, path string
	boot          string // empty if the guest did not know it
	seq           uint64 // 0 for a result of its own
	event         *artifact.Event
	result        *artifact.Result
}

// kindOf returns what a MESSAGE_ID stands for: the kind of an event, or the
// outcome of a result.
func kindOf(id string) (kind artifact.State, outcome artifact.Outcome) {
	for _, k := range artifact.States() {
		if kindID(k) == id {
			return k, ""
		}
	}
	for _, o := range artifact.Outcomes() {
		if outcomeID(o) == id {
			return "", o
		}
	}
	return "", ""
}

// understand makes facts of an entry whose MESSAGE_ID is that of a kind or an
// outcome.
func (e *entry) understand(kind artifact.State, outcome artifact.Outcome) (f *facts, err error) {
	var texts [fieldCount]string
	for i := range texts {
		if texts[i], err = e.text(field(i)); err != nil {
			return nil, err
		}
	}
	f = &facts{machine: texts[fieldMachine], path: texts[fieldPath], boot: texts[fieldBoot]}
	if f.boot != "" && !isBootID(f.boot) {
		return nil, wrong(fieldBoot, f.boot, "a boot ID")
	}
	if texts[fieldSeq] != "" || kind != "" {
		if f.seq, err = strconv.ParseUint(texts[fieldSeq], 10, 64); err != nil || f.seq == 0 {
			return nil, wrong(fieldSeq, texts[fieldSeq], "a number from 1")
		}
	}
	if kind != "" {
		return f, f.setEvent(kind, &texts)
	}
	return f, f.setResult(outcome, &texts)
}

func (f *facts) setEvent(kind artifact.State, texts *[fieldCount]string) (err error) {
	ev := &artifact.Event{Kind: kind, Message: strictjson.AppendText(nil, texts[fieldMessage]), BootID: f.boot, Seq: f.seq}
	f.event = ev
	if texts[fieldKind] != string(kind) {
		return wrong(fieldKind, texts[fieldKind], string(kind)+", as its MESSAGE_ID says")
	}
	if text := texts[fieldUptime]; text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 1 || ms > math.MaxInt64/int64(time.Millisecond) {
			return wrong(fieldUptime, text, "milliseconds, from 1")
		}
		ev.Uptime = time.Duration(ms) * time.Millisecond
	}
	if ev.Time, err = parseTime(texts[fieldTime]); err != nil {
		return err
	}
	ev.Details, err = parseDetails(texts[fieldDetails])
	return err
}

func (f *facts) setResult(outcome artifact.Outcome, texts *[fieldCount]string) (err error) {
	r := &artifact.Result{Outcome: outcome, Message: strictjson.AppendText(nil, texts[fieldMessage]),
		BootID: f.boot, Seq: f.seq}
	f.result = r
	if texts[fieldOutcome] != string(outcome) {
		return wrong(fieldOutcome, texts[fieldOutcome], string(outcome)+", as its MESSAGE_ID says")
	}
	if text := texts[fieldExitCode]; text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return wrong(fieldExitCode, text, "an integer from -2147483648 to 2147483647")
		}
		code := int32(n)
		r.ExitCode = &code
	}
	if r.Time, err = parseTime(texts[fieldTime]); err != nil {
		return err
	}
	r.Details, err = parseDetails(texts[fieldDetails])
	return err
}

func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(timeFormat, text)
	if err != nil {
		return t, wrong(fieldTime, text, "a time such as 2026-03-25T20:00:00.123Z")
	}
	return t, nil
}

func parseDetails(text string) (strictjson.Value, error) {
	if text == "" {
		return nil, nil
	}
	var n strictjson.Normaliser
	value, err := n.Normalise(nil, []byte(text))
	if err != nil {
		return nil, wrong(fieldDetails, text, "JSON")
	}
	return value, nil
}

// isBootID reports whether text has the form of the kernel's boot IDs.
func isBootID(text string) bool {
	if len(text) != len("6f1c9c3e-53f0-4b3a-9c39-2f0c1a5d7b11") {
		return false
	}
	for i, c := range []byte(text) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}
