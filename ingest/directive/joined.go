package directive

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sledtools/pika-cloud-lifecycle/writer/strictjson"
)

// In dash and busybox, printf has no %q: it prints the text before the %q, fails, and
// prints no newline. So the next directive of the script becomes a part of the value:
//
//	STATE=failed MESSAGE=STATE=ready
//
// Bash's %q leaves such a value bare too, so it is valid. The functions in this file
// run only for bare values that have a = or {".

// noteJoined notes the directive that starts before pos, which is the offset of a
// bare = in a value. Only a state, kind or status counts: without one, the line that was
// joined is not a directive; with one in another place, the whole line has two and is
// rejected. Directly after the key, all letters count, as in a directive. After other
// text only capital letters do, because many programs print status=failed.
func (w *pairReader) noteJoined() {
	at := w.pos
	for at > 0 && isNameByte(w.line[at-1]) {
		at--
	}
	word := w.line[at:w.pos]
	k, ok := parseKey(bytes.ToLower(word))
	if w.joined > 0 || !ok || k == typeKey || !k.hasChoices() {
		return
	}
	if w.line[at-1] != '=' && !bytes.Equal(word, bytes.ToUpper(word)) {
		return
	}
	value := w.line[w.pos+1:]
	value, _ = cutWord(value[:min(len(value), maxShown)]) // each choice is shorter
	if new(Directive).setChoice(k, bytes.Trim(value, `'"`)) {
		w.joined = at
	}
}

// noteJoinedJSON notes the JSON directive whose { is the byte before pos.
func (w *pairReader) noteJoinedJSON() {
	at := w.pos - 1
	before := w.line[:at]
	isDetail := bytes.HasSuffix(before, []byte(":=")) || bytes.HasSuffix(bytes.ToUpper(before[max(0, at-8):]), []byte("DETAILS="))
	name, end := strictjson.PlainString(w.line, w.pos)
	_, isKey := parseKey(name)
	if w.joined == 0 && !isDetail && isKey && bytes.HasPrefix(w.line[end:], []byte(":")) {
		w.joined = at
	}
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_.-", c) >= 0
}

// Joined returns a warning about a value of d that contains a directive, and its offset
// in text, the line of d. The warning is empty if there is none.
func (d *Directive) Joined(text []byte) (warning string, offset int) {
	if d.joined == 0 {
		return "", 0
	}
	return joinedWarning(text, d.joined), d.joined
}

func joinedWarning(text []byte, at int) string {
	directive, _ := cutWord(text[at:])
	return fmt.Sprintf("the directive %s is inside a value and has no effect; if printf has no %%q, as in dash and busybox, it has joined two lines: "+
		`use "pika-cloud-lifecycle send" or docs/directive.sh`, show(directive))
}
