package artifact

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A field describes one key of an artifact, as its JSON Schema does.
type field struct {
	name     string
	required bool
	expected string                  // describes a valid value, for errors
	valid    func(value []byte) bool // value is in normal form
}

// The indexes of the fields in the tables below.
const (
	eventKind = iota + 1 // index 0 is schema_version
	eventTime
	eventMessage
	eventBootID
	eventDetails
	eventUptime
	eventTransition
	eventSeq
)

const (
	statusState = iota + 1
	statusTime
	statusMessage
	statusBootID
	statusDetails
	statusSeq
	statusRejected
)

const (
	resultOutcome = iota + 1
	resultExitCode
	resultTime
	resultMessage
	resultDetails
	resultBootID
	resultSeq
)

const (
	rejectRaw = iota + 5 // indexes 0 to 4 are schema_version, line, offset, timestamp and error
	rejectBase64
	rejectLength
	rejectTruncated
	maxFields
)

// The fields of the artifacts, in the order of docs/format.md.
var (
	eventFields = [...]field{
		{"schema_version", true, "1", isVersion},
		eventKind:       {"kind", true, "a state", isState},
		eventTime:       {"timestamp", true, expectedTime, isTime},
		eventMessage:    {"message", true, "a string", isString},
		eventBootID:     {"boot_id", false, "a string that is not empty", isText},
		eventDetails:    {"details", false, "any value but null", isDetails},
		eventUptime:     {"uptime_ms", false, "an integer from 1 on", isUptime},
		eventTransition: {"transition", false, "true or false", isBool},
		eventSeq:        {"seq", true, expectedCount, isCount},
	}
	statusFields = [...]field{
		{"schema_version", true, "1", isVersion},
		statusState:    {"state", true, "a state", isState},
		statusTime:     {"updated_at", true, expectedTime, isTime},
		statusMessage:  {"message", true, "a string", isString},
		statusBootID:   {"boot_id", false, "a string that is not empty", isText},
		statusDetails:  {"details", false, "any value but null", isDetails},
		statusSeq:      {"seq", false, expectedCount, isCount},
		statusRejected: {"rejected", false, expectedCount, isCount},
	}
	resultFields = [...]field{
		{"schema_version", true, "1", isVersion},
		resultOutcome:  {"status", true, "completed or failed", isOutcome},
		resultExitCode: {"exit_code", false, "an integer from -2147483648 to 2147483647", isExitCode},
		resultTime:     {"finished_at", true, expectedTime, isTime},
		resultMessage:  {"message", true, "a string", isString},
		resultDetails:  {"details", false, "any value but null", isDetails},
		resultBootID:   {"boot_id", false, "a string that is not empty", isText},
		resultSeq:      {"seq", false, expectedCount, isCount},
	}
	rejectFields = [...]field{
		{"schema_version", true, "1", isVersion},
		{"line", true, expectedCount, isCount},
		{"offset", true, "an integer from 0 to 18446744073709551615", isOffset},
		{"timestamp", true, expectedTime, isTime},
		{"error", true, "a string that begins with column N: ", isError},
		rejectRaw:       {"raw", false, "a string of at most 4096 characters", isRaw},
		rejectBase64:    {"raw_base64", false, "base64", isBase64},
		rejectLength:    {"length", false, expectedCount, isCount},
		rejectTruncated: {"truncated", false, "true", isTrue},
	}
)

const (
	expectedCount = "an integer from 1 to 18446744073709551615"
	expectedTime  = "RFC 3339, such as 2026-03-25T20:00:00.123Z"
)

// check returns an error if value is not a valid value of the field. value is nil
// if the field is absent.
func (f *field) check(value []byte) error {
	switch {
	case value == nil && f.required:
		return fmt.Errorf("%s is missing", f.name)
	case value == nil || f.valid(value):
		return nil
	}
	const maxQuoted = 40 // bytes
	if len(value) > maxQuoted {
		return fmt.Errorf("%s is %+q…; expected %s", f.name, value[:maxQuoted], f.expected)
	}
	return fmt.Errorf("%s is %+q; expected %s", f.name, bytes.Trim(value, `"`), f.expected)
}

// find returns the index of the field called name, or -1. It tries index next
// first, because artifacts usually have their keys in the order of the table.
func find(fields []field, name []byte, next int) int {
	if next < len(fields) && string(name) == fields[next].name {
		return next
	}
	for i := range fields {
		if string(name) == fields[i].name {
			return i
		}
	}
	return -1
}

// The functions below check values in normal form that are not empty.

func isVersion(v []byte) bool { return string(v) == "1" }

func isString(v []byte) bool { return v[0] == '"' }

func isText(v []byte) bool { return isString(v) && len(v) > len(`""`) }

func isDetails(v []byte) bool { return string(v) != "null" }

func isTrue(v []byte) bool { return string(v) == "true" }

func isBool(v []byte) bool { return isTrue(v) || string(v) == "false" }

func isState(v []byte) bool {
	_, ok := ParseState(unquoted(v))
	return ok
}

func isOutcome(v []byte) bool {
	_, ok := ParseOutcome(unquoted(v))
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
	if !isString(v) {
		return false
	}
	_, ok := ParseTime(v[1 : len(v)-1])
	return ok
}

func isError(v []byte) bool {
	rest, ok := bytes.CutPrefix(v, []byte(`"column `))
	digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
	return ok && digits > 0 && rest[0] != '0' && bytes.HasPrefix(rest[digits:], []byte(": "))
}

func isRaw(v []byte) bool {
	text, ok := strictjson.Value(v).Text()
	return ok && utf8.RuneCountInString(text) <= MaxRaw
}

func isBase64(v []byte) bool {
	if !isString(v) {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(unquoted(v))
	return err == nil && len(unquoted(v)) <= base64.StdEncoding.EncodedLen(MaxRaw)
}

// unquoted returns the text between the quotes of a string, and does not decode
// its escapes. It returns "" for any other value.
func unquoted(v []byte) string {
	if len(v) < 2 || v[0] != '"' {
		return ""
	}
	return string(v[1 : len(v)-1])
}

// count returns the value of an integer from 1 on; 0 for anything else.
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

// millis returns an uptime given in milliseconds. It returns 0 if v is empty, and
// for implausible values, because large ones would overflow time.Duration.
func millis(v []byte) time.Duration {
	const maxUptime = 1 << 40 // 34 years
	if ms := count(v); ms <= maxUptime {
		return time.Duration(ms) * time.Millisecond
	}
	return 0
}

// setText sets s to the text of v. If s has that text already, setText does not
// allocate: usually all lines of a log have the same boot ID.
func setText(s *string, v []byte) {
	if len(v) >= 2 && string(v[1:len(v)-1]) == *s && bytes.IndexByte(v, '\\') < 0 {
		return
	}
	*s, _ = strictjson.Value(v).Text()
}
