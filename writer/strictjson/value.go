package strictjson

import "cmp"

// is reports whether src has c at the offset, which may be past its end.
func is(src []byte, at int, c byte) bool { return at < len(src) && src[at] == c }

// value appends the value at src[at], which stands inside depth arrays and
// objects.
func (n *Normaliser) value(dst, src []byte, at, depth int) ([]byte, int, error) {
	if at >= len(src) {
		return dst, at, refuse(at, expectedValue)
	}
	switch src[at] {
	case '"':
		return AppendString(dst, src, at)
	case '{':
		return n.object(dst, src, at, depth+1)
	case '[':
		return n.array(dst, src, at, depth+1)
	case 't':
		return appendWord(dst, src, at, "true")
	case 'f':
		return appendWord(dst, src, at, "false")
	case 'n':
		return appendWord(dst, src, at, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return appendNumber(dst, src, at)
	}
	return dst, at, refuse(at, expectedValue)
}

const (
	expectedValue   = "expected a value"
	expectedShallow = "expected arrays and objects to nest at most 64 deep"
)

func appendWord(dst, src []byte, at int, word string) ([]byte, int, error) {
	end := at + len(word)
	if end > len(src) || string(src[at:end]) != word {
		return dst, at, refuse(at, expectedValue)
	}
	return append(dst, word...), end, nil
}

func (n *Normaliser) array(dst, src []byte, at, depth int) (_ []byte, _ int, err error) {
	if depth > cmp.Or(n.Depth, MaxDepth) {
		return dst, at, refuse(at, expectedShallow)
	}
	dst = append(dst, '[')
	at = SkipSpace(src, at+1)
	if is(src, at, ']') {
		return append(dst, ']'), at + 1, nil
	}
	for {
		if dst, at, err = n.value(dst, src, at, depth); err != nil {
			return dst, at, err
		}
		at = SkipSpace(src, at)
		if !is(src, at, ',') {
			break
		}
		dst = append(dst, ',')
		at = SkipSpace(src, at+1)
	}
	if !is(src, at, ']') {
		return dst, at, refuse(at, "expected a comma or a closing bracket")
	}
	return append(dst, ']'), at + 1, nil
}

func (n *Normaliser) object(dst, src []byte, at, depth int) (_ []byte, _ int, err error) {
	if depth > cmp.Or(n.Depth, MaxDepth) {
		return dst, at, refuse(at, expectedShallow)
	}
	start, outer := len(dst), len(n.members)
	dst = append(dst, '{')
	at = SkipSpace(src, at+1)
	if is(src, at, '}') {
		return append(dst, '}'), at + 1, nil
	}
	for {
		if dst, at, err = n.member(dst, src, at, depth); err != nil {
			return dst, at, err
		}
		if !is(src, at, ',') {
			break
		}
		dst = append(dst, ',')
		at = SkipSpace(src, at+1)
	}
	if !is(src, at, '}') {
		return dst, at, refuse(at, "expected a comma or a closing brace")
	}
	members := n.members[outer:]
	n.members = n.members[:outer]
	return settle(append(dst, '}'), start, members), at + 1, nil
}

// member appends one name and value, and returns the offset of what is next
// after white space.
func (n *Normaliser) member(dst, src []byte, at, depth int) (_ []byte, _ int, err error) {
	name := len(dst)
	if dst, at, err = AppendString(dst, src, at); err != nil {
		return dst, at, err
	}
	at = SkipSpace(src, at)
	if !is(src, at, ':') {
		return dst, at, refuse(at, "expected a colon")
	}
	dst = append(dst, ':')
	value := len(dst)
	if dst, at, err = n.value(dst, src, SkipSpace(src, at+1), depth); err != nil {
		return dst, at, err
	}
	n.members = append(n.members, member{name, name, value, len(dst)})
	return dst, SkipSpace(src, at), nil
}
