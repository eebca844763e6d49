package directive

import (
	"bytes"
	"strconv"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Type is what a directive writes. The zero Type is not valid.
type Type uint8

// The types. A transition writes an event and the status, and also the result if
// its state is an outcome. Each other type writes only the file that it names.
const (
	Transition Type = iota + 1
	Status
	Event
	Result
)

var typeNames = [...]string{Transition: "transition", Status: "status", Event: "event", Result: "result"}

func (t Type) String() string { return typeNames[t] }

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

// hasChoices reports whether the value of k is one of a few words.
func (k key) hasChoices() bool { return k <= statusKey }

// A keySet has a bit for each key.
type keySet uint8

const _ = keySet(1) << (keyCount - 1) // does not compile if there are more keys than bits

func (s keySet) has(k key) bool { return s>>k&1 != 0 }
func (s *keySet) add(k key)     { *s |= 1 << k }

// keyNames are the JSON names, in the order of the constants. A KEY=value line
// has the same names in upper case.
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

// parseUpperKey returns the key of a name in upper case. Most KEY=value lines have such names,
// which then need no conversion to lower case.
func parseUpperKey(name []byte) (key, bool) {
	switch string(name) {
	case "TYPE":
		return typeKey, true
	case "STATE":
		return stateKey, true
	case "KIND":
		return kindKey, true
	case "STATUS":
		return statusKey, true
	case "MESSAGE":
		return messageKey, true
	case "EXIT_CODE":
		return exitCodeKey, true
	case "DETAILS":
		return detailsKey, true
	case "TIMESTAMP":
		return timestampKey, true
	}
	return 0, false
}

// A Directive is one line of input, decoded and validated. Its values may share
// memory with the line, and are valid until the next line is decoded.
type Directive struct {
	Type        Type
	State       artifact.State   // of a transition or status; the kind of an event
	Outcome     artifact.Outcome // of a result, or of a transition to an outcome; otherwise empty
	Message     strictjson.Value // a string
	Details     strictjson.Value // empty if there are none
	Time        time.Time        // when it happened; zero if the line does not give a time
	ExitCode    int32            // valid if HasExitCode
	HasExitCode bool

	seen keySet        // the keys that the line has
	null keySet        // those whose value is null, which is the same as an absent key
	at   [keyCount]int // the offset of the value

	joined int // the offset of a directive inside a bare value; 0 if there is none
}

// Offset returns the offset in the line of the value that names the state, kind
// or outcome.
func (d *Directive) Offset() int {
	required, _ := d.Type.keys()
	return d.at[required]
}

// HasMessage reports whether the line gives a message. If it does not, Message
// is the name of the state or outcome.
func (d *Directive) HasMessage() bool { return d.has(messageKey) }

// has reports whether the line has the key k, and its value is not null.
func (d *Directive) has(k key) bool { return (d.seen &^ d.null).has(k) }

// ReportsOutcome reports whether d writes the result, or a status that is an
// outcome.
func (d *Directive) ReportsOutcome() bool {
	_, isOutcome := d.State.Outcome()
	return d.Type == Result || (isOutcome && d.Type != Event)
}

// A Decoder decodes lines. The zero Decoder is ready to use. It reuses its
// memory, and is not for concurrent use. What it returns does not depend on earlier
// lines.
type Decoder struct {
	d       Directive
	json    strictjson.Normaliser
	pairs   pairReader
	pair    pair   // the one that was read last
	scratch []byte // a key or a short value
	message []byte
	details []byte
	names   []int // start and end, in details, of the name of each DETAILS.name

	plainLine bool // the KEY=value line is plain, see strictjson.IsPlain
}

// Decode decodes one line, which must not be blank or a comment (see IsBlank).
// cut reports that the input ended before the line's newline.
func (dec *Decoder) Decode(text []byte, cut bool) (*Directive, *Error) {
	dec.d = Directive{}
	at := skipBlanks(text)
	r := dec.decode(text, at, cut)
	if r != nil {
		r = dec.betterReason(r, text, at)
	}
	if len(text) > maxKept/maxGrowth {
		dec.trim()
	}
	return &dec.d, r
}

// maxKept is the size in bytes of the buffers that are kept for the next line. Nearly
// all lines need less. Only a line longer than maxKept/maxGrowth can need more.
const maxKept = 64 << 10

// maxGrowth is how many times as long a text can become when all of its bytes are escaped.
const maxGrowth = len(`\u0000`)

// trim drops buffers that are larger than maxKept. The directive may still use them.
func (dec *Decoder) trim() {
	dec.json.Trim()
	for _, buf := range [...]*[]byte{&dec.message, &dec.details, &dec.scratch, &dec.pairs.buf} {
		if cap(*buf) > maxKept {
			*buf = nil
		}
	}
	if cap(dec.pair.value) > maxKept {
		dec.pair, dec.pairs.line = pair{}, nil
	}
}

// decode decodes and checks the line, which starts at the offset at.
func (dec *Decoder) decode(text []byte, at int, cut bool) *Error {
	var r *Error
	switch {
	case text[at] == '{':
		r = dec.decodeJSON(text, at)
	case cut:
		_ = dec.decodePairs(text) // only to find a joined directive
		r = Errorf(len(text), "the input ends without a newline, so the last value may be cut; end every line with a newline")
	default:
		r = dec.decodePairs(text)
	}
	if r == nil {
		r = dec.d.complete(at)
	}
	if r == nil && dec.d.Message == nil {
		dec.message = strictjson.AppendText(dec.message[:0], dec.d.defaultMessage())
		dec.d.Message = dec.message
	}
	return r
}

// betterReason replaces or completes r, the reason of the rejection, if the cause is a byte
// order mark, a NUL byte or a joined directive.
func (dec *Decoder) betterReason(r *Error, text []byte, at int) *Error {
	if bytes.HasPrefix(text[at:], []byte(byteOrderMark)) {
		r = Errorf(at, "a byte order mark before the directive; remove it")
	}
	nul := bytes.IndexByte(text, 0)
	if nul >= 0 && (text[at] != '{' || nul == at+1) {
		r = Errorf(nul, "a NUL byte, as in UTF-16 and in binary files; write UTF-8 text")
	}
	if text[at] != '{' && dec.pairs.joined > 0 {
		r.Reason += "; " + joinedWarning(text, dec.pairs.joined)
	}
	return r
}

// IsBlank reports whether a line is blank or a comment.
func IsBlank(text []byte) bool {
	at := skipBlanks(text)
	return at == len(text) || text[at] == '#'
}

func skipBlanks(text []byte) (at int) {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r') {
		at++
	}
	return at
}

// see records that the line has the key k, with its value at the offset at.
func (d *Directive) see(k key, name []byte, nameAt, at int) *Error {
	if d.seen.has(k) {
		return Errorf(nameAt, "%s is given twice; give each key once", show(name))
	}
	d.seen.add(k)
	d.at[k] = at
	return nil
}

// set sets a key, other than message and details, from the text of its value.
func (d *Directive) set(k key, text []byte) *Error {
	switch {
	case k == exitCodeKey:
		return d.setExitCode(text)
	case k == timestampKey:
		return d.setTime(text)
	}
	if !d.setChoice(k, text) {
		return Errorf(d.at[k], "%s is %s; expected one of %s%s", keyNames[k], show(text), oneOf(choices(k)), choiceHint(k, text))
	}
	return nil
}

// setChoice sets a key that has choices, and returns false if text is not one.
func (d *Directive) setChoice(k key, text []byte) bool {
	switch k {
	case typeKey:
		return d.setType(text)
	case statusKey:
		outcome, ok := artifact.ParseOutcome(text)
		if ok {
			d.Outcome = outcome
		}
		return ok
	}
	state, ok := artifact.ParseState(text)
	if ok {
		d.State = state
	}
	return ok
}

func (d *Directive) setType(text []byte) bool {
	switch string(text) {
	case "transition":
		d.Type = Transition
	case "status":
		d.Type = Status
	case "event":
		d.Type = Event
	case "result":
		d.Type = Result
	default:
		return false
	}
	return true
}

func (d *Directive) setExitCode(text []byte) *Error {
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || text[0] == '+' {
		return Errorf(d.at[exitCodeKey], "exit_code is %s; expected an integer from -2147483648 to 2147483647%s", show(text), variableHint(text))
	}
	d.ExitCode, d.HasExitCode = int32(n), true
	return nil
}

// setTime sets the time from RFC 3339. The year must have four digits in UTC.
func (d *Directive) setTime(text []byte) *Error {
	t, ok := artifact.ParseTime(text)
	year := t.UTC().Year()
	if !ok || year < 0 || year > 9999 || t.IsZero() {
		return Errorf(d.at[timestampKey], "timestamp is %s; expected RFC 3339, such as 2026-03-25T20:00:00.123Z%s", show(text), timeHint(text))
	}
	d.Time = t
	return nil
}

// complete checks the keys against each other. at is where the line starts.
func (d *Directive) complete(at int) *Error {
	if r := d.inferType(at); r != nil {
		return r
	}
	required, wrong := d.Type.keys()
	for _, k := range wrong {
		if d.has(k) {
			return Errorf(d.at[k], "type %s takes %s, not %s", d.Type, keyNames[required], keyNames[k])
		}
	}
	if !d.has(required) {
		return Errorf(at, "type %s needs %s; expected one of %s", d.Type, keyNames[required], oneOf(choices(required)))
	}
	return d.checkExitCode()
}

// inferType sets the type if the line does not give it.
func (d *Directive) inferType(at int) *Error {
	if d.Type != 0 {
		return nil
	}
	state, kind, status := d.has(stateKey), d.has(kindKey), d.has(statusKey)
	switch {
	case state && !kind && !status:
		d.Type = Transition
	case kind && !state && !status:
		d.Type = Event
	case status && !state && !kind:
		d.Type = Result
	case !state && !kind && !status:
		return Errorf(at, "no state, kind or status; give state for a transition, kind for an event, status for a result")
	default:
		last := max(d.at[stateKey], d.at[kindKey], d.at[statusKey])
		return Errorf(last, "more than one of state, kind and status; give state alone to write event, status and result")
	}
	return nil
}

// keys returns the key that t requires, and the two that belong to other types.
func (t Type) keys() (required key, wrong [2]key) {
	switch t {
	case Event:
		return kindKey, [2]key{stateKey, statusKey}
	case Result:
		return statusKey, [2]key{stateKey, kindKey}
	}
	return stateKey, [2]key{kindKey, statusKey}
}

// checkExitCode checks that only an outcome has an exit code. It sets the exit code 0,
// which completed implies.
func (d *Directive) checkExitCode() *Error {
	if d.Type == Transition {
		d.Outcome, _ = d.State.Outcome()
	}
	at := d.at[exitCodeKey]
	switch {
	case d.HasExitCode && (d.Type == Status || d.Type == Event):
		return Errorf(at, "type %s takes no exit_code; only a result, or a transition to completed or failed, takes one", d.Type)
	case d.HasExitCode && d.Outcome == "":
		return Errorf(at, "state %s takes no exit_code; only completed and failed take one", d.State)
	case d.Outcome == artifact.OutcomeCompleted && d.HasExitCode && d.ExitCode != 0:
		return Errorf(at, "completed means exit code 0, but exit_code is %d; use failed", d.ExitCode)
	case d.Outcome == artifact.OutcomeCompleted:
		d.HasExitCode = true
	}
	return nil
}

// defaultMessage returns the message of a directive that gives none.
func (d *Directive) defaultMessage() string {
	if d.Type == Result {
		return string(d.Outcome)
	}
	return string(d.State)
}

// choices returns what the value of k may be.
func choices(k key) []string {
	var all []string
	switch k {
	case typeKey:
		return typeNames[Transition:]
	case stateKey, kindKey:
		for _, s := range artifact.States() {
			all = append(all, string(s))
		}
	case statusKey:
		for _, o := range artifact.Outcomes() {
			all = append(all, string(o))
		}
	}
	return all
}
