package directive

import (
	"fmt"
	"strconv"
)

// An Error reports why a line is rejected.
type Error struct {
	Offset int    // in the line, in bytes from 0
	Reason string // what was expected, and what to do
}

// Error returns the reason with its column, which counts bytes from 1.
func (e *Error) Error() string {
	return fmt.Sprintf("column %d: %s", e.Offset+1, e.Reason)
}

// Errorf returns an Error at an offset in the line.
func Errorf(offset int, format string, args ...any) *Error {
	return &Error{offset, fmt.Sprintf(format, args...)}
}

// show quotes text for an error: what a terminal might obey is escaped, and
// what is long is cut.
func show(text []byte) string {
	const most = 40 // enough to recognise a word by
	if len(text) > most {
		return strconv.QuoteToASCII(string(text[:most])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}
