package directive

import (
	"strconv"
	"strings"
	"time"

	"github.com/sledtools/pika-cloud-lifecycle/writer/artifact"
	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// A Type is what a directive writes.
type Type string

// The types. A transition writes an event, the status, and, if its state is an
// outcome, the result; the others write the one file that they name.
const (
	Transition Type = "transition"
	Status     Type = "status"
	Event      Type = "event"
	Result     Type = "result"
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

// A Directive is one line of input, decoded and validated. Its values may be
// parts of the line, and are valid until the next line is decoded.
type Directive struct {
	Type        Type
	State       artifact.State   // of a transition or status; the kind of an event
	Outcome     artifact.Outcome // of a result, or a transition to an outcome; else empty
	Message     strictjson.Value // a string
	Details     strictjson.Value // empty if there are none
	Time        time.Time        // when it happened; zero if the line does not give a time
	ExitCode    int32            // if HasExitCode
	HasExitCode bool

	seen [keyCount]bool // the key is in the line
	has  [keyCount]bool // and its value is not null
	at   [keyCount]int  // offset of the value
}

// Offset returns the offset in the line of the value that names the state, kind
// or outcome.
func (d *Directive) Offset() int {
	required, _ := d.Type.keys()
	return d.at[required]
}

// HasMessage reports whether the line gives a message; if it does not, Message
// is the word of its state or outcome.
func (d *Directive) HasMessage() bool { return d.has[messageKey] }

// ReportsOutcome reports whether d writes the result, or a status that is an
// outcome.
func (d *Directive) ReportsOutcome() bool {
	_, isOutcome := d.State.Outcome()
	return d.Type == Result || (isOutcome && d.Type != Event)
}

// A Decoder decodes lines. The zero Decoder is ready; it reuses its memory. Not
// for concurrent use.
type Decoder struct {
	d       Directive
	json    strictjson.Normaliser
	words   words
	w       word
	scratch []byte // a member's name or a short value
	message []byte
	details []byte
	names   []int // start and end in details of the name of each DETAILS.name member
}

// Decode decodes one line that is neither blank nor a comment (IsBlank). cut
// reports that the input ended before the line's newline. The error names the
// offset in the line, what was expected, and what to do.
func (dec *Decoder) Decode(text []byte, cut bool) (*Directive, *Error) {
	dec.d, dec.json.Depth = Directive{}, strictjson.MaxDepth
	at := skipBlanks(text)
	var r *Error
	switch {
	case text[at] == '{':
		r = dec.decodeJSON(text, at)
	case cut:
		r = Errorf(len(text), "the input ended before this line's newline, so its last value may be cut; end every line with a newline")
	default:
		r = dec.decodeWords(text)
	}
	if r == nil {
		r = dec.d.complete(at)
	}
	if r == nil && dec.d.Message == nil {
		dec.message = strictjson.AppendText(dec.message[:0], dec.d.word())
		dec.d.Message = dec.message
	}
	return &dec.d, r
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

// see notes that the line has the key k, with its value at the offset at.
func (d *Directive) see(k key, name []byte, nameAt, at int) *Error {
	if d.seen[k] {
		return Errorf(nameAt, "%s is given twice; give each key once", show(name))
	}
	d.seen[k], d.has[k], d.at[k] = true, true, at
	return nil
}

// set sets a key whose value is a word, from the word's text.
func (d *Directive) set(k key, text []byte) *Error {
	switch {
	case k == exitCodeKey:
		return d.setExitCode(text)
	case k == timestampKey:
		return d.setTime(text)
	}
	if !d.setWord(k, text) {
		return Errorf(d.at[k], "%s is %s; expected %s", keyNames[k], show(text), expected(text, choices(k)))
	}
	return nil
}

// setWord sets a key that has choices, if text is one of them.
func (d *Directive) setWord(k key, text []byte) bool {
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
		return Errorf(d.at[exitCodeKey], "exit_code is %s; expected an integer from -2147483648 to 2147483647", show(text))
	}
	d.ExitCode, d.HasExitCode = int32(n), true
	return nil
}

// setTime sets the time from RFC 3339, in years that have four digits in UTC.
func (d *Directive) setTime(text []byte) *Error {
	t, ok := artifact.ParseTime(text)
	year := t.UTC().Year()
	if !ok || year < 0 || year > 9999 || t.IsZero() {
		return Errorf(d.at[timestampKey], "timestamp is %s; expected RFC 3339, such as 2026-03-25T20:00:00.123Z", show(text))
	}
	d.Time = t
	return nil
}

// complete checks the keys against each other. at is where the line starts.
func (d *Directive) complete(at int) *Error {
	if r := d.inferType(at); r != nil {
		return r
	}
	need, spare := d.Type.keys()
	if !d.has[need] {
		return Errorf(at, "%s has no %s; expected one of %s", d.Type, keyNames[need], strings.Join(choices(need), ", "))
	}
	for _, k := range spare {
		if d.has[k] {
			return Errorf(d.at[k], "%s takes no %s; give it as %s", d.Type, keyNames[k], keyNames[need])
		}
	}
	return d.checkExitCode()
}

// inferType fills in the type where the line does not say it.
func (d *Directive) inferType(at int) *Error {
	if d.Type != "" {
		return nil
	}
	state, kind, status := d.has[stateKey], d.has[kindKey], d.has[statusKey]
	switch {
	case state && !kind && !status:
		d.Type = Transition
	case kind && !state && !status:
		d.Type = Event
	case status && !state && !kind:
		d.Type = Result
	case !state && !kind && !status:
		return Errorf(at, "expected one of state, kind and status, to tell what the line means")
	default:
		return Errorf(at, "expected one of state, kind and status, not several; state alone writes event, status and result")
	}
	return nil
}

// keys returns the key that t requires, and the keys of the other types.
func (t Type) keys() (need key, spare [2]key) {
	switch t {
	case Event:
		return kindKey, [2]key{stateKey, statusKey}
	case Result:
		return statusKey, [2]key{stateKey, kindKey}
	}
	return stateKey, [2]key{kindKey, statusKey}
}

// checkExitCode checks that only an outcome has an exit code, and sets the one
// that completed implies.
func (d *Directive) checkExitCode() *Error {
	if d.Type == Transition {
		d.Outcome, _ = d.State.Outcome()
	}
	at := d.at[exitCodeKey]
	switch {
	case d.HasExitCode && (d.Type == Status || d.Type == Event):
		return Errorf(at, "%s takes no exit_code; only a result, or a transition to completed or failed, has one", d.Type)
	case d.HasExitCode && d.Outcome == "":
		return Errorf(at, "a transition to %s takes no exit_code; only completed and failed have one", d.State)
	case d.Outcome == artifact.OutcomeCompleted && d.HasExitCode && d.ExitCode != 0:
		return Errorf(at, "completed with exit_code %d contradicts itself; completed means 0, say failed for any other", d.ExitCode)
	case d.Outcome == artifact.OutcomeCompleted:
		d.HasExitCode = true
	}
	return nil
}

// word returns the message of a directive that has none: its word.
func (d *Directive) word() string {
	if d.Type == Result {
		return string(d.Outcome)
	}
	return string(d.State)
}

// choices returns the words that the value of k may be.
func choices(k key) []string {
	var words []string
	switch k {
	case typeKey:
		return []string{string(Transition), string(Status), string(Event), string(Result)}
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
