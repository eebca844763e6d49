package directive

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// A pair is one NAME=value of a KEY=value line.
type pair struct {
	at      int    // offset of the name in the line
	name    []byte // as written, e.g. "STATE" or "DETAILS.port"; a part of the line
	json    bool   // written with := instead of =
	valueAt int    // offset of the value
	value   []byte // unquoted; may contain invalid UTF-8; valid until the owner resets buf
}

// A pairReader reads the pairs of a KEY=value line. Spaces and tabs separate
// them. A name has no quotes. A value is quoted like a word of a shell: it is any
// sequence of
//
//	bare  \x  '…'  "…"  $'…'
//
// Nothing is ever expanded, because any process that can open the pipe can write
// a line, and this program runs as root. So $HOME, `id`, * and ~ are plain text,
// and so are ; | & < > ( ) and #, which would end a word in a shell.
//
// The zero value with line set is ready to use. A value that needs no unquoting
// is a part of line; any other is in buf. When buf grows, earlier values keep the
// old memory, which is not written again.
type pairReader struct {
	line []byte // one line, without its newline
	pos  int    // everything before this offset has been read
	buf  []byte // unquoted values; the owner cuts it to [:0] between lines

	joined int // offset of the first directive inside a bare value; 0 if there is none
}

const blanks = " \t"

// The bits in the table ends.
const (
	endsName  = 1 << iota // the byte terminates a name
	endsValue             // the byte terminates a run of bare bytes in a value
)

// ends has the bits of each byte. A = in a value is plain text. It terminates a run of bare
// bytes only so that noteJoined costs nothing for a value that has none.
var ends = [256]byte{
	' ': endsName | endsValue, '\t': endsName | endsValue,
	'\'': endsName | endsValue, '"': endsName | endsValue, '\\': endsName | endsValue,
	'=': endsName | endsValue, '$': endsValue,
}

// next reads the next pair into p; ok is false at the end of the line. After an
// error, next must not be called again for the same line.
func (w *pairReader) next(p *pair) (ok bool, r *Error) {
	line, at := w.line, w.pos
	for at < len(line) && isBlank(line[at]) {
		at++
	}
	if at == len(line) {
		return false, nil
	}
	equals := find(line, at, endsName)
	if equals == at || equals == len(line) || line[equals] != '=' {
		return false, notPair(line, at)
	}
	p.at, p.name, p.json, p.valueAt = at, line[at:equals], line[equals-1] == ':', equals+1
	if p.json {
		p.name = line[at : equals-1]
		if len(p.name) == 0 {
			return false, notPair(line, at)
		}
	}
	w.pos = p.valueAt
	p.value, r = w.value()
	return r == nil, r
}

// value reads and unquotes a value. A value that is bare or entirely in single quotes is a
// part of the line and needs no copy.
func (w *pairReader) value() ([]byte, *Error) {
	line, start := w.line, w.pos
	end := find(line, start, endsValue)
	next := end
	if start == end && start < len(line) && line[start] == '\'' {
		start++
		end = start + bytes.IndexByte(line[start:], '\'')
		next = end + 1
	}
	if start <= end && (next == len(line) || isBlank(line[next])) {
		w.pos = next
		return line[start:end:end], nil
	}
	from := len(w.buf)
	for w.pos < len(line) && !isBlank(line[w.pos]) {
		r := w.piece()
		if r != nil {
			return nil, r
		}
	}
	return w.buf[from:len(w.buf):len(w.buf)], nil
}

// find returns the offset of the first byte from text[at] on that has the bit what (endsName or
// endsValue) in ends; the length of text if there is none. It compares eight bytes at a time: most
// names and values are short, and a processor predicts the end of a loop over single bytes
// badly.
func find(text []byte, at int, what byte) int {
	rest := text[at:]
	for len(rest) >= 8 {
		marked := mayEnd(binary.LittleEndian.Uint64(rest))
		if marked == 0 {
			rest = rest[8:]
			continue
		}
		n := bits.TrailingZeros64(marked) / 8
		if ends[rest[n]]&what != 0 {
			return len(text) - len(rest) + n
		}
		rest = rest[n+1:]
	}
	for i, c := range rest {
		if ends[c]&what != 0 {
			return len(text) - len(rest) + i
		}
	}
	return len(text)
}

// mayEnd finds the first of eight bytes that may terminate something: a =, a backslash, or any
// byte that is not above the single quote. The other bytes of the table are not above it. It
// sets the top bit of that byte in its result. The bits of higher bytes may be wrong.
func mayEnd(eight uint64) uint64 {
	const ones = 0x0101010101010101
	low, equals, backslash := eight-ones*('\''+1), (eight^ones*'=')-ones, (eight^ones*'\\')-ones
	return (low | equals | backslash) &^ eight & (ones << 7)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// piece unquotes one piece of a value into buf.
func (w *pairReader) piece() *Error {
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
	if rest[0] == '=' {
		w.noteJoined()
	}
	n := find(rest, 1, endsValue) // the first byte may be a = or a $ that quotes nothing
	w.buf = append(w.buf, rest[:n]...)
	w.pos += n
	if rest[n-1] == '{' && n < len(rest) && rest[n] == '"' {
		w.noteJoinedJSON()
	}
	return nil
}

func (w *pairReader) escaped() *Error {
	if w.pos+1 == len(w.line) {
		return Errorf(w.pos, "a backslash at the end of the line; a directive cannot continue on the next line")
	}
	w.buf = append(w.buf, w.line[w.pos+1])
	w.pos += 2
	return nil
}

func (w *pairReader) single() *Error {
	text, r := w.quoted(false)
	w.buf = append(w.buf, text...)
	return r
}

// double unquotes "…". As in POSIX (XCU 2.2.3), a backslash quotes only $ ` " and
// \ there, and is plain text before any other byte.
func (w *pairReader) double() *Error {
	text, r := w.quoted(true)
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && strings.IndexByte("$`\"\\", text[i+1]) >= 0 {
			i++
		}
		w.buf = append(w.buf, text[i])
	}
	return r
}

// ansi unquotes $'…'. It rejects an escape for NUL. Bash drops the text from that escape
// to the closing quote ($'a\0b'c is ac), which no caller intends, and a NUL in the
// artifacts would be as bad.
func (w *pairReader) ansi() *Error {
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
			return Errorf(from+i, "this escape is a NUL byte, at which bash cuts the value; remove it")
		}
		i += 1 + n
	}
	return r
}

// quoted returns the text between the quote at pos and the one that closes it,
// and moves pos after that. With escapes, the byte after a backslash does not
// close the text, so the text never ends in a lone backslash.
func (w *pairReader) quoted(escapes bool) ([]byte, *Error) {
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
	if rest[0] == '\'' && !escapes {
		return nil, Errorf(w.pos, `no closing ' on this line; write an apostrophe in double quotes, as in "it's"`)
	}
	return nil, Errorf(w.pos, "no closing %c on this line; a value cannot continue on the next line", rest[0])
}

// appendEscape appends the value of an escape in $'…', given the text after its
// backslash, and returns how many bytes of text belong to the escape.
//
// The escapes are those of bash's manual (QUOTING). Where the manual leaves the
// result open, it is that of bash 5.2: a number is cut to its low byte, \x{ needs
// neither digits nor }, \c\\ includes both backslashes, and a backslash before
// anything else is plain text.
//
// \u and \U differ from bash. In the C locale bash leaves an escape for a character
// beyond ASCII as text; here it always becomes UTF-8. Bash also encodes surrogates and
// numbers beyond U+10FFFF, which no strict reader accepts; here they become U+FFFD.
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

// The escapes of one character, and their bytes in the same order.
const (
	escapeNames = `abeEfnrtv\'"?`
	escapeBytes = "\a\b\x1b\x1b\f\n\r\t\v\\'\"?"
)

// escapedByte decodes an escape of one byte; n is 0 for all others.
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

// hexByte decodes the text after \x; n includes the x.
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

// control decodes the text after \c; n includes the c. The low five bits of a
// letter, of either case, are its control character. \c? is DEL.
func control(text []byte) (b byte, n int) {
	switch {
	case text[0] == '?':
		return 0x7f, 2
	case bytes.HasPrefix(text, []byte(`\\`)):
		return '\\' & 0x1f, 3
	}
	return text[0] & 0x1f, 2
}

// number reads at most max digits. It may overflow: only \x{…} can have so many,
// and only their low byte is used.
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

// digit returns the value of a hex digit, and 16 for any other byte.
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
