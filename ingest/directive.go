package ingest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A verb is what a directive does: the word of its type.
type verb string

const (
	transition verb = "transition" // event, verdict if the state is one, status
	setStatus  verb = "status"
	addEvent   verb = "event"
	setResult  verb = "result"
)

// A key is one of the keys of a directive.
type key uint8

const (
	typeKey key = iota
	stateKey
	kindKey
	statusKey
	messageKey
	exitCodeKey
	detailsKey
	timestampKey
	keyCount
)

// isWord reports whether the value of k is one of a few words.
func (k key) isWord() bool { return k <= statusKey }

// keyNames are the JSON names, in the order of the constants. The KEY=value
// names are the same in upper case.
var keyNames = [keyCount]string{"type", "state", "kind", "status",
	"message", "exit_code", "details", "timestamp"}

// parseKey returns the key of a JSON name.
func parseKey(name []byte) (key, bool) {
	switch string(name) {
	case "type":
		return typeKey, true
	case "state":
		return stateKey, true
	case "kind":
		return kindKey, true
	case "status":
		return statusKey, true
	case "message":
		return messageKey, true
	case "exit_code":
		return exitCodeKey, true
	case "details":
		return detailsKey, true
	case "timestamp":
		return timestampKey, true
	}
	return 0, false
}

// A directive is one line of input, understood. Its values may be part of the
// line, and are valid until the next one is decoded.
type directive struct {
	verb     verb
	state    artifact.State // of a transition or status, or the kind of an event
	outcome  artifact.Outcome
	message  strictjson.Value
	details  strictjson.Value
	time     time.Time // when it happened; zero if the line does not say
	exitCode int32
	hasExit  bool

	seen [keyCount]bool // stands in the line
	has  [keyCount]bool // and is not null
	at   [keyCount]int  // where its value stands
}

// A decoder turns lines into directives. The zero decoder is ready; it is kept
// for its memory.
type decoder struct {
	d       directive
	json    strictjson.Normaliser
	words   words
	w       word
	scratch []byte // of a member's name or short value
	message []byte
	details []byte
	names   []int // from and to of each DETAILS.name member's name, in details
}

// decode understands one line that is neither blank nor a comment. cut says
// that the input ended before the line's newline.
func (dec *decoder) decode(text []byte, cut bool) (*directive, *refusal) {
	dec.d, dec.json.Depth = directive{}, strictjson.MaxDepth
	at := skipBlanks(text)
	var r *refusal
	switch {
	case text[at] == '{':
		r = dec.decodeJSON(text, at)
	case cut:
		r = refuse(len(text), "the input ended before this line's newline, so its last value may be cut; end every line with a newline")
	default:
		r = dec.decodeWords(text)
	}
	if r == nil {
		r = dec.d.complete(at)
	}
	if r == nil && dec.d.message == nil {
		dec.message = strictjson.AppendText(dec.message[:0], dec.d.word())
		dec.d.message = dec.message
	}
	return &dec.d, r
}

// isSkipped reports whether a line says nothing: blank, or a comment.
func isSkipped(text []byte) bool {
	at := skipBlanks(text)
	return at == len(text) || text[at] == '#'
}

func skipBlanks(text []byte) (at int) {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r') {
		at++
	}
	return at
}

// see notes that k stands in the line, its value at the offset at.
func (d *directive) see(k key, name []byte, nameAt, at int) *refusal {
	if d.seen[k] {
		return refuse(nameAt, "%s stands twice; give each key once", show(name))
	}
	d.seen[k], d.has[k], d.at[k] = true, true, at
	return nil
}

// set sets a key whose value is a word, from the word's text.
func (d *directive) set(k key, text []byte) *refusal {
	switch {
	case k == exitCodeKey:
		return d.setExitCode(text)
	case k == timestampKey:
		return d.setTime(text)
	}
	if !d.setWord(k, text) {
		return refuse(d.at[k], "%s is %s; expected %s", keyNames[k], show(text), expected(text, choices(k)))
	}
	return nil
}

// setWord sets a key that has choices, if text is one of them.
func (d *directive) setWord(k key, text []byte) bool {
	switch k {
	case typeKey:
		return d.setVerb(text)
	case statusKey:
		outcome, ok := artifact.ParseOutcome(text)
		if ok {
			d.outcome = outcome
		}
		return ok
	}
	state, ok := artifact.ParseState(text)
	if ok {
		d.state = state
	}
	return ok
}

func (d *directive) setVerb(text []byte) bool {
	switch string(text) {
	case "transition":
		d.verb = transition
	case "status":
		d.verb = setStatus
	case "event":
		d.verb = addEvent
	case "result":
		d.verb = setResult
	default:
		return false
	}
	return true
}

func (d *directive) setExitCode(text []byte) *refusal {
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || text[0] == '+' {
		return refuse(d.at[exitCodeKey], "exit_code is %s; expected an integer from -2147483648 to 2147483647", show(text))
	}
	d.exitCode, d.hasExit = int32(n), true
	return nil
}

// setTime takes the form of RFC 3339 with upper-case T and Z, in years that
// have four digits in UTC too.
func (d *directive) setTime(text []byte) *refusal {
	err := d.time.UnmarshalText(text)
	if year := d.time.UTC().Year(); err != nil || !isRFC3339(text) || year < 0 || year > 9999 || d.time.IsZero() {
		return refuse(d.at[timestampKey], "timestamp is %s; expected RFC 3339, such as 2026-03-25T20:00:00.123Z", show(text))
	}
	return nil
}

// isRFC3339 reports whether text is in the form, where time.Time has already
// taken it: that also takes an hour of one digit, a comma before the fraction,
// and a zone of 24 hours or 60 minutes.
func isRFC3339(text []byte) bool {
	if text[13] != ':' || bytes.IndexByte(text, ',') >= 0 {
		return false
	}
	hour, minute := text[len(text)-5:len(text)-3], text[len(text)-2:]
	return text[len(text)-1] == 'Z' || string(hour) < "24" && string(minute) < "60"
}

// complete checks the keys against each other. at is where the line starts.
func (d *directive) complete(at int) *refusal {
	if r := d.inferVerb(at); r != nil {
		return r
	}
	need, spare := d.verb.keys()
	if !d.has[need] {
		return refuse(at, "%s has no %s; expected one of %s", d.verb, keyNames[need], strings.Join(choices(need), ", "))
	}
	for _, k := range spare {
		if d.has[k] {
			return refuse(d.at[k], "%s takes no %s; its word stands in %s", d.verb, keyNames[k], keyNames[need])
		}
	}
	return d.checkExitCode()
}

// inferVerb fills in the type where the line does not say it.
func (d *directive) inferVerb(at int) *refusal {
	if d.verb != "" {
		return nil
	}
	switch state, kind, status := d.has[stateKey], d.has[kindKey], d.has[statusKey]; {
	case state && !kind && !status:
		d.verb = transition
	case kind && !state && !status:
		d.verb = addEvent
	case status && !state && !kind:
		d.verb = setResult
	case !state && !kind && !status:
		return refuse(at, "expected one of state, kind and status, to tell what the line means")
	default:
		return refuse(at, "expected one of state, kind and status, not several; state alone writes event, status and result")
	}
	return nil
}

// keys returns the key that v needs, and those that say the same of others.
func (v verb) keys() (need key, spare [2]key) {
	switch v {
	case addEvent:
		return kindKey, [2]key{stateKey, statusKey}
	case setResult:
		return statusKey, [2]key{stateKey, kindKey}
	}
	return stateKey, [2]key{kindKey, statusKey}
}

// checkExitCode checks that there is an exit code only beside a verdict, and
// fills in the one that completed means.
func (d *directive) checkExitCode() *refusal {
	if d.verb == transition {
		d.outcome, _ = d.state.Outcome()
	}
	at := d.at[exitCodeKey]
	switch {
	case d.hasExit && (d.verb == setStatus || d.verb == addEvent):
		return refuse(at, "%s takes no exit_code; only a result, or a transition to completed or failed, has one", d.verb)
	case d.hasExit && d.outcome == "":
		return refuse(at, "a transition to %s takes no exit_code; only completed and failed have one", d.state)
	case d.outcome == artifact.OutcomeCompleted && d.hasExit && d.exitCode != 0:
		return refuse(at, "completed with exit_code %d contradicts itself; completed means 0, say failed for any other", d.exitCode)
	case d.outcome == artifact.OutcomeCompleted:
		d.hasExit = true
	}
	return nil
}

// word returns the message of a directive that has none: its word.
func (d *directive) word() string {
	if d.verb == setResult {
		return string(d.outcome)
	}
	return string(d.state)
}

// choices returns the words that the value of k may be.
func choices(k key) []string {
	var words []string
	switch k {
	case typeKey:
		return []string{string(transition), string(setStatus), string(addEvent), string(setResult)}
	case stateKey, kindKey:
		for _, s := range artifact.States() {
			words = append(words, string(s))
		}
	case statusKey:
		for _, o := range artifact.Outcomes() {
			words = append(words, string(o))
		}
	}
	return words
}

// show quotes text for an error: what a terminal might obey is escaped, and
// what is long is cut.
func show(text []byte) string {
	const most = 40 // enough to recognise a word by
	if len(text) > most {
		return strconv.QuoteToASCII(string(text[:most])) + "…"
	}
	return strconv.QuoteToASCII(string(text))
}

// expected names the choices, and the nearest one to text if one is near.
func expected(text []byte, choices []string) string {
	return strings.Join(choices, ", ") + didYouMean(text, choices, strings.ToLower)
}

// didYouMean names the choice nearest to text, in the case given, if one is
// near.
func didYouMean(text []byte, choices []string, letters func(string) string) string {
	if word := Nearest(string(text), choices); word != "" {
		return fmt.Sprintf("; did you mean %s?", letters(word))
	}
	return ""
}
