package directive

import (
	"bytes"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// decodeJSON decodes the object that starts at the offset at. Keys are exact;
// null is the same as an absent key; nothing may follow the object.
func (dec *Decoder) decodeJSON(text []byte, at int) *Error {
	dec.json.Depth = strictjson.MaxDepth
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
				return Errorf(at, "remove the comma before }")
			}
		} else if at < len(text) && text[at] != '}' {
			return afterValue(text, at)
		}
	}
	if at >= len(text) {
		return Errorf(len(text), "the line ends inside the object; write the whole object on one line")
	}
	at = strictjson.SkipSpace(text, at+1)
	if at < len(text) {
		return afterObject(text, at)
	}
	return nil
}

// member decodes one key and its value, and returns the offset after it.
func (dec *Decoder) member(text []byte, at int) (next int, r *Error) {
	name, next := strictjson.PlainString(text, at)
	k, known := parseKey(name)
	if !known {
		name, k, next, r = dec.unusualKey(text, at)
		if r != nil {
			return 0, r
		}
	}
	next = strictjson.SkipSpace(text, next)
	if next == len(text) || text[next] != ':' {
		return 0, Errorf(next, `expected ":" after the key`)
	}
	next = strictjson.SkipSpace(text, next+1)
	if next == len(text) {
		return 0, Errorf(next, `the line ends after ":"; expected a value and }`)
	}
	if r := dec.d.see(k, name, at, next); r != nil {
		return 0, r
	}
	return dec.value(k, text, next)
}

// unusualKey handles what is not a plain known key: it decodes a key with escapes, or returns
// the error for the text at the offset at.
func (dec *Decoder) unusualKey(text []byte, at int) (name []byte, k key, next int, r *Error) {
	if text[at] != '"' {
		return nil, 0, 0, Errorf(at, "%s", keyReason(text, at, anObject))
	}
	quoted, next, err := dec.json.Value(&dec.scratch, text, at)
	if err != nil {
		return nil, 0, 0, jsonError(text, err)
	}
	name = quoted[1 : len(quoted)-1]
	k, known := parseKey(name)
	if known {
		return name, k, next, nil
	}
	hint := didYouMean(name, keyNames[:], strings.ToLower)
	if hint == "" {
		hint = "; put other values in details"
	}
	return nil, 0, 0, Errorf(at, "unknown key %s; expected one of %s%s", show(name), oneOf(keyNames[:]), hint)
}

// value decodes the value of k at the offset at, and returns the offset after it.
func (dec *Decoder) value(k key, text []byte, at int) (next int, r *Error) {
	word, next := strictjson.PlainString(text, at)
	switch {
	case word == nil:
	case k == messageKey:
		dec.d.Message = text[at:next:next]
		return next, nil
	case k.hasChoices() && dec.d.setChoice(k, word):
		return next, nil
	}
	buf := &dec.scratch
	switch k {
	case messageKey:
		buf = &dec.message
	case detailsKey:
		buf = &dec.details
	}
	dec.json.NonFinite = k == detailsKey
	value, next, err := dec.json.Value(buf, text, at)
	if err != nil {
		return 0, jsonError(text, err)
	}
	if string(value) == "null" {
		dec.d.null.add(k)
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
		return nil
	case k == messageKey && isString:
		d.Message = value
		return nil
	case k == exitCodeKey && isString:
		return Errorf(d.at[k], "exit_code is a string; expected an integer without quotes")
	case isString:
		return d.set(k, value[1:len(value)-1])
	}
	kind := kindOf(value)
	switch {
	case kind == "number" && (k == exitCodeKey || k == timestampKey):
		return d.set(k, value)
	case k == exitCodeKey:
		return Errorf(d.at[k], "exit_code is %s; expected an integer", withArticle(kind))
	}
	return Errorf(d.at[k], "%s is %s; expected a string", keyNames[k], withArticle(kind))
}

// jsonError converts an error of strictjson for a JSON line.
func jsonError(text []byte, err error) *Error {
	e := strictError(err)
	return &Error{e.Offset, jsonReason(text, e, aDetail)}
}

// afterValue returns the error for the byte at the offset at, which comes after a
// value and is neither a comma nor a brace.
func afterValue(text []byte, at int) *Error {
	why := numberReason(text, at)
	switch {
	case why != "":
		return Errorf(at, "%s", why)
	case text[at] == '"':
		return Errorf(at, "expected a comma before the next key")
	}
	return Errorf(at, "expected a comma or } after the value")
}

// afterObject returns the error for the text at the offset at, which comes after
// the object.
func afterObject(text []byte, at int) *Error {
	switch {
	case text[at] == ',':
		return Errorf(at, "remove the comma after the object")
	case text[at] == '#' || bytes.HasPrefix(text[at:], []byte("//")):
		return Errorf(at, `a comment after the object; put it on a separate line that starts with "#"`)
	}
	return Errorf(at, "text after the object; write each object on a separate line")
}
