package artifact

import (
	"bytes"
	"slices"
	"time"
)

// ParseTime parses a time as in RFC 3339, with an upper-case T and Z; ok is false
// for anything else. It is stricter than time.Parse, which also accepts an hour
// of one digit, a comma before the fraction (go.dev/issue/54580), and a zone
// offset of 24 hours or 60 minutes.
//
// A leap second, which is 23:59:60 in UTC, becomes the last nanosecond before it. It
// stays on its day and after all earlier times, and strict readers accept what is
// written: datetime.fromisoformat of Python and Date of JavaScript reject a second 60.
func ParseTime(text []byte) (t time.Time, ok bool) {
	const second = len("2006-01-02T15:04:")
	if len(text) <= second+2 || string(text[second:second+2]) != "60" {
		return parseTime(text)
	}
	t, ok = parseTime(slices.Concat(text[:second], []byte("59"), text[second+2:]))
	utc := t.UTC()
	if !ok || utc.Hour() != 23 || utc.Minute() != 59 {
		return time.Time{}, false
	}
	return t.Truncate(time.Second).Add(time.Second - time.Nanosecond), true
}

// parseTime parses a time that is not a leap second.
func parseTime(text []byte) (t time.Time, ok bool) {
	if err := t.UnmarshalText(text); err != nil {
		return time.Time{}, false
	}
	if text[13] != ':' || bytes.IndexByte(text, ',') >= 0 {
		return time.Time{}, false
	}
	if text[len(text)-1] == 'Z' {
		return t, true
	}
	zone := text[len(text)-len("00:00"):]
	return t, string(zone[:2]) < "24" && string(zone[3:]) < "60"
}

// appendTime appends t as a JSON string, in RFC 3339 format, in UTC and with
// milliseconds. It does not use time.AppendFormat, which would parse its layout
// again for each line.
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
