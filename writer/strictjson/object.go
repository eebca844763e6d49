package strictjson

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Members calls found with each name, in quotes, and value of an object in
// normal form, and with the offset of the value in it.
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

// stringEnd returns the end of the string at text[at], which is known to be one.
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

// valueEnd returns the end of the value at text[at], in normal form.
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

// Altered reports in what a JSON text differs in meaning from its normal form:
// readers disagree about such a text, or reject it. It is empty if the two mean
// the same.
func Altered(text []byte, normal Value) (why string) {
	if bytes.Equal(text, normal) {
		return ""
	}
	if !utf8.Valid(text) {
		return "invalid UTF-8"
	}
	names, lone := shape(text)
	if lone {
		return "a lone surrogate"
	}
	kept, _ := shape(normal)
	if kept != names {
		return "a name that occurs twice in an object"
	}
	return ""
}

// shape counts the names in a JSON text, and reports whether it has an escaped
// surrogate without its partner.
func shape(text []byte) (names int, lone bool) {
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

// escapeSize returns the size of the escape that text begins with; a pair of
// surrogates counts as one. ok is false for a lone surrogate.
func escapeSize(text []byte) (size int, ok bool) {
	const unitSize = len(`\u0000`)
	first, isUnit := unit(text)
	if !isUnit || !utf16.IsSurrogate(first) {
		return 2, true // the digits of \u0041 need no special care
	}
	second, isUnit := unit(text[unitSize:])
	if isUnit && utf16.DecodeRune(first, second) != utf8.RuneError {
		return 2 * unitSize, true
	}
	return unitSize, false
}

// unit returns the UTF-16 code unit of an escape that text begins with.
func unit(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(n), err == nil
}
