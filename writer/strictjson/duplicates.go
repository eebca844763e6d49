package strictjson

import (
	"bytes"
	"cmp"
	"slices"
)

// A member is one "name":value in the normal form, given by offsets. They have four
// bytes because a text of short names has a member every five bytes; MaxText keeps them
// in range.
type member struct {
	first uint32 // of the first member of the same name; gives the order
	name  uint32 // of the opening quote of the name
	value uint32 // after the colon
	end   uint32 // after the value
}

// growMembers makes space for more members, at most for as many as rest bytes of text can
// have. It grows by a factor of four: append would grow in small steps, and the memory of
// all steps together is several times as much as the last one.
func (n *Normaliser) growMembers(rest int) {
	const shortest = len(`"":0,`)
	n.members = slices.Grow(n.members, min(3*len(n.members), rest/shortest+1))
}

// fewMembers is the number of members up to which namesDiffer compares all pairs.
// At most 120 comparisons, mostly of lengths, are faster than a sort. With more
// members, hostile input could make the quadratic time expensive.
const fewMembers = 16

// namesDiffer reports whether all members have different names. If there are more than
// fewMembers, it reports false without a check, and the caller sorts them.
func (n *Normaliser) namesDiffer(src []byte, members []member) bool {
	if len(members) > fewMembers {
		return false
	}
	for i, m := range members {
		for _, earlier := range members[:i] {
			if m.value-m.name == earlier.value-earlier.name && bytes.Equal(n.nameOf(src, m), n.nameOf(src, earlier)) {
				return false
			}
		}
	}
	return true
}

// nameOf returns the name of a member. readName has made sure that the name is completely
// in dst or completely in src.
func (n *Normaliser) nameOf(src []byte, m member) []byte {
	name, end := int(m.name), int(m.value)-1
	if name < len(n.dst) {
		return n.dst[name:end]
	}
	shift := n.from - len(n.dst)
	return src[name+shift : end+shift]
}

// removeDuplicates makes the names of the object dst[start:] unique. It removes
// all replaced values at once, because removing them one by one would move the
// rest of the object each time, which takes quadratic time.
func removeDuplicates(dst []byte, start int, members []member) []byte {
	kept := mergeDuplicates(dst, members)
	if len(kept) == len(members) {
		return dst
	}
	end := len(dst) // write the new object after the old one, then move it
	for _, m := range kept {
		dst = append(append(dst, ','), dst[m.name:m.end]...)
	}
	dst[end] = '{'
	dst = append(dst, '}')
	return dst[:start+copy(dst[start:], dst[end:])]
}

// mergeDuplicates merges members with the same name into one, which has the
// position of the first and the value of the last. It sorts the members instead
// of hashing their names: that needs no memory for a table, and no protection
// against chosen collisions.
func mergeDuplicates(dst []byte, members []member) []member {
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(bytes.Compare(dst[a.name:a.value], dst[b.name:b.value]), cmp.Compare(a.first, b.first))
	})
	kept := members[:1]
	for _, m := range members[1:] {
		last := &kept[len(kept)-1]
		if bytes.Equal(dst[m.name:m.value], dst[last.name:last.value]) {
			m.first = last.first
			*last = m
		} else {
			kept = append(kept, m)
		}
	}
	slices.SortFunc(kept, func(a, b member) int { return cmp.Compare(a.first, b.first) })
	return kept
}
