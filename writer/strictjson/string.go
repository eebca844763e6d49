package strictjson

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads the string at src[at].
func (n *Normaliser) text(src []byte, at int) (next int, err error) {
	at = plainEnd(src, at+1)
	if hasByte(src, at, '"') {
		return at + 1, nil
	}
	return n.mixed(src, at)
}

// mixed reads a string on from src[at], which is not plain.
func (n *Normaliser) mixed(src []byte, at int) (next int, err error) {
	for ; ; at = plainEnd(src, at) {
		switch {
		case at == len(src):
			return at, errorAt(at, "expected a closing quote")
		case src[at] == '"':
			return at + 1, nil
		case src[at] == '\\':
			n.flush(src, at)
			var r rune
			r, at, err = escaped(src, at)
			if err != nil {
				return at, err
			}
			n.dst, n.from = appendChar(n.dst, r), at
		case src[at] < ' ':
			return at, errorAt(at, "expected a control character to be escaped")
		default:
			at = n.character(src, at)
		}
	}
}

// character reads the character at src[at], which is not ASCII. A byte that
// begins none becomes U+FFFD: one for each byte, as Go's decoder counts; Unicode
// 16 section 3.9 allows that and asks for no count.
func (n *Normaliser) character(src []byte, at int) (next int) {
	if r, size := utf8.DecodeRune(src[at:]); r != utf8.RuneError || size > 1 {
		return at + size
	}
	n.flush(src, at)
	n.dst, n.from = utf8.AppendRune(n.dst, utf8.RuneError), at+1
	return at + 1
}

// AppendText appends text as a JSON string.
func AppendText[T ~string | ~[]byte](dst []byte, text T) []byte {
	return appendText(dst, []byte(text))
}

func appendText(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for at := plainEnd(text, 0); at < len(text); at = plainEnd(text, at) {
		if text[at] < utf8.RuneSelf {
			dst = appendChar(append(dst, text[from:at]...), rune(text[at]))
			at++
			from = at
			continue
		}
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			dst = utf8.AppendRune(append(dst, text[from:at]...), r)
			from = at + 1
		}
		at += size
	}
	return append(append(dst, text[from:]...), '"')
}

// plainEnd returns the offset of the first byte at or after at that is not plain
// ASCII, where plain means that a JSON string holds it as it is.
func plainEnd(src []byte, at int) int {
	for ; at+8 <= len(src); at += 8 {
		if odd := notPlain(binary.LittleEndian.Uint64(src[at:])); odd != 0 {
			return at + bits.TrailingZeros64(odd)/8
		}
	}
	for at < len(src) && isPlain(src[at]) {
		at++
	}
	return at
}

func isPlain(c byte) bool { return ' ' <= c && c < utf8.RuneSelf && c != '"' && c != '\\' }

const ones = 0x0101010101010101 // a byte times ones is that byte eight times

// notPlain is isPlain for eight bytes: it marks, by its top bit, the first that is a
// quote, a backslash, below ' ' or not ASCII; marks above the first may be wrong. Taking
// one from a zero byte, or ' ' from a smaller one, borrows into that top bit,
// and on into the bytes above. What is not ASCII has its top bit still in one of
// the three.
func notPlain(eight uint64) uint64 {
	quote, backslash := eight^ones*'"', eight^ones*'\\'
	return ((eight - ones*' ') | (quote - ones) | (backslash - ones)) & (ones << 7)
}

// appendUnescaped appends the character that the escape whose backslash is
// src[at] stands for.
func appendUnescaped(dst, src []byte, at int) ([]byte, int, error) {
	r, next, err := escaped(src, at)
	if err != nil {
		return dst, at, err
	}
	return utf8.AppendRune(dst, r), next, nil
}

// appendChar appends one character of a string.
func appendChar(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r >= ' ':
		return utf8.AppendRune(dst, r)
	case shorts[r] != 'u':
		return append(dst, '\\', shorts[r])
	}
	return append(dst, '\\', 'u', '0', '0', '0'+byte(r>>4), "0123456789abcdef"[r&15])
}

// shorts has, for each control character, the letter that escapes it.
const shorts = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu"

// escaped returns the character that the escape at src[at] stands for.
func escaped(src []byte, at int) (r rune, next int, err error) {
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
		return escapedUnit(src, at+1)
	}
	return 0, at, errorAt(at, expectedEscape)
}

const expectedEscape = `expected one of "\/bfnrtu after the backslash`

// escapedUnit returns the character whose four hex digits start at src[at]; of a
// pair of surrogates the second escape is taken with the first. A surrogate that
// has no partner is U+FFFD, and what follows it is left to speak for itself.
func escapedUnit(src []byte, at int) (r rune, next int, err error) {
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
