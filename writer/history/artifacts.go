package history

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// An Event is one line of events.jsonl.
type Event struct {
	writer.Event
	Seq uint64
}

// The fields of the artifacts, in the order of docs/format.md.
var (
	eventFields = []field{
		{"schema_version", true, "1", isVersion},
		{"kind", true, "a state", isState},
		{"timestamp", true, wantTime, isTime},
		{"message", true, "a string", isString},
		{"boot_id", false, "a string that is not empty", isText},
		{"details", false, "any value but null", isDetails},
		{"uptime_ms", false, "an integer from 1 on", isUptime},
		{"seq", true, wantCount, isCount},
	}
	statusFields = []field{
		{"schema_version", true, "1", isVersion},
		{"state", true, "a state", isState},
		{"updated_at", true, wantTime, isTime},
		{"message", true, "a string", isString},
		{"boot_id", false, "a string that is not empty", isText},
		{"details", false, "any value but null", isDetails},
		{"seq", false, wantCount, isCount},
		{"rejected", false, wantCount, isCount},
	}
	resultFields = []field{
		{"schema_version", true, "1", isVersion},
		{"status", true, "completed or failed", isOutcome},
		{"exit_code", false, "an integer from -2147483648 to 2147483647", isExitCode},
		{"finished_at", true, wantTime, isTime},
		{"message", true, "a string", isString},
		{"details", false, "any value but null", isDetails},
		{"boot_id", false, "a string that is not empty", isText},
		{"seq", false, wantCount, isCount},
	}
	rejectFields = []field{
		{"schema_version", true, "1", isVersion},
		{"line", true, wantCount, isCount},
		{"offset", true, "an integer from 0 to 18446744073709551615", isOffset},
		{"timestamp", true, wantTime, isTime},
		{"error", true, "a string that begins with column N: ", isError},
		{"raw", false, "a string of 4096 characters at most", isRaw},
		{"raw_base64", false, "base64", isBase64},
		{"length", false, wantCount, isCount},
		{"truncated", false, "true", isTrue},
	}
)

const (
	wantCount = "an integer from 1 to 18446744073709551615"
	wantTime  = "RFC 3339, such as 2026-03-25T20:00:00.123Z"
)

// Event reads one line of events.jsonl. With an *ErrAltered it returns the event
// too, as its normal form has it.
func (r *Reader) Event(line []byte) (*Event, error) {
	err := r.read(line, eventFields)
	if err != nil && !isAltered(err) {
		return nil, err
	}
	e, v := &r.event, &r.values
	e.Kind, _ = writer.ParseState(unquoted(v[1]))
	e.Time = r.time(v[2])
	e.Message, e.Details = v[3], v[5]
	setText(&e.BootID, v[4])
	e.Uptime, e.Seq = millis(v[6]), count(v[7])
	return e, err
}

// Normal returns what was last read in normal form.
func (r *Reader) Normal() []byte { return r.text }

// Seq returns where the seq of the event last read stands in its normal form.
func (r *Reader) Seq() (start, end int) { return r.starts[7], r.starts[7] + len(r.values[7]) }

// Status reads status.json, as Event reads a line.
func (r *Reader) Status(text []byte) (*writer.Status, error) {
	err := r.read(text, statusFields)
	if err != nil && !isAltered(err) {
		return nil, err
	}
	v := &r.values
	s := &writer.Status{Message: v[3], Details: v[5], Seq: count(v[6]), Rejected: count(v[7])}
	s.State, _ = writer.ParseState(unquoted(v[1]))
	s.Time = r.time(v[2])
	setText(&s.BootID, v[4])
	return s, err
}

// Result reads result.json, as Event reads a line.
func (r *Reader) Result(text []byte) (*writer.Result, error) {
	err := r.read(text, resultFields)
	if err != nil && !isAltered(err) {
		return nil, err
	}
	v := &r.values
	res := &writer.Result{Message: v[4], Details: v[5], Seq: count(v[7])}
	res.Outcome, _ = writer.ParseOutcome(unquoted(v[1]))
	if code, ok := exitCode(v[2]); ok {
		res.ExitCode = &code
	}
	res.Time = r.time(v[3])
	setText(&res.BootID, v[6])
	return res, err
}

// Reject checks one line of rejected.jsonl.
func (r *Reader) Reject(line []byte) error {
	err := r.read(line, rejectFields)
	if err != nil && !isAltered(err) {
		return err
	}
	raw, base64, length, truncated := r.values[5], r.values[6], r.values[7], r.values[8]
	switch {
	case (raw == nil) == (base64 == nil):
		return errors.New("expected raw or raw_base64, and not both")
	case (length == nil) != (truncated == nil):
		return errors.New("expected length and truncated, or neither")
	}
	return err
}

// time returns a time that was checked, and notes its form.
func (r *Reader) time(v []byte) time.Time {
	t, _ := parseTime(v)
	r.own = v[len(v)-2] == 'Z'
	return t
}

func isAltered(err error) bool {
	var altered *ErrAltered
	return errors.As(err, &altered)
}

// ReadAll reads a whole artifact, which must not be larger than MaxText.
func ReadAll(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, MaxText+1))
	if err == nil && len(text) > MaxText {
		err = errors.New("larger than any artifact that can be read")
	}
	return text, err
}

// The checks. Values are in normal form.

func isVersion(v []byte) bool { return string(v) == "1" }

func isString(v []byte) bool { return v[0] == '"' }

func isText(v []byte) bool { return isString(v) && len(v) > len(`""`) }

func isDetails(v []byte) bool { return string(v) != "null" }

func isTrue(v []byte) bool { return string(v) == "true" }

func isState(v []byte) bool {
	_, ok := writer.ParseState(unquoted(v))
	return ok
}

func isOutcome(v []byte) bool {
	_, ok := writer.ParseOutcome(unquoted(v))
	return ok
}

func isCount(v []byte) bool { return count(v) > 0 }

func isUptime(v []byte) bool {
	return string(v) != "0" && len(bytes.Trim(v, "0123456789")) == 0
}

func isOffset(v []byte) bool {
	_, err := strconv.ParseUint(string(v), 10, 64)
	return err == nil
}

func isExitCode(v []byte) bool {
	_, ok := exitCode(v)
	return ok
}

func isTime(v []byte) bool {
	_, ok := parseTime(v)
	return ok
}

func isError(v []byte) bool {
	rest, ok := bytes.CutPrefix(v, []byte(`"column `))
	digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
	return ok && digits > 0 && rest[0] != '0' && bytes.HasPrefix(rest[digits:], []byte(": "))
}

func isRaw(v []byte) bool {
	text, ok := strictjson.Value(v).Text()
	return ok && utf8.RuneCountInString(text) <= writer.MaxRaw
}

func isBase64(v []byte) bool {
	if !isString(v) {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(unquoted(v))
	return err == nil && len(unquoted(v)) <= base64.StdEncoding.EncodedLen(writer.MaxRaw)
}

// unquoted returns what stands between the quotes of a string, escapes as they
// are; what is no string is no word of ours.
func unquoted(v []byte) string {
	if len(v) < 2 || v[0] != '"' {
		return ""
	}
	return string(v[1 : len(v)-1])
}

// count returns a number that is 1 at the least; 0 if v is none.
func count(v []byte) uint64 {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func exitCode(v []byte) (int32, bool) {
	n, err := strconv.ParseInt(string(v), 10, 32)
	return int32(n), err == nil
}

// millis returns an uptime, 0 for none and for one that no machine reaches.
func millis(v []byte) time.Duration {
	const most = 1 << 40 // 34 years
	if ms := count(v); ms <= most {
		return time.Duration(ms) * time.Millisecond
	}
	return 0
}

// setText sets s to the text of v, and keeps what it is if it is the same: the
// boot ID of a million lines is one string.
func setText(s *string, v []byte) {
	if len(v) >= 2 && string(v[1:len(v)-1]) == *s && bytes.IndexByte(v, '\\') < 0 {
		return
	}
	*s, _ = strictjson.Value(v).Text()
}

// parseTime takes RFC 3339 with upper-case T and Z. time.Parse also takes an hour
// of one digit and a comma (go.dev/issue/54580), and a zone of 24 hours.
func parseTime(v []byte) (t time.Time, ok bool) {
	text := unquoted(v)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || text[13] != ':' || bytes.IndexByte(v, ',') >= 0 {
		return t, false
	}
	zone := text[len(text)-len("00:00"):]
	return t, text[len(text)-1] == 'Z' || zone[:2] < "24" && zone[3:] < "60"
}
