package writer

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// appendTime appends t as RFC 3339 in UTC with milliseconds, quoted. It is
// written out by hand because time.AppendFormat parses its layout anew for
// each of a million lines.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), int(month), 2)
	dst = appendDigits(append(dst, '-'), day, 2)
	dst = appendDigits(append(dst, 'T'), hour, 2)
	dst = appendDigits(append(dst, ':'), minute, 2)
	dst = appendDigits(append(dst, ':'), second, 2)
	dst = appendDigits(append(dst, '.'), t.Nanosecond()/1e6, 3)
	return append(dst, 'Z', '"')
}

// appendDigits appends the last width decimal digits of n.
func appendDigits(dst []byte, n, width int) []byte {
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; width > 0; i, width, n = i-1, width-1, n/10 {
		dst[i] = byte('0' + n%10)
	}
	return dst
}

// same holds what the event before had in common with most that follow: all
// that one read brings has one time, and a stream one boot ID. It spares a fifth
// of the encoding.
type same struct {
	kind     State
	time     time.Time
	head     []byte // what stands before the message
	boot     string
	bootText []byte // the member, with the comma before it; empty if there is none
	uptime   int64  // in ms
	upText   []byte // as bootText
}

// learn fills in what e does not have in common with the event before.
func (s *same) learn(e *Event) {
	if e.Kind != s.kind || e.Time != s.time {
		s.kind, s.time = e.Kind, e.Time
		s.head = append(append(s.head[:0], `{"schema_version":1,"kind":"`...), e.Kind...)
		s.head = appendTime(append(s.head, `","timestamp":`...), e.Time)
		s.head = append(s.head, `,"message":`...)
	}
	if e.BootID != s.boot {
		s.boot, s.bootText = e.BootID, s.bootText[:0]
		if s.boot != "" {
			s.bootText = strictjson.AppendText(append(s.bootText, `,"boot_id":`...), s.boot)
		}
	}
	if ms := max(e.Uptime.Milliseconds(), 0); ms != s.uptime {
		s.uptime, s.upText = ms, s.upText[:0]
		if ms > 0 {
			s.upText = strconv.AppendInt(append(s.upText, `,"uptime_ms":`...), ms, 10)
		}
	}
}

// appendEvent appends e as one line, cut before its seq: the seq is known only
// under the lock, and stands last so that it can be added then. The values of e
// become those that were appended.
func (s *same) appendEvent(dst []byte, e *Event) []byte {
	s.learn(e)
	dst = append(dst, s.head...)
	dst = append(dst, e.Message...)
	e.Message = dst[len(dst)-len(e.Message) : len(dst) : len(dst)]
	dst = append(dst, s.bootText...)
	if len(e.Details) > 0 {
		dst = append(dst, `,"details":`...)
		dst = append(dst, e.Details...)
		e.Details = dst[len(dst)-len(e.Details) : len(dst) : len(dst)]
	}
	return append(dst, s.upText...)
}

// appendSeq ends a line that appendEvent began.
func appendSeq(dst []byte, seq uint64) []byte {
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return append(dst, '}', '\n')
}

// Append appends the text of status.json.
func (s *Status) Append(dst []byte) []byte {
	dst = append(dst, "{\n  \"schema_version\": 1,\n  \"state\": \""...)
	dst = append(dst, s.State...)
	dst = append(dst, "\",\n  \"updated_at\": "...)
	dst = appendTime(dst, s.Time)
	dst = appendMember(dst, "message", s.Message)
	dst = appendText(dst, "boot_id", s.BootID)
	dst = appendMember(dst, "details", s.Details)
	dst = appendCount(dst, "seq", s.Seq)
	dst = appendCount(dst, "rejected", s.Rejected)
	return append(dst, "\n}\n"...)
}

// Append appends the text of result.json.
func (r *Result) Append(dst []byte) []byte {
	dst = append(dst, "{\n  \"schema_version\": 1,\n  \"status\": \""...)
	dst = append(dst, r.Outcome...)
	dst = append(dst, '"')
	if r.ExitCode != nil {
		dst = append(dst, ",\n  \"exit_code\": "...)
		dst = strconv.AppendInt(dst, int64(*r.ExitCode), 10)
	}
	dst = append(dst, ",\n  \"finished_at\": "...)
	dst = appendTime(dst, r.Time)
	dst = appendMember(dst, "message", r.Message)
	dst = appendMember(dst, "details", r.Details)
	dst = appendText(dst, "boot_id", r.BootID)
	dst = appendCount(dst, "seq", r.Seq)
	return append(dst, "\n}\n"...)
}

// appendMember appends a line of a status or result; nothing if value is empty.
func appendMember(dst []byte, name string, value strictjson.Value) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, ",\n  \""...)
	dst = append(dst, name...)
	dst = append(dst, `": `...)
	return append(dst, value...)
}

func appendText(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	return appendMember(dst, name, strictjson.AppendText(nil, text))
}

func appendCount(dst []byte, name string, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return appendMember(dst, name, strconv.AppendUint(nil, n, 10))
}

// Append appends r as one line of rejected.jsonl. The raw line is text where
// it is valid UTF-8, so that it can be read as it stands, else base64, so that
// no byte of it is lost.
func (r *Reject) Append(dst []byte) []byte {
	raw := r.Raw[:min(len(r.Raw), MaxRaw)]
	dst = append(dst, `{"schema_version":1,"line":`...)
	dst = strconv.AppendUint(dst, r.Line, 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendUint(dst, r.Offset, 10)
	dst = append(dst, `,"timestamp":`...)
	dst = appendTime(dst, r.Time)
	dst = append(dst, `,"error":`...)
	dst = strictjson.AppendText(dst, r.Error)
	if utf8.Valid(raw) {
		dst = append(dst, `,"raw":`...)
		dst = strictjson.AppendText(dst, raw)
	} else {
		dst = append(dst, `,"raw_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, raw)
		dst = append(dst, '"')
	}
	if r.Length > uint64(len(raw)) {
		dst = append(dst, `,"length":`...)
		dst = strconv.AppendUint(dst, r.Length, 10)
		dst = append(dst, `,"truncated":true`...)
	}
	return append(dst, '}', '\n')
}
