package strictjson

import "bytes"

// This file has the fast path of a Normaliser. Nearly all details are plain objects: they
// are in normal form already, and simple enough to be checked without a Normaliser.
//
// A plain value is a plain string (see PlainString), a number for which scanNumber shows that
// it is in range, true, false, null, or an array or object of plain values. A plain object has
// at most maxPlain members, whose names are plain and different. A plain value has no white
// space outside strings. The Normaliser handles any other value, valid or not.

// maxPlain is how many members a plain object may have. It is lower than fewMembers, because
// the names are on the stack, which each object has to clear.
const maxPlain = 8

// plainObject returns the offset after the object at src[at], in which arrays and objects may
// nest depth levels deep. ok is false if there is no object, or if it is not plain.
func plainObject(src []byte, at, depth int) (next int, ok bool) {
	if depth < 0 || !hasByte(src, at, '{') {
		return at, false
	}
	at++
	if hasByte(src, at, '}') {
		return at + 1, true
	}
	var names [maxPlain][]byte
	for i := range names {
		name, colon := PlainString(src, at)
		if name == nil || !hasByte(src, colon, ':') {
			return at, false
		}
		for _, earlier := range names[:i] {
			if bytes.Equal(name, earlier) {
				return at, false
			}
		}
		names[i] = name
		at, ok = plainValue(src, colon+1, depth)
		if !ok || !hasByte(src, at, ',') {
			return at + 1, ok && hasByte(src, at, '}')
		}
		at++
	}
	return at, false
}

// plainValue returns the offset after the value at src[at]. ok is false if there is no
// value, or if it is not plain.
func plainValue(src []byte, at, depth int) (next int, ok bool) {
	if at >= len(src) {
		return at, false
	}
	switch src[at] {
	case '"':
		return plainString(src, at)
	case '{':
		return plainObject(src, at, depth-1)
	case '[':
		return plainArray(src, at, depth-1)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		next, surelyInRange, err := scanNumber(src, at)
		return next, err == nil && surelyInRange
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(src[at:], []byte(word)) {
			return at + len(word), true
		}
	}
	return at, false
}

// plainArray is plainObject for the array at src[at]. There must be a [.
func plainArray(src []byte, at, depth int) (next int, ok bool) {
	at++
	if depth < 0 || hasByte(src, at, ']') {
		return at + 1, depth >= 0
	}
	for {
		at, ok = plainValue(src, at, depth)
		if !ok || !hasByte(src, at, ',') {
			return at + 1, ok && hasByte(src, at, ']')
		}
		at++
	}
}
