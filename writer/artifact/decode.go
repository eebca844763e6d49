package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// MaxSize is the largest line, status or result that is read back, in bytes. A
// line of input has at most 1 MiB by default and grows at most sixfold when its
// bytes are escaped; this program does not write anything larger.
const MaxSize = 16 << 20

// A Decoder decodes and validates artifacts, as strictly as the schemas in
// docs/schema and the strictest reader on a host. The zero Decoder is ready; it
// reuses its memory, so that reading a line allocates nothing. What it returns
// is valid until the next call. Not for concurrent use.
//
// Of the artifact that was decoded last, text is the normal form, and values
// and starts are the field values within it and their offsets, by the position
// of the field in its table; the value of an absent field is nil.
type Decoder struct {
	json   strictjson.Normaliser
	text   []byte
	values [maxFields][]byte
	starts [maxFields]int
	event  Event
	utc    bool
}

// An AlteredError reports an artifact that is valid only in its normal form: it
// can be read, but not by every reader, or not by all of them alike.
type AlteredError struct{ Why string }

func (e *AlteredError) Error() string { return e.Why }

// IsAltered reports whether err is an *AlteredError.
func IsAltered(err error) bool {
	var altered *AlteredError
	return errors.As(err, &altered)
}

// Event decodes one line of events.jsonl, without its newline. With an
// *AlteredError it returns the event too.
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
	return e, err
}

// Status decodes status.json. With an *AlteredError it returns the status too.
func (d *Decoder) Status(text []byte) (*Status, error) {
	err := d.decode(text, statusFields[:])
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

// Result decodes result.json. With an *AlteredError it returns the result too.
func (d *Decoder) Result(text []byte) (*Result, error) {
	err := d.decode(text, resultFields[:])
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

// Normal returns the normal form of what was decoded last, on one line.
func (d *Decoder) Normal() []byte { return d.text }

// SeqBounds returns the offsets of the seq of the event decoded last in its
// normal form.
func (d *Decoder) SeqBounds() (start, end int) {
	return d.starts[eventSeq], d.starts[eventSeq] + len(d.values[eventSeq])
}

// UTC reports whether the time of what was decoded last ends in Z, as this
// program writes it. The Python command that it replaces wrote +00:00.
func (d *Decoder) UTC() bool { return d.utc }

// LineSeq returns the seq of a line of events.jsonl that need not be a valid
// event otherwise; ok is false if it is not an object with a seq.
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
// them. It returns an *AlteredError if the normal form is another value than
// the text, and any other error if it does not have these fields.
func (d *Decoder) decode(text []byte, fields []field) error {
	err := d.normalise(text)
	if err != nil {
		return err
	}
	d.split(fields)
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
	d.json.Depth = strictjson.MaxDepth + 1 // the artifact around the details
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

func notJSON(text []byte, err error) error {
	if len(bytes.TrimLeft(text, " \t\r")) == 0 {
		return errors.New("the line is blank")
	}
	var e *strictjson.Error
	errors.As(err, &e) // every error of the package is one
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

// time returns a time that was checked, and notes its form.
func (d *Decoder) time(v []byte) time.Time {
	t, _ := ParseTime(v[1 : len(v)-1])
	d.utc = v[len(v)-2] == 'Z'
	return t
}
