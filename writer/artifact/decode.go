package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// MaxSize is the size in bytes of the largest line, status or result that is read
// back. A line of input has at most 1 MiB by default, and becomes at most six
// times as long when its bytes are escaped.
const MaxSize = 16 << 20

// A Decoder decodes and validates artifacts. It is as strict as the schemas in
// docs/schema and as the strictest reader on a host. The zero Decoder is ready to
// use. A Decoder reuses its memory, so the values that a method returns are valid
// only until the next call. It is not safe for concurrent use.
//
// text is the normal form of the last artifact. For each field, at its index in
// the table, values has its value in text (nil if it is absent), and starts the
// offset of that value.
type Decoder struct {
	json   strictjson.Normaliser
	text   []byte
	values [maxFields][]byte
	starts [maxFields]int
	event  Event
	utc    bool
}

// An AlteredError reports that an artifact is valid only in its normal form. The
// Decoder can read it, but other readers may reject it or read other values.
type AlteredError struct{ Why string } // Why is one of the texts of strictjson.Altered

func (e *AlteredError) Error() string { return e.Why }

// IsAltered reports whether err is an *AlteredError.
func IsAltered(err error) bool {
	var altered *AlteredError
	return errors.As(err, &altered)
}

// ErrNewer reports an artifact with a higher schema_version than SchemaVersion. Its text
// is a predicate of the line or the file. The artifact is not damaged, so a repair must
// keep it.
var ErrNewer = errors.New("was written by a newer version; update pika-cloud-lifecycle")

// Event decodes one line of events.jsonl, without its newline. If the error is an
// *AlteredError, it returns the event as well. It returns nil with any other error.
func (d *Decoder) Event(line []byte) (*Event, error) {
	err := d.decode(line, eventFields[:])
	if err != nil && !IsAltered(err) {
		return nil, err
	}
	e, v := &d.event, &d.values
	e.Kind, _ = ParseState(unquoted(v[eventKind]))
	e.Time = d.time(v[eventTime])
	e.Message, e.Details = v[eventMessage], v[eventDetails]
	setText(&e.BootID, v[eventBootID])
	e.Uptime, e.Seq = millis(v[eventUptime]), count(v[eventSeq])
	e.Plain = string(v[eventTransition]) == "false"
	return e, err
}

// Status decodes the content of status.json. If the error is an *AlteredError, it
// returns the status as well. It returns nil with any other error.
func (d *Decoder) Status(text []byte) (*Status, error) {
	err := ofFile(d.decode(text, statusFields[:]))
	if err != nil && !IsAltered(err) {
		return nil, err
	}
	v := &d.values
	s := &Status{Message: v[statusMessage], Details: v[statusDetails],
		Seq: count(v[statusSeq]), Rejected: count(v[statusRejected])}
	s.State, _ = ParseState(unquoted(v[statusState]))
	s.Time = d.time(v[statusTime])
	setText(&s.BootID, v[statusBootID])
	return s, err
}

// Result decodes the content of result.json. If the error is an *AlteredError, it
// returns the result as well. It returns nil with any other error.
func (d *Decoder) Result(text []byte) (*Result, error) {
	err := ofFile(d.decode(text, resultFields[:]))
	if err != nil && !IsAltered(err) {
		return nil, err
	}
	v := &d.values
	r := &Result{Message: v[resultMessage], Details: v[resultDetails], Seq: count(v[resultSeq])}
	r.Outcome, _ = ParseOutcome(unquoted(v[resultOutcome]))
	code, ok := exitCode(v[resultExitCode])
	if ok {
		r.ExitCode = &code
	}
	r.Time = d.time(v[resultTime])
	setText(&r.BootID, v[resultBootID])
	return r, err
}

// Reject validates one line of rejected.jsonl, without its newline.
func (d *Decoder) Reject(line []byte) error {
	err := d.decode(line, rejectFields[:])
	if err != nil && !IsAltered(err) {
		return err
	}
	v := &d.values
	switch {
	case (v[rejectRaw] == nil) == (v[rejectBase64] == nil):
		return errors.New("expected either raw or raw_base64")
	case (v[rejectLength] == nil) != (v[rejectTruncated] == nil):
		return errors.New("expected both length and truncated, or neither")
	}
	return err
}

// Normal returns the normal form of the last artifact, on one line.
func (d *Decoder) Normal() []byte { return d.text }

// SeqBounds returns the offsets in Normal at which the seq of the last event
// starts and ends.
func (d *Decoder) SeqBounds() (start, end int) {
	return d.starts[eventSeq], d.starts[eventSeq] + len(d.values[eventSeq])
}

// UTC reports whether the time of the last artifact ends in Z, as in all times
// that this program writes. The Python command that it replaces wrote +00:00.
func (d *Decoder) UTC() bool { return d.utc }

// LineSeq returns the seq of a line of events.jsonl, even if the line is not a
// valid event. ok is false if the line is not an object with a seq.
func (d *Decoder) LineSeq(line []byte) (seq uint64, ok bool) {
	err := d.normalise(line)
	if err != nil {
		return 0, false
	}
	d.split(eventFields[:])
	seq, err = strconv.ParseUint(string(d.values[eventSeq]), 10, 64)
	return seq, err == nil
}

// decode puts text into normal form, finds the values of the fields and checks
// them. It returns an *AlteredError if the fields are valid but the normal form
// has another meaning than text, and another error if text is not valid.
func (d *Decoder) decode(text []byte, fields []field) error {
	err := d.normalise(text)
	if err != nil {
		return err
	}
	d.split(fields)
	if count(d.values[0]) > SchemaVersion {
		return ErrNewer
	}
	for i := range fields {
		if err := fields[i].check(d.values[i]); err != nil {
			return err
		}
	}
	why := strictjson.Altered(text, d.text)
	if why != "" {
		return &AlteredError{why}
	}
	return nil
}

// normalise puts an object into normal form.
func (d *Decoder) normalise(text []byte) error {
	d.json.Depth = strictjson.MaxDepth + 1 // one more level than the details may have
	normal, err := d.json.Normalise(d.text[:0], text)
	if err != nil {
		return notJSON(text, err)
	}
	d.text, d.values = normal, [maxFields][]byte{}
	if normal[0] != '{' {
		return errors.New("expected an object")
	}
	return nil
}

var errBlankLine = errors.New("the line is blank")

// ofFile converts the error of a line to that of a file with a single object: a blank line
// is an empty file.
func ofFile(err error) error {
	if err == errBlankLine {
		return errors.New("the file is empty")
	}
	return err
}

// notJSON returns the error for text, for which strictjson returned err.
func notJSON(text []byte, err error) error {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return errBlankLine
	case bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")):
		return errors.New("UTF-16; expected UTF-8")
	}
	var e *strictjson.Error
	errors.As(err, &e) // every error of strictjson is an *Error
	return fmt.Errorf("column %d: %s", e.Offset+1, e.Why)
}

// split finds the values of the fields in the normal form.
func (d *Decoder) split(fields []field) {
	next := 0
	strictjson.Members(d.text, func(name, value strictjson.Value, at int) {
		i := find(fields, name[1:len(name)-1], next)
		if i >= 0 {
			d.values[i], d.starts[i], next = value, at, i+1
		}
	})
}

// time returns the time in v, which is valid, and sets d.utc.
func (d *Decoder) time(v []byte) time.Time {
	t, _ := ParseTime(v[1 : len(v)-1])
	d.utc = v[len(v)-2] == 'Z'
	return t
}
