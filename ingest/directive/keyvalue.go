package directive

import (
	"bytes"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxNames is how many DETAILS.name pairs a line may have. The limit is low because
// each name is compared with all others. A caller that has more can write JSON.
const maxNames = 256

// detailsPrefix begins the names of pairs that are members of details.
const detailsPrefix = "DETAILS."

// decodePairs decodes a KEY=value line.
func (dec *Decoder) decodePairs(text []byte) *Error {
	dec.pairs.line, dec.pairs.pos, dec.pairs.buf = text, 0, dec.pairs.buf[:0]
	dec.pairs.joined = 0
	dec.details, dec.names = dec.details[:0], dec.names[:0]
	dec.plainLine = strictjson.IsPlain(text)
	for {
		ok, r := dec.pairs.next(&dec.pair)
		if r == nil && ok {
			r = dec.setPair(&dec.pair)
		}
		if r != nil {
			return r
		}
		if !ok {
			break
		}
	}
	if len(dec.names) > 0 {
		dec.details = append(dec.details, '}')
		dec.d.Details = dec.details
	}
	dec.d.joined = dec.pairs.joined
	return nil
}

// setPair sets the key of a pair to its value.
func (dec *Decoder) setPair(p *pair) *Error {
	if n := len(detailsPrefix); len(p.name) > n && p.name[n-1] == '.' && isDetails(p.name[:n]) {
		return dec.detail(p, p.name[n:])
	}
	k, ok := parseUpperKey(p.name)
	if !ok {
		dec.scratch = appendLower(dec.scratch[:0], p.name)
		k, ok = parseKey(dec.scratch)
	}
	if !ok {
		return unknownKey(p)
	}
	if r := dec.d.see(k, p.name, p.at, p.valueAt); r != nil {
		return r
	}
	switch {
	case k == detailsKey:
		return dec.wholeDetails(p)
	case p.json:
		return Errorf(p.at, `%s takes "=", not ":="; only DETAILS and DETAILS.name take ":="`, show(p.name))
	case k == messageKey:
		dec.message = dec.appendText(dec.message[:0], p.value)
		dec.d.Message = dec.message
		return nil
	}
	r := dec.d.set(k, p.value)
	if r == nil {
		return nil
	}
	if better := spaceAfter(dec.pairs.line, p); better != nil {
		return better
	}
	return r
}

// unknownKey returns the error for a pair whose name is not a key.
func unknownKey(p *pair) *Error {
	prefix := p.name[:min(len(p.name), len(detailsPrefix)-1)]
	hint := didYouMean(p.name, keyNames[:], strings.ToUpper)
	name := bytes.ToLower(p.name)
	_, isState := artifact.ParseState(name)
	prefixWord, _, hasDot := strings.Cut(string(name), ".")
	switch {
	case isDetails(p.name):
		return Errorf(p.at, "%s has no name after the dot; write DETAILS.name=value", show(p.name))
	case strings.EqualFold(string(prefix), detailsPrefix[:len(prefix)]) && len(p.name) > len(detailsPrefix):
		hint = "; did you mean DETAILS.name?"
	case isState:
		return Errorf(p.at, "unknown key %s; did you mean STATE=%s?", show(p.name), name)
	case hasDot && Nearest(prefixWord, []string{"details"}) != "":
		hint = "; did you mean DETAILS.name?"
	case hint == "":
		hint = "; put other values in DETAILS.name"
	}
	return Errorf(p.at, "unknown key %s; expected one of %s, DETAILS.name%s", show(p.name),
		strings.ToUpper(oneOf(keyNames[:])), hint)
}

func isDetails(prefix []byte) bool {
	return string(prefix) == detailsPrefix || strings.EqualFold(string(prefix), detailsPrefix)
}

// wholeDetails sets the details from DETAILS=json.
func (dec *Decoder) wholeDetails(p *pair) *Error {
	if len(dec.names) > 0 {
		return Errorf(p.at, "DETAILS and DETAILS.name are both given; give one or the other")
	}
	r := dec.appendJSON(p, strictjson.MaxDepth)
	if r != nil {
		return r
	}
	if string(dec.details) != "null" {
		dec.d.Details = dec.details
	}
	return nil
}

// detail adds a member to the details, from DETAILS.name=text or
// DETAILS.name:=json.
func (dec *Decoder) detail(p *pair, name []byte) *Error {
	if dec.d.seen.has(detailsKey) {
		return Errorf(p.at, "DETAILS.name and DETAILS are both given; give one or the other")
	}
	if len(dec.names) == 2*maxNames {
		return Errorf(p.at, "more than %d DETAILS.name pairs; write them as JSON in one DETAILS", maxNames)
	}
	if len(dec.names) == 0 {
		dec.details = append(dec.details[:0], '{')
	} else {
		dec.details = append(dec.details, ',')
	}
	start := len(dec.details)
	dec.details = dec.appendText(dec.details, name)
	if dec.named(dec.details[start:]) {
		return Errorf(p.at, "%s is given twice; give each key once", show(p.name))
	}
	dec.names = append(dec.names, start, len(dec.details))
	dec.details = append(dec.details, ':')
	if p.json {
		return dec.appendJSON(p, strictjson.MaxDepth-1) // inside the object
	}
	dec.details = dec.appendText(dec.details, p.value)
	return nil
}

// appendText appends a name or a value as a JSON string. Those of a plain line are plain too.
func (dec *Decoder) appendText(dst, text []byte) []byte {
	if dec.plainLine {
		return strictjson.AppendPlain(dst, text)
	}
	return strictjson.AppendText(dst, text)
}

// named reports whether details has a member called name, which is a JSON string in
// normal form.
func (dec *Decoder) named(name []byte) bool {
	for i := 0; i < len(dec.names); i += 2 {
		from, to := dec.names[i], dec.names[i+1]
		if to-from == len(name) && bytes.Equal(dec.details[from:to], name) {
			return true
		}
	}
	return false
}

// appendJSON appends the JSON value of p, which may nest depth levels deep, to the details.
func (dec *Decoder) appendJSON(p *pair, depth int) *Error {
	dec.json.Depth, dec.json.NonFinite = depth, true
	out, err := dec.json.Normalise(dec.details, p.value)
	if err != nil {
		return badJSON(dec.pairs.line, dec.pairs.pos, p, err)
	}
	dec.details = out
	return nil
}

// appendLower appends name with its ASCII letters in lower case.
func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
