package directive

import (
	"bytes"
	"errors"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// decodeJSON decodes the object that starts at the offset at. Keys are exact;
// null is the same as an absent key; nothing may follow the object.
func (dec *Decoder) decodeJSON(text []byte, at int) *Error {
	at = strictjson.SkipSpace(text, at+1)
	for at < len(text) && text[at] != '}' {
		next, r := dec.member(text, at)
		if r != nil {
			return r
		}
		at = strictjson.SkipSpace(text, next)
		if at < len(text) && text[at] == ',' {
			at = strictjson.SkipSpace(text, at+1)
			if at < len(text) && text[at] == '}' {
				return Errorf(at, "expected another key after the comma")
			}
		} else if at < len(text) && text[at] != '}' {
			return Errorf(at, "expected , or } after a value")
		}
	}
	if at >= len(text) {
		return Errorf(len(text), "the line ends inside the object; expected }")
	}
	at = strictjson.SkipSpace(text, at+1)
	if at < len(text) {
		return Errorf(at, "expected nothing after the object; print one object a line")
	}
	return nil
}

// member decodes one key and its value, and returns the offset after it.
func (dec *Decoder) member(text []byte, at int) (next int, r *Error) {
	nameAt := at
	name, at, r := dec.name(text, at)
	if r != nil {
		return 0, r
	}
	k, ok := parseKey(name)
	if !ok {
		return 0, Errorf(nameAt, "unknown key %s; expected %s", show(name), expected(name, keyNames[:]))
	}
	if r := dec.d.see(k, name, nameAt, at); r != nil {
		return 0, r
	}
	return dec.value(k, text, at)
}

// name decodes a key and its colon, and returns the offset of the value.
func (dec *Decoder) name(text []byte, at int) (name []byte, next int, r *Error) {
	if text[at] != '"' {
		return nil, 0, Errorf(at, "expected a key in double quotes")
	}
	name, next = plain(text, at)
	if _, known := parseKey(name); !known {
		quoted, end, err := dec.json.Value(&dec.scratch, text, at)
		if err != nil {
			return nil, 0, jsonError(err)
		}
		name, next = quoted[1:len(quoted)-1], end
	}
	next = strictjson.SkipSpace(text, next)
	if next == len(text) || text[next] != ':' {
		return nil, 0, Errorf(next, "expected : after a key")
	}
	next = strictjson.SkipSpace(text, next+1)
	if next == len(text) {
		return nil, 0, Errorf(next, "expected a value after :")
	}
	return name, next, nil
}

// plain returns the text of the string at the offset at up to the next quote, and
// the offset after that quote. The text is right for keys and states, which have
// no escapes: they are most of a line, and need no more.
func plain(text []byte, at int) (word []byte, next int) {
	n := bytes.IndexByte(text[at+1:], '"')
	if text[at] != '"' || n < 0 {
		return nil, at
	}
	return text[at+1 : at+1+n], at + n + 2
}

// value decodes the value of k.
func (dec *Decoder) value(k key, text []byte, at int) (next int, r *Error) {
	if k.isWord() {
		word, next := plain(text, at)
		if dec.d.setWord(k, word) {
			return next, nil
		}
	}
	buf := &dec.scratch
	switch k {
	case messageKey:
		buf = &dec.message
	case detailsKey:
		buf = &dec.details
	}
	value, next, err := dec.json.Value(buf, text, at)
	if err != nil {
		return 0, jsonError(err)
	}
	if string(value) == "null" {
		dec.d.has[k] = false
		return next, nil
	}
	return next, dec.d.setJSON(k, value)
}

// setJSON sets k to a value that is not null.
func (d *Directive) setJSON(k key, value strictjson.Value) *Error {
	isString := value[0] == '"'
	switch {
	case k == detailsKey:
		d.Details = value
	case k == exitCodeKey && !isString:
		return d.set(k, value)
	case k == exitCodeKey:
		return Errorf(d.at[k], "exit_code is a string; expected an integer without quotes")
	case !isString:
		return Errorf(d.at[k], "%s is %s; expected a string", keyNames[k], show(value))
	case k == messageKey:
		d.Message = value
	default:
		return d.set(k, value[1:len(value)-1])
	}
	return nil
}

// jsonError turns an error of strictjson into one of the line.
func jsonError(err error) *Error {
	var e *strictjson.Error
	errors.As(err, &e) // every error of the package is one
	return &Error{e.Offset, e.Why}
}
