package strictjson

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Members calls found for each member of an object in normal form. name includes
// its quotes, and at is the offset of value in object.
func Members(object Value, found func(name, value Value, at int)) {
	for at := 1; object[at] != '}'; {
		nameEnd := stringEnd(object, at)
		start := nameEnd + 1 // after the colon
		end := valueEnd(object, start)
		found(object[at:nameEnd], object[start:end:end], start)
		at = end
		if object[at] == ',' {
			at++
		}
	}
}

// stringEnd returns the offset after the string at text[at], which must be valid.
func stringEnd(text []byte, at int) int {
	for at++; ; at++ {
		at += bytes.IndexByte(text[at:], '"')
		escapes := 0
		for text[at-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return at + 1
		}
	}
}

// valueEnd returns the offset after the value at text[at], which must be in normal
// form and in an object.
func valueEnd(text []byte, at int) int {
	for depth := 0; ; {
		switch text[at] {
		case '"':
			at = stringEnd(text, at)
			if depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at
			}
			depth--
			if depth == 0 {
				return at + 1
			}
		case ',':
			if depth == 0 {
				return at
			}
		}
		at++
	}
}

// Altered returns the reason why a JSON text and its normal form differ in
// meaning: "invalid UTF-8", "a lone surrogate" or "a name that occurs twice in an
// object". Some readers reject such a text or read other values. Altered returns
// "" if both have the same meaning.
func Altered(text []byte, normal Value) (why string) {
	if bytes.Equal(text, normal) {
		return ""
	}
	if !utf8.Valid(text) {
		return "invalid UTF-8"
	}
	names, lone := countNames(text)
	if lone {
		return "a lone surrogate"
	}
	kept, _ := countNames(normal)
	if kept != names {
		return "a name that occurs twice in an object"
	}
	return ""
}

// countNames counts the member names in a JSON text. lone reports whether the text
// contains an escaped surrogate that is not part of a pair.
func countNames(text []byte) (names int, lone bool) {
	inside := false
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case c == '"':
			inside = !inside
		case c == ':' && !inside:
			names++
		case c == '\\':
			size, paired := escapeSize(text[at:])
			at += size - 1
			lone = lone || !paired
		}
	}
	return names, lone
}

// escapeSize returns how many bytes of the escape at the start of text its caller
// must skip: two, or all of a surrogate or a pair of them. ok is false for a lone
// surrogate.
func escapeSize(text []byte) (size int, ok bool) {
	const unitSize = len(`\u0000`)
	first, isUnit := unit(text)
	if !isUnit || !utf16.IsSurrogate(first) {
		return 2, true // the digits of \u0041 contain neither quote, colon nor backslash
	}
	second, isUnit := unit(text[unitSize:])
	if isUnit && utf16.DecodeRune(first, second) != utf8.RuneError {
		return 2 * unitSize, true
	}
	return unitSize, false
}

// unit returns the UTF-16 code unit of the \u escape at the start of text. ok is
// false if text does not start with one.
func unit(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(n), err == nil
}
