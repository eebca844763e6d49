// Package strictjson puts JSON into a normal form that even the strictest reader
// accepts.
//
// JSON readers agree on the grammar (RFC 8259), but differ in many details.
// serde_json and Go reject a number outside the range of a double, but Python and
// JavaScript read it as infinity. serde_json rejects a lone surrogate, Go
// replaces it and Python keeps it. If an object has two members of the same name,
// some readers report an error, and others use the first or the last value.
// Therefore a program must not copy JSON from its input to its output unchanged.
// This package either rejects a value, with an offset and an explanation, or
// writes it in a normal form that all these readers read in the same way:
//
//   - There is no white space outside strings.
//   - Strings are valid UTF-8. Two groups of characters are escaped: those that
//     RFC 8259 section 7 requires, which are the quote, the backslash and the
//     characters below U+0020; and U+0085, U+2028 and U+2029, at which some
//     readers end a line. Each byte of the input that is not valid UTF-8, and each
//     lone surrogate, becomes U+FFFD. The package rejects a control character that
//     is not escaped, because it is not JSON.
//   - Numbers keep all their digits as written. The package rejects a number
//     outside the range of an IEEE 754 double, but accepts one that underflows.
//   - If a member name is repeated, the first position and the last value are
//     kept, as in JavaScript and Python. Names are compared in normal form, so a
//     and \u0061 are the same name.
//   - Arrays and objects nest at most MaxDepth levels deep.
//   - NaN, Infinity and -Infinity never occur. They become null if
//     Normaliser.NonFinite is set.
//
// The normal form of a text in normal form is the text itself.
//
// The input may be hostile. For every input of n bytes, the time is at most
// O(n log n), and the memory is O(n). Besides its text, each member of a large
// object takes 16 bytes of temporary memory.
package strictjson

import (
	"cmp"
	"strconv"
)

// MaxDepth is how many levels deep arrays and objects may nest; [] is one level.
// serde_json has the lowest limit of all readers, 128 levels. MaxDepth is half of
// that, because the value is inside an artifact, which other programs may put
// into further objects.
const MaxDepth = 64

// MaxText is the maximum size of a text in bytes. Its normal form is at most three times
// as large, so all offsets fit into 32 bits.
const MaxText = 1 << 30

// A Value is one JSON value in normal form. Only this package creates values.
type Value []byte

// Text returns the text of a string, with its escapes decoded. ok is false if the
// value is not a string.
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

// An Error reports where and why a text was rejected. Every error of this package
// is an *Error.
type Error struct {
	Offset int    // of the first byte that is wrong, from the start of src
	Why    string // begins with "expected", such as "expected a colon"
}

func (e *Error) Error() string {
	return "offset " + strconv.Itoa(e.Offset) + ": " + e.Why
}

// errorAt returns an error and not an *Error, so that a caller cannot convert a
// nil *Error to an error that is not nil.
func errorAt(at int, why string) error { return &Error{Offset: at, Why: why} }

// A Normaliser puts values into normal form. The zero Normaliser is ready to use.
// It keeps the memory that it needs for objects, so a Normaliser that is used
// again rarely allocates. It is not safe for concurrent use.
//
// Most values are in normal form already. Therefore a Normaliser copies text only
// when it reaches a byte that it has to change or remove: it then copies all text
// before that byte at once.
type Normaliser struct {
	// Depth is how many levels deep the arrays and objects of a value may nest;
	// 0 means MaxDepth. A caller that puts the value into another one sets it lower.
	// A reader of a whole artifact, which contains details of up to MaxDepth levels,
	// sets it higher.
	Depth int

	// NonFinite makes NaN, Infinity and -Infinity valid: their normal form is null, as
	// JSON.stringify of JavaScript writes these numbers. Python's json.dumps writes
	// the words. Without NonFinite they are errors, because they are not JSON.
	NonFinite bool

	// While the offset at in src is being read, the normal form of the text
	// before it is dst followed by src[from:at].
	dst     []byte
	from    int
	members []member // the members read so far of all unfinished objects, innermost object last
}

// Append appends the normal form of the value that starts at src[at] to dst. It
// returns the extended dst and the offset after the value. src[at] must not be
// white space. Append does not check the text after the value: of 01 it reads the
// 0. Levels of nesting are counted from this value. If Append returns an error,
// out equals dst. dst and src must not overlap.
func (n *Normaliser) Append(dst, src []byte, at int) (out []byte, next int, err error) {
	next, err = n.read(dst, src, at)
	if err != nil {
		return dst, at, err
	}
	n.flush(src, next)
	return n.dst, next, nil
}

// Value returns the normal form of the value that starts at src[at], as Append
// does. If the value is in normal form already, Value returns a part of src.
// Otherwise it writes the value to buf, which grows as needed.
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

// Normalise appends the normal form of src to dst. src is one value, optionally
// with white space before and after it.
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

// maxKept is the number of members for which Trim keeps memory: more than nearly all
// objects have.
const maxKept = 1024

// Trim drops the memory that large objects have needed, and the last buffer that was
// passed to Append or Value.
func (n *Normaliser) Trim() {
	n.dst = nil
	if cap(n.members) > maxKept {
		n.members = nil
	}
}

// read reads the value at src[at]. Its normal form is then n.dst, which begins
// with dst, followed by src[n.from:next].
func (n *Normaliser) read(dst, src []byte, at int) (next int, err error) {
	if len(dst)+3*len(src) > 3*MaxText {
		return at, errorAt(at, "expected at most 1 GiB of text")
	}
	n.dst, n.from, n.members = dst, at, n.members[:0]
	depth := cmp.Or(n.Depth, MaxDepth)
	next, ok := plainObject(src, at, depth-1)
	if ok {
		return next, nil
	}
	return n.readValue(src, at, depth)
}

// flush copies the text before the offset to from src to dst.
func (n *Normaliser) flush(src []byte, to int) {
	n.dst = append(n.dst, src[n.from:to]...)
	n.from = to
}

// pos returns the offset in the normal form that corresponds to src[at], the byte
// that is being read.
func (n *Normaliser) pos(at int) int { return len(n.dst) + at - n.from }

// SkipSpace returns the offset of the first byte from src[at] on that is not white
// space; len(src) if there is none. JSON has four white space characters (RFC 8259
// section 2); a byte order mark is not one of them.
func SkipSpace(src []byte, at int) int {
	for at < len(src) && src[at] <= ' ' && (src[at] == ' ' || src[at] == '\n' || src[at] == '\r' || src[at] == '\t') {
		at++
	}
	return at
}
