package artifact

import (
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// An EventEncoder encodes events as lines of events.jsonl. The zero EventEncoder
// is ready to use. It is not safe for concurrent use.
//
// It caches the encoded members that successive events usually share: all events
// of one read have the same time, and all events of a stream the same boot ID.
// This saves a fifth of the encoding time. head belongs to kind and time, bootMember to
// bootID, upMember to uptime, and tail to tens; update and AppendSeq maintain this.
type EventEncoder struct {
	kind       State
	time       time.Time
	head       []byte // the line up to `"message":`
	bootID     string
	bootMember []byte // `,"boot_id":…`, or empty
	uptime     int64  // in ms
	upMember   []byte // `,"uptime_ms":…`, or empty
	tens       uint64 // the last seq, with 0 as its last digit
	tail       []byte // `,"seq":…}` and the newline
}

// Append appends the line of e up to its last member, seq, which is known only
// while the lock is held. EventEncoder.AppendSeq completes the line. Append sets e.Message and
// e.Details to their copies in dst, so the caller may reuse the old memory.
func (enc *EventEncoder) Append(dst []byte, e *Event) []byte {
	enc.update(e)
	dst = append(dst, enc.head...)
	dst = append(dst, e.Message...)
	e.Message = dst[len(dst)-len(e.Message) : len(dst) : len(dst)]
	dst = append(dst, enc.bootMember...)
	if len(e.Details) > 0 {
		dst = append(dst, `,"details":`...)
		dst = append(dst, e.Details...)
		e.Details = dst[len(dst)-len(e.Details) : len(dst) : len(dst)]
	}
	dst = append(dst, enc.upMember...)
	if e.Plain {
		dst = append(dst, `,"transition":false`...)
	}
	return dst
}

// update encodes the cached members again if they differ in e.
func (enc *EventEncoder) update(e *Event) {
	if e.Kind != enc.kind || e.Time != enc.time {
		enc.kind, enc.time = e.Kind, e.Time
		enc.head = append(append(enc.head[:0], `{"schema_version":1,"kind":"`...), e.Kind...)
		enc.head = appendTime(append(enc.head, `","timestamp":`...), e.Time)
		enc.head = append(enc.head, `,"message":`...)
	}
	if e.BootID != enc.bootID {
		enc.bootID, enc.bootMember = e.BootID, enc.bootMember[:0]
		if e.BootID != "" {
			enc.bootMember = strictjson.AppendText(append(enc.bootMember, `,"boot_id":`...), e.BootID)
		}
	}
	ms := max(e.Uptime.Milliseconds(), 0)
	if ms != enc.uptime {
		enc.uptime, enc.upMember = ms, enc.upMember[:0]
		if ms > 0 {
			enc.upMember = strconv.AppendInt(append(enc.upMember, `,"uptime_ms":`...), ms, 10)
		}
	}
}

// AppendSeq completes a line of Append with the seq and a newline. Successive seqs usually
// differ only in their last digit.
func (enc *EventEncoder) AppendSeq(dst []byte, seq uint64) []byte {
	if len(enc.tail) == 0 || seq-enc.tens >= 10 {
		enc.tens = seq - seq%10
		enc.tail = strconv.AppendUint(append(enc.tail[:0], `,"seq":`...), enc.tens, 10)
		enc.tail = append(enc.tail, '}', '\n')
	}
	dst = append(dst, enc.tail...)
	dst[len(dst)-len("0}\n")] += byte(seq - enc.tens)
	return dst
}

// Parts are the text of a status or result in pieces: the message and the details, which
// may be large, are not copied.
type Parts [5][]byte

// Append appends the whole text.
func (p *Parts) Append(dst []byte) []byte {
	for _, part := range p {
		dst = append(dst, part...)
	}
	return dst
}

// Size returns the size of the whole text in bytes.
func (p *Parts) Size() (size int) {
	for _, part := range p {
		size += len(part)
	}
	return size
}

// parts cuts text at two offsets, and puts the message in at the first and the details at
// the second.
func parts(text []byte, messageAt int, message strictjson.Value, detailsAt int, details strictjson.Value) Parts {
	return Parts{text[:messageAt], message, text[messageAt:detailsAt], details, text[detailsAt:]}
}

// Append appends the text of status.json.
func (s *Status) Append(dst []byte) []byte {
	p := s.Parts(nil)
	return p.Append(dst)
}

// Parts returns the text of status.json. It uses the memory of buf, which grows as
// needed.
func (s *Status) Parts(buf []byte) Parts {
	dst := append(buf[:0], "{\n  \"schema_version\": 1,\n  \"state\": \""...)
	dst = append(dst, s.State...)
	dst = append(dst, "\",\n  \"updated_at\": "...)
	dst = appendTime(dst, s.Time)
	dst = appendName(dst, "message", s.Message)
	messageAt := len(dst)
	dst = appendText(dst, "boot_id", s.BootID)
	dst = appendName(dst, "details", s.Details)
	detailsAt := len(dst)
	dst = appendCount(dst, "seq", s.Seq)
	dst = appendCount(dst, "rejected", s.Rejected)
	return parts(append(dst, "\n}\n"...), messageAt, s.Message, detailsAt, s.Details)
}

// Append appends the text of result.json.
func (r *Result) Append(dst []byte) []byte {
	p := r.Parts(nil)
	return p.Append(dst)
}

// Parts returns the text of result.json, as Status.Parts does.
func (r *Result) Parts(buf []byte) Parts {
	dst := append(buf[:0], "{\n  \"schema_version\": 1,\n  \"status\": \""...)
	dst = append(dst, r.Outcome...)
	dst = append(dst, '"')
	if r.ExitCode != nil {
		dst = append(dst, ",\n  \"exit_code\": "...)
		dst = strconv.AppendInt(dst, int64(*r.ExitCode), 10)
	}
	dst = append(dst, ",\n  \"finished_at\": "...)
	dst = appendTime(dst, r.Time)
	dst = appendName(dst, "message", r.Message)
	messageAt := len(dst)
	dst = appendName(dst, "details", r.Details)
	detailsAt := len(dst)
	dst = appendText(dst, "boot_id", r.BootID)
	dst = appendCount(dst, "seq", r.Seq)
	return parts(append(dst, "\n}\n"...), messageAt, r.Message, detailsAt, r.Details)
}

// appendName appends the name of a member of a status or result, on a new line. It
// appends nothing if value is empty.
func appendName(dst []byte, name string, value strictjson.Value) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, ",\n  \""...)
	dst = append(dst, name...)
	return append(dst, `": `...)
}

// appendMember appends one member, on a new line. It appends nothing if value is empty.
func appendMember(dst []byte, name string, value strictjson.Value) []byte {
	return append(appendName(dst, name, value), value...)
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
