package directive

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// A word is one NAME=value of a KEY=value line.
type word struct {
	at      int    // offset of the name in the line
	name    []byte // as written, e.g. "STATE" or "DETAILS.port"; a sub-slice of the line
	json    bool   // written with := instead of =
	valueAt int    // offset of the value
	value   []byte // unquoted; may hold invalid UTF-8; valid until the owner resets buf
}

// words reads the words of a KEY=value line. Words are separated by spaces and
// tabs; a name is bare; a value is what a shell word is,
//
//	bare  \x  '…'  "…"  $'…'
//
// and any sequence of these, but nothing is ever expanded: the line comes from
// whoever holds the pipe, and this program runs as root. So $HOME, `id`, * and
// ~ are themselves, as are the ; | & < > ( ) # that would end a shell's word.
//
// The zero value with line set is ready. A value that needs no unquoting is a
// sub-slice of line, any other lies in buf. When buf grows, earlier values keep
// the old memory, which is not written again.
type words struct {
	line []byte // one line, without its newline
	pos  int    // what is before it has been read
	buf  []byte // unquoted values; the owner cuts it to [:0] between lines
}

const blanks = " \t"

// What a byte ends.
const (
	endsName  = 1 << iota // the bare bytes of a name
	endsValue             // a run of bare bytes in a value
)

var ends = [256]byte{
	' ': endsName | endsValue, '\t': endsName | endsValue,
	'\'': endsName | endsValue, '"': endsName | endsValue, '\\': endsName | endsValue,
	'=': endsName, '$': endsValue,
}

// next reads the next word into wd; ok is false at the end of the line. After an
// error the rest of the line has no meaning.
func (w *words) next(wd *word) (ok bool, r *Error) {
	for w.pos < len(w.line) && isBlank(w.line[w.pos]) {
		w.pos++
	}
	if w.pos == len(w.line) {
		return false, nil
	}
	wd.at = w.pos
	wd.name, wd.json, r = w.name()
	if r != nil {
		return false, r
	}
	wd.valueAt = w.pos
	wd.value, r = w.value()
	return r == nil, r
}

// name reads up to and including the = or :=.
func (w *words) name() (name []byte, json bool, r *Error) {
	rest := w.line[w.pos:]
	n := find(rest, endsName)
	if n == len(rest) || rest[n] != '=' {
		return nil, false, w.noName()
	}
	name, json = bytes.CutSuffix(rest[:n], []byte(":"))
	if len(name) == 0 {
		return nil, false, w.noName()
	}
	w.pos += n + 1
	return name, json, nil
}

// noName rejects the text at the cursor. After a value that ended without a
// quote it is usually the rest of that value.
func (w *words) noName() *Error {
	before := bytes.TrimRight(w.line[:w.pos], blanks)
	if len(before) == 0 || strings.IndexByte(`'"`, before[len(before)-1]) >= 0 {
		return Errorf(w.pos, "expected KEY=value")
	}
	return Errorf(w.pos, "expected KEY=value; a value with spaces needs quotes, as in KEY='two words'")
}

func (w *words) value() ([]byte, *Error) {
	if value, ok := w.onePiece(); ok {
		return value, nil
	}
	from := len(w.buf)
	for !wordEnds(w.line[w.pos:]) {
		if r := w.piece(); r != nil {
			return nil, r
		}
	}
	return w.buf[from:len(w.buf):len(w.buf)], nil
}

// onePiece reads a value that is bare, or entirely in single quotes, and so is a
// part of the line.
func (w *words) onePiece() (value []byte, ok bool) {
	rest := w.line[w.pos:]
	from, to := 0, find(rest, endsValue)
	next := to
	if to == 0 && len(rest) > 0 && rest[0] == '\'' {
		from, to = 1, 1+bytes.IndexByte(rest[1:], '\'')
		next = to + 1
	}
	if from > to || !wordEnds(rest[next:]) {
		return nil, false
	}
	w.pos += next
	return rest[from:to:to], true
}

// find returns the offset of the first byte of text that ends what, or its
// length. Most words are short, and a processor predicts the end of a loop over their
// bytes badly; therefore it compares eight bytes at a time.
func find(text []byte, what byte) (n int) {
	for n+8 <= len(text) {
		marked := mayEnd(binary.LittleEndian.Uint64(text[n:]))
		if marked == 0 {
			n += 8
			continue
		}
		n += bits.TrailingZeros64(marked) / 8
		if ends[text[n]]&what != 0 {
			return n
		}
		n++
	}
	for n < len(text) && ends[text[n]]&what == 0 {
		n++
	}
	return n
}

// mayEnd marks, by its top bit, the first byte of eight that may end something:
// one that is = or a backslash, or at most the quote, which is the last of the
// others. Marks above the first may be wrong.
func mayEnd(eight uint64) uint64 {
	const ones = 0x0101010101010101
	low, equals, backslash := eight-ones*('\''+1), (eight^ones*'=')-ones, (eight^ones*'\\')-ones
	return (low | equals | backslash) &^ eight & (ones << 7)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func wordEnds(rest []byte) bool { return len(rest) == 0 || isBlank(rest[0]) }

// piece unquotes one part of a value into buf.
func (w *words) piece() *Error {
	rest := w.line[w.pos:]
	switch {
	case rest[0] == '\'':
		return w.single()
	case rest[0] == '"':
		return w.double()
	case rest[0] == '\\':
		return w.escaped()
	case rest[0] == '$' && len(rest) > 1 && rest[1] == '\'':
		return w.ansi()
	}
	n := 1 + find(rest[1:], endsValue) // the first byte may be a $ that quotes nothing
	w.buf = append(w.buf, rest[:n]...)
	w.pos += n
	return nil
}

func (w *words) escaped() *Error {
	if w.pos+1 == len(w.line) {
		return Errorf(w.pos, "expected a character after the backslash")
	}
	w.buf = append(w.buf, w.line[w.pos+1])
	w.pos += 2
	return nil
}

func (w *words) single() *Error {
	text, r := w.quoted(false)
	w.buf = append(w.buf, text...)
	return r
}

// double unquotes "…", where POSIX (XCU 2.2.3) has a backslash quote only
// $ ` " and \, and stand for itself before any other byte.
func (w *words) double() *Error {
	text, r := w.quoted(true)
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && strings.IndexByte("$`\"\\", text[i+1]) >= 0 {
			i++
		}
		w.buf = append(w.buf, text[i])
	}
	return r
}

// ansi unquotes $'…'. A NUL is rejected: bash's strings end at one, so that it
// drops all from there to the closing quote (a value $'a\0b'c is ac), and
// neither that nor a NUL in the artifacts is what the caller can have meant.
func (w *words) ansi() *Error {
	w.pos++ // the $
	from := w.pos + 1
	text, r := w.quoted(true)
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			w.buf = append(w.buf, text[i])
			i++
			continue
		}
		var n int
		w.buf, n = appendEscape(w.buf, text[i+1:])
		if w.buf[len(w.buf)-1] == 0 {
			return Errorf(from+i, "expected an escape other than NUL, at which bash would silently cut the value")
		}
		i += 1 + n
	}
	return r
}

// quoted returns what is between the quote at the cursor and the one that closes
// it, and moves after that. With escapes a byte after a backslash closes
// nothing, so that a backslash is never the last of the text.
func (w *words) quoted(escapes bool) ([]byte, *Error) {
	rest := w.line[w.pos:]
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == rest[0]:
			w.pos += i + 1
			return rest[1:i], nil
		case escapes && rest[i] == '\\':
			i++
		}
	}
	return nil, Errorf(w.pos, "expected a closing %c", rest[0])
}

// appendEscape appends what an escape in $'…' stands for, given the text after
// its backslash, and returns how much of text it takes.
//
// The escapes are those of bash's manual (QUOTING). What the manual leaves open
// is as bash 5.2 does it: a number is cut to its low byte, \x{ needs neither
// digits nor }, \c\\ takes both backslashes, and a backslash before anything
// else is just that. Of \u and \U only the sense is kept: in the C locale bash
// leaves é as text, and it encodes surrogates and numbers beyond U+10FFFF, which
// no strict reader takes; here the locale is always UTF-8 and they are U+FFFD.
func appendEscape(buf, text []byte) (_ []byte, n int) {
	var v uint32
	switch text[0] {
	case 'u':
		v, n = number(text[1:], 16, 4)
	case 'U':
		v, n = number(text[1:], 16, 8)
	default:
		if b, n := escapedByte(text); n > 0 {
			return append(buf, b), n
		}
	}
	if n > 0 {
		return utf8.AppendRune(buf, rune(v)), 1 + n
	}
	return append(buf, '\\'), 0
}

// The escapes that are one letter, and the bytes they stand for, in one order.
const (
	escapeNames = `abeEfnrtv\'"?`
	escapeBytes = "\a\b\x1b\x1b\f\n\r\t\v\\'\"?"
)

// escapedByte decodes the escapes that stand for one byte; n is 0 for all others.
func escapedByte(text []byte) (b byte, n int) {
	c, rest := text[0], text[1:]
	if i := strings.IndexByte(escapeNames, c); i >= 0 {
		return escapeBytes[i], 1
	}
	switch {
	case '0' <= c && c <= '7':
		v, n := number(text, 8, 3)
		return byte(v), n
	case c == 'x':
		return hexByte(rest)
	case c == 'c' && len(rest) > 0:
		return control(rest)
	}
	return 0, 0
}

// hexByte decodes what is after \x, and counts the x.
func hexByte(text []byte) (b byte, n int) {
	digits, braced := bytes.CutPrefix(text, []byte("{"))
	if braced {
		v, n := number(digits, 16, len(digits))
		if n < len(digits) && digits[n] == '}' {
			n++
		}
		return byte(v), 2 + n
	}
	v, n := number(digits, 16, 2)
	if n == 0 {
		return 0, 0
	}
	return byte(v), 1 + n
}

// control decodes what is after \c, and counts the c. A letter's low five bits
// are its control character in either case; DEL is the exception.
func control(text []byte) (b byte, n int) {
	switch {
	case text[0] == '?':
		return 0x7f, 2
	case bytes.HasPrefix(text, []byte(`\\`)):
		return '\\' & 0x1f, 3
	}
	return text[0] & 0x1f, 2
}

// number reads at most max digits. It may overflow, as only \x{…} has so many
// and of that only the low byte counts.
func number(text []byte, base uint32, max int) (v uint32, n int) {
	for n < len(text) && n < max {
		d := digit(text[n])
		if d >= base {
			break
		}
		v = v*base + d
		n++
	}
	return v, n
}

// digit returns the value of a hex digit, and something greater for other bytes.
func digit(c byte) uint32 {
	switch {
	case '0' <= c && c <= '9':
		return uint32(c - '0')
	case 'a' <= c && c <= 'f':
		return uint32(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return uint32(c-'A') + 10
	}
	return 16
}
