package strictjson

import "bytes"

// hasByte reports whether src[at] is c; false if at is not an offset in src.
func hasByte(src []byte, at int, c byte) bool { return at < len(src) && src[at] == c }

// readValue reads the value at src[at], in which arrays and objects may nest depth
// levels deep. Like all read methods, it returns the offset after it.
func (n *Normaliser) readValue(src []byte, at, depth int) (next int, err error) {
	if at >= len(src) {
		return at, errorAt(at, expectedValue)
	}
	switch src[at] {
	case '"':
		return n.readString(src, at)
	case '{':
		return n.readObject(src, at, depth-1)
	case '[':
		return n.readArray(src, at, depth-1)
	case 't':
		return readWord(src, at, "true")
	case 'f':
		return readWord(src, at, "false")
	case 'n':
		return readWord(src, at, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		next, err = readNumber(src, at)
	default:
		err = errorAt(at, expectedValue)
	}
	if err != nil && n.NonFinite {
		if size := nonFinite(src[at:]); size > 0 {
			n.flush(src, at)
			n.dst, n.from = append(n.dst, "null"...), at+size
			return at + size, nil
		}
	}
	return next, err
}

// nonFinite returns the length of the NaN, Infinity or -Infinity at the start of
// text; 0 if there is none.
func nonFinite(text []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return len(word)
		}
	}
	return 0
}

const (
	expectedValue   = "expected a JSON value"
	expectedShallow = "expected arrays and objects to nest at most 64 deep"
)

func readWord(src []byte, at int, word string) (next int, err error) {
	end := at + len(word)
	if end > len(src) || string(src[at:end]) != word {
		return at, errorAt(at, expectedValue)
	}
	return end, nil
}

// skipSpace leaves the white space at src[at] out of the normal form.
func (n *Normaliser) skipSpace(src []byte, at int) (next int) {
	if at < len(src) && src[at] > ' ' {
		return at
	}
	return n.skip(src, at, SkipSpace(src, at))
}

// skip leaves src[at:next] out of the normal form, and returns next.
func (n *Normaliser) skip(src []byte, at, next int) int {
	if next > at {
		n.flush(src, at)
		n.from = next
	}
	return next
}

func (n *Normaliser) readArray(src []byte, at, depth int) (next int, err error) {
	if depth < 0 {
		return at, errorAt(at, expectedShallow)
	}
	at = n.skipSpace(src, at+1)
	if hasByte(src, at, ']') {
		return at + 1, nil
	}
	for {
		at, err = n.readValue(src, at, depth)
		if err != nil {
			return at, err
		}
		at = n.skipSpace(src, at)
		if !hasByte(src, at, ',') {
			break
		}
		at = n.skipSpace(src, at+1)
	}
	if !hasByte(src, at, ']') {
		return at, errorAt(at, "expected a comma or a closing bracket")
	}
	return at + 1, nil
}

func (n *Normaliser) readObject(src []byte, at, depth int) (next int, err error) {
	if depth < 0 {
		return at, errorAt(at, expectedShallow)
	}
	start, outer := n.pos(at), len(n.members)
	at = n.skipSpace(src, at+1)
	if hasByte(src, at, '}') {
		return at + 1, nil
	}
	for {
		at, err = n.readMember(src, at, depth)
		if err != nil {
			return at, err
		}
		if !hasByte(src, at, ',') {
			break
		}
		at = n.skipSpace(src, at+1)
	}
	if !hasByte(src, at, '}') {
		return at, errorAt(at, "expected a comma or a closing brace")
	}
	at++
	if members := n.members[outer:]; !n.namesDiffer(src, members) {
		n.flush(src, at)
		n.dst = removeDuplicates(n.dst, start, members)
	}
	n.members = n.members[:outer]
	return at, nil
}

// readMember reads a name, its value and the white space after it.
func (n *Normaliser) readMember(src []byte, at, depth int) (next int, err error) {
	if !hasByte(src, at, '"') {
		return at, errorAt(at, "expected a key in double quotes")
	}
	m := member{first: uint32(n.pos(at)), name: uint32(n.pos(at))}
	at, err = n.readName(src, at)
	if err != nil {
		return at, err
	}
	at = n.skipSpace(src, at)
	if !hasByte(src, at, ':') {
		return at, errorAt(at, "expected a colon")
	}
	m.value = uint32(n.pos(at + 1))
	at, err = n.readValue(src, n.skipSpace(src, at+1), depth)
	if err != nil {
		return at, err
	}
	m.end = uint32(n.pos(at))
	if len(n.members) == cap(n.members) && len(n.members) >= maxKept {
		n.growMembers(len(src) - at)
	}
	n.members = append(n.members, m)
	return n.skipSpace(src, at), nil
}

// readName reads a name. The normal form of the name is then completely in src
// or, if part of it had to be changed, completely in dst, where nameOf finds it.
func (n *Normaliser) readName(src []byte, at int) (next int, err error) {
	next, err = n.readString(src, at)
	if err == nil && n.from > at {
		n.flush(src, next)
	}
	return next, err
}
