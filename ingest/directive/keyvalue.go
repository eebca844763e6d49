package directive

import (
	"bytes"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// maxNames is how many DETAILS.name words a line may have: each is compared with
// all others, and a caller with more of them can print JSON.
const maxNames = 256

// detailsPrefix begins the words that are members of details.
const detailsPrefix = "DETAILS."

// decodeWords decodes a KEY=value line.
func (dec *Decoder) decodeWords(text []byte) *Error {
	dec.words.line, dec.words.pos, dec.words.buf = text, 0, dec.words.buf[:0]
	dec.details, dec.names = dec.details[:0], dec.names[:0]
	for {
		ok, r := dec.words.next(&dec.w)
		if r == nil && ok {
			r = dec.word(&dec.w)
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
	return nil
}

// word takes one word of a line.
func (dec *Decoder) word(w *word) *Error {
	if n := len(detailsPrefix); len(w.name) > n && w.name[n-1] == '.' && isDetails(w.name[:n]) {
		return dec.detail(w, w.name[n:])
	}
	dec.scratch = appendLower(dec.scratch[:0], w.name)
	k, ok := parseKey(dec.scratch)
	if !ok {
		return Errorf(w.at, "unknown key %s; expected %s or DETAILS.name%s", show(w.name),
			strings.ToUpper(strings.Join(keyNames[:], ", ")), didYouMean(dec.scratch, keyNames[:], strings.ToUpper))
	}
	if r := dec.d.see(k, w.name, w.at, w.valueAt); r != nil {
		return r
	}
	switch {
	case k == detailsKey:
		return dec.wholeDetails(w)
	case w.json:
		return Errorf(w.at, "%s takes =, not :=, which is for DETAILS.name", show(w.name))
	case k == messageKey:
		dec.message = strictjson.AppendText(dec.message[:0], w.value)
		dec.d.Message = dec.message
		return nil
	}
	return dec.d.set(k, w.value)
}

func isDetails(prefix []byte) bool {
	return string(prefix) == detailsPrefix || strings.EqualFold(string(prefix), detailsPrefix)
}

// wholeDetails takes DETAILS=json.
func (dec *Decoder) wholeDetails(w *word) *Error {
	if len(dec.names) > 0 {
		return Errorf(w.at, "DETAILS and DETAILS.name are both given; give one or the other")
	}
	if r := dec.appendJSON(w); r != nil {
		return r
	}
	if string(dec.details) != "null" {
		dec.d.Details = dec.details
	}
	return nil
}

// detail takes DETAILS.name=text or DETAILS.name:=json.
func (dec *Decoder) detail(w *word, name []byte) *Error {
	if dec.d.seen[detailsKey] {
		return Errorf(w.at, "DETAILS.name and DETAILS are both given; give one or the other")
	}
	if len(dec.names) == 2*maxNames {
		return Errorf(w.at, "more than %d DETAILS.name words; print JSON for more", maxNames)
	}
	if len(dec.names) == 0 {
		dec.details = append(dec.details[:0], '{')
	} else {
		dec.details = append(dec.details, ',')
	}
	start := len(dec.details)
	dec.details = strictjson.AppendText(dec.details, name)
	if dec.named(dec.details[start:]) {
		return Errorf(w.at, "%s is given twice; give each key once", show(w.name))
	}
	dec.names = append(dec.names, start, len(dec.details))
	dec.details = append(dec.details, ':')
	if w.json {
		dec.json.Depth = strictjson.MaxDepth - 1 // inside the object
		return dec.appendJSON(w)
	}
	dec.details = strictjson.AppendText(dec.details, w.value)
	return nil
}

// named reports whether there is a member of this quoted name.
func (dec *Decoder) named(name []byte) bool {
	for i := 0; i < len(dec.names); i += 2 {
		from, to := dec.names[i], dec.names[i+1]
		if to-from == len(name) && bytes.Equal(dec.details[from:to], name) {
			return true
		}
	}
	return false
}

// appendJSON appends the JSON value of w to the details.
func (dec *Decoder) appendJSON(w *word) *Error {
	out, err := dec.json.Normalise(dec.details, w.value)
	if err != nil {
		return Errorf(w.valueAt, "the value of %s is not JSON: %v", show(w.name), err)
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
