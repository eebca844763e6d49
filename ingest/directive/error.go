package directive

import (
	"fmt"
	"strconv"
	"strings"
)

// An Error reports why a line is rejected.
type Error struct {
	Offset int    // in the line, in bytes from 0
	Reason string // what is wrong there, what was expected, and what to do
}

// Error returns the reason with its column, which counts bytes from 1.
func (e *Error) Error() string {
	return fmt.Sprintf("column %d: %s", e.Offset+1, e.Reason)
}

// Errorf returns an Error at an offset in the line. It is not inlined, because it
// has many callers and runs only for rejected lines.
//
//go:noinline
func Errorf(offset int, format string, args ...any) *Error {
	return &Error{offset, fmt.Sprintf(format, args...)}
}

// maxShown is how many bytes of the input a message shows: enough to recognise
// a word.
const maxShown = 40

// show quotes text for a message. It escapes control characters, which a
// terminal would obey, and cuts long text.
func show(text []byte) string {
	if len(text) > maxShown {
		return strconv.QuoteToASCII(string(text[:maxShown])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// oneOf lists choices, for "expected one of".
func oneOf(choices []string) string { return strings.Join(choices, ", ") }
