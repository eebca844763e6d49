package directive

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// The functions in this file run only for rejected lines. They recognise common
// mistakes, to name what is wrong in this case and how to write it.

const (
	anObject  = `{"state":"ready"}`
	aDetail   = `{"port":8080}`
	inQuotes  = `MESSAGE='two words'`
	onOneLine = "write a whole object on one line, as in " + anObject
)

// maxExplained is the length up to which an invalid value is parsed again to
// explain its error. The work grows with the length, and what people type is
// shorter.
const maxExplained = 4096

// notPair returns the error for the text at pos, which is not KEY=value. Before
// pos, the line has only complete pairs.
func notPair(line []byte, pos int) *Error {
	before := bytes.TrimRight(line[:pos], blanks)
	text, after := cutWord(line[pos:])
	key, known := keyName(text)
	first := len(before) == 0
	switch {
	case text[0] == '=' || bytes.HasPrefix(text, []byte(":=")):
		return Errorf(pos, `no key before "="; write KEY=value`)
	case startsWithEquals(after) && (known || first):
		return Errorf(pos+len(text), `a space before "="; write %s without spaces`, example(key, afterEquals(after)))
	}
	if name, value, ok := bytes.Cut(text, []byte(":")); ok {
		key, known := keyName(name)
		if len(value) == 0 {
			value, _ = cutWord(after)
		}
		if known {
			return Errorf(pos+len(name), `":" instead of "="; write %s`, example(key, value))
		}
	}
	if first {
		return notFirstPair(line, pos)
	}
	flag, isFlag := keyName(bytes.TrimLeft(text, "-"))
	isFlag = isFlag && text[0] == '-'
	next, _ := cutWord(after)
	switch {
	case string(text) == "#":
		return Errorf(pos, "a comment after a directive; put it on a separate line")
	case emptyKey(before) != "":
		return Errorf(len(before), `a space after "="; write %s without spaces`, example(emptyKey(before), text))
	case isFlag:
		return Errorf(pos, "%s is a flag; write %s", show(text), example(flag, next))
	case bytes.IndexByte(text, '\'') >= 0:
		return Errorf(pos, `%s is not KEY=value; write ' inside '…' as '\''`, show(text))
	case strings.IndexByte(`'"`, before[len(before)-1]) >= 0:
		return Errorf(pos, "%s is not KEY=value; remove it or give it a key", show(text))
	}
	return Errorf(pos, "%s is not KEY=value; quote a value that has spaces, as in %s", show(text), inQuotes)
}

// notFirstPair returns the error for a line that does not start with KEY=value.
func notFirstPair(line []byte, pos int) *Error {
	text, after := cutWord(line[pos:])
	next, _ := cutWord(after)
	key, isKey := keyName(text)
	flag, isFlag := keyName(bytes.TrimLeft(text, "-"))
	state := Nearest(string(text), choices(stateKey))
	_, isState := artifact.ParseState(text)
	quoteAt := bytes.IndexAny(text, `'"\`)
	kind := jsonKind(line[pos:])
	switch {
	case kind != "" && (kind != "string" || bytes.IndexByte(text, '=') < 0):
		return Errorf(pos, "a JSON %s is not a directive; write an object such as %s", kind, anObject)
	case string(text) == "[", bytes.HasPrefix(text, []byte("[{")):
		return Errorf(pos, "a JSON array is not a directive; write each object on a separate line, as in %s", anObject)
	case text[0] == '}' || text[0] == ']':
		return Errorf(pos, `"%c" without an object; %s`, text[0], onOneLine)
	case isJSONKey(line[pos:]):
		return Errorf(pos, "a JSON key outside an object; %s", onOneLine)
	case bytes.HasPrefix(text, []byte("//")):
		return Errorf(pos, `a comment starts with "#"`)
	case isKey && len(next) == 0:
		return Errorf(pos, "%s has no value; write %s", key, example(key, nil))
	case isKey:
		return Errorf(pos+len(text), `a space instead of "="; write %s`, example(key, next))
	case isFlag:
		return Errorf(pos, "%s is a flag; write %s", show(text), example(flag, next))
	case isCommand(text) && len(next) > 0:
		return Errorf(pos, "%s is a command; write only the KEY=value pairs, as in STATE=ready", show(text))
	case isState:
		return Errorf(pos, "%s has no key; write STATE=%s", show(text), text)
	case state != "":
		return Errorf(pos, "%s has no key; did you mean STATE=%s?", show(text), state)
	case quoteAt >= 0 && bytes.IndexByte(text[quoteAt:], '=') >= 0:
		return Errorf(pos+quoteAt, "%s in the key; quote only the value, as in %s", quoteName(text[quoteAt]), inQuotes)
	}
	return Errorf(pos, "%s is not KEY=value; write a directive such as STATE=ready %s", show(text), inQuotes)
}

// byteOrderMark starts a line if the caller joined files that each start with one.
const byteOrderMark = "\xef\xbb\xbf"

// spaceAfter returns the error for STATE= ready, whose value is empty, or nil if
// the line is not of this form.
func spaceAfter(line []byte, p *pair) *Error {
	rest := line[p.valueAt:]
	next, _ := cutWord(bytes.TrimLeft(rest, blanks))
	if len(rest) == 0 || !isBlank(rest[0]) || len(next) == 0 || bytes.IndexByte(next, '=') >= 0 {
		return nil
	}
	key, _ := keyName(p.name)
	return Errorf(p.valueAt, `a space after "="; write %s without spaces`, example(key, next))
}

// cutWord returns the text before and the text after the first run of blanks.
func cutWord(text []byte) (word, after []byte) {
	n := bytes.IndexAny(text, blanks)
	if n < 0 {
		return text, nil
	}
	return text[:n], bytes.TrimLeft(text[n:], blanks)
}

// emptyKey returns the key of the last pair if its value is empty, or "".
func emptyKey(pairs []byte) string {
	last := pairs[bytes.LastIndexAny(pairs, blanks)+1:]
	name, ok := bytes.CutSuffix(last, []byte("="))
	key, known := keyName(bytes.TrimSuffix(name, []byte(":")))
	if !ok || !known {
		return ""
	}
	return key
}

func startsWithEquals(text []byte) bool {
	return bytes.HasPrefix(text, []byte("=")) || bytes.HasPrefix(text, []byte(":="))
}

// afterEquals returns the first word after =, := or the => of other languages.
func afterEquals(text []byte) []byte {
	word, _ := cutWord(bytes.TrimLeft(text, ":=>"+blanks))
	return word
}

// keyName returns the key that text names, as a KEY=value line writes it. If
// text is not a key, it returns KEY.
func keyName(text []byte) (name string, ok bool) {
	if len(text) > maxShown {
		return "KEY", false
	}
	if k, ok := parseKey(bytes.ToLower(text)); ok {
		return strings.ToUpper(keyNames[k]), true
	}
	if n := len(detailsPrefix); len(text) > n && isDetails(text[:n]) && isPlain(text) {
		return detailsPrefix + string(text[n:]), true
	}
	return "KEY", false
}

// example returns key=value. It shows a value from the input only if that needs
// no quotes and no escapes.
func example(key string, value []byte) string {
	value = bytes.TrimRight(value, ",;")
	if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	if !isPlain(value) {
		return key + "=value"
	}
	return key + "=" + string(value)
}

// isPlain reports whether text is short and needs no quotes and no escapes.
func isPlain(text []byte) bool {
	for _, c := range text {
		if !isLetterOrDigit(c) && strings.IndexByte("_-.:/@%+", c) < 0 {
			return false
		}
	}
	return len(text) > 0 && len(text) <= maxShown
}

func isLetterOrDigit(c byte) bool {
	return isDigit(c) || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isCommand reports whether text is a shell command that people put before
// STATE=ready by mistake.
func isCommand(text []byte) bool {
	switch string(text) {
	case "export", "set", "declare", "local", "readonly", "typeset", "env", "let", "var", "echo", "print", "printf":
		return true
	}
	return false
}

func quoteName(c byte) string {
	if c == '\\' {
		return "a backslash"
	}
	return "a quote"
}

// isJSONKey reports whether text starts with a string and a colon.
func isJSONKey(text []byte) bool {
	rest, isString := bytes.CutPrefix(text, []byte(`"`))
	_, after, closed := bytes.Cut(rest, []byte(`"`)) // escapes do not matter for a hint
	next := strictjson.SkipSpace(after, 0)
	return isString && closed && next < len(after) && after[next] == ':'
}

// jsonKind returns what kind of JSON value text is, or "" if it is not JSON.
func jsonKind(text []byte) string {
	if len(text) > maxExplained {
		return ""
	}
	var n strictjson.Normaliser
	value, err := n.Normalise(nil, text)
	if err != nil {
		return ""
	}
	return kindOf(value)
}

// kindOf returns the kind of a JSON value.
func kindOf(value []byte) string {
	switch value[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// withArticle returns the kind of a JSON value with its article.
func withArticle(kind string) string {
	if kind == "array" || kind == "object" {
		return "an " + kind
	}
	return "a " + kind
}

// ExplainJSON returns the error for src, a JSON value from a command line, where a shell
// may have removed the double quotes. err is the error of strictjson.
func ExplainJSON(src []byte, err error) *Error {
	e := strictError(err)
	if isText(src) && canQuote(src) {
		return Errorf(0, `%s is not JSON; for text write '"%s"'`, show(src), src)
	}
	reason := jsonReason(src, e, "'"+aDetail+"'")
	isStart := len(bytes.TrimSpace(src[:min(e.Offset, len(src))])) == 0
	switch {
	case isStart && len(bytes.TrimSpace(src)) == 0:
		reason = "no value; expected JSON, such as '" + aDetail + "'"
	case isStart && src[e.Offset] == '@' && isPlain(src):
		reason = fmt.Sprintf(`%s is not JSON; to pass a file write "$(cat %s)"`, show(src), src[e.Offset+1:])
	case isStart && reason == "expected a JSON value":
		reason = fmt.Sprintf("%s is not JSON; expected for example '%s'", show(src), aDetail)
	}
	return &Error{e.Offset, reason}
}

// strictError returns err as a *strictjson.Error, which each error of that
// package is.
func strictError(err error) *strictjson.Error {
	var e *strictjson.Error
	errors.As(err, &e)
	return e
}

// jsonReason explains an error of strictjson. example is how the caller writes an
// object.
func jsonReason(src []byte, e *strictjson.Error, example string) string {
	if e.Offset >= len(src) {
		return e.Why
	}
	c := src[e.Offset]
	switch {
	case strings.HasPrefix(e.Why, "expected a key"):
		return keyReason(src, e.Offset, example)
	case strings.HasPrefix(e.Why, "expected a JSON value"):
		return valueReason(src, e.Offset)
	case e.Offset > 0 && src[e.Offset-1] == '-' && bytes.HasPrefix(src[e.Offset:], []byte("Infinity")):
		return valueReason(src, e.Offset-1)
	case strings.HasPrefix(e.Why, "expected a comma"), strings.HasPrefix(e.Why, "expected nothing"):
		if why := numberReason(src, e.Offset); why != "" {
			return why
		}
	case strings.HasPrefix(e.Why, "expected a control character"):
		escape := fmt.Sprintf(`\u%04x`, c)
		if i := strings.IndexByte("\b\f\n\r\t", c); i >= 0 {
			escape = `\` + "bfnrt"[i:i+1]
		}
		return "a control character in a string; write it as " + escape
	case c == 'x' && strings.HasPrefix(e.Why, "expected one of"):
		return `JSON has no \x escape; write \u and four hex digits`
	case c == '\'' && strings.HasPrefix(e.Why, "expected one of"):
		return "remove the backslash; JSON does not escape '"
	}
	return e.Why
}

// keyReason returns what is wrong at the offset at, where an object has no key.
func keyReason(src []byte, at int, example string) string {
	if why := commaReason(src, at); why != "" {
		return why
	}
	if src[at] == '\'' {
		return "a single quote; expected a key in double quotes, as in " + example
	}
	return "expected a key in double quotes, as in " + example
}

// commaReason returns the reason if a comma is the last thing before the closing
// bracket at the offset at, otherwise "".
func commaReason(src []byte, at int) string {
	before := bytes.TrimRight(src[:at], " \t\r\n")
	if (src[at] == '}' || src[at] == ']') && bytes.HasSuffix(before, []byte(",")) {
		return fmt.Sprintf("remove the comma before %c", src[at])
	}
	return ""
}

// valueReason returns what is wrong at the offset at, where a value should start.
func valueReason(src []byte, at int) string {
	word := src[at:]
	for i, c := range word {
		if !isLetterOrDigit(c) && c != '_' && c != '-' {
			word = word[:i]
			break
		}
	}
	if why := commaReason(src, at); why != "" {
		return why
	}
	instead := jsonWord(word)
	switch {
	case instead != "":
		return fmt.Sprintf("%s is not JSON; write %s", show(word), instead)
	case len(word) > 0 && isLetter(word[0]):
		return fmt.Sprintf("%s is not JSON; put text in double quotes", show(word))
	case src[at] == '\'':
		return "a single quote; JSON text needs double quotes"
	case src[at] == '+':
		return "a JSON number has no plus sign"
	case src[at] == '.':
		return "a JSON number needs a digit before the point"
	}
	return "expected a JSON value"
}

// jsonWord returns the JSON word that a word of another language means, or "".
func jsonWord(word []byte) string {
	switch strings.ToLower(string(word)) {
	case "true", "false", "null":
		return strings.ToLower(string(word))
	case "none", "nil", "undefined", "nan", "infinity", "-infinity", "nul":
		return "null"
	}
	return ""
}

// numberReason returns the reason if the offset at is inside a number that is
// not JSON, otherwise "".
func numberReason(src []byte, at int) string {
	if at == 0 || src[at-1] != '0' {
		return ""
	}
	switch c := src[at]; {
	case isDigit(c):
		return "a JSON number has no leading zero"
	case c == 'x' || c == 'X':
		return "a JSON number is decimal"
	}
	return ""
}

// badJSON returns the error for DETAILS=json or DETAILS.name:=json, whose value ends at
// the offset end of the line. err is the error of strictjson.
func badJSON(line []byte, end int, p *pair, err error) *Error {
	raw, at, e := line[p.valueAt:end], p.valueAt, strictError(err)
	switch {
	case bytes.Equal(raw, p.value):
		at += e.Offset
	case len(raw) == len(p.value)+2 && raw[0] == '\'':
		at += 1 + e.Offset
	}
	name, _ := keyName(p.name)
	isMember := len(p.name) >= len(detailsPrefix)
	sign := "="
	if p.json {
		sign = ":="
	}
	write := fmt.Sprintf("%s%s'%s'", name, sign, aDetail)
	if name == "KEY" {
		write = fmt.Sprintf("DETAILS='%s'", aDetail)
	}
	kind := jsonKind(raw)
	switch {
	case len(p.value) == 0:
		return Errorf(at, "no value; expected JSON, as in %s", write)
	case isText(p.value) && isMember:
		return Errorf(at, `%s is not JSON; for text write "=" instead of ":="`, show(p.value))
	case isText(p.value):
		return Errorf(at, "%s is not JSON; for text write DETAILS.name=text", show(p.value))
	case (kind == "object" || kind == "array") && name != "KEY" && canQuote(raw):
		return Errorf(at, "the double quotes are removed, as in a shell; write %s%s'%s'", name, sign, raw)
	case raw[0] != '"' && bytes.IndexByte(raw, '"') >= 0 && bytes.IndexByte(p.value, '"') < 0:
		return Errorf(at, "the double quotes are removed, as in a shell; put JSON in single quotes, as in %s", write)
	}
	return Errorf(at, "%s", jsonReason(p.value, e, write))
}

func isLetter(c byte) bool { return isLetterOrDigit(c) && !isDigit(c) }

// isText reports whether text, which is not JSON, starts like a word.
func isText(text []byte) bool {
	return len(text) > 0 && isLetter(text[0]) && jsonWord(text) == ""
}

// canQuote reports whether text is short, printable, and has no single quote and
// no backslash.
func canQuote(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return false
		}
	}
	return len(text) <= maxShown
}

// choiceHint returns a hint about text, which is not a choice of k: the mistake or the
// choice that is most likely.
func choiceHint(k key, text []byte) string {
	i := bytes.IndexAny(text, ",;&|")
	if i > 0 && bytes.IndexByte(text[i:], '=') > 0 && new(Directive).setChoice(k, text[:i]) {
		return "; separate KEY=value pairs with spaces"
	}
	if hint := variableHint(text); hint != "" {
		return hint
	}
	if plain := bytes.Trim(text, "“”„‘’‚"); len(plain) < len(text) && new(Directive).setChoice(k, plain) {
		return fmt.Sprintf("; write %s without these quotes", plain)
	}
	if hint := didYouMean(text, choices(k), strings.ToLower); hint != "" {
		return hint
	}
	if k != statusKey && k != typeKey {
		return ""
	}
	if state := Nearest(string(text), choices(stateKey)); state != "" {
		return fmt.Sprintf("; for %s use the key state", state)
	}
	if _, err := strconv.ParseInt(string(text), 10, 32); err == nil && k == statusKey {
		return "; for a number use the key exit_code"
	}
	return ""
}

// variableHint explains a value that looks like a variable of a shell. The caller has
// probably put it in single quotes.
func variableHint(text []byte) string {
	if len(text) < 2 || text[0] != '$' {
		return ""
	}
	return "; ingest replaces no variables, so use double quotes in the shell"
}

// timeHint suggests the time in RFC 3339 that text may mean, if text is a number of
// seconds or milliseconds since 1970, or another form of ISO 8601.
func timeHint(text []byte) string {
	if len(text) > maxShown {
		return ""
	}
	var mean string
	seconds, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case err == nil && 9 <= len(text) && len(text) <= 10:
		mean = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	case err == nil && 12 <= len(text) && len(text) <= 13:
		mean = time.UnixMilli(seconds).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	case err != nil && len(text) > len("2006-01-02"):
		t := []byte(strings.ReplaceAll(strings.ToUpper(string(text)), ",", "."))
		if t[10] == ' ' || t[10] == '_' {
			t[10] = 'T'
		}
		if n := len(t) - 5; n > 10 && (t[n] == '+' || t[n] == '-') { // +0200
			t = append(t[:n+3:n+3], ":"+string(t[n+3:])...)
		}
		for _, zone := range []string{"", "Z"} {
			if _, ok := artifact.ParseTime(append(t[:len(t):len(t)], zone...)); ok {
				mean = string(t) + zone
			}
		}
	}
	if mean == "" || mean == string(text) { // RFC 3339, but of a year that is out of range
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", mean)
}
