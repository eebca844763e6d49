package strictjson

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// PlainString returns the text of the string at src[at], and the offset after the string.
// text is nil, and next is at, if there is no string, or if it is not plain. A plain string has
// only ASCII characters and no escapes, and is in normal form.
func PlainString(src []byte, at int) (text []byte, next int) {
	next, ok := plainString(src, at)
	if !ok {
		return nil, at
	}
	return src[at+1 : next-1], next
}

// plainString returns the offset after the string at src[at]. ok is false if there is no
// string, or if it is not plain.
func plainString(src []byte, at int) (next int, ok bool) {
	if !hasByte(src, at, '"') {
		return at, false
	}
	end := plainEnd(src, at+1)
	return end + 1, hasByte(src, end, '"')
}

// IsPlain reports whether text is ASCII without a quote, a backslash or a character below
// ' ', so that it is a JSON string in normal form once it is in quotes.
func IsPlain(text []byte) bool { return plainEnd(text, 0) == len(text) }

// AppendPlain appends text, for which IsPlain is true, as a JSON string.
func AppendPlain(dst, text []byte) []byte {
	dst = append(append(dst, '"'), text...)
	return append(dst, '"')
}

// readString reads the string at src[at].
func (n *Normaliser) readString(src []byte, at int) (next int, err error) {
	at = plainEnd(src, at+1)
	if hasByte(src, at, '"') {
		return at + 1, nil
	}
	return n.readMixedString(src, at)
}

// readMixedString reads the rest of a string. src[at] is the first byte of the string
// that is not plain, see plainEnd.
func (n *Normaliser) readMixedString(src []byte, at int) (next int, err error) {
	for ; ; at = plainEnd(src, at) {
		switch {
		case at == len(src):
			return at, errorAt(at, "expected a closing quote")
		case src[at] == '"':
			return at + 1, nil
		case src[at] == '\\':
			r, next, err := decodeEscape(src, at)
			if err != nil {
				return next, err
			}
			var buf [maxChar]byte
			char := appendChar(buf[:0], r)
			if !bytes.Equal(char, src[at:next]) {
				n.flush(src, at)
				n.dst, n.from = append(n.dst, char...), next
			}
			at = next
		case src[at] < ' ':
			return at, errorAt(at, "expected a control character to be escaped")
		default:
			at = n.readNonASCII(src, at)
		}
	}
}

// readNonASCII reads the character at src[at], which is not ASCII. Each byte that
// is not part of a character becomes one U+FFFD, as in Go's decoder. Unicode 16,
// section 3.9, allows that but does not require a certain number.
func (n *Normaliser) readNonASCII(src []byte, at int) (next int) {
	r, size := utf8.DecodeRune(src[at:])
	if !isRaw(r, size) {
		n.flush(src, at)
		n.dst, n.from = appendChar(n.dst, r), at+size
	}
	return at + size
}

// isRaw reports whether a character that is not ASCII is copied to the normal form
// as it is. r and size are what utf8.DecodeRune returned.
func isRaw(r rune, size int) bool {
	return !isLineSeparator(r) && (r != utf8.RuneError || size > 1)
}

// isLineSeparator reports whether r is U+0085, U+2028 or U+2029. Some readers end a line
// there, and would read one line of a log as two: str.splitlines of Python at all three,
// and readline of Node.js at the last two. r is not ASCII.
func isLineSeparator(r rune) bool { return r == '\u0085' || r|1 == '\u2029' }

// AppendText appends text as a JSON string in normal form. It replaces each byte
// that is not valid UTF-8 by U+FFFD.
func AppendText[T ~string | ~[]byte](dst []byte, text T) []byte {
	return appendText(dst, []byte(text))
}

func appendText(dst, text []byte) []byte {
	if len(text) > longText {
		dst = slices.Grow(dst, textSize(text))
	}
	dst = append(dst, '"')
	at := plainEnd(text, 0)
	if at == len(text) {
		return append(append(dst, text...), '"')
	}
	from := 0
	for ; at < len(text); at = plainEnd(text, at) {
		if text[at] < utf8.RuneSelf {
			dst = appendChar(append(dst, text[from:at]...), rune(text[at]))
			at++
			from = at
			continue
		}
		r, size := utf8.DecodeRune(text[at:])
		if !isRaw(r, size) {
			dst = appendChar(append(dst, text[from:at]...), r)
			from = at + size
		}
		at += size
	}
	return append(append(dst, text[from:]...), '"')
}

// longText is the size in bytes from which appendText computes how much memory it needs.
// A buffer that grows step by step would need twice the memory for a moment, and a text
// becomes up to six times as long when its bytes are escaped.
const longText = 64 << 10

// textSize returns the size of a text as a JSON string in normal form.
func textSize(text []byte) (size int) {
	var char [maxChar]byte
	size = len(text) + len(`""`)
	for at := plainEnd(text, 0); at < len(text); at = plainEnd(text, at) {
		r, n := utf8.DecodeRune(text[at:])
		if r < utf8.RuneSelf || !isRaw(r, n) {
			size += len(appendChar(char[:0], r)) - n
		}
		at += n
	}
	return size
}

// plainEnd returns the offset of the first byte from src[at] on that is not plain.
// A byte is plain if it is ASCII and needs no escape in a JSON string.
func plainEnd(src []byte, at int) int {
	rest := src[at:]
	for len(rest) >= 8 {
		odd := notPlain(word(rest))
		if odd != 0 {
			return len(src) - len(rest) + bits.TrailingZeros64(odd)/8
		}
		rest = rest[8:]
		for len(rest) >= 16 && notPlain(word(rest))|notPlain(word(rest[8:])) == 0 {
			rest = rest[16:]
		}
	}
	for i, c := range rest {
		if !isPlain(c) {
			return len(src) - len(rest) + i
		}
	}
	return len(src)
}

func isPlain(c byte) bool { return ' ' <= c && c < utf8.RuneSelf && c != '"' && c != '\\' }

// word returns the first eight bytes of text as a number, the first byte lowest.
func word(text []byte) uint64 { return binary.LittleEndian.Uint64(text) }

const ones = 0x0101010101010101 // ones*b repeats the byte b eight times

// notPlain finds the first of eight bytes that is not plain: a quote, a backslash, a
// byte below ' ' or a byte that is not ASCII. It sets the top bit of that byte in its
// result. The bits of higher bytes may be wrong.
//
// The ^2 maps a quote to ' ', a space to a quote, and the bytes below ' ' to each other. So a
// quote and these bytes, and no other ASCII byte, become less than '!'. In the first
// difference they underflow, which sets the top bit. In the second difference only a zero
// underflows, which is a backslash. An underflow also changes the bytes above. A byte that is
// not ASCII keeps its top bit in at least one of the two differences.
func notPlain(eight uint64) uint64 {
	low, backslash := eight^ones*2, eight^ones*'\\'
	return ((low - ones*'!') | (backslash - ones)) & (ones << 7)
}

// appendUnescaped appends the character of the escape whose backslash is src[at].
func appendUnescaped(dst, src []byte, at int) ([]byte, int, error) {
	r, next, err := decodeEscape(src, at)
	if err != nil {
		return dst, at, err
	}
	return utf8.AppendRune(dst, r), next, nil
}

// maxChar is the largest number of bytes that appendChar appends.
const maxChar = len(`\u0000`)

// appendChar appends one character of a string, with an escape if it needs one.
func appendChar(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= ' ' && !isLineSeparator(r):
		return utf8.AppendRune(dst, r)
	case r < ' ' && shortEscapes[r] != 'u':
		return append(dst, '\\', shortEscapes[r])
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// shortEscapes has, for each control character, the letter of its escape: u for
// those that have only a \u escape.
const shortEscapes = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu"

// decodeEscape returns the character of the escape whose backslash is src[at].
func decodeEscape(src []byte, at int) (r rune, next int, err error) {
	at++
	if at >= len(src) {
		return 0, at, errorAt(at, expectedEscape)
	}
	switch c := src[at]; c {
	case '"', '\\', '/':
		return rune(c), at + 1, nil
	case 'b':
		return '\b', at + 1, nil
	case 'f':
		return '\f', at + 1, nil
	case 'n':
		return '\n', at + 1, nil
	case 'r':
		return '\r', at + 1, nil
	case 't':
		return '\t', at + 1, nil
	case 'u':
		return decodeUnicodeEscape(src, at+1)
	}
	return 0, at, errorAt(at, expectedEscape)
}

const expectedEscape = `expected one of "\/bfnrtu after the backslash`

// decodeUnicodeEscape returns the character of the \u escape whose four hex digits
// start at src[at]. If that is the first of a pair of surrogates, it reads the
// second escape too. It returns U+FFFD for a lone surrogate, and then reads nothing
// after it.
func decodeUnicodeEscape(src []byte, at int) (r rune, next int, err error) {
	r, err = hex4(src, at)
	if err != nil {
		return 0, at, err
	}
	next = at + 4
	if !utf16.IsSurrogate(r) {
		return r, next, nil
	}
	if hasByte(src, next, '\\') && hasByte(src, next+1, 'u') {
		low, err := hex4(src, next+2)
		if pair := utf16.DecodeRune(r, low); err == nil && pair != utf8.RuneError {
			return pair, next + 6, nil
		}
	}
	return utf8.RuneError, next, nil
}

func hex4(src []byte, at int) (r rune, err error) {
	for end := at + 4; at < end; at++ {
		digit := rune(-1)
		if at < len(src) {
			digit = hexDigit(src[at])
		}
		if digit < 0 {
			return 0, errorAt(at, `expected four hex digits after \u`)
		}
		r = r<<4 | digit
	}
	return r, nil
}

func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}
