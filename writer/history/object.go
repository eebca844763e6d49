package history

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A field is one key of an artifact, as its schema has it.
type field struct {
	name string
	need bool
	want string // what its value is, for errors
	ok   func(value []byte) bool
}

// maxFields is how many keys an artifact of any kind has.
const maxFields = 9

// A Reader reads artifacts. The zero Reader is ready; it keeps its memory, so that
// reading a line allocates nothing. What it returns is valid until the next call.
type Reader struct {
	json   strictjson.Normaliser
	text   []byte // the artifact in normal form
	values [maxFields][]byte
	starts [maxFields]int // of the values in text
	event  Event
	own    bool
}

// Own reports whether what was last read has a time as this program writes it, in
// Z. The Python command that it replaces wrote +00:00.
func (r *Reader) Own() bool { return r.own }

// ErrAltered is what an artifact is at fault for that is one in its normal form
// only. It can be read, but not by every reader, or not by every one alike.
type ErrAltered struct{ Why string }

func (e *ErrAltered) Error() string { return e.Why }

// read puts text into normal form and finds the values of the fields. It returns
// an *ErrAltered where the normal form is another value than the text, and any
// other error where it is none of these fields.
func (r *Reader) read(text []byte, fields []field) error {
	r.json.Depth = strictjson.MaxDepth + 1 // the artifact around the details
	normal, err := r.json.Normalise(r.text[:0], text)
	if err != nil {
		return notJSON(text, err)
	}
	r.text, r.values = normal, [maxFields][]byte{}
	if normal[0] != '{' {
		return errors.New("expected an object")
	}
	r.split(fields)
	for i := range fields {
		if err := fields[i].check(r.values[i]); err != nil {
			return err
		}
	}
	return altered(text, normal)
}

func notJSON(text []byte, err error) error {
	if len(bytes.TrimLeft(text, " \t\r")) == 0 {
		return errors.New("the line is blank")
	}
	var e *strictjson.Error
	errors.As(err, &e) // every error of the package is one
	return fmt.Errorf("column %d: %s", e.Offset+1, e.Why)
}

func (f *field) check(value []byte) error {
	switch {
	case value == nil && f.need:
		return fmt.Errorf("%s is missing", f.name)
	case value == nil || f.ok(value):
		return nil
	}
	const most = 40 // enough to recognise a value by
	if len(value) > most {
		return fmt.Errorf("%s is %+q…; expected %s", f.name, value[:most], f.want)
	}
	return fmt.Errorf("%s is %+q; expected %s", f.name, bytes.Trim(value, `"`), f.want)
}

// split finds the values of an object in normal form: it has no white space, and
// each name once.
func (r *Reader) split(fields []field) {
	next := 0
	for at := 1; r.text[at] != '}'; {
		name, value, end := member(r.text, at)
		if i := find(fields, r.text[at+1:name-1], next); i >= 0 {
			r.values[i], r.starts[i], next = r.text[value:end:end], value, i+1
		}
		at = behind(r.text, end)
	}
}

// Members calls found with each name and value of an object in normal form, such
// as the details of an event.
func Members(object strictjson.Value, found func(name, value strictjson.Value)) {
	for at := 1; object[at] != '}'; {
		name, value, end := member(object, at)
		found(object[at:name], object[value:end])
		at = behind(object, end)
	}
}

// member returns where the name of the member at text[at] ends, and where its value
// starts and ends.
func member(text []byte, at int) (name, value, end int) {
	name = stringEnd(text, at)
	return name, name + 1, valueEnd(text, name+1)
}

// behind returns the offset of the next member, or of the end of the object.
func behind(text []byte, at int) int {
	if text[at] == ',' {
		at++
	}
	return at
}

// find returns the number of the field called name, or -1. Artifacts have their
// keys in order, so that the next one is most often it.
func find(fields []field, name []byte, next int) int {
	if next < len(fields) && string(name) == fields[next].name {
		return next
	}
	for i := range fields {
		if string(name) == fields[i].name {
			return i
		}
	}
	return -1
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
			if depth--; depth == 0 {
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

// altered reports what of text its normal form has not kept.
func altered(text, normal []byte) error {
	if bytes.Equal(text, normal) {
		return nil
	}
	if !utf8.Valid(text) {
		return &ErrAltered{"invalid UTF-8"}
	}
	names, lone := shape(text)
	if lone {
		return &ErrAltered{"a lone surrogate"}
	}
	if kept, _ := shape(normal); kept != names {
		return &ErrAltered{"a name that stands twice in an object"}
	}
	return nil
}

// shape counts the names in a JSON text, and tells whether there is an escaped
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
			size, paired := escape(text[at:])
			at += size - 1
			lone = lone || !paired
		}
	}
	return names, lone
}

// escape returns the size of the escape that text begins with, a pair of
// surrogates taken as one, and whether it is no lone surrogate.
func escape(text []byte) (size int, ok bool) {
	first, ok := unit(text)
	if !ok || !utf16.IsSurrogate(first) {
		return 2, true // what follows quotes nothing
	}
	if second, ok := unit(text[6:]); ok && utf16.DecodeRune(first, second) != utf8.RuneError {
		return 12, true
	}
	return 6, false
}

// unit returns the UTF-16 code unit of an escape that text begins with.
func unit(text []byte) (r rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(n), err == nil
}
