// Package strictjson takes any JSON text and writes it so that it loads in the
// strictest reader.
//
// JSON readers agree on the grammar (RFC 8259) and on little else. serde_json
// and Go reject a number outside the range of a double, which Python and
// JavaScript make infinite; serde_json rejects a lone surrogate, which Go
// replaces and Python keeps; a repeated member name is an error for one reader,
// and others use the first or the last of its values. Readers disagree about
// such a text, or reject the whole file. Therefore nothing is passed through: a
// value is either rejected, with the offset and what was expected there, or
// appended in a normal form that all of these readers load alike.
//
//   - Outside strings there is no white space.
//   - Strings hold valid UTF-8, as raw as RFC 8259 section 7 allows: the quote,
//     the backslash and what is below U+0020 are escaped, nothing else is.
//     Every byte of the input that is not valid UTF-8, and every lone
//     surrogate, is U+FFFD. A raw control character is not JSON and is rejected.
//   - Numbers keep their digits as written, however many, inside the range of
//     an IEEE 754 double. One that underflows is accepted.
//   - A repeated member name keeps its first place and its last value, as in
//     JavaScript and Python. Names are compared in normal form, so a and \u0061
//     are one name.
//   - Arrays and objects nest at most MaxDepth deep.
//
// A text in normal form stays the same.
//
// Time is O(n log n) in the length of the text at worst and memory is linear,
// whatever the text: it may be hostile. A large object costs 32 bytes a member
// of scratch besides its text.
package strictjson

import (
	"cmp"
	"strconv"
)

// MaxDepth is how deep arrays and objects may nest; [] is one deep. The lowest
// limit of the readers is serde_json's: 128 levels, with the artifact around the
// value. Half of that leaves room for programs that wrap an artifact once more.
const MaxDepth = 64

// A Value is one JSON value in normal form. Only this package creates values.
type Value []byte

// Text returns the text of a string, and false for a value that is none.
func (v Value) Text() (text string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	var plain []byte
	from, at := 1, plainEnd(v, 1)
	for ; at < len(v) && v[at] != '"'; at = plainEnd(v, at) {
		if v[at] != '\\' {
			at++
			continue
		}
		plain = append(plain, v[from:at]...)
		var err error
		plain, at, err = appendUnescaped(plain, v, at)
		if err != nil {
			return "", false
		}
		from = at
	}
	if at != len(v)-1 {
		return "", false
	}
	return string(append(plain, v[from:at]...)), true
}

// An Error says where a text stops being acceptable. Every error of this
// package is an *Error.
type Error struct {
	Offset int    // of the first byte that does not fit, counted from the start of src
	Why    string // what was expected there
}

func (e *Error) Error() string {
	return "offset " + strconv.Itoa(e.Offset) + ": " + e.Why
}

// errorAt returns the interface and not *Error, so that no caller can hold a nil
// *Error in an error that is not nil.
func errorAt(at int, why string) error { return &Error{Offset: at, Why: why} }

// A Normaliser puts values in normal form. The zero value is ready; it owns the
// scratch that objects need, so that with a warm one nothing is allocated, and
// is for one goroutine at a time.
//
// Most values are in normal form already. So what has been read is not copied
// until something comes that must change; then all before it is copied at once.
type Normaliser struct {
	// Depth is how deep the arrays and objects of a value may nest; 0 is
	// MaxDepth. It is less for a value that goes inside others, and more only
	// for a text that has a value of MaxDepth inside.
	Depth int

	// What has been read is, in normal form, dst and then src[from:], where
	// src is the text and ends at the offset that is being read.
	dst     []byte
	from    int
	members []member // of the objects that are open, the innermost last
}

// Append appends the value that starts at src[at], which is its first byte and
// not white space, and returns the extended dst and the offset after the value.
// What follows the value is the caller's to judge: of 01 the 0 is taken. The
// depth of nesting is counted from this value. On an error out holds what dst
// held. dst and src must not overlap.
func (n *Normaliser) Append(dst, src []byte, at int) (out []byte, next int, err error) {
	next, err = n.read(dst, src, at)
	if err != nil {
		return dst, at, err
	}
	n.flush(src, next)
	return n.dst, next, nil
}

// Value is Append where the value is wanted by itself: it is part of src if it
// stands there in normal form, else it is put in buf, which grows as it must.
func (n *Normaliser) Value(buf *[]byte, src []byte, at int) (value Value, next int, err error) {
	next, err = n.read((*buf)[:0], src, at)
	if err != nil {
		return nil, at, err
	}
	if n.from == at && len(n.dst) == 0 {
		return src[at:next:next], next, nil
	}
	n.flush(src, next)
	*buf = n.dst
	return n.dst, next, nil
}

// Normalise is Append for a whole text: one value, and white space around it.
func (n *Normaliser) Normalise(dst, src []byte) ([]byte, error) {
	out, next, err := n.Append(dst, src, SkipSpace(src, 0))
	if err != nil {
		return dst, err
	}
	next = SkipSpace(src, next)
	if next < len(src) {
		return dst, errorAt(next, "expected nothing after the value")
	}
	return out, nil
}

// read reads the value at src[at], to come after dst, up to the offset next.
func (n *Normaliser) read(dst, src []byte, at int) (next int, err error) {
	n.dst, n.from, n.members = dst, at, n.members[:0]
	return n.value(src, at, cmp.Or(n.Depth, MaxDepth))
}

// flush copies what has been read, up to the offset to, to dst.
func (n *Normaliser) flush(src []byte, to int) {
	n.dst = append(n.dst, src[n.from:to]...)
	n.from = to
}

// pos returns where in the normal form src[at] stands, which is being read.
func (n *Normaliser) pos(at int) int { return len(n.dst) + at - n.from }

// SkipSpace returns the offset of the first byte at or after at that is not
// white space. JSON knows four (RFC 8259 section 2); a byte order mark is none.
func SkipSpace(src []byte, at int) int {
	for at < len(src) && (src[at] == ' ' || src[at] == '\n' || src[at] == '\r' || src[at] == '\t') {
		at++
	}
	return at
}
