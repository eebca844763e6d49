package artifact

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Reject is one line of rejected.jsonl: an input line that was rejected.
type Reject struct {
	Line   uint64    // counted from 1
	Offset uint64    // of the first byte of the line, in the input
	Time   time.Time // required; written in UTC, truncated to milliseconds
	Error  string    // required; begins with "column N: "
	Raw    []byte    // the line, or at least its first MaxRaw bytes
	Length uint64    // of the whole line in bytes, without its newline
}

// MaxRaw is how many bytes of a rejected line are kept. That is enough to
// recognise the line, and keeps rejected.jsonl small if many long lines are
// rejected.
const MaxRaw = 4 << 10

// Append appends r as one line of rejected.jsonl. The rejected line is encoded as
// a string if it is valid UTF-8, and otherwise as base64, which loses no byte.
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
