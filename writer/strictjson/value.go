package strictjson

// hasByte reports whether src has c at the offset, which may be past its end.
func hasByte(src []byte, at int, c byte) bool { return at < len(src) && src[at] == c }

// value reads the value at src[at], of which the arrays and objects may nest
// depth deep, and returns the offset after it, as all that read do.
func (n *Normaliser) value(src []byte, at, depth int) (next int, err error) {
	if at >= len(src) {
		return at, errorAt(at, expectedValue)
	}
	switch src[at] {
	case '"':
		return n.text(src, at)
	case '{':
		return n.object(src, at, depth-1)
	case '[':
		return n.array(src, at, depth-1)
	case 't':
		return word(src, at, "true")
	case 'f':
		return word(src, at, "false")
	case 'n':
		return word(src, at, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return number(src, at)
	}
	return at, errorAt(at, expectedValue)
}

const (
	expectedValue   = "expected a value"
	expectedShallow = "expected arrays and objects to nest at most 64 deep"
)

func word(src []byte, at int, word string) (next int, err error) {
	end := at + len(word)
	if end > len(src) || string(src[at:end]) != word {
		return at, errorAt(at, expectedValue)
	}
	return end, nil
}

// space leaves out the white space at src[at].
func (n *Normaliser) space(src []byte, at int) (next int) {
	if at < len(src) && src[at] > ' ' {
		return at
	}
	return n.drop(src, at, SkipSpace(src, at))
}

// drop leaves out src[at:next].
func (n *Normaliser) drop(src []byte, at, next int) int {
	if next > at {
		n.flush(src, at)
		n.from = next
	}
	return next
}

func (n *Normaliser) array(src []byte, at, depth int) (next int, err error) {
	if depth < 0 {
		return at, errorAt(at, expectedShallow)
	}
	at = n.space(src, at+1)
	if hasByte(src, at, ']') {
		return at + 1, nil
	}
	for {
		at, err = n.value(src, at, depth)
		if err != nil {
			return at, err
		}
		at = n.space(src, at)
		if !hasByte(src, at, ',') {
			break
		}
		at = n.space(src, at+1)
	}
	if !hasByte(src, at, ']') {
		return at, errorAt(at, "expected a comma or a closing bracket")
	}
	return at + 1, nil
}

func (n *Normaliser) object(src []byte, at, depth int) (next int, err error) {
	if depth < 0 {
		return at, errorAt(at, expectedShallow)
	}
	start, outer := n.pos(at), len(n.members)
	at = n.space(src, at+1)
	if hasByte(src, at, '}') {
		return at + 1, nil
	}
	for {
		at, err = n.member(src, at, depth)
		if err != nil {
			return at, err
		}
		if !hasByte(src, at, ',') {
			break
		}
		at = n.space(src, at+1)
	}
	if !hasByte(src, at, '}') {
		return at, errorAt(at, "expected a comma or a closing brace")
	}
	at++
	if members := n.members[outer:]; !n.allDiffer(src, members) {
		n.flush(src, at)
		n.dst = removeDuplicates(n.dst, start, members)
	}
	n.members = n.members[:outer]
	return at, nil
}

// member reads one name and value, and what white space comes after it.
func (n *Normaliser) member(src []byte, at, depth int) (next int, err error) {
	if !hasByte(src, at, '"') {
		return at, errorAt(at, "expected a key in double quotes")
	}
	m := member{first: n.pos(at), name: n.pos(at)}
	at, err = n.name(src, at)
	if err != nil {
		return at, err
	}
	at = n.space(src, at)
	if !hasByte(src, at, ':') {
		return at, errorAt(at, "expected a colon")
	}
	m.value = n.pos(at + 1)
	at, err = n.value(src, n.space(src, at+1), depth)
	if err != nil {
		return at, err
	}
	m.end = n.pos(at)
	n.members = append(n.members, m)
	return n.space(src, at), nil
}

// name reads a name, and leaves it all in src or, if part of it had to be
// changed, all in dst: so it is one piece, to be compared.
func (n *Normaliser) name(src []byte, at int) (next int, err error) {
	next, err = n.text(src, at)
	if err == nil && n.from > at {
		n.flush(src, next)
	}
	return next, err
}
